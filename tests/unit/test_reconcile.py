"""Which alerts a reconciliation opens and closes. What it compares: tests/integration/warehouse/test_reconcile.py."""

import json
from datetime import date

import pytest

from scripts import reconcile
from scripts.pipeline.hours import Window, day_window


@pytest.fixture
def over(bucket, monkeypatch):
    monkeypatch.setenv("PIPELINE_NOW", "2026-11-26T07:00:00Z")
    window = Window(day_window(date(2026, 11, 16)).start, day_window(date(2026, 11, 22)).end)
    return lambda *keys: reconcile.over(json.dumps(dict.fromkeys(keys, "2026-11-25T07:00:00Z")), window)


def of(days):
    return f"amplitude_reconcile {days}"


def test_the_alert_of_other_days_stays_open(over):
    """The next weekly run is green over its own seven days; those before still differ."""
    mine = [of("2026-11-16"), of("2026-11-22"), of("2026-11-17..2026-11-19"), of("2026-11-16..2026-11-22")]
    others = [of("2026-11-15"), of("2026-11-23"), of("2026-11-15..2026-11-16"), of("2026-11-20..2026-11-23")]
    assert over(*mine, *others) == mine
    assert over("amplitude_daily 2026-11-17") == []


def test_a_run_that_could_not_compare_is_over_with_any_good_one(over):
    assert over(of("unknown days")) == [of("unknown days")]


def test_the_days_of_an_alert_are_those_that_differ():
    lost = [reconcile.Difference(f"2026-11-{day}", "S3", "gone", "put it") for day in ("18T05", "16T23", "18T06")]
    assert reconcile.days_of(lost) == "2026-11-16..2026-11-18"
    assert reconcile.days_of(lost[:1]) == "2026-11-18"
