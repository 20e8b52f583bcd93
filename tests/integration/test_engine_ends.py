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
from pathlib import Path

import pytest

from local.engine import Engine, EngineError, Event
from local.java import EngineBuild
from tests.integration.conftest import PROJECT

pytestmark = pytest.mark.engine
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


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_nothing_is_left_after_sigterm_sigkill_and_stop_and_the_next_start_kills_what_a_killed_engine_left(
    build: EngineBuild, engine_environment: dict[str, str], tmp_path: Path
):
    with Engine(build, tmp_path, engine_environment) as engine:
        engine.load(PROJECT)
        events = engine.run("slow")
        _, pids = sleeping(events)
        os.kill(engine.pid, signal.SIGTERM)
        assert all_end([engine.pid, *pids])
        assert "KILLED" in [event["state"] for event in rest(events) if event["event"] == "execution"]
        with pytest.raises(EngineError, match=r"is not running|ended with code 143"):
            list(engine.run("hello"))

    with Engine(build, tmp_path, engine_environment) as engine:
        assert engine.leftovers == []
        events = engine.run("slow")
        left, pids = sleeping(events)
        os.kill(engine.pid, signal.SIGKILL)
        assert all_end([engine.pid, *pids])
        with pytest.raises(EngineError, match="ended with code -9"):
            list(events)

    told: list[Event] = []
    with Engine(build, tmp_path, engine_environment, on_event=told.append) as engine:
        assert [event["execution"] for event in engine.leftovers] == [left]
        assert list(engine.run("hello"))[-1]["state"] == "SUCCESS"
        assert state(told, left) == "KILLED"
        events = engine.run("slow")
        _, pids = sleeping(events)
        engine.stop()
        assert all_end([engine.pid, *pids])


def rest(events: Iterator[Event]) -> list[Event]:
    """What still comes from an engine that ends."""
    told = []
    with contextlib.suppress(EngineError):
        told.extend(iter(events))
    return told


def state(told: list[Event], execution: str) -> str | None:
    states = [each["state"] for each in told if each["event"] == "execution" and each["execution"] == execution]
    return states[-1] if states else None


DRIVER = """
import json, sys
from pathlib import Path
from local.engine import Engine
from local.java import ensure_engine
state, project, environment = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
with Engine(ensure_engine(), state, environment) as engine:
    engine.load(project)
    print(json.dumps({"event": "started", "pid": engine.pid}), flush=True)
    for event in engine.run("slow"):
        print(json.dumps(event), flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize(
    "ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["Ctrl-C", "SIGTERM", "SIGKILL"]
)
def test_nothing_is_left_when_the_driver_ends(
    build: EngineBuild, engine_environment: dict[str, str], tmp_path: Path, ending: signal.Signals
):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), str(PROJECT), json.dumps(engine_environment)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert driver.stdout
    events = map(json.loads, driver.stdout)
    engine = next(events)["pid"]
    _, pids = sleeping(events)

    driver.send_signal(ending)

    assert driver.wait(PATIENCE) != 0
    assert all_end([engine, *pids])
