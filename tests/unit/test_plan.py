"""Which hours a run works on. Expected values: the design's "What a run works on" and Kestra's trigger variables."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from scripts import plan
from scripts.pipeline.errors import PermanentError
from scripts.pipeline.hour_ledger import HourEntry, HourLedger
from scripts.pipeline.records import PlanLine, read_lines
from scripts.pipeline.settings import BucketSettings, load
from tests import s3

NOW = "2026-11-26T03:30:05Z"
TICK = {"trigger_date": "2026-11-26T03:30:00Z", "trigger_next": "2026-11-27T03:30:00Z"}
NOTHING = {
    "start_date": "", "end_date": "", "scope": "day", "force": "false", "trigger_date": "", "trigger_next": "",
    "replay": "", "reason_label": "", "interval_label": "",
}  # fmt: skip


def hours_of(*days: str) -> list[str]:
    return [f"{day}T{hour:02}" for day in days for hour in range(24)]


@pytest.fixture
def clock(bucket, monkeypatch):
    monkeypatch.setenv("PIPELINE_NOW", NOW)


@pytest.fixture
def make(clock, tmp_path):
    """Runs plan; returns its results and its lines."""

    def run(**given):
        output = tmp_path / "plan.jsonl"
        results = plan.run(**NOTHING | given, output=output)
        return results, list(read_lines(output, PlanLine))

    return run


@pytest.fixture
def publish(bucket):
    """Leaves a version as upload does; state: loaded, empty or uploaded; a part of `size` bytes unless it is empty."""

    def publish_hour(hour, *, version=1, state="loaded", rechecked=(), size=100):
        name = f"v{version:04}"
        bucket.put(s3.ledger_key(hour, f"{name}.json"), b"{}")
        if state != "empty":
            folder = f"{s3.PREFIX}/project={s3.PROJECT}/date={hour[:10]}/hour={hour[11:]}"
            bucket.put(f"{folder}/part{version}.json.gz", b"x" * size)
        if state != "uploaded":
            bucket.put(s3.ledger_key(hour, f"{name}.{state}.json"), b"{}")
        for days in rechecked:
            bucket.put(s3.ledger_key(hour, f"rechecked_{days}d.json"), b"{}")

    return publish_hour


# What is asked for, and why


def test_a_tick_asks_for_the_day_before_it(make):
    results, lines = make(**TICK)
    # Beside it one hour of today: it is settled and not in the ledger, so it is due.
    assert [line.hour for line in lines] == [*hours_of("2026-11-25"), "2026-11-26T00"]
    assert {line.action for line in lines} == {"export"}
    assert results == {
        "interval": "2026-11-25", "reason": "schedule",
        "hours": 25, "hours_to_export": 25, "hours_to_recheck": 0, "hours_to_load": 0, "hours_left_over": 0,
        "hours_young": 0,
    }  # fmt: skip


def test_by_hand_it_is_yesterday(make):
    results, lines = make()
    assert [line.hour for line in lines] == hours_of("2026-11-25")
    assert results["reason"] == "hand"


@pytest.mark.parametrize(
    ("given", "days", "interval"),
    [
        ({"start_date": "2026-11-01"}, ["2026-11-01"], "2026-11-01"),
        ({"start_date": "2026-11-01", "end_date": "2026-11-03"}, None, "2026-11-01..2026-11-03"),
        ({"start_date": "2026-11-01", "end_date": "2026-11-01"}, ["2026-11-01"], "2026-11-01"),
        ({"start_date": "2026-11-01", **TICK}, ["2026-11-01"], "2026-11-01"),
    ],
)
def test_inputs_name_whole_days_both_inclusive(make, given, days, interval):
    results, lines = make(**given)
    assert [line.hour for line in lines] == hours_of(*(days or ["2026-11-01", "2026-11-02", "2026-11-03"]))
    assert results["interval"] == interval


@pytest.mark.parametrize("given", [{}, {"trigger_date": "2026-11-26T03:15:00Z", "reason_label": "backfill"}])
def test_recent_is_the_24_hours_before_now_or_the_tick_that_are_settled(make, given):
    results, lines = make(scope="recent", **given)
    # 24 whole hours before 03:00; with a latency of 2 h hours 01 and 02 of the 26th are not settled at 03:30.
    assert [line.hour for line in lines] == [*hours_of("2026-11-25")[3:], "2026-11-26T00"]
    assert (results["hours_young"], results["interval"]) == (2, "2026-11-25..2026-11-26")


def test_young_hours_of_today_are_counted_not_planned(make):
    results, lines = make(start_date="2026-11-26")
    assert [line.hour for line in lines] == ["2026-11-26T00"]
    assert (results["hours_young"], results["hours"], results["interval"]) == (23, 1, "2026-11-26")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (TICK, "schedule"),
        ({"trigger_date": "2026-11-20T03:30:00Z", "trigger_next": "2026-11-21T03:30:00Z"}, "backfill"),
        (TICK | {"reason_label": "backfill"}, "backfill"),
        (TICK | {"replay": "true", "reason_label": "schedule"}, "replay"),
        ({"reason_label": "reconcile", "start_date": "2026-11-20"}, "reconcile"),
        ({}, "hand"),
    ],
)
def test_the_reason_of_a_run(make, given, reason):
    assert make(**{"start_date": "2026-11-26"} | given)[0]["reason"] == reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"end_date": "2026-11-20"}, "without start_date"),
        ({"start_date": "2026-11-21", "end_date": "2026-11-20"}, "after end_date"),
        ({"start_date": "2026-11-27"}, "future"),
        ({"start_date": "2025-11-20", "end_date": "2026-11-20"}, "365 days"),
        ({"start_date": "20.11.2026"}, "YYYY-MM-DD"),
        ({"scope": "week"}, "day, recent"),
        ({"force": "yes"}, "false, true"),
        ({"trigger_date": "yesterday"}, "not a time"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_asked(bucket, make, given, message):
    with pytest.raises(PermanentError, match=message):
        make(**given)
    assert bucket.requests == []


@pytest.mark.parametrize(
    ("zone", "changed"),
    [
        ("Europe/London", "2026-03-29"),
        ("Europe/London", "2026-10-25"),
        ("America/Los_Angeles", "2026-03-08"),
        ("America/Los_Angeles", "2026-11-01"),
    ],
)
def test_ticks_around_a_change_of_clocks_ask_for_every_utc_hour_once(make, zone, changed):
    """Kestra writes trigger.date with the offset of a trigger's zone; a daily tick is an hour early or late there."""
    asked, days = [], []
    for number in range(-1, 3):
        day = date.fromisoformat(changed) + timedelta(days=number)
        tick, following = (
            datetime(at.year, at.month, at.day, 18, tzinfo=ZoneInfo(zone)) for at in (day, day + timedelta(days=1))
        )
        _, lines = make(trigger_date=tick.isoformat(), trigger_next=following.isoformat())
        asked += [line.hour for line in lines]
        days.append(tick.astimezone(UTC).date() - timedelta(days=1))  # in Los Angeles it is the next day by then
    assert days == [days[0] + timedelta(days=number) for number in range(4)]
    assert asked == hours_of(*(day.isoformat() for day in days))


