"""SILVER against the truth: what the two procedures must make of landing rows, worked out here from the events."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from local.amplitude import generator
from scripts import maintain
from tests.exports import KEYS, event

OBJECTS = {key for key in KEYS if key.endswith("_properties")} | {"data", "groups", "plan"}
TIMES = {key for key in KEYS if key.endswith("_time")}
BASE1 = ", ".join(f'"{key}"' for key in KEYS)


class Silver:
    def __init__(self, server, bucket, database: str) -> None:
        self.server, self.bucket, self.database = server, bucket, database
        self.files = 0

    def land(self, lines: Iterable[bytes]) -> None:
        """One more file, loaded by COPY."""
        self.files += 1
        name = f"project=1/date=2026-09-24/hour=03/{datetime.now(UTC):%H%M%S%f}_{self.files}.json.gz"
        self.bucket.put(f"python-import/{name}", gzip.compress(b"\n".join(lines), mtime=0))
        self.run(f"""copy into RAW.AMPLITUDE_EVENTS_RAW_PYTHON (json_data, source_file, source_row, loaded_at) from (
            select $1, metadata$filename, metadata$file_row_number, metadata$start_scan_time
            from @RAW.AMPLITUDE_EVENTS_STAGE) files = ('{name}')""")

    def run(self, statement: str, **parameters: Any) -> list[tuple]:
        return self.server.rows(self.database, statement, role="SYSADMIN", **parameters)

    def update(self, **parameters: Any) -> list[str]:
        """Both procedures, as the tasks call them."""
        calls = ("call SILVER.AMPLITUDE_BASE_UPDATE()", "call SILVER.AMPLITUDE_NORMALISED_UPDATE()")
        return [self.run(call, **parameters)[0][0] for call in calls]

    def audit(self) -> list[tuple]:
        columns = "procedure_name, status, rows_read, rows_stored, malformed, without_uuid, problem"
        of_runs = "where rows_read is not null or status = 'failed'"
        return self.run(f"select {columns} from OPS.SILVER_AUDIT {of_runs} order by started_at")

    def streams_are_known(self) -> None:
        """Both procedures have run before: they read their streams alone."""
        for name in ("AMPLITUDE_BASE_UPDATE", "AMPLITUDE_NORMALISED_UPDATE"):
            columns = "procedure_name, started_at, finished_at, status"
            self.run(f"insert into OPS.SILVER_AUDIT ({columns}) values ('{name}', '2020-01-01', '2020-01-01', 'ok')")


@pytest.fixture
def silver(deployed, environment, s3_server, snowflake_server):
    """Everything empty, streams too; parts come by COPY alone."""
    environment(deployed)
    s3_server.clear()
    tables = ["RAW.AMPLITUDE_EVENTS_RAW_PYTHON", "SENSITIVE.AMPLITUDE_LOCATIONS", "OPS.SILVER_AUDIT"]
    of_silver = ("EVENTS_BASE1", "EVENTS_BASE2", "EVENTS", "SESSION", "USERS", "DEVICES")
    tables += [f"SILVER.AMPLITUDE_{name}" for name in of_silver]
    streams = {"RAW.AMPLITUDE_EVENTS_STREAM": tables[0], "SILVER.AMPLITUDE_EVENTS_BASE1_STREAM": tables[3]}
    script = ["alter pipe RAW.AMPLITUDE_EVENTS_PIPE set pipe_execution_paused = true"]
    script += [f"delete from {table}" for table in tables]
    script += [f"create or replace stream {name} on table {on} append_only = true" for name, on in streams.items()]
    snowflake_server.script(deployed, ";\n".join(script), role="SYSADMIN")
    silver = Silver(snowflake_server, s3_server, deployed)
    silver.streams_are_known()
    return silver


def at(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def utc(*parts: int) -> datetime:
    """As Snowflake's TIMESTAMP_NTZ arrives: without a zone."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)


def typed(one: dict[str, Any]) -> dict[str, Any]:
    """The 55 values of a well-formed event, as BASE1 must hold them."""
    return {key: at(one[key]) if key in TIMES else one[key] for key in KEYS}


