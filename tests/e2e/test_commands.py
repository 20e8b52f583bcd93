"""`make demo` and the other commands of `python -m local`, as a newcomer uses them.

First of this folder by name: the other files hold the same stack for themselves.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Laptop

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


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


def test_the_demo_is_green_and_counts_the_same_events_at_every_hop(laptop: Laptop) -> None:
    first = laptop.demos[0]
    assert first["states"] == ["SUCCESS"] * 3
    assert first["served_events"] > 100
    rows = first["rows"]
    assert rows["landing table, distinct rows"] == rows["int_amplitude__events"] == first["served_events"]
    left_out = re.search(r"page views sent twice ([\d,]+), events outside sessions ([\d,]+)", laptop.shown[0])
    assert left_out
    no_steps = sum(int(number.replace(",", "")) for number in left_out.groups())
    assert rows["journey_analysis"] == rows["int_amplitude__events"] - no_steps > 0
    assert "One visitor's journey" in laptop.shown[0]


def test_a_second_demo_asks_for_nothing_and_changes_nothing(laptop: Laptop) -> None:
    first, second = laptop.demos
    assert second["states"] == ["SUCCESS"] * 3
    counted = [{name: rows for name, rows in demo["rows"].items() if name != "staging"} for demo in (first, second)]
    assert counted[0] == counted[1]  # staging shows the landing table's rows, which may come twice
    assert second["tasks"]["plan"]["hours"] == 0
    assert "Nothing was left" in laptop.shown[1]
    assert json.loads((laptop.state / "demo.json").read_text()) == second
    day = first["day"]["start_date"].replace("-", "")
    requests = map(json.loads, (laptop.state / "amplitude" / "requests.jsonl").read_text().splitlines())
    # others may have run since; the doctor after each deploy asks for a single hour
    of_day = [asked for asked in requests if asked["start"].startswith(day) and asked["start"] != asked["end"]]
    assert len(of_day) == first["tasks"]["extract"]["requests"]


def test_logs_of_the_last_run_can_be_read_afterwards(laptop: Laptop) -> None:
    code, out, _ = laptop.run("logs")
    assert code == 0
    assert "verdict" in out


@pytest.mark.scenario
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_demo_that_is_stopped_in_a_run_leaves_no_process(laptop: Laptop, ending: signal.Signals) -> None:
    process = laptop.start("demo")
    assert process.stderr
    for line in process.stderr:
        if line.startswith("  ▷"):  # a task runs
            break
    process.send_signal(ending)
    process.wait(timeout=60)
    assert wait_gone(laptop.state, 45) == []


def test_up_serves_run_status_and_sql_until_down(laptop: Laptop) -> None:
    assert laptop.run("up")[0] == 0
    try:
        code, out, _ = laptop.run("status", "--json")
        status = last_line(out)
        assert code == 0
        assert status["up"] is True
        assert {"host", "port", "protocol"} <= set(status["snowflake"])
        assert status["s3"]["endpoint"].startswith("http://127.0.0.1:")
        assert status["amplitude"]["url"].startswith("http://127.0.0.1:")
        code, out, err = laptop.run("run", "snowflake_deploy", "--input", "action=plan", "--json")
        assert code == 0, err
        assert last_line(out)["state"] == "SUCCESS"
        code, out, _ = laptop.run("sql", "select 1 as one", "--json")
        assert last_line(out) == {"columns": ["ONE"], "rows": [[1]]}
        code, _, err = laptop.run("run", "no_such_flow")
        assert code == 1
        assert "no_such_flow" in err
    finally:
        assert laptop.run("down")[0] == 0
    assert wait_gone(laptop.state, 5) == []
    assert last_line(laptop.run("status", "--json")[1]) == {"up": False, "alerts": {}}


def test_a_command_of_the_person_on_call_runs_on_the_stack(laptop: Laptop) -> None:
    day = laptop.demos[0]["day"]["start_date"]
    code, out, err = laptop.run("script", "ledger", "--from", day, "--to", day)
    assert (code, "L loaded" in out) == (0, True), err
    assert f"{day}  " in out
    code, out, err = laptop.run("script", "legder")
    assert (code, err) == (1, "there is no scripts/legder.py\n")


def test_a_backfill_without_schedules_is_refused(laptop: Laptop) -> None:
    code, _, err = laptop.run("backfill", "amplitude_daily", "--start", "2026-01-01")
    assert code == 1
    assert "local up" in err
