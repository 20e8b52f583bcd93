"""Events with all 55 keys: one made here, in the raw form of the Export API, and real ones where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    "event_type": "Something New",  # like those of the real ones, none that the dbt project knows
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


def events() -> list[dict[str, Any]]:
    return [FULL, *real()]


def lines() -> list[str]:
    return [json.dumps(event, ensure_ascii=False) for event in events()]