def stored_base1(silver: Silver) -> dict[str, dict[str, Any]]:
    rows = {}
    for row in silver.run(f"select {BASE1} from SILVER.AMPLITUDE_EVENTS_BASE1"):
        one = dict(zip(KEYS, row, strict=True))
        rows[one["uuid"]] = one | {key: json.loads(one[key]) if one[key] else None for key in OBJECTS}
    return rows


def first_of_each(events: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    first: dict[str, dict[str, Any]] = {}
    for one in events:
        first.setdefault(one["uuid"], one)
    return first


def sessions(events: Iterable[dict[str, Any]]) -> set[tuple]:
    """user_id, session_id, device_id of the first event, start, end, events, pages."""
    grouped = defaultdict(list)
    for one in events:
        if one["amplitude_id"] is not None and one["session_id"] is not None and one["session_id"] >= 0:
            grouped[one["amplitude_id"], one["session_id"]].append(one)
    found = set()
    for key, members in grouped.items():
        members.sort(key=lambda one: (one["event_time"], one["uuid"]))
        pages = sum(one["event_type"] == "[Amplitude] Page Viewed" for one in members)
        ends = at(members[0]["event_time"]), at(members[-1]["event_time"])
        found.add((*key, members[0]["device_id"], *ends, len(members), pages))
    return found


def people(events: Iterable[dict[str, Any]]) -> set[tuple]:
    """email (newest that is known), user_id, first_seen, last_seen."""
    grouped = defaultdict(list)
    for one in events:
        grouped[one["amplitude_id"]].append(one)
    found = set()
    for person, members in grouped.items():
        times = sorted(at(one["event_time"]) for one in members)
        named = [(one["event_time"], one["user_id"]) for one in members if one["user_id"]]
        found.add((max(named)[1] if named else None, person, times[0], times[-1]))
    return found


def pairs(events: Iterable[dict[str, Any]], key: str) -> set[tuple]:
    """(user_id, key, first_seen, last_seen)."""
    grouped = defaultdict(list)
    for one in events:
        if one[key] is not None:
            grouped[one["amplitude_id"], one[key]].append(at(one["event_time"]))
    return {(*pair, min(times), max(times)) for pair, times in grouped.items()}


def assert_silver_is(silver: Silver, events: list[dict[str, Any]]) -> None:
    """All tables of SILVER hold exactly what these events (the first of each uuid) say."""
    first = first_of_each(events)
    assert stored_base1(silver) == {uuid: typed(one) for uuid, one in first.items()}
    properties = {
        (uuid, key, None if value is None else value if isinstance(value, str) else json.loads(json.dumps(value)))
        for uuid, one in first.items()
        for key, value in (one["event_properties"] or {}).items()
        if isinstance(value, str | None)
    }
    stored = silver.run("select uuid, key, value, value_type from SILVER.AMPLITUDE_EVENTS_BASE2")
    assert {row[:3] for row in stored if row[3] in ("VARCHAR", "NULL_VALUE")} == properties
    assert len(stored) == sum(len(one["event_properties"] or {}) for one in first.values())
    assert {row[0] for row in silver.run("select uuid from SILVER.AMPLITUDE_EVENTS")} == set(first)
    counts = "select count(*), count(distinct uuid) from SILVER.AMPLITUDE_EVENTS"
    assert silver.run(counts) == [(len(first), len(first))]
    columns = "user_id, session_id, device_id, session_start, session_end, events, pages"
    assert set(silver.run(f"select {columns} from SILVER.AMPLITUDE_SESSION")) == sessions(first.values())
    assert set(silver.run("select email, user_id, first_seen, last_seen from SILVER.AMPLITUDE_USERS")) == people(
        first.values()
    )
    devices = silver.run("select user_id, device_id, first_seen, last_seen from SILVER.AMPLITUDE_DEVICES")
    assert sorted(devices) == sorted(pairs(first.values(), "device_id"))
    columns = "user_id, ip_address, first_seen, last_seen"
    places = silver.run(f"select {columns} from SENSITIVE.AMPLITUDE_LOCATIONS where ip_address != ''")
    assert sorted(places) == sorted(pairs(first.values(), "ip_address"))


HOURS = ("2026-09-24T09", "2026-09-24T10")


@pytest.fixture(scope="module")
def traffic() -> list[list[bytes]]:
    """Two hours of the stand-in's website, with late events, repeats and long sessions."""
    hours = [generator.events(hour, events_per_day=3000) for hour in HOURS]
    assert all(len(hour) > 50 for hour in hours)
    return hours


@pytest.mark.parametrize("zone", [pytest.param("UTC", marks=pytest.mark.scenario), "America/Los_Angeles"])
def test_silver_equals_the_events_under_any_session_zone(silver, traffic, zone):
    """Known fault B16: times shifted by the session's zone."""
    for hour in traffic:
        silver.land(hour)
    silver.update(TIMEZONE=zone)
    assert_silver_is(silver, [json.loads(line) for hour in traffic for line in hour])


def test_any_order_of_arrival_and_repeated_files_end_the_same(silver, traffic):
    """The second hour first, in pieces, the procedures between them, and each file twice. Then nothing new."""
    first, second = traffic
    for pieces in ((second[::2], first[1::2]), (second[1::2], second[::2], first[::2], first), ()):
        for piece in pieces:
            silver.land(piece)
        silver.update()
    assert_silver_is(silver, [json.loads(line) for hour in traffic for line in hour])
    assert [row[2:4] for row in silver.audit()[-2:]] == [(0, 0), (0, 0)]


def test_b22_one_uuid_twice_in_a_batch_is_stored_once_and_the_first_wins(silver):
    """Known fault B22: MERGE with a key twice in the new batch fails, or stores both."""
    one, two = {"event_properties": {"x": "1"}}, {"event_properties": {"y": "2"}}
    silver.land([event("a", event_id=1, **one), event("a", event_id=2, **two)])
    silver.land([event("a", event_id=3, event_properties={"z": "3"})])
    silver.update()
    assert silver.run('select "event_id" from SILVER.AMPLITUDE_EVENTS_BASE1') == [(1,)]
    assert silver.run("select uuid, key, value from SILVER.AMPLITUDE_EVENTS_BASE2") == [("a", "x", "1")]
    silver.land([event("a", event_id=4, event_properties={"w": "4"})])
    silver.update()
    assert silver.run('select "event_id" from SILVER.AMPLITUDE_EVENTS_BASE1') == [(1,)]
    assert silver.run("select uuid, key from SILVER.AMPLITUDE_EVENTS_BASE2") == [("a", "x")]
    assert silver.run("select event_id from SILVER.AMPLITUDE_EVENTS") == [(1,)]


TIME_FORMS = {
    "2026-09-24 03:03:07.203000": utc(2026, 9, 24, 3, 3, 7, 203000),
    "2026-09-24 03:03:07": utc(2026, 9, 24, 3, 3, 7),
    "2023-08-24T07:00:00+00:00": utc(2023, 8, 24, 7),
    "2023-08-25T11:04:55.821000+00:00": utc(2023, 8, 25, 11, 4, 55, 821000),
    "2023-08-25T11:04:55.821000Z": utc(2023, 8, 25, 11, 4, 55, 821000),
    "2023-08-25T11:04:55.821000+02:00": utc(2023, 8, 25, 9, 4, 55, 821000),
    "1790218987203": None,
    "2022:05:27 02:00:43.324890": None,
}
PAGE = {"[Amplitude] Page Counter": 3, "[Amplitude] Page Title": 'A "b" c', "[Amplitude] Page URL": "https://x/?q=1"}


def test_odd_values_are_typed_or_null_and_counted(silver):
    """Known faults B14 (JSON null is not NULL), B16 (session zone), B17 (integers through a double)."""
    bad = {"event_id": "x1", "app": 1.5, "paying": "maybe", "plan": "text"}
    silver.land([event(f"time {text}", event_time=text) for text in TIME_FORMS])
    silver.land(
        [
            event("null", user_id=None, plan=None),
            b'{"uuid": "absent", "event_type": "x"}',
            event("big", event_id=9007199254740993, amplitude_id=1263130950579, session_id=1790218987203),
            event("bad", **bad),
            event("page", event_properties=PAGE),
            b'{"event_type": "no uuid"}',
            b'{"uuid": null}',
        ]
    )
    silver.update(TIMEZONE="America/Los_Angeles")
    stored = stored_base1(silver)
    assert {text: stored[f"time {text}"]["event_time"] for text in TIME_FORMS} == TIME_FORMS
    assert (stored["null"]["user_id"], stored["null"]["plan"], stored["absent"]["plan"]) == (None, None, None)
    nulls = 'select count(*) from SILVER.AMPLITUDE_EVENTS_BASE1 where "user_id" is null and "plan" is null'
    assert silver.run(nulls) == [(len(stored),)]
    assert stored["big"]["event_id"] == 9007199254740993
    exact = "select event_id::varchar, amplitude_id::varchar, session_id::varchar from SILVER.AMPLITUDE_EVENTS"
    assert silver.run(f"{exact} where uuid = 'big'") == [("9007199254740993", "1263130950579", "1790218987203")]
    assert [stored["bad"][key] for key in bad] == [None] * len(bad)
    malformed = silver.run('select "uuid", malformed from SILVER.AMPLITUDE_EVENTS_BASE1 where malformed > 0')
    unreadable = {f"time {text}": 1 for text, read in TIME_FORMS.items() if read is None}
    assert dict(malformed) == {"bad": len(bad), **unreadable}
    rows = len(TIME_FORMS) + 7
    assert silver.audit()[0] == ("AMPLITUDE_BASE_UPDATE", "ok", rows, rows - 2, len(bad) + len(unreadable), 2, None)
    pages = "select uuid, page_counter, page_title, page_url from SILVER.AMPLITUDE_EVENTS_BASE2_PAGES"
    assert silver.run(pages) == [("page", "3", 'A "b" c', "https://x/?q=1")]
    page = silver.run("select page_counter, page_title, url from SILVER.AMPLITUDE_EVENTS where uuid = 'page'")
    assert page == [(3, 'A "b" c', "https://x/?q=1")]


def test_late_events_mend_what_they_touch(silver):
    """Known faults B02 and B08 (the end of a session comes months later), B07 (two people, one millisecond; -1)."""
    old = {"session_id": 1750000000000, "amplitude_id": 7, "device_id": "d"}
    at_once = {"session_id": 1790218987203}
    person = {"amplitude_id": 5, "session_id": -1}
    silver.land([event("1", event_time="2026-02-01 10:00:00.000000", **old)])
    silver.land([event("3", amplitude_id=1, **at_once), event("4", amplitude_id=2, **at_once)])
    silver.land([event("5", event_time="2026-09-24 04:00:00.000000", user_id="a@new.example", **person)])
    silver.update()
    silver.land([event("2", event_time="2026-02-01 10:05:00.001000", event_type="session_end", **old)])
    silver.land([event("6", event_time="2026-09-24 05:00:00.000000", user_id=None, **person)])
    silver.land([event("7", event_time="2026-09-24 01:00:00.000000", user_id="z@old.example", **person)])
    silver.update()
    columns = "user_id, session_id, session_start, session_end, events"
    when = utc(2026, 9, 24, 3, 15, 7, 203000)
    assert silver.run(f"select {columns} from SILVER.AMPLITUDE_SESSION order by user_id") == [
        (1, 1790218987203, when, when, 1),
        (2, 1790218987203, when, when, 1),
        (7, 1750000000000, utc(2026, 2, 1, 10), utc(2026, 2, 1, 10, 5, 0, 1000), 2),
    ]
    # The first design took the alphabetically last one.
    assert silver.run("select email from SILVER.AMPLITUDE_USERS where user_id = 5") == [("a@new.example",)]


@pytest.mark.parametrize(
    ("table", "procedure", "untouched"),
    [
        ("SILVER.AMPLITUDE_EVENTS_BASE2", "AMPLITUDE_BASE_UPDATE", "SILVER.AMPLITUDE_EVENTS_BASE1"),
        ("SENSITIVE.AMPLITUDE_LOCATIONS", "AMPLITUDE_NORMALISED_UPDATE", "SILVER.AMPLITUDE_EVENTS"),
    ],
)
def test_a_procedure_that_fails_keeps_nothing_and_the_next_run_does_all(silver, traffic, table, procedure, untouched):
    """The first design lost the batch: its temporary table had emptied the stream before the failure."""
    silver.land(traffic[0])
    if procedure == "AMPLITUDE_NORMALISED_UPDATE":
        silver.run("call SILVER.AMPLITUDE_BASE_UPDATE()")
    silver.run(f"alter table {table} rename to {table}_AWAY")
    with pytest.raises(Exception, match="does not exist"):
        silver.run(f"call SILVER.{procedure}()")
    assert silver.run(f"select count(*) from {untouched}") == [(0,)]
    failed = silver.audit()[-1]
    assert failed[:2] == (procedure, "failed")
    assert failed[6] == "2003 42S02"
    silver.run(f"alter table {table}_AWAY rename to {table}")
    silver.update()
    assert_silver_is(silver, [json.loads(line) for line in traffic[0]])


STREAMS = ("RAW.AMPLITUDE_EVENTS_STREAM", "SILVER.AMPLITUDE_EVENTS_BASE1_STREAM")


@pytest.mark.parametrize(
    "lost", [*(pytest.param(one, marks=pytest.mark.scenario) for one in (STREAMS[:1], STREAMS[1:])), STREAMS]
)
def test_b19_a_stream_that_was_lost_is_made_again_without_loss_or_double(silver, traffic, lost, monkeypatch):
    """Known fault B19: a stale stream. The procedure reads the table beside the new one; each event is stored once."""
    monkeypatch.setenv("SILVER_TASKS", "false")
    silver.land(traffic[0])
    silver.update()
    silver.land(traffic[1][::2])
    silver.run("call SILVER.AMPLITUDE_BASE_UPDATE()")
    silver.land(traffic[1][1::2])
    for name in lost:
        silver.run(f"drop stream {name}")
    assert maintain.rebuild_streams() == {"rebuilt": len(lost)}
    silver.land(traffic[1][:3])  # between the new stream and its first read
    silver.update()
    assert_silver_is(silver, [json.loads(line) for hour in traffic for line in hour])
    silver.update()
    assert [row[2:4] for row in silver.audit()[-2:]] == [(0, 0), (0, 0)]


def test_rows_from_before_the_streams_are_read_and_rows_between_creation_and_first_read_too(silver, traffic):
    """A landing table that was there first. No page promises both of a stream with SHOW_INITIAL_ROWS."""
    silver.run("delete from OPS.SILVER_AUDIT")
    silver.run("drop stream RAW.AMPLITUDE_EVENTS_STREAM")
    silver.land(traffic[0])
    silver.run("create stream RAW.AMPLITUDE_EVENTS_STREAM on table RAW.AMPLITUDE_EVENTS_RAW_PYTHON append_only = true")
    silver.land(traffic[1])
    silver.update()
    assert_silver_is(silver, [json.loads(line) for hour in traffic for line in hour])
    assert silver.audit()[0][2] == sum(len(hour) for hour in traffic)


def test_places_stand_in_sensitive_only(silver):
    columns = silver.run("select table_schema, table_name, column_name from information_schema.columns")
    places = {"IP_ADDRESS", "COUNTRY", "REGION", "CITY", "DMA", "LOCATION_LAT", "LOCATION_LNG"}
    found = {(schema, table) for schema, table, column in columns if column.upper() in places}
    assert found == {("SILVER", "AMPLITUDE_EVENTS_BASE1"), ("SENSITIVE", "AMPLITUDE_LOCATIONS")}
