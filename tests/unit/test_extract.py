"""The task `extract` over real HTTP: what it asks, what it makes of each answer, what it never does."""

import contextlib
import gzip
import hashlib
import json
import socket
import threading
import time

import pytest

from scripts import extract
from scripts.pipeline.errors import ConfigurationError
from tests.exports import DAY, NOW, PROJECT, Known, a_day, bench, event


@pytest.fixture
def day(tmp_path, monkeypatch):
    with bench(a_day(), tmp_path, monkeypatch) as running:
        yield running


def digest_of(*uuids):
    """By its definition: sum over distinct uuids of the lower 64 bits of MD5(uuid)."""
    return str(sum(int(hashlib.md5(uuid.encode()).hexdigest()[16:], 16) for uuid in set(uuids)))


def test_a_day_is_one_request_and_every_event_arrives_once(day):
    result = day.run()
    assert day.asked() == ["00..23"]
    assert sorted(result.uuids()) == sorted(f"{hour:02}-{number}" for hour in range(24) for number in range(3))
    assert result.outcomes() == {"exported": list(range(24))}
    counted = {name: count for name, count in result.counts.items() if count and name not in {"bytes", "seconds"}}
    assert counted == {"hours": 24, "hours_exported": 24, "events": 72, "requests": 1}


def test_parts_are_amplitudes_own_bytes_under_content_addressed_names(day):
    result = day.run([3])
    (part,) = result.lines[f"{DAY}T03"].manifest.parts
    content = result.tar["parts/" + part.key.rsplit("/", 1)[-1]]
    assert content in day.server.project.store.members(NOW.replace(day=24, hour=3, minute=0))
    sha256 = hashlib.sha256(content).hexdigest()
    folder = f"python-import/project={PROJECT}/date={DAY}/hour=03"
    assert part.key == f"{folder}/{PROJECT}_{DAY}_3_0.{sha256[:12]}.json.gz"
    assert (part.sha256, part.bytes, part.rows) == (sha256, len(content), 3)
    assert part.member == f"{PROJECT}_{DAY}_3#0.json.gz"


def test_the_manifest_counts_an_hour(tmp_path, monkeypatch):
    first = [event("a"), event("b", event_type="session_end", event_time="2026-01-24 03:00:00.000000")]
    second = [event("a"), event("c", server_upload_time=f"{DAY} 03:59:59.999000")]
    with bench(Known({f"{DAY}T03": [first, second]}), tmp_path, monkeypatch) as day:
        manifest = day.run([3]).lines[f"{DAY}T03"].manifest
    assert (manifest.uuids, manifest.repeats, manifest.digest) == (3, 1, digest_of("a", "b", "c"))
    assert [part.rows for part in manifest.parts] == [2, 2]
    assert manifest.parts[0].event_types == {"session_end": 1, "session_start": 1}
    assert manifest.parts[0].min_event_time == "2026-01-24 03:00:00.000000"
    assert manifest.parts[1].max_server_upload_time == f"{DAY} 03:59:59.999000"
    assert (manifest.window_start, manifest.window_end, manifest.status) == (f"{DAY}T03", f"{DAY}T03", 200)


def test_only_planned_hours_are_asked_for_and_loads_pass_through(day):
    result = day.run([3, 4, 9], load=(6,))
    assert sorted(day.asked()) == ["03..04", "09..09"]
    assert result.outcomes() == {"exported": [3, 4, 9], "load": [6]}
    assert [line[-2:] for line in result.lines] == ["03", "04", "06", "09"]


def test_nothing_planned_still_writes_both_files(day):
    result = day.run([])
    assert (result.lines, result.tar, day.requests()) == ({}, {}, [])


def test_b01_an_hour_without_data_is_empty_and_the_others_go_on(tmp_path, monkeypatch):
    with bench(a_day(without=(2, 7)), tmp_path, monkeypatch) as day:
        day.program({"do": "status", "status": 400, "longer_than": 1})
        result = day.run([0, 1, 2, 3])
    assert result.outcomes() == {"exported": [0, 1, 3], "empty": [2]}
    empty = result.lines[f"{DAY}T02"].manifest
    assert (empty.status, empty.parts, empty.uuids, empty.digest) == (404, [], 0, "0")


def test_b01_an_hour_missing_from_a_whole_archive_is_empty_too(tmp_path, monkeypatch):
    with bench(a_day(without=(2,)), tmp_path, monkeypatch) as day:
        result = day.run([1, 2, 3])
    assert result.outcomes() == {"exported": [1, 3], "empty": [2]}
    assert result.lines[f"{DAY}T02"].manifest.status == 200


