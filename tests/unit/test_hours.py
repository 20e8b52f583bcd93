"""Hours, windows and key names. Expected values: the Export API's documentation and the design's key layout."""

import re
from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from scripts.pipeline.errors import DamagedError, PermanentError
from scripts.pipeline.hours import (
    Window,
    day_window,
    days_window,
    floor,
    format_hour,
    parse_hour,
    plan_windows,
    recent_window,
    settled,
)
from scripts.pipeline.keys import day_folder, hour_folder, hour_of_key, ledger_prefix, part_key, quarantine_prefix

NOW = datetime(2026, 9, 25, 3, 30, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_hour_text_is_utc_and_round_trips():
    assert parse_hour("2026-09-24T03") == at("2026-09-24T03:00")
    assert format_hour(datetime(2026, 9, 24, 1, tzinfo=timezone(timedelta(hours=-2)))) == "2026-09-24T03"
    assert floor(at("2026-09-24T03:59:59.999999")) == at("2026-09-24T03:00")


@pytest.mark.parametrize("text", ["2026-09-24T3", "2026-09-24", "20260924T03", "2026-09-24T24", "2026-02-30T01", ""])
def test_text_that_is_not_an_hour_is_refused(text):
    with pytest.raises(PermanentError, match="write YYYY-MM-DDTHH"):
        parse_hour(text)


def test_a_day_is_24_hours_both_ends_inclusive():
    window = day_window(date(2026, 9, 24))
    assert str(window) == "2026-09-24T00..2026-09-24T23"
    assert len(window) == len(window.hours()) == 24


def test_one_hour_has_equal_ends():
    window = Window(at("2026-09-24T05:00"), at("2026-09-24T05:00"))
    assert (len(window), str(window)) == (1, "2026-09-24T05")
    with pytest.raises(PermanentError, match="cannot be split"):
        window.halves()


def test_a_window_takes_whole_hours_in_order():
    with pytest.raises(PermanentError, match="whole hours"):
        Window(at("2026-09-24T05:30"), at("2026-09-24T06:00"))
    with pytest.raises(PermanentError, match="before its start"):
        Window(at("2026-09-24T06:00"), at("2026-09-24T05:00"))


def test_halves_hold_each_hour_once():
    first, second = Window(at("2026-09-24T00:00"), at("2026-09-24T02:00")).halves()
    assert (str(first), str(second)) == ("2026-09-24T00", "2026-09-24T01..2026-09-24T02")


def test_an_hour_settles_when_its_end_lies_the_latency_back():
    """Data sent 20:00–21:00 is exportable at 23:00 (Amplitude's documentation)."""
    hour = at("2026-09-24T20:00")
    assert not settled(hour, at("2026-09-24T22:59:59"), 2)
    assert settled(hour, at("2026-09-24T23:00"), 2)


@pytest.mark.parametrize(
    ("first", "last", "why"),
    [
        (date(2026, 9, 24), date(2026, 9, 23), "start_date lies after end_date"),
        (date(2026, 9, 24), date(2026, 9, 26), "in the future"),
        (date(2025, 9, 24), date(2026, 9, 24), "longer than 365 days"),
    ],
)
def test_ranges_that_cannot_be_meant_are_refused(first, last, why):
    with pytest.raises(PermanentError, match=why):
        days_window(first, last, NOW)


def test_a_range_holds_both_days_and_may_be_a_year_long():
    assert len(days_window(date(2026, 9, 1), date(2026, 9, 2), NOW)) == 48
    assert len(days_window(date(2025, 9, 25), date(2026, 9, 24), NOW)) == 365 * 24
    assert len(days_window(date(2026, 9, 25), date(2026, 9, 25), NOW)) == 24  # today: its young hours are told apart


def test_recent_is_the_24_hours_before():
    assert str(recent_window(NOW)) == "2026-09-24T03..2026-09-25T02"


@pytest.mark.parametrize("day", [date(2027, 3, 28), date(2026, 10, 25)])
def test_b29_days_on_which_london_changes_its_clock_have_24_different_hours(day):
    hours = day_window(day).hours()
    assert [hour.hour for hour in hours] == list(range(24))
    assert len({format_hour(hour) for hour in hours}) == 24


def test_windows_are_days_at_small_scale_and_never_ask_for_hours_not_wanted():
    wanted = [*day_window(date(2026, 9, 23)).hours(), at("2026-09-24T00:00"), at("2026-09-24T02:00")]
    assert [str(window) for window in plan_windows(wanted)] == [
        "2026-09-23T00..2026-09-23T23",
        "2026-09-24T00",
        "2026-09-24T02",
    ]
    assert plan_windows([]) == []
    night = Window(at("2026-09-23T22:00"), at("2026-09-24T01:00")).hours()
    assert [str(window) for window in plan_windows(night)] == [
        "2026-09-23T22..2026-09-23T23",
        "2026-09-24T00..2026-09-24T01",
    ]


def test_windows_shrink_to_what_earlier_exports_weighed():
    hours = day_window(date(2026, 9, 24)).hours()
    windows = plan_windows(hours, dict.fromkeys(hours, 300_000_000))
    assert {len(window) for window in windows} == {3}
    assert {len(window) for window in plan_windows(hours, dict.fromkeys(hours, 2_000_000_000))} == {1}


def test_b27_two_parts_of_an_hour_have_two_keys_without_a_number_sign():
    hour = at("2026-09-24T03:00")
    first = part_key("python-import", 100011471, hour, 0, "0123456789abcdef" * 4)
    assert first == (
        "python-import/project=100011471/date=2026-09-24/hour=03/100011471_2026-09-24_3_0.0123456789ab.json.gz"
    )
    assert part_key("python-import", 100011471, hour, 1, "0123456789abcdef" * 4) != first
    assert hour_of_key(first) == "2026-09-24T03"


def test_b28_names_have_only_characters_that_pass_everywhere():
    hour = at("2026-09-24T17:00")
    for prefix in ("python-import", quarantine_prefix("python-import"), ledger_prefix("team/python-import")):
        for name in (part_key(prefix, 1, hour, 12, "a" * 64), hour_folder(prefix, 1, hour)):
            assert re.fullmatch(r"[A-Za-z0-9._=/-]+", name)


def test_ledger_and_quarantine_lie_beside_the_parts():
    assert day_folder("python-import", 7, date(2026, 9, 4)) == "python-import/project=7/date=2026-09-04/"
    for other in (ledger_prefix("python-import"), quarantine_prefix("python-import")):
        assert not other.startswith("python-import/")


def test_a_key_that_is_not_ours_is_refused():
    with pytest.raises(DamagedError, match="not the key of a part"):
        hour_of_key("python-import/100011471_2026-09-24_3.json")
