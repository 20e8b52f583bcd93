"""Windows hold exactly the hours that were wanted, whatever those are."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from scripts.pipeline.hours import BYTES_PER_REQUEST, HOUR, Window, format_hour, parse_hour, plan_windows

START = datetime(2026, 9, 20, 22, tzinfo=UTC)
hours = st.integers(0, 200).map(lambda index: START + index * HOUR)


@given(st.lists(hours, max_size=80), st.integers(1, 30), st.dictionaries(hours, st.integers(0, 2 * BYTES_PER_REQUEST)))
def test_planned_windows_cover_each_wanted_hour_once(wanted, longest, sizes):
    windows = plan_windows(wanted, sizes, longest)
    assert [hour for window in windows for hour in window.hours()] == sorted(set(wanted))
    for window in windows:
        weight = sum(sizes.get(hour, 0) for hour in window.hours())
        assert len(window) == 1 or (len(window) <= longest and weight <= BYTES_PER_REQUEST)
        assert window.start.date() == window.end.date()


@given(hours, st.integers(0, 800))
def test_splitting_down_to_single_hours_loses_and_doubles_none(start, length):
    whole = Window(start, start + length * HOUR)
    pending, singles = [whole], []
    while pending:
        window = pending.pop()
        if len(window) == 1:
            singles.append(window.start)
        else:
            first, second = window.halves()
            assert abs(len(first) - len(second)) <= 1
            pending += [first, second]
    assert sorted(singles) == whole.hours()


@given(hours)
def test_hour_text_round_trips(hour):
    assert parse_hour(format_hour(hour)) == hour
