"""What the ledger tells of late, waiting, silent and damaged hours, and what the next check makes of the last one."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from scripts import health
from scripts.pipeline.hours import parse_hour
from scripts.pipeline.records import BadLine, Manifest, Part, Version
from tests import s3

NOW = datetime(2026, 11, 26, 7, tzinfo=UTC)
DAYS = ("2026-11-23", "2026-11-24", "2026-11-25")


@pytest.fixture
def day(bucket):
    """Leaves a day's hours in the ledger as runs do; `states` by hour of the day, `loaded` for all others."""

    def leave(date, states=(), *, bad=0, waited=timedelta(hours=7)):
        states = dict(states)
        for number in range(24):
            hour, state = f"{date}T{number:02}", states.get(number, "loaded")
            if state == "open":
                continue
            exported = (NOW - waited if state == "uploaded" else parse_hour(hour) + timedelta(hours=3)).isoformat()
            lines = [BadLine(line + 1, "not UTF-8") for line in range(bad)]
            part = Part(member="m", key="k", sha256="0", bytes=1, rows=1, bad_lines=lines)
            manifest = Manifest(
                window_start=hour, window_end=hour, exported_at=exported, status=200, archive_bytes=1, parts=[part]
            )
            version = Version(hour=hour, version=1, manifest=manifest, written_at=exported, tool="test")
            bucket.put(s3.ledger_key(hour, "v0001.json"), msgspec.json.encode(version))
            if state != "uploaded":
                bucket.put(s3.ledger_key(hour, f"v0001.{state}.json"), b"{}")

    return leave


@pytest.fixture(autouse=True)
def started(bucket, monkeypatch):
    monkeypatch.setenv("AMP_START_DATE", DAYS[0])


def found(now=NOW):
    return {problem.kind: problem for problem in health.of_ledger(now)}


def test_nothing_is_wrong_with_complete_days(day):
    for date in DAYS:
        day(date, {5: "empty"})
    assert found() == {}


def test_an_hour_is_late_once_its_day_is_over_for_six_hours(day):
    day(DAYS[0])
    day(DAYS[1], {3: "open", 4: "open"})
    late = found()["open_hours"]
    assert late.count == 2 + 24  # the 25th too: it is seven in the morning of the 26th
    assert "2026-11-24T03" in late.what
    assert found(NOW - timedelta(hours=1, minutes=1))["open_hours"].count == 2


def test_a_long_export_latency_is_no_lateness_and_no_silence(day, bucket, monkeypatch):
    """What is young at the tick of 03:30 is the next one's: that is a setting, and no alarm of every day."""
    monkeypatch.setenv("EXPORT_LATENCY_HOURS", "48")
    day(DAYS[0])
    assert found()["open_hours"].count == 3  # of the 24th, at 03:30 on the 26th
    day(DAYS[1], dict.fromkeys(range(3, 24), "open"))
    assert found() == {}
    for hour in range(3):  # re-checked meanwhile
        bucket.put(s3.ledger_key(f"{DAYS[0]}T{hour:02}", "rechecked_1d.json"), b"{}")
    assert found(NOW + timedelta(hours=20)) == {}  # just before the next tick
    assert found(NOW + timedelta(days=1))["open_hours"].count == 24


def test_before_the_first_schedule_no_hour_is_late(bucket, monkeypatch):
    monkeypatch.delenv("AMP_START_DATE")
    assert found() == {}


def test_hours_that_wait_for_load_longer_than_it_takes_are_a_problem(day):
    for date in DAYS[:2]:
        day(date)
    day(DAYS[2], {7: "uploaded", 8: "uploaded"})
    waiting = found()["not_loaded"]
    assert (waiting.count, waiting.severity) == (2, "error")
    assert "2026-11-25T07" in waiting.what


def test_hours_that_a_run_may_be_loading_now_are_none(day):
    for date in DAYS[:2]:
        day(date)
    day(DAYS[2], {7: "uploaded"}, waited=timedelta(hours=5))
    assert found() == {}


