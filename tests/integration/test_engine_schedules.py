"""Schedules run only where they are wanted, and a backfill runs their past ticks in order."""

from __future__ import annotations

import queue
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.engine import Engine, EngineError, Event
from local.java import EngineBuild
from tests.integration.conftest import PROJECT

pytestmark = pytest.mark.engine


def test_a_backfill_runs_each_tick_once_in_order_with_its_inputs_and_labels(
    build: EngineBuild, engine_environment: dict[str, str], tmp_path: Path
):
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with Engine(build, tmp_path, engine_environment, scheduler=True, on_event=told.put) as engine:
        engine.load(PROJECT)
        first, last = datetime(2026, 1, 2, 3, 30, tzinfo=UTC), datetime(2026, 1, 4, 3, 30, tzinfo=UTC)
        engine.backfill("scheduled", "daily", first, last, {"place": "Leeds"}, {"reason": "backfill"})
        with pytest.raises(EngineError, match="still at its backfill"):
            engine.backfill("scheduled", "daily", first, last)
        with pytest.raises(EngineError, match="disabled in the flow's source"):
            engine.backfill("scheduled", "hourly", first, last)
        with pytest.raises(EngineError, match="has no schedule weekly"):
            engine.backfill("scheduled", "weekly", first, last)

        said = [wait_for_log(told) for _ in range(3)]

    days = [first + timedelta(days=number) for number in range(3)]
    assert said == [f"{day:%Y-%m-%dT%H:%M:%SZ} Leeds backfill" for day in days]


def wait_for_log(told: queue.SimpleQueue[Event]) -> str:
    while True:
        event = told.get(timeout=120)
        if event["event"] == "log" and event.get("task") == "tell":
            return event["message"]


def test_without_the_scheduler_a_backfill_is_refused(engine: Engine):
    with pytest.raises(EngineError, match="does this engine run schedules"):
        engine.backfill("scheduled", "daily", datetime(2026, 1, 2, tzinfo=UTC))
