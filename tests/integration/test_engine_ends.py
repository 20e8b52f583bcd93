"""However the engine or its driver ends, no process is left, and the next start finds a usable engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local.engine import Engine, EngineError, Event
from local.java import EngineBuild
from tests.integration.conftest import PROJECT

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]
PATIENCE = 60.0  # seconds; a stop takes 2 to 3 on an idle machine


def sleeping(events: Iterator[Event]) -> tuple[str, list[int]]:
    """Waits until the flow `slow` sleeps; its execution, and its process with its child."""
    told = next(event for event in events if event["event"] == "log" and event["message"].startswith("pids"))
    return told["execution"], [int(pid) for pid in told["message"].split()[1:]]


def lives(pid: int) -> bool:
    """False also for a zombie, which nobody has reaped yet."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def all_end(pids: list[int]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(map(lives, pids))


def rest(events: Iterator[Event]) -> list[Event]:
    """What still comes from an engine that ends."""
    told = []
    with contextlib.suppress(EngineError):
        told.extend(iter(events))
    return told


DRIVER = """
import json, sys
from pathlib import Path
from local.engine import Engine
from local.java import ensure_engine
state, project, environment = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
def tell(event):
    sys.stdout.write(json.dumps(event) + "\\n")  # two threads tell, and print() writes the end of a line by itself
    sys.stdout.flush()
with Engine(ensure_engine(), state, environment, on_event=tell) as engine:
    engine.load(project)
    tell({"event": "started", "pid": engine.pid})
    for flow in "hello", "slow":
        list(engine.run(flow))
"""


@contextlib.contextmanager
def driver(state: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], Iterator[Event]]]:
    """A process that runs `hello`, then `slow`, and prints every event; in a process group as a terminal makes one."""
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(state), str(PROJECT), json.dumps(environment)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            yield process, map(json.loads, process.stdout)
        finally:
            process.kill()


@pytest.mark.timeout(900)  # four starts of the engine: under a minute on an idle machine
@pytest.mark.scenario  # minutes
def test_no_process_is_left_and_the_next_start_is_clean(
    build: EngineBuild, engine_environment: dict[str, str], tmp_path: Path
):
    """One story over one state folder: SIGTERM, SIGKILL of the engine, Ctrl-C and SIGKILL of its driver."""
    with Engine(build, tmp_path, engine_environment) as engine:
        engine.load(PROJECT)
        with pytest.raises(EngineError, match="needs an engine that runs schedules"):
            engine.backfill("scheduled", "daily", datetime(2026, 1, 2, tzinfo=UTC))
        events = engine.run("slow")
        _, pids = sleeping(events)
        os.kill(engine.pid, signal.SIGTERM)
        assert all_end([engine.pid, *pids])
        assert "KILLED" in [event["state"] for event in rest(events) if event["event"] == "execution"]
        with pytest.raises(EngineError, match=r"is not running|ended with code 143"):
            list(engine.run("hello"))

    with Engine(build, tmp_path, engine_environment) as engine:
        assert engine.leftovers == []  # SIGTERM left no run behind
        events = engine.run("slow")
        left, pids = sleeping(events)
        os.kill(engine.pid, signal.SIGKILL)
        assert all_end([engine.pid, *pids])
        with pytest.raises(EngineError, match="ended with code -9"):
            list(events)

    with driver(tmp_path, engine_environment) as (process, events):
        told = until(events, "started")
        assert [event["execution"] for event in told if event["event"] == "leftover"] == [left]
        told += until(events, "finished")
        assert told[-1]["state"] == "SUCCESS"
        assert ended(told, left) == "KILLED"
        _, pids = sleeping(events)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        assert process.wait(PATIENCE) != 0
        assert all_end([pid(told), *pids])

    with driver(tmp_path, engine_environment) as (process, events):
        told = until(events, "started")
        assert [event for event in told if event["event"] == "leftover"] == []
        _, pids = sleeping(events)
        process.kill()
        assert all_end([pid(told), *pids])


def until(events: Iterator[Event], name: str) -> list[Event]:
    told = []
    for event in events:
        told.append(event)
        if event["event"] == name:
            return told
    raise AssertionError(told)


def pid(told: list[Event]) -> int:
    return next(event["pid"] for event in told if event["event"] == "started")


def ended(told: list[Event], execution: str) -> str:
    return [each["state"] for each in told if each["event"] == "execution" and each["execution"] == execution][-1]