def test_b01_no_data_for_an_hour_inside_the_export_latency_is_young_not_empty(tmp_path, monkeypatch):
    """23:00 is exportable from 02:00 on; the server's clock says 01:59."""
    with bench(a_day(), tmp_path, monkeypatch, NOW.replace(hour=1, minute=59)) as day:
        result = day.run([22, 23])
        alone = day.run([23])
    assert result.outcomes() == {"exported": [22], "young": [23]}
    assert alone.outcomes() == {"young": [23]}
    assert alone.lines[f"{DAY}T23"].manifest is None


def test_a_day_without_any_event_and_a_clock_that_disagrees_are_told(tmp_path, monkeypatch, caplog):
    """Any server that is not Amplitude answers 404 as well."""
    with bench(Known({}), tmp_path, monkeypatch, NOW.replace(hour=1, minute=59)) as day:
        assert day.run().outcomes() == {"empty": list(range(23)), "young": [23]}
        assert "1 hours are too young at 2026-09-25T01:59:00.000Z" in caplog.text
        assert "No event" not in caplog.text
        day.server.project.set_clock(NOW)
        day.run()
        assert "No event in any of 24 hours" in caplog.text


def test_data_of_a_young_hour_is_not_taken_for_the_whole_hour(tmp_path, monkeypatch):
    monkeypatch.setenv("PIPELINE_NOW", "")
    with bench(a_day(), tmp_path, monkeypatch) as day:
        monkeypatch.setenv("PIPELINE_NOW", "2026-09-25T01:59:00Z")  # a rehearsal's clock beats the server's
        result = day.run([22, 23])
    assert result.outcomes() == {"exported": [22], "young": [23]}
    assert sorted(result.uuids()) == ["22-0", "22-1", "22-2"]


def test_b02_b03_late_events_come_with_the_hour_of_their_upload(tmp_path, monkeypatch):
    old = event("late", f"{DAY}T09", event_time="2026-03-20 10:00:00.000000", event_type="session_end")
    with bench(Known({f"{DAY}T09": [[old, event("now", f"{DAY}T09")]]}), tmp_path, monkeypatch) as day:
        first = day.run([9]).lines[f"{DAY}T09"].manifest
        day.server.project.store.add_late(NOW.replace(day=24, hour=9, minute=0), 3)
        second = day.run([9]).lines[f"{DAY}T09"].manifest
    assert (first.uuids, second.uuids) == (2, 5)
    assert first.digest == digest_of("late", "now") != second.digest
    assert first.parts[0].min_event_time == "2026-03-20 10:00:00.000000"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"do": "error_body"}, "answered 200 with 147 bytes that are JSON"),
        ({"do": "html"}, "that are HTML or XML"),
        ({"do": "empty"}, "answered 200 with 0 bytes that are nothing"),
        ({"do": "truncate", "share": 0.6}, "not a whole ZIP"),
    ],
)
def test_b04_what_is_no_whole_zip_fails_its_hours_and_publishes_nothing(day, fault, words):
    day.program(fault | {"hours": [f"{DAY}T03"]})
    result = day.run([3, 5])
    assert result.outcomes() == {"error": [3], "exported": [5]}
    assert words in result.lines[f"{DAY}T03"].error
    assert result.lines[f"{DAY}T03"].manifest is None
    assert sorted(result.uuids()) == ["05-0", "05-1", "05-2"]
    assert [name for name in day.zips() if name.startswith(f"{DAY}T03")] == []
    assert day.asked().count("03..03") == day.patience.tries


def test_b05_a_window_that_is_too_large_is_split_down_to_the_hour(day):
    day.program({"do": "status", "status": 400, "longer_than": 12}, {"do": "status", "status": 504, "longer_than": 1})
    result = day.run()
    assert result.outcomes() == {"exported": list(range(24))}
    assert len(set(result.uuids())) == len(result.uuids()) == 72
    assert result.counts["requests_split"] == 23
    assert day.asked()[:2] == ["00..23", "00..11"]


def test_b05_one_hour_that_is_too_large_fails_and_names_the_way_out(day):
    day.program({"do": "status", "status": 400, "hours": [f"{DAY}T05"]})
    result = day.run([4, 5, 6])
    assert result.outcomes() == {"exported": [4, 6], "error": [5]}
    error = result.lines[f"{DAY}T05"].error
    assert f"{DAY}T05" in error
    assert "400" in error
    assert "Amplitude's own S3 export" in error


def test_b06_the_same_hour_in_other_bytes_has_the_same_digest(day):
    first = day.run([3]).lines[f"{DAY}T03"].manifest
    day.program({"do": "reorder"})
    second = day.run([3]).lines[f"{DAY}T03"].manifest
    assert first.parts[0].key != second.parts[0].key
    assert (first.digest, first.uuids) == (second.digest, second.uuids)


