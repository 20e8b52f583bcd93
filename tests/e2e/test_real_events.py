"""Real events through the whole flow: all 55 keys right in the landing table and in staging.

Times come in two forms: as the Export API writes them, and as RFC 3339 from a public connector's records.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from local import sql
from local.session import Session
from tests.e2e.pipeline import Pipeline

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
REAL = Path(__file__).resolve().parents[3] / "shared/data/export_records_real.jsonl"
OBJECTS = {
    "data",
    "event_properties",
    "global_user_properties",
    "group_properties",
    "groups",
    "plan",
    "user_properties",
    "amplitude_attribution_ids",
}
# Every key set, none of a real person; times as the Export API writes them.
FULL: dict[str, Any] = {
    "$insert_id": "6f0a-1",
    "$insert_key": "key-1",
    "$schema": 12,
    "adid": "ad-1",
    "amplitude_attribution_ids": ["a", "b"],
    "amplitude_event_type": "session_start",
    "amplitude_id": 1263130950579,
    "app": 100001,
    "city": "Zürich",
    "client_event_time": "2023-08-24 10:00:00.001000",
    "client_upload_time": "2023-08-24 10:00:01.002000",
    "country": "Switzerland",
    "data": {"path": "/2/httpapi", "group_first_event": {}, "group_ids": {}},
    "data_type": "event",
    "device_brand": "brand",
    "device_carrier": "carrier",
    "device_family": "Windows",
    "device_id": "device-1",
    "device_manufacturer": "maker",
    "device_model": "model",
    "device_type": "type",
    "dma": "dma",
    "event_id": 9007199254740993,  # beyond 2^53: a float would round it
    "event_properties": {"[Amplitude] Page URL": "https://site.example/a", "ad_metrics.cost": 0.25, "n": None},
    "event_time": "2023-08-24 10:00:00.003000",
    "event_type": "[Amplitude] Page Viewed",
    "global_user_properties": {"g": 1},
    "group_properties": {"p": [1, 2]},
    "groups": {"team": ["x"]},
    "idfa": "idfa-1",
    "ip_address": "192.0.2.1",
    "is_attribution_event": True,
    "language": "English",
    "library": "amplitude-ts/2.16.1",
    "location_lat": 47.25,
    "location_lng": -8.5,
    "os_name": "Chrome",
    "os_version": "152",
    "partner_id": "partner",
    "paying": False,
    "plan": {"branch": "main"},
    "platform": "Web",
    "processed_time": "2023-08-24 10:00:03.004000",
    "region": "Zürich",
    "sample_rate": 0.5,
    "server_received_time": "2023-08-24 10:00:02.005000",
    "server_upload_time": "2023-08-24 10:00:02.006000",
    "session_id": 1790218987203,
    "source_id": "source",
    "start_version": "1.0",
    "user_creation_time": "2023-08-23 09:00:00.007000",
    "user_id": "someone@site.example",
    "user_properties": {"initial_utm_source": "EMPTY"},
    "uuid": "00000000-0000-4000-8000-00000000f001",
    "version_name": "2.0",
}


def real() -> list[dict[str, Any]]:
    return [json.loads(line) for line in REAL.read_text(encoding="utf-8").splitlines()] if REAL.exists() else []


@pytest.fixture(scope="module")
def loaded(build: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    archives = tmp_path_factory.mktemp("archives")
    lines = [json.dumps(event, ensure_ascii=False) for event in [FULL, *real()]]
    (archives / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with Session(build, state=tmp_path_factory.mktemp("stack"), archives=archives) as session:
        pipeline = Pipeline.deployed(session)
        run = pipeline.run("amplitude_daily", start_date="2023-08-24", end_date="2023-08-25")
        assert run.state == "SUCCESS", run.log[-30:]
        yield pipeline


def test_the_list_of_keys_is_the_documented_one() -> None:
    assert len(FULL) == 55
    assert list(FULL) == sorted(FULL)


def test_every_key_is_unchanged_in_the_landing_table(loaded: Pipeline) -> None:
    rows = loaded.sql("select json_data:uuid::varchar, to_json(json_data) from raw.amplitude_events_raw_python")
    assert {uuid: json.loads(text) for uuid, text in rows} == {event["uuid"]: event for event in [FULL, *real()]}


@pytest.fixture(scope="module")
def staged(loaded: Pipeline) -> dict[str, dict[str, Any]]:
    """Uuid → column → value."""
    names, rows = sql.query(loaded.settings, "select * from staging.stg_amplitude__events")
    events = [dict(zip([name.lower() for name in names], row, strict=True)) for row in rows]
    return {event["uuid"]: event for event in events}


@pytest.mark.parametrize("key", list(FULL))
def test_every_key_is_right_in_staging(staged: dict[str, dict[str, Any]], key: str) -> None:
    events = [FULL, *real()]
    assert set(staged) == {event["uuid"] for event in events}
    column = "schema_version" if key == "$schema" else key.removeprefix("$")
    for event in events:
        assert comparable(key, staged[event["uuid"]][column]) == expected(key, event[key])


def expected(key: str, value: Any) -> Any:
    if value is None or key in OBJECTS:
        return value
    if key.endswith("_time"):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value if isinstance(value, bool) else Decimal(str(value)) if isinstance(value, int | float) else value


def comparable(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key in OBJECTS:
        return json.loads(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    if isinstance(value, bool):
        return value
    return Decimal(str(value)) if isinstance(value, int | float | Decimal) else value
