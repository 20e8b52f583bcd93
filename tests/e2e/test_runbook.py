"""The commands of docs/runbook.md and README, taken from the pages, on the stack as the runs before have left it."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from tests.doc_commands import commands
from tests.e2e.conftest import Laptop
from tests.e2e.pipeline import Pipeline

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
PAGE = commands("docs/runbook.md") + commands("README.md")
SCRIPTS = [
    command
    for command in PAGE
    if command.startswith("python -m scripts.") and not {"…", "quarantine"} & set(re.split(r"[. ]", command))
]
STATEMENTS = [
    command for command in PAGE if re.match(r"(alter|show|select) ", command) and "force_resume" not in command
]
PART = [command for command in PAGE if re.match(r"(delete from|copy into) ", command)]


@pytest.fixture
def on_call(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pipeline:
    """The settings of the stack, as `docker compose exec` and `local script` give them."""
    monkeypatch.chdir(tmp_path)
    for name, value in pipeline.settings.items():
        monkeypatch.setenv(name, value)
    return pipeline


@pytest.mark.parametrize(
    "command", [*SCRIPTS, pytest.param("python -m scripts.reconcile --from DAY --to DAY", marks=pytest.mark.scenario)]
)
def test_a_command_of_the_runbook_ends_well(on_call: Pipeline, laptop: Laptop, command: str) -> None:
    day = laptop.demos[0]["day"]["start_date"]
    _, _, module, *arguments = shlex.split(re.sub(r"\bDAY\b|\d{4}-\d\d-\d\d", day, command))
    code = importlib.import_module(module).main(arguments)
    assert code == 0 or (code, module) in {(1, "scripts.health"), (1, "scripts.doctor")}  # found something: a full disk


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_statement_of_the_runbook_is_taken(on_call: Pipeline, statement: str) -> None:
    assert isinstance(on_call.sql(statement), list)


def test_rows_that_somebody_deleted_come_back_by_the_statements_of_the_runbook(
    on_call: Pipeline, laptop: Laptop
) -> None:
    day = laptop.demos[0]["day"]["start_date"]
    landed = "select json_data:uuid::varchar from raw.amplitude_events_raw_python where source_file = "
    ((key,),) = on_call.sql(
        f"select max(source_file) from raw.amplitude_events_raw_python where source_file like '%/date={day}/%'"
    )
    before = set(on_call.sql(f"{landed}'{key}'"))
    delete, copy = (
        text.replace("<key of the part>", key).replace("<key without the prefix>", key.removeprefix("python-import/"))
        for text in PART
    )
    on_call.sql(delete)
    assert on_call.sql(f"{landed}'{key}'") == []
    on_call.sql(copy)
    assert set(on_call.sql(f"{landed}'{key}'")) == before
    assert before
