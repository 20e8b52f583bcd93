"""SILVER (stream and procedures) and dbt's intermediates are two ways to the same rows, in two separate SQL texts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.dbt.cases import KEYS, PEOPLE
from tests.dbt.conftest import Built
from tests.dbt.warehouse import DATABASE

Rows = dict[Any, tuple[Any, ...]]


@pytest.fixture(scope="module")
def silver(built: Built) -> Built:
    """The same landing rows through both procedures."""
    for call in ("AMPLITUDE_BASE_UPDATE", "AMPLITUDE_NORMALISED_UPDATE"):
        built.warehouse.server.rows(DATABASE, f"call SILVER.{call}()", role="SYSADMIN")
    return built


def keyed(built: Built, table: str, key: str, *columns: str) -> Rows:
    rows = built.warehouse.query(f"select {key} as key, {', '.join(columns)} from {table}")
    found = {row.pop("key"): tuple(row.values()) for row in rows}
    assert len(found) == len(rows), f"{key} is no key of {table}"
    return found


def test_all_55_values_of_every_event(silver: Built):
    names = [key.replace("$schema", "schema_version").lstrip("$") for key in KEYS]
    staged = silver.warehouse.query(f"select * from {silver.relation('stg_amplitude__events')}")
    base = silver.warehouse.query("select * from SILVER.AMPLITUDE_EVENTS_BASE1")
    of_staged = {(row["source_file"], row["source_row"]): [_plain(row[name]) for name in names] for row in staged}
    assert len(base) == len({row["uuid"] for row in staged}) > 1000
    for row in base:
        assert [_plain(row[key]) for key in KEYS] == of_staged[row["source_file"], row["source_row"]], row["uuid"]


def test_events(silver: Built):
    columns = (
        "event_type event_id event_time session_id page_counter page_title amplitude_id device_id platform library"
    )
    shared = [*columns.split(), "server_upload_time"]
    ours = keyed(silver, silver.relation("int_amplitude__events"), "uuid", *shared, "page_url")
    assert ours == keyed(silver, "SILVER.AMPLITUDE_EVENTS", "uuid", *shared, "url")


def test_sessions(silver: Built):
    """dbt leaves deliveries that were repeated after Amplitude's 7 days out of a session, SILVER counts them."""
    repeats = silver.warehouse.query(
        f"select distinct session_key from {silver.relation('int_amplitude__events')} where is_insert_id_repeat"
    )
    without = {row["session_key"] for row in repeats}
    assert without
    ours = keyed(
        silver,
        silver.relation("int_amplitude__session"),
        "session_key",
        "started_at",
        "ended_at",
        "events",
        "device_id",
    )
    theirs = keyed(
        silver,
        "SILVER.AMPLITUDE_SESSION",
        "user_id::varchar || '-' || session_id::varchar",
        *("session_start", "session_end", "events", "device_id"),
    )
    assert {key: row for key, row in ours.items() if key not in without} == {
        key: row for key, row in theirs.items() if key not in without
    }


def test_users(silver: Built):
    ours = keyed(
        silver, silver.relation("int_amplitude__users"), "amplitude_id", "user_id", "first_seen_at", "last_seen_at"
    )
    assert ours == keyed(silver, "SILVER.AMPLITUDE_USERS", "user_id", "email", "first_seen", "last_seen")
    assert ours[PEOPLE["renamed"]][0] == "anna@harbour-retail.example"


def test_devices(silver: Built):
    """SILVER has a row per person and device, dbt one per device: equal where a device has one person."""
    theirs = silver.warehouse.query("select * from SILVER.AMPLITUDE_DEVICES")
    people: dict[str, list[dict[str, Any]]] = {}
    for row in theirs:
        people.setdefault(row["device_id"], []).append(row)
    ours = {row["device_id"]: row for row in silver.rows("int_amplitude__devices")}
    assert ours.keys() == people.keys()
    compared = 0
    for device, rows in people.items():
        if len(rows) == 1:
            row, own = rows[0], ours[device]
            compared += 1
            assert (row["user_id"], row["device_family"], row["os_name"], int(row["os_version"] or 0)) == (
                own["amplitude_id"],
                own["operating_system"],
                own["browser"],
                own["browser_version"] or 0,
            )
            assert (row["first_seen"], row["last_seen"]) == (own["first_seen_at"], own["last_seen_at"])
    assert compared > 100


def test_addresses(silver: Built):
    ours = {(row["amplitude_id"], row["ip_address"]) for row in silver.rows("int_amplitude__locations")}
    theirs = silver.warehouse.query("select user_id, ip_address from SENSITIVE.AMPLITUDE_LOCATIONS")
    assert {one for one in ours if one[1]} == {
        (row["user_id"], row["ip_address"]) for row in theirs if row["ip_address"]
    }


def _plain(value: Any) -> Any:
    """An object as the value of its JSON text, whose order and blanks do not count."""
    return json.loads(value) if isinstance(value, str) and value.startswith("{") else value