# Replay


def test_a_replay_of_a_tick_asks_for_the_same_day_and_takes_nothing_that_is_due(bucket, make, monkeypatch):
    monkeypatch.setenv("AMP_START_DATE", "2026-11-01")
    results, lines = make(**TICK | {"replay": "true", "reason_label": "schedule", "interval_label": "2026-11-25"})
    assert [line.hour for line in lines] == hours_of("2026-11-25")
    assert results["reason"] == "replay"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("2025-11-20", hours_of("2025-11-20")),
        ("2025-11-20..2025-11-21", hours_of("2025-11-20", "2025-11-21")),
        ("none", []),
        ("", hours_of("2026-11-25")),  # killed before the label was set: as by hand
    ],
)
def test_a_replay_without_inputs_and_trigger_takes_its_label(make, label, expected):
    results, lines = make(replay="true", interval_label=label)
    assert [line.hour for line in lines] == expected
    assert results["interval"] == (label or "2026-11-25")


def test_a_replay_takes_its_inputs_before_its_label(make):
    _, lines = make(replay="true", start_date="2026-11-10", interval_label="2026-11-20")
    assert [line.hour for line in lines] == hours_of("2026-11-10")


# The ledger


def test_done_hours_are_skipped_and_uploaded_ones_only_loaded(make, publish):
    publish("2026-11-20T01")
    publish("2026-11-20T02", state="empty")
    publish("2026-11-20T03", state="uploaded")
    publish("2026-11-20T04", version=1)
    publish("2026-11-20T04", version=2, state="uploaded")
    _, lines = make(start_date="2026-11-20")
    found = {line.hour[-2:]: (line.action, line.version) for line in lines}
    assert (found["03"], found["04"], found["00"]) == (("load", 1), ("load", 2), ("export", 0))
    assert "01" not in found
    assert "02" not in found


