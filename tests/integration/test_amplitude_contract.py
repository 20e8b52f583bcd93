"""The Export API's contract, frozen: what the stand-in must answer whatever our own client would like.

Every expectation is Amplitude's documentation (https://amplitude.com/docs/apis/analytics/export, amazon-s3 export for
the layout) or a real exported event; the client is the standard library alone.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from local.amplitude.archives import Archives
from local.amplitude.generator import Traffic
from local.amplitude.server import Server, running

NOW = datetime(2026, 9, 27, 3, 30, tzinfo=UTC)
KEYS = (  # noqa: SIM905 (55 lines otherwise)
    "$insert_id $insert_key $schema adid amplitude_attribution_ids amplitude_event_type amplitude_id app city "
    "client_event_time client_upload_time country data data_type device_brand device_carrier device_family device_id "
    "device_manufacturer device_model device_type dma event_id event_properties event_time event_type "
    "global_user_properties group_properties groups idfa ip_address is_attribution_event language library location_lat "
    "location_lng os_name os_version partner_id paying plan platform processed_time region sample_rate "
    "server_received_time server_upload_time session_id source_id start_version user_creation_time user_id "
    "user_properties uuid version_name"
).split()
TIMES = ("client_event_time", "client_upload_time", "event_time", "processed_time", "server_received_time")
OBJECTS = ("data", "event_properties", "groups", "plan", "user_properties")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}000")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Traffic(project=4711), tmp_path_factory.mktemp("amplitude"), ("key", "se:cret"), NOW) as server:
        yield server


def get(server: Server, query: str, pair: str | None = "key:se:cret", path: str = "/api/2/export") -> HTTPResponse:
    headers = {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"} if pair else {}
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", f"{path}?{query}", headers=headers)
    return connection.getresponse()


def export(server: Server, start: str, end: str) -> dict[str, list[bytes]]:
    """Lines by member name."""
    response = get(server, f"start={start}&end={end}")
    assert response.status == 200
    with zipfile.ZipFile(io.BytesIO(response.read())) as archive:
        assert archive.testzip() is None
        return {name: gzip.decompress(archive.read(name)).splitlines() for name in archive.namelist()}


def test_a_whole_day_is_t00_to_t23_with_both_ends_inside(server: Server) -> None:
    day = export(server, "20260924T00", "20260924T23")
    assert list(day) == [f"4711/4711_2026-09-24_{hour}#0.json.gz" for hour in range(24)]


def test_one_hour_is_start_equal_to_end(server: Server) -> None:
    hour = export(server, "20260924T03", "20260924T03")
    assert list(hour) == ["4711/4711_2026-09-24_3#0.json.gz"]
    assert hour == {name: lines for name, lines in export(server, "20260924T02", "20260924T04").items() if name in hour}


def test_an_hour_at_volume_comes_in_several_parts(server: Server) -> None:
    monday = export(server, "20260921T13", "20260921T13")
    assert list(monday) == ["4711/4711_2026-09-21_13#0.json.gz", "4711/4711_2026-09-21_13#1.json.gz"]
    uuids = [json.loads(line)["uuid"] for lines in monday.values() for line in lines]
    assert len(set(uuids)) == len(uuids)


def test_every_event_has_the_55_keys_in_order_with_their_types(server: Server) -> None:
    lines = [line for lines in export(server, "20260924T00", "20260924T23").values() for line in lines]
    for event in map(json.loads, lines):
        assert list(event) == KEYS
        assert all(TIME.fullmatch(event[key]) for key in (*TIMES, "server_upload_time"))
        assert event["user_creation_time"] is None
        assert all(type(event[key]) is int for key in ("amplitude_id", "app", "event_id", "session_id"))
        assert all(
            type(event[key]) is dict for key in ("data", "event_properties", "groups", "plan", "user_properties")
        )
        assert (event["app"], event["data_type"], len(event["uuid"])) == (4711, "event", 36)
    assert all(line.isascii() and b'": ' not in line and b'", "' not in line[:200] for line in lines)


def test_hours_are_hours_of_server_upload_time_not_of_event_time(server: Server) -> None:
    other_hour = 0
    for name, lines in export(server, "20260924T00", "20260924T23").items():
        hour = int(re.search(r"_(\d+)#", name)[1])
        for event in map(json.loads, lines):
            assert event["server_upload_time"].startswith(f"2026-09-24 {hour:02}:")
            other_hour += not event["event_time"].startswith(f"2026-09-24 {hour:02}:")
    assert other_hour


def test_no_data_is_404_without_a_body(server: Server) -> None:
    sunday = get(server, "start=20260920T05&end=20260920T05")
    assert (sunday.status, sunday.read()) == (404, b"")


def test_an_empty_hour_has_no_member(server: Server) -> None:
    assert [int(re.search(r"_(\d+)#", name)[1]) for name in export(server, "20260920T03", "20260920T06")] == [3, 4, 6]


def test_an_hour_is_exportable_two_hours_after_its_end(server: Server) -> None:
    names = list(export(server, "20260926T22", "20260927T03"))
    assert names[-1] == "4711/4711_2026-09-27_0#0.json.gz"  # at 03:30, hour 01 ended 01:30 ago
    assert get(server, "start=20260927T01&end=20260927T03").status == 404


def test_no_credentials_is_401(server: Server) -> None:
    assert get(server, "start=20260924T00&end=20260924T00", pair=None).status == 401


@pytest.mark.parametrize("pair", ["key:wrong", "other:se:cret", "key:se:cret "])
def test_a_wrong_pair_is_403_with_a_json_body(server: Server, pair: str) -> None:
    response = get(server, "start=20260924T00&end=20260924T00", pair=pair)
    assert response.status == 403
    assert json.loads(response.read()) == {
        "error": {
            "http_code": 403,
            "type": "unspecified",
            "message": "Unspecified Error",
            "metadata": {"details": "Invalid API/Secret Key combination"},
        }
    }


@pytest.mark.parametrize(
    "query",
    [
        "",
        "start=20260924T00",
        "end=20260924T00",
        "start=2026-09-24T00&end=20260924T00",
        "start=20260924&end=20260924",
        "start=20260924T24&end=20260924T24",
        "start=20260924T05&end=20260924T04",
        "start=20250901T00&end=20260901T00",  # 365 days and an hour
    ],
)
def test_malformed_or_too_long_windows_are_400_without_a_body(server: Server, query: str) -> None:
    response = get(server, query)
    assert (response.status, response.read()) == (400, b"")


def test_the_same_window_gives_the_same_events_again(server: Server) -> None:
    assert export(server, "20260924T13", "20260924T14") == export(server, "20260924T13", "20260924T14")


def test_the_date_header_is_the_server_clock(server: Server) -> None:
    response = get(server, "start=20260924T00&end=20260924T00")
    assert parsedate_to_datetime(response.headers["Date"]) == NOW


def test_the_truth_is_what_was_served(server: Server) -> None:
    truth = json.loads(get(server, "start=20260921T00&end=20260921T23", path="/_truth").read())["hours"]
    served: dict[str, list[str]] = {hour: [] for hour in truth}
    for name, lines in export(server, "20260921T00", "20260921T23").items():
        day, hour = re.search(r"_(\d{4}-\d\d-\d\d)_(\d+)#", name).groups()
        served[f"{day}T{int(hour):02}"] += [json.loads(line)["uuid"] for line in lines]
    assert len(truth) == 24
    for hour, known in truth.items():
        assert known["uuids"] == sorted(set(served[hour]))
        assert known["events"] == len(served[hour]) == sum(known["event_types"].values())


def test_real_archives_are_served_byte_for_byte_in_the_hour_of_their_upload(tmp_path: Path) -> None:
    """RFC 3339 and the API's own form of time; a gzip file and an export ZIP."""
    lines = [
        b'{"uuid": "a",  "event_type": "x", "server_upload_time": "2023-08-25T11:04:55.821000+00:00"}',
        b'{"uuid":"b","event_type":"x","server_upload_time":"2023-08-25 11:59:59.999000"}',
        b'{"uuid":"c","event_type":"\\u00E9","server_upload_time":"2023-08-25T14:30:00+02:00"}',
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1.jsonl").write_bytes(lines[0])
    (tmp_path / "in" / "2.json.gz").write_bytes(gzip.compress(lines[1] + b"\n"))
    with zipfile.ZipFile(tmp_path / "in" / "3.zip", "w") as archive:
        archive.writestr("7/7_2023-08-25_12#0.json.gz", gzip.compress(lines[2]))
    with running(Archives(tmp_path / "in", 7), tmp_path / "state", ("key", "se:cret")) as server:
        assert export(server, "20230825T00", "20230825T23") == {
            "7/7_2023-08-25_11#0.json.gz": lines[:2],
            "7/7_2023-08-25_12#0.json.gz": lines[2:],
        }


def test_broken_lines_of_a_real_archive_are_served_beside_their_neighbours_and_are_no_events(tmp_path: Path) -> None:
    clock = b'"event_type":"x","server_upload_time":"2023-08-25 %d:00:00"}'
    good, next_hour, no_uuid = b'{"uuid":"a",' + clock % 11, b'{"uuid":"b",' + clock % 12, b"{" + clock % 11
    broken = [b"[1]", b'{"uuid":"c', b"\xff"]
    (tmp_path / "x.jsonl").write_bytes(b"\n".join([broken[0], good, broken[1], no_uuid, b"", next_hour, broken[2]]))
    with running(Archives(tmp_path / "x.jsonl", 7), tmp_path / "state", ("key", "se:cret")) as server:
        assert list(export(server, "20230825T00", "20230825T23").values()) == [
            [broken[0], good, broken[1], no_uuid],
            [next_hour, broken[2]],
        ]
        truth = json.loads(get(server, "start=20230825T11&end=20230825T12", path="/_truth").read())["hours"]
        assert [(hour["events"], hour["uuids"]) for hour in truth.values()] == [(1, ["a"]), (1, ["b"])]
