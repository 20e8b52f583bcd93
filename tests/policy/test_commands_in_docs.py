"""Every command of README and runbook is run by a test, or it stands here why none can."""

from __future__ import annotations

import re

import pytest

from tests.doc_commands import ROOT, commands

COMMANDS = [(page, command) for page in ("README.md", "docs/runbook.md") for command in commands(page)]
ON_CALL = ("tests/e2e/test_runbook.py", "commands(")  # takes them from the page
COMPOSE = ("docker/check.sh", "docker compose")
# How a command begins → the file that runs it, and words of that file that do.
RUN_BY = {
    "python -m scripts.ledger quarantine": ("tests/unit/test_ledger_quarantine.py", "quarantine"),
    "python -m scripts.": ON_CALL,
    "select system$pipe_status": ON_CALL,
    "select * from ops.": ON_CALL,
    "alter pipe": ON_CALL,
    "show tasks": ON_CALL,
    "delete from": ON_CALL,
    "copy into": ON_CALL,
    "python -m local run snowflake_deploy": ("tests/e2e/test_commands.py", '"run", "snowflake_deploy"'),
    "python -m local run amplitude_daily --archives": ("tests/e2e/conftest.py", "archives=archives"),
    "python -m local run": ("tests/e2e/test_commands.py", 'laptop.run("run"'),
    "python -m local up": ("tests/e2e/test_commands.py", 'laptop.run("up")'),
    "python -m local status": ("tests/e2e/test_commands.py", 'laptop.run("status"'),
    "python -m local logs": ("tests/e2e/test_commands.py", 'laptop.run("logs")'),
    "python -m local sql": ("tests/e2e/test_commands.py", 'laptop.run("sql"'),
    "python -m local script": ("tests/e2e/test_commands.py", 'laptop.run("script"'),
    "python -m local restart": ("tests/integration/test_engine.py", "engine.restart("),
    "python -m local kill": ("tests/integration/test_engine.py", "engine.kill("),
    "python -m local replay": ("tests/integration/test_engine.py", "engine.replay("),
    "python -m local backfill": ("tests/integration/test_engine.py", "backfill("),
    "make demo": ("tests/e2e/conftest.py", 'laptop.run("demo"'),
    "docker compose": COMPOSE,
    "cp .env.example": COMPOSE,
    "touch .env": COMPOSE,
}
NOT_RUN = {
    "make test": "is the suite itself",
    "make bench": "measures; its programs are in tests/bench",
    "make audit": "asks a public service",
    "make clean": "takes away the environment that the tests run in",
    "sudo apt-get": "a package manager's",
    "brew": "a package manager's",
    "python -m local …": "a pattern",
    "python -m scripts.…": "a pattern",
    "find logs": "the operating system's",
    "delete … where": "a pattern",
    "select system$pipe_force_resume": "needs an account: the local pipe is never stale",
}


def entry(command: str) -> str:
    """The longest beginning that is known."""
    return max((known for known in (*RUN_BY, *NOT_RUN) if command.startswith(known)), key=len, default="")


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 40


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: value[:40])
def test_a_command_is_run_by_a_test_or_says_why_not(page: str, command: str) -> None:
    assert entry(command), f"{page}: which test runs `{command}`?"


def test_the_table_names_tests_that_are_there_and_commands_that_are_given() -> None:
    assert {entry(command) for _, command in COMMANDS} == {*RUN_BY, *NOT_RUN}
    for command, (file, words) in RUN_BY.items():
        assert words in (ROOT / file).read_text(encoding="utf-8"), command


def test_what_make_runs_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {command.split()[1] for _, command in COMMANDS if command.startswith("make ")} <= targets
