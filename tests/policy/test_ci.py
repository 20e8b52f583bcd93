"""The team's CI: pinned, with no right that it does not need, and made of the commands that a person runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))


def steps(file: Path) -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].values() for step in job["steps"]]


def test_there_are_two() -> None:
    assert [file.name for file in FILES] == ["deploy.yml", "validate.yml"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_actions_are_pinned_by_commit_and_name_their_version(file: Path) -> None:
    used = re.findall(r"uses: (.+)", file.read_text(encoding="utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_token_may_only_read_and_is_not_left_behind(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"]
    [checkout] = [step for step in steps(file) if "checkout" in step.get("uses", "")]
    assert checkout["with"]["persist-credentials"] is False


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_secrets_reach_commands_by_the_environment_alone(file: Path) -> None:
    """An expression in `run` is pasted into a script: a secret would stand in it, a branch's name would be run."""
    for step in steps(file):
        assert "${{" not in step.get("run", "")
        assert "set -x" not in step.get("run", "")


def test_a_pull_request_sees_no_secret() -> None:
    text = (ROOT / ".github/workflows/validate.yml").read_text(encoding="utf-8")
    assert "secrets." not in text
    assert "pull_request_target" not in text


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_its_commands_exist(file: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    runs = [step["run"] for step in steps(file) if "run" in step]
    assert runs
    for command in runs:
        if target := re.fullmatch(r"make ([a-z]+)", command):
            assert f"\n{target[1]}:" in makefile, command
        elif stamp := re.fullmatch(r"make \.venv/(\w+)\.stamp", command):
            assert (ROOT / f"requirements/{stamp[1]}.txt").exists(), command
        elif script := re.match(r"\.venv/bin/python (\S+)", command):
            assert (ROOT / script[1]).exists(), command
        else:
            assert command.startswith("docker compose "), command


def test_only_main_is_deployed() -> None:
    """A run by hand can name any branch."""
    [job] = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text(encoding="utf-8"))["jobs"].values()
    assert "&& github.ref == 'refs/heads/main'" in job["if"]
