"""What stops a newcomer's first hour on a laptop is said in a sentence with the next step."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import __main__ as laptop
from local import progress, session, stack

ROOT = Path(__file__).resolve().parents[2]


def test_a_port_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(stack, "PORTS", {"amplitude": port})
        options = ["--host", "0.0.0.0", "--port", str(port), "--project", "1"]
        server = stack.Server("amplitude", tmp_path, *options, environment=os.environ)
        try:
            with pytest.raises(stack.StackError, match=f"amplitude did not start: port {port} is in use"):
                server.wait_ready()
        finally:
            server.stop()


def test_a_full_disk_is_called_so(tmp_path: Path) -> None:
    """Wherever it is met: one place says it for all commands."""
    program = (
        "import errno, sys; from local import __main__ as laptop, stack\n"
        "def full(*_): raise OSError(errno.ENOSPC, 'No space left on device', '/somewhere')\n"
        "laptop.session.running = full\n"
        "sys.exit(laptop.main(['status']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the disk is full ([Errno 28] No space left on device: '/somewhere'). Free some space" in done.stderr
    assert "run it again" in done.stderr


MAKE = ["make", "--no-print-directory", ".venv/uv.stamp"]


def make(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name in ("Makefile", "requirements"):
        (folder / name).symlink_to(ROOT / name)
    return subprocess.run(MAKE, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_make_without_a_python_says_which(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("make", "bash"):
        (path / tool).symlink_to(shutil.which(tool) or tool)
    done = make(tmp_path, {"PATH": str(path)})
    assert done.returncode == 2
    assert "This needs Python 3.11, 3.12 or 3.13" in done.stderr


@pytest.mark.scenario  # makes a virtual environment
def test_make_without_a_registry_says_what_to_do(tmp_path: Path) -> None:
    """A port without a server stands for the registry."""
    nobody = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = make(tmp_path, os.environ | nobody)
    assert done.returncode == 2
    assert "HTTPS_PROXY" in done.stderr
    assert "Then run make again" in done.stderr
    assert not (tmp_path / ".venv/uv.stamp").exists()


def test_a_switch_that_comes_after_up_is_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run against the stand-in that somebody takes for their own Amplitude would be green, with made-up events."""

    class Up:
        def do(self, *_: object) -> Iterator[dict[str, Any]]:
            yield {"event": "status", "settings": {"AMP_BASE_URL": "http://127.0.0.1:1"}}

    monkeypatch.setattr(session, "running", Up)
    monkeypatch.setenv("AMP_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(stack.StackError, match="AMP_BASE_URL counts at the start only"), session.reach(None, None):
        pass
    monkeypatch.setenv("AMP_BASE_URL", "http://127.0.0.1:1")
    with session.reach(None, None) as there:
        assert isinstance(there, Up)


def test_a_run_that_no_command_waits_for_is_named_and_its_end_shown(tmp_path: Path) -> None:
    """A scheduled run that was killed has no `finished`: its logs ended without a word, and no command told its id."""
    states = {"one": ["CREATED", "RUNNING"], "two": ["CREATED", "RUNNING", "KILLING", "KILLED"]}
    for run, told in states.items():
        events = [{"event": "execution", "execution": run, "flow": "amplitude_daily", "state": each} for each in told]
        (tmp_path / f"{run}.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert [event["execution"] for event in progress.at_work(tmp_path)] == ["one"]
    progress.show_logs(tmp_path, "two", out := io.StringIO())
    assert out.getvalue() == "amplitude_daily two KILLED\n"


def test_an_answer_of_sql_can_be_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Step 3 of the erasure writes commands; cut at 48 characters they were no use."""
    command = "aws s3 rm --recursive s3://bucket/" + "python-import-quarantine/project=1/date=2026-11-25/hour=15/" * 2
    monkeypatch.setattr(laptop.session, "running", lambda: object())
    monkeypatch.setattr(laptop.session, "settings_of", lambda _: {})
    monkeypatch.setattr(laptop.sql, "query", lambda *_: (["COMMAND"], [(command,)]))
    assert laptop.main(["sql", "select 1"]) == 0
    assert command in capsys.readouterr().out
