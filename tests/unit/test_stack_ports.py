"""local/stack.py: where the stand-ins serve, and what does without them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local import stack


@pytest.mark.parametrize(("host", "fixed"), [("demo", True), ("127.0.0.1", False)])
def test_stand_ins_that_others_reach_come_back_where_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, fixed: bool
) -> None:
    """After a restart of the demo's container each was on another port, and Kestra went on with the old ones."""
    started: list[list[str]] = []
    monkeypatch.setattr(stack, "Server", lambda name, state, *arguments, environment: started.append([*arguments]))
    ours = stack.Stack(tmp_path, host=host)
    for name in ("s3", "amplitude", "snowflake"):
        ours._server(name)
    ports = {each[each.index("--port") + 1] for each in started if "--port" in each}
    assert len(ports) == (3 if fixed else 0)
    assert "0" not in ports


def test_the_help_of_a_command_of_the_person_on_call_starts_no_stack(tmp_path: Path) -> None:
    """It took eight seconds, and the lock: a demo that was still building its engine then gave up."""
    ran = subprocess.run(
        [sys.executable, "-m", "local", "script", "ledger", "quarantine", "--help"],
        cwd=stack.ROOT,
        env=os.environ | {"LOCAL_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usage: python -m scripts.ledger quarantine" in ran.stdout
    assert not (tmp_path / "state").exists()
