"""What stops a newcomer's first hour on a laptop is said in a sentence with the next step."""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import __main__ as laptop
from local import engine, progress, session, stack
from local.java import EngineBuild

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


def test_ctrl_c_while_a_command_is_still_importing_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "snowflake").mkdir()
    slow = "import time\nprint('importing', flush=True)\ntime.sleep(60)\n"
    (tmp_path / "snowflake" / "__init__.py").write_text(slow, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "local", "status"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--start", "2999-11-05", "--end", "2999-11-06"], "--start 2999-11-05 00:00 lies in the future"),
        (["--start", "2026-11-05", "--end", "2026-11-01"], "--start 2026-11-05 00:00 lies after --end: swap them"),
    ],
)
def test_a_backfill_that_can_have_no_tick_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
) -> None:
    """Kestra's scheduler would be asked for five minutes, and then blamed."""
    monkeypatch.setattr(session, "running", session.Remote)
    assert laptop.main(["backfill", "amplitude_daily", *options]) == 1
    assert reason in capsys.readouterr().err


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


def test_make_notices_that_the_python_of_its_environment_is_gone(tmp_path: Path) -> None:
    """After an upgrade of the machine's Python: `.venv/bin/python: No such file or directory`, again and again."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to("/nonexistent/python3.12")
    (tmp_path / ".venv/uv.stamp").touch()
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("make", "bash", "rm"):
        (path / tool).symlink_to(shutil.which(tool) or tool)
    done = make(tmp_path, {"PATH": str(path)})
    assert "This needs Python 3.11, 3.12 or 3.13" in done.stderr  # it looked for one


def test_make_clean_works_without_the_packages(tmp_path: Path) -> None:
    """An installation that was cut off could not be cleaned: `clean` itself needs the packages."""
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    (tmp_path / "local").mkdir()  # a link to the folder would have `rm` take our own build
    for file in (ROOT / "local").glob("*.py"):
        (tmp_path / "local" / file.name).symlink_to(file)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    (tmp_path / ".venv/bin/python").chmod(0o755)
    (tmp_path / ".local/data").mkdir(parents=True)
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not (tmp_path / ".venv").exists()
    assert not (tmp_path / ".local").exists()


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


def test_another_python_is_told_where_the_packages_are() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "local", "status"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("This Python lacks the packages of the laptop stack. Run .venv/bin/python -m local")
    assert "Traceback" not in done.stderr
    # docker/check/server.py has the engine without the stand-ins
    subprocess.run([sys.executable, "-S", "-c", "import local.java"], cwd=ROOT, check=True)


def test_ctrl_c_while_up_waits_stops_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It said `stopped`, and the stack came up behind it, schedules included."""
    begun: list[subprocess.Popen[bytes]] = []

    def interrupted(process: subprocess.Popen[bytes], _: float) -> bool:
        begun.append(process)
        raise KeyboardInterrupt

    monkeypatch.setenv("LOCAL_STATE", str(tmp_path))
    monkeypatch.setattr(stack, "STATE", tmp_path)
    monkeypatch.setattr(laptop, "ensure_engine", lambda: None)
    monkeypatch.setattr(session, "running", lambda: None)
    monkeypatch.setattr(session, "wait_up", interrupted)
    try:
        assert laptop.main(["up"]) == 130
        assert begun[0].poll() is not None
    finally:
        begun[0].kill()


def test_a_full_disk_leaves_no_half_key(tmp_path: Path) -> None:
    """Once there was room again each start took what was left for a key, and each run failed."""
    ours = stack.Stack(tmp_path)
    key = engine.Engine(EngineBuild(tmp_path, "", tmp_path, tmp_path), tmp_path, {})
    _, most = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for make_key in (ours._private_key, key._encryption_key):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
        try:
            with pytest.raises(OSError, match="File too large"):
                make_key()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ours._private_key().read_bytes().endswith(b"-----\n")
    assert len(base64.b64decode(key._encryption_key())) == 32
    assert {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {
        "snowflake_key.p8": 0o600, "encryption.key": 0o600,
    }  # fmt: skip


def test_a_line_that_was_cut_hides_no_other(tmp_path: Path) -> None:
    """`logs` and `status` ended in a traceback over it."""
    lines = [
        json.dumps({"event": "execution", "execution": "one", "flow": "notify", "state": "RUNNING"}),
        json.dumps({"event": "log", "execution": "one", "at": "now", "level": "INFO", "message": "seen"}),
        '{"event": "execution", "execution": "one", "state": "SUC',
    ]
    (tmp_path / "one.jsonl").write_text("\n".join(lines))
    assert progress.show_logs(tmp_path, "one", out := io.StringIO())
    assert out.getvalue() == "now INFO  -: seen\nnotify one RUNNING\n"
    assert [event["state"] for event in progress.at_work(tmp_path)] == ["RUNNING"]
