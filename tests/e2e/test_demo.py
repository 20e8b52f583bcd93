"""`make demo` and the other commands of `python -m local`, as a newcomer uses them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900), pytest.mark.usefixtures("build")]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("demo")
    yield folder
    assert processes(folder) == []


def start(state: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "local", *arguments],
        cwd=ROOT,
        env=os.environ | {"LOCAL_STATE": str(state)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(state: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(state, *arguments)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def last_line(out: str) -> Any:
    return json.loads(out.splitlines()[-1])


def processes(state: Path) -> list[str]:
    """Command lines of processes that were started for this state."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            command = (environment.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            mine = str(state).encode() in environment.read_bytes() or str(state) in command
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if mine and int(environment.parent.name) != os.getpid():
            found.append(command[:200])
    return found


def wait_gone(state: Path, seconds: float) -> list[str]:
    deadline = time.monotonic() + seconds
    while (left := processes(state)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def test_the_demo_is_green_twice_and_the_second_changes_nothing(state: Path) -> None:
    code, out, err = run(state, "demo", "--json")
    assert code == 0, err[-3000:]
    first = last_line(out)
    assert first["states"] == ["SUCCESS"] * 3
    assert first["served_events"] > 100
    rows = first["rows"]
    assert rows["landing table, distinct rows"] == rows["int_amplitude__events"] == first["served_events"]
    assert rows["journey_analysis"] > 0
    assert "One visitor's journey" in out
    assert json.loads((state / "demo.json").read_text()) == first

    code, out, err = run(state, "demo", "--json")
    assert code == 0, err[-3000:]
    second = last_line(out)
    assert second["states"] == ["SUCCESS"] * 3
    assert second["rows"] == rows
    assert second["tasks"]["plan"]["hours"] == 0


def test_logs_of_the_last_run_can_be_read_afterwards(state: Path) -> None:
    code, out, _ = run(state, "logs")
    assert code == 0
    assert "verdict" in out


@pytest.mark.parametrize(
    "ending",
    [signal.SIGKILL, *(pytest.param(each, marks=pytest.mark.scenario) for each in (signal.SIGTERM, signal.SIGINT))],
)
def test_a_demo_that_is_stopped_in_a_run_leaves_no_process(state: Path, ending: signal.Signals) -> None:
    process = start(state, "demo")
    assert process.stderr
    for line in process.stderr:
        if "▷" in line and "plan" in line:
            break
    process.send_signal(ending)
    process.wait(timeout=60)
    assert wait_gone(state, 45) == []


def test_up_serves_run_status_and_sql_until_down(state: Path) -> None:
    assert run(state, "up")[0] == 0
    try:
        code, out, _ = run(state, "status", "--json")
        status = last_line(out)
        assert code == 0
        assert status["up"] is True
        assert {"host", "port", "protocol"} <= set(status["snowflake"])
        assert status["s3"]["endpoint"].startswith("http://127.0.0.1:")
        assert status["amplitude"]["url"].startswith("http://127.0.0.1:")
        code, out, err = run(state, "run", "snowflake_deploy", "--input", "action=plan", "--json")
        assert code == 0, err
        assert last_line(out)["state"] == "SUCCESS"
        code, out, _ = run(state, "sql", "select 1 as one", "--json")
        assert last_line(out) == {"columns": ["ONE"], "rows": [[1]]}
        code, _, err = run(state, "run", "no_such_flow")
        assert code == 1
        assert "no_such_flow" in err
    finally:
        assert run(state, "down")[0] == 0
    assert wait_gone(state, 5) == []
    assert last_line(run(state, "status", "--json")[1]) == {"up": False}
