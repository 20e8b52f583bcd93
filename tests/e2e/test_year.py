"""A range of a year by the real flow: each run ends by its limits and says what is left, the next one goes on there."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.engine import open_alerts
from local.java import EngineBuild
from local.session import Session
from tests.e2e.pipeline import Pipeline, Run
from tests.e2e.real_events import FULL

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(1200)]
LIMIT = 744  # hours of a run, by default
OUTPUTS = 10_000  # bytes of a task's outputs: they stand in Kestra's database row of the run


def event(day: date) -> dict[str, Any]:
    time = f"{day} {day.toordinal() % 24:02}:00:02.006000"
    return FULL | {"uuid": f"00000000-0000-4000-8000-0000{day.toordinal():08}", "server_upload_time": time}


def check(run: Run, hours: int, left_over: int) -> None:
    assert run.state == "SUCCESS", run.warnings
    planned = run.tasks["plan"]["outputs"]["vars"]
    assert (planned["hours"], planned["hours_left_over"]) == (hours, left_over)
    sizes = {task: len(json.dumps(told.get("outputs") or {})) for task, told in run.tasks.items()}
    assert max(sizes.values()) < OUTPUTS, sizes
    assert len(json.dumps(run.outputs)) < OUTPUTS


def serve(days: list[date], folder: Path) -> Path:
    """Archives for the stand-in: an event a day."""
    archives = folder / "archives"
    archives.mkdir()
    (archives / "events.jsonl").write_text("".join(json.dumps(event(day)) + "\n" for day in days), encoding="utf-8")
    return archives


def test_the_alert_of_a_range_stays_open_until_no_hour_of_it_is_left_over(
    build: EngineBuild, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_HOURS_PER_RUN", "24")
    last = (datetime.now(UTC) - timedelta(hours=3)).date() - timedelta(days=1)
    first = last - timedelta(days=1)
    asked = {"start_date": first.isoformat(), "end_date": last.isoformat()}
    key = f"amplitude_daily {first}..{last}"
    with Session(build, state=tmp_path / "state", archives=serve([first, last], tmp_path)) as session:
        pipeline = Pipeline(session)
        for scope in ("account", "database"):
            assert pipeline.run("snowflake_deploy", action="apply", scope=scope).state == "SUCCESS"
        assert pipeline.run("notify", key=key, text="an earlier run of it failed").state == "SUCCESS"
        for left_over, is_open in ((24, True), (0, False)):
            run = pipeline.run("amplitude_daily", **asked)
            assert run.state in {"SUCCESS", "WARNING"}, run.warnings
            assert run.tasks["plan"]["outputs"]["vars"]["hours_left_over"] == left_over
            assert (key in open_alerts(tmp_path / "state" / "kestra")) is is_open


def test_a_year_ends_by_the_limits_of_a_run_and_goes_on(build: EngineBuild, tmp_path: Path) -> None:
    last = (datetime.now(UTC) - timedelta(hours=3)).date() - timedelta(days=1)
    days = [last - timedelta(days=number) for number in range(365)]
    year = {"start_date": days[-1].isoformat(), "end_date": last.isoformat(), "transform": False}

    with Session(build, state=tmp_path / "state", archives=serve(days, tmp_path)) as session:
        pipeline = Pipeline(session)
        for scope in ("account", "database"):
            assert pipeline.run("snowflake_deploy", action="apply", scope=scope).state == "SUCCESS"
        check(pipeline.run("amplitude_daily", **year), LIMIT, 8760 - LIMIT)
        check(pipeline.run("amplitude_daily", **year), LIMIT, 8760 - 2 * LIMIT)
        landed = pipeline.sql("select distinct json_data:uuid::varchar from raw.amplitude_events_raw_python")
        assert sorted(uuid for (uuid,) in landed) == sorted(event(day)["uuid"] for day in days[-2 * LIMIT // 24 :])
    reports = sorted(tmp_path.glob("state/kestra/storage/**/*report.md"), key=lambda file: file.stat().st_mtime)
    texts = [file.read_text(encoding="utf-8") for file in reports]
    assert ["| 8,016 |" in text and "| hours left over: " in text for text in texts] == [True, False]
    assert ["1,488 of 8,760 hours are done." in text for text in texts] == [False, True]