def test_b30_a_backfill_of_good_days_works_on_the_missing_one_only(make, publish):
    for hour in hours_of(*(f"2026-09-{day:02}" for day in (1, 2, 4))):
        publish(hour, state="empty")
    for day in range(1, 5):
        at = {"trigger_date": f"2026-09-{day + 1:02}T03:30:00Z", "trigger_next": f"2026-09-{day + 2:02}T03:30:00Z"}
        results, lines = make(**at)
        assert [line.hour for line in lines] == (hours_of("2026-09-03") if day == 3 else [])
        assert (results["interval"], results["reason"]) == (f"2026-09-{day:02}", "backfill")


def test_force_exports_done_hours_again(make, publish):
    publish("2026-11-20T01")
    _, lines = make(start_date="2026-11-20", force="true")
    assert [(line.action, line.reason, line.version) for line in lines[:2]] == [
        ("export", "asked", 0),
        ("export", "forced", 1),
    ]
    assert len(lines) == 24


# What is due


def test_the_newest_tick_takes_missing_hours_from_the_start_date(make, publish, monkeypatch):
    monkeypatch.setenv("AMP_START_DATE", "2026-11-24")
    publish("2026-11-24T05", rechecked=[1])
    publish("2026-11-20T05", rechecked=[1])  # older than the start: not missing around it
    results, lines = make(**TICK)
    # Settled at 03:30 with 2 h of latency: up to hour 00 of the 26th.
    due = [hour for hour in hours_of("2026-11-24", "2026-11-25") if hour != "2026-11-24T05"] + ["2026-11-26T00"]
    assert [line.hour for line in lines] == due
    assert results["interval"] == "2026-11-25"


def test_b29_every_utc_hour_of_a_clock_change_is_planned_once(make, monkeypatch):
    monkeypatch.setenv("AMP_START_DATE", "2026-10-24")
    monkeypatch.setenv("PIPELINE_NOW", "2026-10-26T03:30:00Z")
    _, lines = make(trigger_date="2026-10-26T03:30:00Z", trigger_next="2026-10-27T03:30:00Z")
    assert [line.hour for line in lines] == [*hours_of("2026-10-24", "2026-10-25"), "2026-10-26T00"]


def test_without_a_start_date_the_first_day_that_a_schedule_asked_for_is_kept(make, publish, monkeypatch):
    ledger = HourLedger(load(BucketSettings))
    publish("2020-01-01T05", rechecked=[1, 7])  # one old day by hand does not make all since then due
    assert ledger.first_day() is None
    make()
    assert ledger.first_day() is None
    make(**TICK)
    assert ledger.first_day() == date(2026, 11, 25)
    monkeypatch.setenv("PIPELINE_NOW", "2026-11-29T03:30:05Z")
    results, lines = make(trigger_date="2026-11-29T03:30:00Z", trigger_next="2026-11-30T03:30:00Z")
    assert results["interval"] == "2026-11-28"
    assert [line.hour for line in lines][:1] == ["2026-11-25T00"]  # downtime closes by itself
    assert len(lines) == 4 * 24 + 1
    assert ledger.first_day() == date(2026, 11, 25)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"start_date": "2026-11-25"},
        TICK | {"start_date": "2026-11-25"},
        TICK | {"replay": "true"},
        TICK | {"reason_label": "backfill"},
        {"trigger_date": "2026-11-26T03:30:00Z", "trigger_next": "2026-11-26T03:30:04Z"},
    ],
)
def test_only_the_newest_tick_takes_what_is_due(make, publish, monkeypatch, given):
    monkeypatch.setenv("AMP_START_DATE", "2026-11-20")
    publish("2026-11-22T05", state="uploaded")
    _, lines = make(**given)
    assert [line.hour for line in lines] == hours_of("2026-11-25")


def test_a_tick_does_not_ask_for_days_before_the_first_that_is_ours(make, monkeypatch):
    monkeypatch.setenv("AMP_START_DATE", "2026-11-26")
    results, lines = make(**TICK)
    assert [line.hour for line in lines] == ["2026-11-26T00"]
    assert results["interval"] == "none"
    assert make(start_date="2026-11-20")[0]["hours"] == 24  # a person may


def test_every_version_without_a_marker_is_loaded(make, publish, monkeypatch):
    monkeypatch.setenv("AMP_START_DATE", "2026-11-26")
    publish("2026-11-25T05", state="uploaded")
    publish("2026-11-25T06", state="uploaded")
    publish("2026-11-25T06", version=2, state="loaded")
    results, lines = make(**TICK)
    assert [(line.hour, line.action) for line in lines[:2]] == [("2026-11-25T05", "load"), ("2026-11-25T06", "load")]
    assert results["hours_to_load"] == 2


