"""The stand-in's fault programme: each fault is really there for a plain client of the standard library."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path

import pytest

from local.amplitude.archives import ArchiveError, Archives
from local.amplitude.generator import Traffic, events
from local.amplitude.server import Server, running

NOW = datetime(2026, 9, 27, 3, 30, tzinfo=UTC)
HOUR = "2026-09-24T05"
PAIR = "Basic a2V5OnNlY3JldA=="  # key:secret


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(Traffic(), tmp_path, ("key", "secret"), NOW) as server:
        yield server


def get(server: Server, start: str = "20260924T05", end: str | None = None) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", f"/api/2/export?start={start}&end={end or start}", headers={"Authorization": PAIR})
    return connection.getresponse()


def control(server: Server, method: str, path: str, content: object = None) -> dict[str, list[dict[str, object]]]:
    connection = HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, json.dumps(content))
    response = connection.getresponse()
    body = json.loads(response.read())
    assert response.status == 200, body
    return body


def program(server: Server, *faults: dict[str, object]) -> None:
    control(server, "POST", "/_faults", faults)


def members(response: HTTPResponse) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(response.read())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def lines(response: HTTPResponse) -> list[bytes]:
    return [line for member in members(response).values() for line in gzip.decompress(member).split(b"\n")[:-1]]


def uuids(found: list[bytes]) -> set[str]:
    return {json.loads(line)["uuid"] for line in found}


def test_a_status_meets_only_its_hour_and_attempts(server: Server) -> None:
    program(server, {"do": "status", "status": 503, "hours": [HOUR], "attempts": [1, 3]})
    assert get(server, "20260924T04").status == 200
    assert [get(server).status for _ in range(4)] == [503, 200, 503, 200]
    assert get(server, "20260924T00", "20260924T23").status == 200


def test_a_window_fails_while_it_is_too_long(server: Server) -> None:
    program(
        server,
        {"do": "status", "status": 400, "longer_than": 12},
        {"do": "status", "status": 504, "longer_than": 1},
    )
    answers = [get(server, "20260924T00", f"20260924T{end}").status for end in ("23", "11", "00")]
    assert answers == [400, 504, 200]


def test_an_archive_above_a_size_is_400(server: Server) -> None:
    size = len(get(server).read())
    program(server, {"do": "too_large", "bytes": size})
    assert get(server).status == 200
    response = get(server, "20260924T04", "20260924T05")
    assert (response.status, response.read()) == (400, b"")


def test_retry_after_comes_in_both_forms(server: Server) -> None:
    program(
        server,
        {"do": "status", "status": 429, "retry_after": 7, "attempts": [1]},
        {"do": "status", "status": 429, "retry_after": 60, "retry_form": "date", "attempts": [2]},
    )
    first, second = get(server), get(server)
    assert (first.status, first.headers["Retry-After"]) == (429, "7")
    assert (parsedate_to_datetime(second.headers["Retry-After"]) - NOW).total_seconds() == 60


def test_more_requests_at_once_than_allowed_are_429(server: Server) -> None:
    program(server, {"do": "rate_limit", "concurrent": 2}, {"do": "delay", "seconds": 1.0})
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(get(server).status)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 200, 429]


@pytest.mark.parametrize("length", ["chunked", "header"])
def test_a_cut_connection_is_an_incomplete_body(server: Server, length: str) -> None:
    program(server, {"do": "cut", "length": length})
    with pytest.raises(IncompleteRead):
        get(server).read()


def test_a_cut_without_any_length_looks_whole_but_is_no_zip(server: Server) -> None:
    whole = get(server).read()
    program(server, {"do": "cut", "length": "none"})
    body = get(server).read()
    assert body == whole[: int(len(whole) * 0.6)]
    assert not zipfile.is_zipfile(io.BytesIO(body))


def test_bodies_of_200_that_are_no_archive(server: Server) -> None:
    kinds = ("empty", "html", "error_body", "truncate")
    program(server, *({"do": kind, "attempts": [number]} for number, kind in enumerate(kinds, start=1)))
    responses = [get(server) for _ in kinds]
    assert {response.status for response in responses} == {200}
    bodies = [response.read() for response in responses]
    assert bodies[0] == b""
    assert bodies[1].startswith(b"<!DOCTYPE html>")
    assert json.loads(bodies[2])["error"]["http_code"] == 403
    assert len(bodies[2]) == 147
    assert bodies[3].startswith(b"PK")
    assert not zipfile.is_zipfile(io.BytesIO(bodies[3]))


def test_a_content_length_can_be_sent(server: Server) -> None:
    assert get(server).headers["Content-Length"] is None
    program(server, {"do": "content_length"})
    response = get(server)
    assert int(response.headers["Content-Length"]) == len(response.read())


def test_a_slow_drip_takes_its_time(server: Server) -> None:
    size = len(get(server).read())
    program(server, {"do": "drip", "bytes_per_second": size * 2})
    began = time.monotonic()
    assert len(get(server).read()) == size
    assert 0.4 < time.monotonic() - began < 5


def test_a_reordered_hour_has_other_bytes_and_the_same_uuids(server: Server) -> None:
    first = lines(get(server))
    program(server, {"do": "reorder"})
    second = lines(get(server))
    assert first != second
    assert sorted(first) == sorted(second)


def test_repeats_and_missing_lines(server: Server) -> None:
    first = lines(get(server))
    program(server, {"do": "repeat", "lines": 3, "attempts": [1]}, {"do": "drop", "lines": 2, "attempts": [2]})
    assert lines(get(server)) == first + first[:3]
    assert lines(get(server)) == first[:-2]


def test_late_data_grows_the_truth_after_the_first_export(server: Server) -> None:
    program(server, {"do": "late", "events": 3, "hours": [HOUR]})
    first, second, third = (uuids(lines(get(server))) for _ in range(3))
    assert first < second == third
    assert len(second - first) == 3
    truth = control(server, "GET", "/_truth?start=20260924T05&end=20260924T05")["hours"][HOUR]
    assert set(truth["uuids"]) == second


def test_late_data_can_fill_an_hour_that_was_empty(server: Server) -> None:
    assert get(server, "20260920T05").status == 404
    control(server, "POST", "/_late", {"hour": "2026-09-20T05", "events": 2})
    late = [json.loads(line) for line in lines(get(server, "20260920T05"))]
    assert [event["server_upload_time"][:13] for event in late] == ["2026-09-20 05"] * 2


def test_damaged_members(server: Server) -> None:
    kinds = ("corrupt_gzip", "cut_gzip")
    program(server, *({"do": kind, "attempts": [number]} for number, kind in enumerate(kinds, start=1)))
    for error in (gzip.BadGzipFile, EOFError):
        (member,) = members(get(server)).values()
        with pytest.raises(error):
            gzip.decompress(member)


def test_a_bomb_is_small_on_the_wire(server: Server) -> None:
    program(server, {"do": "bomb", "mebibytes": 64})
    body = get(server).read()
    assert len(body) < 100_000
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert len(gzip.decompress(archive.read(archive.namelist()[0]))) == 64 << 20


def test_members_deflated_zip64_renamed_and_added(server: Server) -> None:
    plain = members(get(server))
    program(
        server,
        {"do": "deflate", "attempts": [1]},
        {"do": "zip64", "attempts": [2]},
        {"do": "rename", "name": "{project}/{project}/{project}_{date}_{hour:02}#{part}.json.gz", "attempts": [3]},
        {"do": "member", "name": "../../evil.json.gz", "text": "marked", "attempts": [4]},
        {"do": "member", "name": "100100/link.json.gz", "text": "/etc/passwd", "link": True, "attempts": [4]},
    )
    assert members(get(server)) == plain
    assert members(get(server)) == plain
    assert list(members(get(server))) == ["100100/100100/100100_2026-09-24_05#0.json.gz"]
    added = members(get(server))
    assert gzip.decompress(added["../../evil.json.gz"]) == b"marked"
    assert added["100100/link.json.gz"] == b"/etc/passwd"


@pytest.mark.parametrize(
    "kind", ["not_json", "not_object", "no_uuid", "uuid_number", "nul", "lone_surrogate", "not_utf8", "huge", "blank"]
)
def test_a_bad_line_is_one_more_at_its_place(server: Server, kind: str) -> None:
    first = lines(get(server))
    program(server, {"do": "bad_line", "kind": kind, "line": 4, "text": "marked"})
    second = lines(get(server))
    assert [*second[:3], *second[4:]] == first
    bad = second[3]
    reasons = {
        "not_json": lambda: refused(ValueError, json.loads, bad),
        "not_object": lambda: isinstance(json.loads(bad), list),
        "no_uuid": lambda: "uuid" not in json.loads(bad),
        "uuid_number": lambda: isinstance(json.loads(bad)["uuid"], int),
        "nul": lambda: "\0" in json.loads(bad)["region"],
        "lone_surrogate": lambda: refused(UnicodeEncodeError, json.loads(bad)["region"].encode),
        "not_utf8": lambda: refused(UnicodeDecodeError, bad.decode),
        "huge": lambda: len(bad) > 16 << 20,
        "blank": lambda: bad == b"",
    }
    assert reasons[kind]()


def refused(error: type[Exception], action: Callable[..., object], *arguments: object) -> bool:
    with pytest.raises(error):
        action(*arguments)
    return True


def test_a_new_key_and_a_repeated_key(server: Server) -> None:
    program(server, {"do": "unknown_key", "name": "new_key", "attempts": [1]}, {"do": "repeated_key", "attempts": [2]})
    assert all(len(json.loads(line)) == 56 and "new_key" in json.loads(line) for line in lines(get(server)))
    first, *rest = lines(get(server))
    keys = [key for key, _ in json.loads(first, object_pairs_hook=list)]
    assert len(keys) == len(set(keys)) + 1
    assert all(len(json.loads(line, object_pairs_hook=list)) == 55 for line in rest)


def test_the_request_log_says_what_was_asked_and_answered(server: Server) -> None:
    program(server, {"do": "status", "status": 502, "attempts": [1]})
    get(server).read()
    size = len(get(server).read())
    first, second = control(server, "GET", "/_requests")["requests"]
    assert (first["start"], first["end"], first["status"], first["faults"]) == ("20260924T05",) * 2 + (502, ["status"])
    assert (second["status"], second["bytes"], second["lines"]) == (200, size, {HOUR: len(events(HOUR))})
    control(server, "DELETE", "/_requests")
    assert control(server, "GET", "/_requests")["requests"] == []


@pytest.mark.parametrize("fault", [{"do": "explode"}, {"do": "status", "hours": ["05"]}, {"do": "late", "event": 3}])
def test_a_programme_that_is_not_understood_is_refused(server: Server, fault: dict[str, object]) -> None:
    with pytest.raises(AssertionError, match="fault programme"):
        program(server, fault)
    assert control(server, "GET", "/_faults")["faults"] == []


def test_faults_late_data_clock_and_log_survive_a_restart(tmp_path: Path) -> None:
    with running(Traffic(), tmp_path) as server:
        program(server, {"do": "status", "attempts": [1, 2]})
        control(server, "POST", "/_late", {"hour": HOUR, "events": 2})
        control(server, "POST", "/_clock", {"now": "2026-09-24T08:00:00Z"})
        assert get(server).status == 503
    with running(Traffic(), tmp_path) as server:
        assert get(server).status == 503
        assert len(lines(get(server))) == len(events(HOUR)) + 2
        assert get(server, "20260924T06").status == 503
        control(server, "DELETE", "/_faults")
        assert get(server, "20260924T06").status == 404  # 08:00 is only one hour after its end
        assert len(control(server, "GET", "/_requests")["requests"]) == 5


def test_a_rehearsal_does_not_freeze_the_next_start(tmp_path: Path) -> None:
    with running(Traffic(), tmp_path, now=NOW) as server:
        assert server.project.now() == NOW
    with running(Traffic(), tmp_path) as server:
        assert abs((server.project.now() - datetime.now(UTC)).total_seconds()) < 60


def test_archives_that_cannot_be_served_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="gone: no such file"):
        Archives(tmp_path / "gone", 1)
    with pytest.raises(ArchiveError, match="no event in it"):
        Archives(tmp_path, 1)
    (tmp_path / "x.jsonl").write_text('{"uuid":"b"}')
    with pytest.raises(ArchiveError, match=r"x.jsonl: no line of it has a server_upload_time"):
        Archives(tmp_path, 1)


@pytest.mark.parametrize("end", ["stdin", "SIGTERM", "SIGINT"])
def test_the_process_says_when_it_is_ready_and_stops_cleanly(tmp_path: Path, end: str) -> None:
    faults = tmp_path / "faults.json"
    faults.write_text('[{"do": "status", "status": 418}]')
    state = str(tmp_path / "state")
    command = [sys.executable, "-m", "local.amplitude", "--port", "0", "--state", state, "--faults", str(faults)]
    environment = os.environ | {"AMP_API_KEY": "key", "AMP_SECRET_KEY": "secret", "PIPELINE_NOW": "2026-09-27T03:30Z"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdin
        assert process.stdout
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True
        url = f"http://127.0.0.1:{ready['port']}/api/2/export?start=20260924T05&end=20260924T05"
        with pytest.raises(urllib.error.HTTPError, match="418"):
            urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": PAIR}), timeout=10)
        if end == "stdin":
            process.stdin.close()
        else:
            process.send_signal(15 if end == "SIGTERM" else 2)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        if end != "stdin":
            process.stdin.close()


def test_a_gzip_trailer_is_checked_by_the_client_library() -> None:
    """Guards the test above: the standard library does notice a wrong CRC."""
    damaged = gzip.compress(b"x" * 100)
    damaged = damaged[:-8] + b"\0\0\0\0" + damaged[-4:]
    with pytest.raises((gzip.BadGzipFile, zlib.error)):
        gzip.decompress(damaged)