@pytest.mark.parametrize("length", ["chunked", "header", "none"])
def test_b11_a_cut_download_is_tried_again_and_never_kept(day, length):
    day.program({"do": "cut", "share": 0.5, "length": length, "attempts": [1]})
    result = day.run([3])
    assert result.outcomes() == {"exported": [3]}
    assert (result.counts["requests"], result.counts["requests_repeated"]) == (2, 1)
    assert [name.rsplit(".", 1)[-1] for name in day.zips()] == ["json", "zip"]


def test_b11_a_download_that_is_always_cut_fails_the_hour(day):
    day.program({"do": "cut", "share": 0.5, "length": "header"})
    result = day.run([3])
    assert "the connection failed" in result.lines[f"{DAY}T03"].error
    assert day.zips() == []


@pytest.mark.parametrize("fault", [{"do": "corrupt_gzip"}, {"do": "cut_gzip", "share": 0.7}, {"do": "bomb"}])
def test_b11_a_member_that_fails_its_own_checksum_or_unpacks_without_end_is_refused(day, fault):
    day.program(fault)
    result = day.run([3])
    assert f"{PROJECT}_{DAY}_3#0.json.gz" in result.lines[f"{DAY}T03"].error
    assert (result.tar, day.zips()) == ({}, [])


def test_b17_large_integers_arrive_to_the_last_digit(tmp_path, monkeypatch):
    line = event("big", event_id=9007199254740993, amplitude_id=1263130950579, session_id=1790218987203)
    with bench(Known({f"{DAY}T03": [[line]]}), tmp_path, monkeypatch) as day:
        (content,) = day.run([3]).tar.values()
    parsed = json.loads(gzip.decompress(content))
    assert (parsed["event_id"], parsed["amplitude_id"]) == (9007199254740993, 1263130950579)


def test_b27_two_parts_of_an_hour_stay_two_members_without_number_signs(tmp_path, monkeypatch):
    with bench(Known({f"{DAY}T03": [[event("a")], [event("b")]]}), tmp_path, monkeypatch) as day:
        result = day.run([3])
    assert len(result.tar) == 2
    assert not any("#" in name for name in result.tar)
    assert sorted(result.uuids()) == ["a", "b"]


def test_b31_results_stay_small_however_many_hours(day):
    assert len(json.dumps(day.run().counts)) < 1000


@pytest.mark.parametrize("status", [401, 403])
def test_wrong_keys_stop_the_run_and_say_where_to_look(day, monkeypatch, status):
    if status == 403:
        monkeypatch.setenv("AMP_SECRET_KEY", "wrong-secret")
    else:
        day.program({"do": "status", "status": 401})
    with pytest.raises(ConfigurationError, match=r"AMP_SECRET_KEY.*AMP_REGION") as raised:
        day.run()
    assert str(PROJECT) in str(raised.value)
    assert "wrong-secret" not in str(raised.value)
    assert not list(day.folder.glob("run1/*.tar"))
    assert day.zips() == []


def test_another_project_in_the_archive_stops_the_run(tmp_path, monkeypatch):
    with bench(Known(a_day().hours, project=4711), tmp_path, monkeypatch) as day:
        with pytest.raises(ConfigurationError, match="holds project 4711, AMP_PROJECT_ID is 100011471"):
            day.run([3])
        assert day.zips() == []


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again(day, status):
    day.program({"do": "status", "status": status, "attempts": [1, 2]})
    result = day.run([3])
    assert result.outcomes() == {"exported": [3]}
    assert result.counts["requests_repeated"] == 2


def test_one_failing_hour_does_not_take_the_others_along(day):
    day.program({"do": "status", "status": 503, "hours": [f"{DAY}T05"]})
    result = day.run([3, 5, 7])
    assert result.outcomes() == {"exported": [3, 7], "error": [5]}
    assert result.counts["hours_failed"] == 1
    assert "answered 503" in result.lines[f"{DAY}T05"].error


@pytest.mark.parametrize("fault", [{"do": "corrupt_gzip"}, {"do": "cut", "share": 0.5, "length": "chunked"}])
def test_one_damaged_hour_does_not_take_its_day_along(day, fault):
    """Hours of a day are asked for together; after two bad answers the window is asked for in halves."""
    day.program(fault | {"hours": [f"{DAY}T05"]})
    result = day.run()
    assert result.outcomes() == {"exported": [hour for hour in range(24) if hour != 5], "error": [5]}
    assert len(result.uuids()) == 23 * 3
    assert day.asked().count("00..23") == 2


def test_a_server_that_is_busy_is_not_asked_for_less(day):
    day.program({"do": "status", "status": 503})
    assert day.run().outcomes() == {"error": list(range(24))}
    assert day.asked() == ["00..23"] * day.patience.tries