@pytest.mark.parametrize(
    ("hour", "rechecked", "reason"),
    [
        ("2026-11-25T03", [], None),  # its end lies 23 h 30 min back
        ("2026-11-25T02", [], "re-check after 1 d"),
        ("2026-11-20T02", [], "re-check after 1 d"),
        ("2026-11-20T02", [1], None),
        ("2026-11-19T02", [1], "re-check after 7 d"),
        ("2026-11-19T02", [], "re-check after 7 d"),  # both at once
        ("2026-11-19T02", [1, 7], None),
        ("2026-11-19T02", [7], None),  # an export after a week makes that after a day needless
        ("2025-11-19T02", [1], "re-check after 7 d"),
    ],
)
@pytest.mark.parametrize("state", ["loaded", "empty", "uploaded"])
def test_hours_are_rechecked_after_a_day_and_after_a_week(hour, rechecked, reason, state):
    entry = HourEntry(hour, versions={1}, rechecked=set(rechecked))
    if state != "uploaded":
        getattr(entry, state).add(1)
    now = datetime.fromisoformat(NOW)
    lines = plan.due_lines({hour: entry}, now.date(), now, 48)
    found = [(line.action, line.reason) for line in lines]
    assert found == ([("recheck", reason)] if reason else [("load", "not loaded")] if state == "uploaded" else [])


# Limits


def test_a_run_takes_at_most_its_hours_and_a_range_goes_on_where_it_stopped(make, publish, monkeypatch):
    monkeypatch.setenv("MAX_HOURS_PER_RUN", "30")
    results, lines = make(start_date="2026-11-01", end_date="2026-11-02")
    assert [line.hour for line in lines] == hours_of("2026-11-01", "2026-11-02")[:30]
    assert results["hours_left_over"] == 18
    for line in lines:
        publish(line.hour, state="empty")
    results, lines = make(start_date="2026-11-01", end_date="2026-11-02")
    assert [line.hour for line in lines] == hours_of("2026-11-02")[6:]
    assert results["hours_left_over"] == 0


def test_b31_a_year_is_a_file_of_744_hours_and_a_few_numbers(make):
    results, lines = make(start_date="2025-11-26", end_date="2026-11-25")
    assert (len(lines), results["hours_left_over"]) == (744, 8760 - 744)
    assert len(str(results)) < 10_000


def test_limits_take_what_was_asked_then_loads_then_gaps_oldest_first_then_rechecks(make, publish, monkeypatch):
    monkeypatch.setenv("AMP_START_DATE", "2026-11-23")
    monkeypatch.setenv("MAX_HOURS_PER_RUN", "28")
    publish("2026-11-25T22", state="uploaded")  # asked
    publish("2026-11-24T23", rechecked=[1], state="uploaded")
    publish("2026-11-23T00", rechecked=[])
    _, lines = make(**TICK)
    assert [line.hour for line in lines] == [
        *("2026-11-23T01", "2026-11-23T02", "2026-11-23T03", "2026-11-24T23"),
        *hours_of("2026-11-25"),
    ]


def test_bytes_are_learned_from_the_newest_days_by_hour_of_the_day(make, publish, monkeypatch):
    publish("2026-11-23T10", size=4000)
    publish("2026-11-24T10", size=1000)
    publish("2026-11-24T11", size=500)
    publish("2026-11-24T11", version=2, size=400)
    publish("2020-01-01T11", size=90_000)
    for day in range(12, 18):
        publish(f"2026-11-{day}T00", size=1)  # so that 2020 is not among the newest seven days
    monkeypatch.setenv("MAX_BYTES_PER_RUN", "10000")
    results, lines = make(start_date="2026-11-22")
    sizes = {line.hour[-2:]: line.expected_bytes for line in lines}
    assert sizes == {"00": 1, "01": 4000, "02": 4000}  # unknown hours of the day count as the largest one
    assert results["hours_left_over"] == 21
    monkeypatch.setenv("MAX_BYTES_PER_RUN", "1")
    assert len(make(start_date="2026-11-22")[1]) == 1  # one hour goes whatever its size


def test_the_command_writes_the_same_file(clock, tmp_path, caplog):
    output = tmp_path / "out.jsonl"
    assert plan.main(["--start-date", "2026-11-20", "--output", str(output)]) == 0
    assert [line.hour for line in read_lines(output, PlanLine)] == hours_of("2026-11-20")
    assert plan.main(["--end-date", "2026-11-20"]) == PermanentError.exit_code
    assert "without start_date" in caplog.text