def test_a_recheck_that_no_run_has_done_for_three_days_is_told(day, bucket):
    """Its hour is loaded, so no run is red for it."""
    for date in DAYS:
        day(date)
    due = parse_hour("2026-11-23T00") + timedelta(hours=1, days=1)
    assert "rechecks" not in found(due + timedelta(days=3, seconds=-1))
    overdue = found(due + timedelta(days=3, hours=1))["rechecks"]
    assert (overdue.count, overdue.severity, "2026-11-23T00" in overdue.what) == (2, "warning", True)
    for hour in ("2026-11-23T00", "2026-11-23T01"):
        bucket.put(s3.ledger_key(hour, "rechecked_1d.json"), b"{}")
    assert "rechecks" not in found(due + timedelta(days=3, hours=1))


def test_a_day_and_a_half_without_an_event_is_silence(day):
    day(DAYS[0])
    for date in DAYS[1:]:
        day(date, dict.fromkeys(range(24), "empty"))
    silence = found()["silence"]
    assert (silence.severity, "2026-11-23T23" in silence.what) == ("warning", True)


def test_a_damaged_version_hides_nothing(day, bucket):
    for date in DAYS:
        day(date, {5: "uploaded"} if date == DAYS[2] else {}, bad=date == DAYS[1])
    for hour in (f"{DAYS[2]}T05", f"{DAYS[2]}T06"):
        bucket.put(s3.ledger_key(hour, "v0001.json"), b"{")
    assert set(found()) == {"not_loaded", "quarantine"}


def test_bad_lines_of_the_last_two_days_are_news(day):
    day(DAYS[0], bad=5)  # older than that
    day(DAYS[1])
    day(DAYS[2], bad=2)
    news = found()["quarantine"]
    assert (news.count, news.severity) == (48, "warning")


@pytest.fixture
def check(monkeypatch, tmp_path):
    """Runs the check over given problems only."""

    def run(now, *problems, previous=""):
        def of_nothing(_now):
            yield from problems

        for name in ("of_ledger", "of_warehouse", "of_disk"):
            monkeypatch.setattr(health, name, of_nothing if name == "of_disk" else lambda _now: iter(()))
        monkeypatch.setenv("PIPELINE_NOW", now.isoformat())
        result = health.run(previous=previous, output=tmp_path / "health.md")
        return result, (tmp_path / "health.md").read_text()

    return run


def test_a_problem_keeps_its_beginning_and_growth_is_said(check):
    first, table = check(NOW, health.Problem("open_hours", "24 hours.", "A", count=24))
    assert (first["problems"], first["kinds"], first["severity"]) == (1, "open_hours", "error")
    assert "| open_hours | error | 2026-11-26 07:00 UTC | 24 hours. | A |" in table
    later, table = check(
        NOW + timedelta(hours=1), health.Problem("open_hours", "48 hours.", "A", count=48), previous=first["state"]
    )
    assert "since 2026-11-26 07:00 UTC: 48 hours. Growing: 24 at the last check." in later["text"]
    over, table = check(NOW + timedelta(hours=2), previous=later["state"])
    assert (over["problems"], over["state"]) == (0, "{}")
    assert "Nothing is wrong" in table


def test_an_unreadable_memory_is_made_anew(check):
    assert check(NOW, health.Problem("pipe", "x", "Pipe"), previous="{'")[0]["problems"] == 1


def test_what_cannot_be_looked_at_is_a_problem_and_hides_no_other(monkeypatch, bucket, tmp_path):
    monkeypatch.setenv("AWS_BUCKET_NAME", "no-such-bucket")
    monkeypatch.setenv("MAX_BYTES_PER_RUN", str(10**18))  # no disk has room for that
    result = health.run(previous="", output=tmp_path / "health.md")
    assert result["kinds"] == "disk ledger_unknown warehouse_unknown"
    assert "AWS_BUCKET_NAME" in result["text"]
    assert "SNOWFLAKE_ACCOUNT is missing" in result["text"]


def test_every_remedy_is_a_heading_of_the_runbook():
    source = Path(health.__file__).read_text(encoding="utf-8")
    runbook = (Path(health.__file__).parents[1] / "docs/runbook.md").read_text(encoding="utf-8")
    problems = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and "Problem" in ast.unparse(node.func)
    ]
    remedies = {node.args[2].value for node in problems}
    assert len(remedies) >= 7
    assert not [remedy for remedy in remedies if f"\n## {remedy}\n" not in runbook]