def test_what_was_exported_before_a_server_hung_is_kept(day, monkeypatch):
    day.program({"do": "delay", "seconds": 0.5, "hours": [f"{DAY}T03"]})
    monkeypatch.setattr("scripts.extract.ASK_FOR", 0.4)
    monkeypatch.setattr("scripts.extract.MAX_REQUESTS", 1)
    result = day.run([3, 5])
    assert result.outcomes() == {"exported": [3], "error": [5]}
    assert "not asked for" in result.lines[f"{DAY}T05"].error


def test_a_client_that_cannot_be_made_ends_the_run(day, monkeypatch):
    monkeypatch.setenv("AMP_BASE_URL", "http://[::1")
    with pytest.raises(ConfigurationError, match="AMP_BASE_URL"):
        day.run([3])


def test_at_most_four_requests_are_under_way(tmp_path, monkeypatch):
    with bench(a_day(), tmp_path, monkeypatch) as day:
        day.program({"do": "delay", "seconds": 0.05}, {"do": "rate_limit", "concurrent": 4})
        result = day.run(list(range(0, 24, 2)))
    assert {entry["status"] for entry in day.requests()} == {200}
    assert result.counts["requests"] == 12


def test_bad_lines_go_to_quarantine_and_good_ones_on(day):
    day.program({"do": "bad_line", "kind": "not_json", "line": 2, "text": "someone@example.test"})
    result = day.run([3])
    line = result.lines[f"{DAY}T03"]
    (part,) = line.manifest.parts
    assert [(bad.line, bad.reason) for bad in part.bad_lines] == [(2, "not one JSON object")]
    assert (part.rows, result.counts["lines_quarantined"]) == (3, 1)
    assert sorted(result.uuids()) == ["03-0", "03-1", "03-2"]
    original = result.tar["quarantine/" + part.quarantine_key.rsplit("/", 1)[-1]]
    assert part.quarantine_key.startswith(f"python-import-quarantine/project={PROJECT}/date={DAY}/hour=03/")
    assert hashlib.sha256(original).hexdigest()[:12] in part.quarantine_key
    assert b"someone" in gzip.decompress(original)
    assert "someone" not in (result.folder / "manifest.jsonl").read_text()


def test_a_new_top_level_key_is_counted(day):
    day.program({"do": "unknown_key", "name": "brand_new"})
    manifest = day.run([3]).lines[f"{DAY}T03"].manifest
    assert manifest.unknown_keys == {"brand_new": 3}
    assert manifest.parts[0].rows == 3


@pytest.mark.parametrize("fault", ["deflate", "zip64"])
def test_archives_may_be_packed_in_any_usual_way(day, fault):
    day.program({"do": fault})
    assert day.run([3]).outcomes() == {"exported": [3]}


def test_a_body_that_drips_in_meets_the_deadline(day):
    day.patience = type(day.patience)(connect=2, read=2, whole=0.4, tries=2, backoff=0.01)
    day.program({"do": "drip", "bytes_per_second": 20, "hours": [f"{DAY}T03"]})
    started = time.monotonic()
    result = day.run([3, 5])
    assert time.monotonic() - started < 20  # all of it would take over a minute
    assert result.outcomes() == {"exported": [5], "error": [3]}
    assert "after 0 s" in result.lines[f"{DAY}T03"].error


def test_headers_that_drip_in_cost_the_other_hours_nothing(day, monkeypatch):
    """No deadline of a request sees them: each byte comes within the read timeout."""

    def drip(listener):
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                connection.sendall(b"X-Long: way\r\n")
                time.sleep(0.3)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        client = extract.ExportClient
        addresses = iter([f"http://127.0.0.1:{listener.getsockname()[1]}", day.server.url])

        def one_of_two(settings, *others):
            return client(settings.model_copy(update={"amp_base_url": next(addresses)}), *others)

        monkeypatch.setattr(extract, "ExportClient", one_of_two)
        monkeypatch.setattr(extract, "WAIT_FOR", 3)
        result = day.run([3, 5])
    (failed,) = [line for line in result.lines.values() if line.error]
    assert sorted(result.outcomes()) == ["error", "exported"]
    assert "no whole answer in" in failed.error


def test_a_full_disk_fails_the_hour_before_anything_is_downloaded(day, monkeypatch):
    monkeypatch.setattr("scripts.pipeline.backup_store.RESERVE", 10**18)
    result = day.run([3])
    assert "bytes are free" in result.lines[f"{DAY}T03"].error
    assert day.zips() == []


def test_a_failed_run_leaves_no_half_written_file(day, monkeypatch):
    monkeypatch.setattr("scripts.pipeline.exported._manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        day.run([3])
    assert [path.name for path in (day.folder / "run1").iterdir()] == ["plan.jsonl"]
