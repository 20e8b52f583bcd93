"""Upload against a real S3 server: content-addressed objects, versions, markers, crashes, two runs at once."""

import gzip
import hashlib
import random
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from scripts import upload
from scripts.pipeline.errors import ConfigurationError, DamagedError
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.records import BadLine, UploadedLine, read_lines
from scripts.pipeline.settings import BucketSettings, load
from tests import s3

HOUR = "2026-11-24T03"
ROOT = Path(__file__).parents[2]
PARTS = s3.PREFIX + "/"


@pytest.fixture
def ledger(bucket):
    return HourLedger(load(BucketSettings))


@pytest.fixture
def send(bucket, tmp_path):
    """Uploads one hour with these uuids; returns counts and the lines for load."""
    runs = iter(range(100))

    def send_hour(uuids, hour=HOUR, **more):
        files = s3.Export(tmp_path / f"run{next(runs)}").add(hour, uuids, **more).write()
        return upload.run(**files), uploaded(files)

    return send_hour


def uploaded(files) -> list[UploadedLine]:
    return list(read_lines(files["output"], UploadedLine))


def ledger_names(bucket) -> list[str]:
    return sorted(key.rsplit("/", 1)[1] for key in bucket.objects(s3.PREFIX + "-ledger/"))


def test_a_day_is_in_the_bucket_and_in_the_ledger_after_one_upload(bucket, ledger, tmp_path):
    export = s3.Export(tmp_path / "a")
    for hour in range(24):
        export.add(f"2026-11-24T{hour:02}", [[f"{hour}-{n}" for n in range(3)], [f"{hour}-x"]] if hour != 7 else [])
    files = export.write()
    counts = upload.run(**files)
    assert counts == {
        "hours": 23, "objects": 46, "objects_kept": 0, "bytes": sum(map(len, export.members.values())), "versions": 24,
        "exports_unchanged": 0, "hours_empty": 1, "events_new": 23 * 4, "events_late": 0, "events_gone": 0,
        "hours_failed": 0,
    }  # fmt: skip
    stored = bucket.objects(PARTS)
    assert {"parts/" + key.rsplit("/", 1)[1]: body for key, body in stored.items()} == export.members
    entries = ledger.entries()
    assert [entry.version for entry in entries.values()] == [1] * 24
    assert entries["2026-11-24T07"].empty == {1}
    lines = uploaded(files)
    assert [line.hour for line in lines] == [f"2026-11-24T{hour:02}" for hour in range(24) if hour != 7]
    assert [(part.key in stored, part.rows) for part in lines[0].parts] == [(True, 3), (True, 1)]
    assert lines[0].parts[0].uploaded_at.endswith("Z")


def test_b27_b28_two_parts_of_an_hour_stay_two_objects_with_plain_names(bucket, send):
    send([["a", "b"], ["c"]])
    keys = sorted(bucket.objects(PARTS))
    assert [gzip.decompress(bucket.objects()[key]).count(b"\n") for key in keys] == [2, 1]
    for key in bucket.objects():
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=-/")


def test_the_version_says_what_was_exported_and_where_it_lies(bucket, ledger, send):
    send(["a", "b", "b"])
    version = ledger.read(HOUR, 1)
    assert (version.manifest.uuids, version.manifest.repeats, version.manifest.digest) == (2, 1, s3.digest(["a", "b"]))
    assert (version.new, version.gone, version.union_uuids, version.union_digest) == (2, 0, 2, s3.digest(["a", "b"]))
    (part,) = version.manifest.parts
    assert hashlib.sha256(bucket.objects()[part.key]).hexdigest() == part.sha256
    assert part.uploaded_at <= version.written_at


def test_b03_late_events_make_version_2_and_are_counted(bucket, ledger, send):
    before = [f"u{n}" for n in range(10)]
    send(before)
    counts, lines = send([*before, "late1", "late2", "late3"], action="export", version=1)
    assert (counts["versions"], counts["events_new"], counts["events_late"], counts["events_gone"]) == (1, 3, 3, 0)
    version = ledger.read(HOUR, 2)
    everything = [*before, "late1", "late2", "late3"]
    assert (version.new, version.union_uuids, version.union_digest) == (3, 13, s3.digest(everything))
    assert [line.version for line in lines] == [1, 2]  # neither is loaded yet: both must be


def test_the_union_keeps_what_a_later_version_lacks(ledger, send):
    send(["a", "b"])
    send(["b", "c"])
    send(["c", "d"])
    version = ledger.read(HOUR, 3)
    assert (version.new, version.gone) == (1, 2)  # over all earlier versions: d is new; a and b are gone
    assert (version.union_uuids, version.union_digest) == (4, s3.digest("abcd"))


def test_b06_the_same_events_in_other_bytes_are_no_new_version_and_no_new_object(bucket, ledger, send):
    send(["a", "b", "c"])
    before = bucket.objects(PARTS)
    counts, lines = send([["c"], ["b", "a"]], version=1)
    assert (counts["exports_unchanged"], counts["versions"], counts["objects"]) == (1, 0, 0)
    assert bucket.objects(PARTS) == before
    assert ledger.entry(HOUR).version == 1
    assert [line.version for line in lines] == [1]


def test_what_is_there_is_not_sent_again(bucket, send):
    send(["a"])
    bucket.remove(s3.PREFIX + "-ledger/")  # killed after the parts, before the version
    bucket.requests.clear()
    counts, _ = send(["a"])
    assert (counts["objects"], counts["objects_kept"], counts["versions"]) == (0, 1, 1)
    assert not [line for line in bucket.requests if line.startswith(f"PUT {PARTS}")]


def test_an_object_without_our_metadata_is_compared_by_its_bytes(bucket, send):
    send(["a"])
    (key,) = bucket.objects(PARTS)
    content = bucket.objects()[key]
    bucket.put(key, content)
    bucket.remove(s3.PREFIX + "-ledger/")
    counts, _ = send(["a"])
    assert (counts["objects_kept"], counts["hours_failed"]) == (1, 0)


def test_other_bytes_under_a_key_are_never_overwritten(bucket, ledger, send):
    send(["a"])
    (key,) = bucket.objects(PARTS)
    bucket.remove("")
    bucket.put(key, b"someone else's")
    counts, (line,) = send(["a"])
    assert counts["hours_failed"] == 1
    assert line.error.startswith(f"{key} holds other bytes")
    assert bucket.objects() == {key: b"someone else's"}
    assert ledger.entry(HOUR).version == 0


def cleaned(folder, uuids, level):
    """An export with a part that lost bad line 2: named by its lines, with the untouched original beside it."""
    export = s3.Export(folder).add(HOUR, uuids)
    (line,) = export.lines
    (part,) = line.manifest.parts
    (content,) = export.members.values()
    lines = gzip.decompress(content)
    packed = gzip.compress(lines, level, mtime=0)
    original = gzip.compress(lines + b"not an event\n", mtime=0)
    stem = part.key.rsplit(".", 3)[0]
    key = f"{stem}.{hashlib.sha256(lines).hexdigest()[:12]}.json.gz"
    quarantine = f"{stem}.{hashlib.sha256(original).hexdigest()[:12]}.json.gz".replace(
        s3.PREFIX, s3.PREFIX + "-quarantine", 1
    )
    export.members = {
        "parts/" + key.rsplit("/", 1)[1]: packed,
        "quarantine/" + quarantine.rsplit("/", 1)[1]: original,
    }
    part = msgspec.structs.replace(
        part,
        key=key,
        sha256=hashlib.sha256(packed).hexdigest(),
        bytes=len(packed),
        quarantine_key=quarantine,
        bad_lines=[BadLine(len(uuids) + 1, "not JSON")],
    )
    manifest = msgspec.structs.replace(line.manifest, parts=[part])
    export.lines = [msgspec.structs.replace(line, manifest=manifest)]
    return export.write(), packed, original


def test_a_cleaned_part_and_its_original_lie_in_their_own_prefixes(bucket, ledger, tmp_path):
    files, packed, original = cleaned(tmp_path / "a", ["a", "b"], 6)
    assert upload.run(**files)["objects"] == 2
    assert list(bucket.objects(PARTS).values()) == [packed]
    assert list(bucket.objects(s3.PREFIX + "-quarantine/").values()) == [original]
    assert ledger.read(HOUR, 1).manifest.parts[0].bad_lines == [BadLine(3, "not JSON")]


def test_a_cleaned_part_packed_by_another_gzip_is_the_same_part(bucket, ledger, tmp_path):
    uuids = [f"uuid-{n}" for n in range(200)]
    files, packed, _ = cleaned(tmp_path / "a", uuids, 6)
    upload.run(**files)
    bucket.remove(s3.PREFIX + "-ledger/")
    files, other, _ = cleaned(tmp_path / "b", uuids, 1)
    assert other != packed
    assert upload.run(**files)["hours_failed"] == 0
    (part,) = ledger.read(HOUR, 1).manifest.parts
    assert (part.sha256, part.bytes) == (hashlib.sha256(packed).hexdigest(), len(packed))  # what lies there


@pytest.mark.parametrize("cut", [slice(0), slice(10), slice(-8), slice(1, None)])
def test_a_foreign_object_under_the_key_of_a_cleaned_part_is_the_error_of_its_hour_alone(bucket, ledger, tmp_path, cut):
    files, packed, _ = cleaned(tmp_path / "a", ["a", "b"], 6)
    (line,) = read_lines(files["manifest"], upload.ManifestLine)
    key = line.manifest.parts[0].key
    bucket.put(key, packed[cut])
    counts = upload.run(**files)
    assert (counts["hours_failed"], counts["versions"]) == (1, 0)
    (told,) = read_lines(files["output"], upload.UploadedLine)
    assert "holds other bytes than this export" in told.error
    assert bucket.objects(PARTS) == {key: packed[cut]}


def test_an_hour_whose_lines_are_all_bad_is_done_with_its_original_kept(bucket, ledger, tmp_path):
    files, _, original = cleaned(tmp_path / "a", ["a"], 6)
    (line,) = read_lines(files["manifest"], upload.ManifestLine)
    (part,) = line.manifest.parts
    manifest = msgspec.structs.replace(
        line.manifest, uuids=0, digest="0", parts=[msgspec.structs.replace(part, key="", sha256="", bytes=0, rows=0)]
    )
    upload.write_lines(files["manifest"], [msgspec.structs.replace(line, manifest=manifest)])
    counts = upload.run(**files)
    assert (counts["hours"], counts["objects"]) == (0, 1)
    assert list(bucket.objects(s3.PREFIX + "-quarantine/").values()) == [original]
    assert ledger.entry(HOUR).empty == {1}


def test_a_lost_object_is_put_again_by_an_export_of_the_same_bytes(bucket, ledger, send):
    send(["a", "b"])
    before = bucket.objects(PARTS)
    bucket.remove(PARTS)
    counts, _ = send(["a", "b"])
    assert (counts["objects"], counts["versions"]) == (1, 0)
    assert bucket.objects(PARTS) == before


def test_a_lost_object_is_replaced_by_a_new_version_of_the_same_events(bucket, ledger, send):
    send(["a", "b"])
    bucket.remove(PARTS)
    counts, _ = send(["b", "a"])
    assert (counts["objects"], counts["versions"]) == (1, 1)
    version = ledger.read(HOUR, 2)
    assert (version.new, version.gone, version.union_uuids) == (0, 0, 2)
    assert version.union_digest == s3.digest(["a", "b"])


def test_an_old_export_uploaded_late_is_no_version_unless_it_brings_events(bucket, ledger, send):
    send(["a", "b", "late"], after=timedelta(days=1))
    counts, _ = send(["a", "b"], after=timedelta(hours=4))
    assert (counts["versions"], counts["exports_unchanged"]) == (0, 1)
    counts, _ = send(["a", "only here"], after=timedelta(hours=4))
    assert ledger.read(HOUR, 2).union_uuids == 4


@pytest.mark.parametrize(
    ("age", "markers"),
    [
        (timedelta(hours=23, minutes=59), []),
        (timedelta(days=1), ["rechecked_1d.json"]),
        (timedelta(days=6, hours=23), ["rechecked_1d.json"]),
        (timedelta(days=7), ["rechecked_7d.json"]),
    ],
)
def test_an_export_counts_as_the_recheck_that_its_age_has_reached(bucket, send, age, markers):
    send(["a"], after=age)
    assert ledger_names(bucket) == [*markers, "v0001.json"]
    send([], hour="2026-10-01T00", after=age)
    assert [name for name in ledger_names(bucket) if "v0001" not in name] == sorted(markers * 2)


def test_an_empty_hour_that_gets_data_later_is_loaded_then(bucket, ledger, send):
    send([])
    assert ledger.entry(HOUR).unloaded == []
    counts, lines = send(["a"], action="recheck", version=1, after=timedelta(days=1))
    assert (counts["events_new"], [line.version for line in lines]) == (1, [2])
    send([], after=timedelta(days=2))  # and a 404 after that
    version = ledger.read(HOUR, 3)
    assert (version.gone, version.union_uuids, ledger.entry(HOUR).empty) == (1, 1, {1, 3})
    assert ledger.entry(HOUR).unloaded == [2]


def test_hours_that_only_wait_for_load_are_listed_without_an_export(bucket, ledger, send, tmp_path):
    send(["a"])
    ledger.mark_loaded(HOUR, 1, 1)
    send(["a", "b"])
    for outcome, more in (("load", {"action": "load"}), ("young", {}), ("error", {"error": "503", "version": 2})):
        files = s3.Export(tmp_path / outcome).line(HOUR, outcome, **more).write()
        counts = upload.run(**files)
        assert (counts["hours"], counts["objects"], counts["hours_failed"]) == (1, 0, 0)
        assert [(line.version, len(line.parts)) for line in uploaded(files)] == [(2, 1)]


def test_killed_between_an_empty_version_and_its_marker(bucket, ledger, send, tmp_path):
    send([])
    bucket.remove(s3.ledger_key(HOUR, "v0001.empty.json"))
    assert ledger.entry(HOUR).unloaded == [1]
    files = s3.Export(tmp_path / "load").line(HOUR, "load", action="load").write()
    assert upload.run(**files)["hours_empty"] == 1
    assert ledger.entry(HOUR).empty == {1}


def test_a_version_that_somebody_deleted_does_not_stop_its_hour(bucket, ledger, send):
    for uuids in (["a"], ["a", "b"], ["a", "b", "c"]):
        send(uuids)
    bucket.remove(s3.ledger_key(HOUR, "v0002.json"))
    counts, lines = send(["a", "b", "c", "d"])
    assert (counts["versions"], counts["events_new"]) == (1, 1)
    assert [line.version for line in lines] == [1, 3, 4]


def test_the_marker_of_a_deleted_version_is_none_of_a_later_one(bucket, ledger, send):
    """Else its events would never be loaded, and the hour would look done."""
    for number, uuids in enumerate((["a"], ["a", "b"]), start=1):
        send(uuids)
        ledger.mark_loaded(HOUR, number, number)
    bucket.remove(s3.ledger_key(HOUR, "v0002.json"))
    _, lines = send(["a", "b", "c"])
    assert [(line.version, sum(part.rows for part in line.parts)) for line in lines] == [(3, 3)]


def test_a_number_that_is_taken_and_not_there_is_an_error_and_no_endless_loop(bucket, ledger, send, no_waiting):
    taken = ("412 Precondition Failed", "PreconditionFailed")
    bucket.fault = lambda environ: taken if environ["PATH_INFO"].endswith("v0001.json") else None
    _, (line,) = send(["a"])
    assert "is taken and not there" in line.error


def test_a_404_after_data_is_told_and_takes_nothing_back(ledger, send, caplog):
    send(["a", "b"])
    ledger.mark_loaded(HOUR, 1, 2)
    send([])
    assert "2 gone from Amplitude" in caplog.text
    assert ledger.read(HOUR, 2).union_uuids == 2


def test_nothing_to_do_is_an_empty_file(bucket, tmp_path):
    files = s3.Export(tmp_path / "none").write()
    files["parts"].write_bytes(b"")  # extract leaves no member behind
    assert set(upload.run(**files).values()) == {0}
    assert files["output"].read_bytes() == b""


def test_an_hour_that_fails_is_a_line_and_the_others_go_through(bucket, ledger, tmp_path, no_waiting):
    export = s3.Export(tmp_path / "a")
    for hour in ("2026-11-24T01", "2026-11-24T02", "2026-11-24T03"):
        export.add(hour, [f"{hour}-uuid"])
    files = export.write()
    denied = "/hour=02/"
    bucket.fault = lambda environ: (
        ("503 Service Unavailable", "InternalError")
        if denied in environ["PATH_INFO"] and environ["REQUEST_METHOD"] == "PUT"
        else None
    )
    counts = upload.run(**files)
    assert (counts["hours"], counts["versions"], counts["hours_failed"]) == (2, 2, 1)
    lines = {line.hour: line for line in uploaded(files)}
    assert "InternalError" in lines["2026-11-24T02"].error
    assert lines["2026-11-24T02"].parts == []
    assert sorted(ledger.entries()) == ["2026-11-24T01", "2026-11-24T03"]


def test_a_configuration_error_stops_the_run_at_once(bucket, tmp_path):
    export = s3.Export(tmp_path / "a")
    for day in range(1, 29):
        export.add(f"2026-11-{day:02}T01", [f"{day}"])
    bucket.fault = lambda environ: ("403 Forbidden", "AccessDenied")
    with pytest.raises(ConfigurationError, match="access denied"):
        upload.run(**export.write())
    assert len(bucket.requests) < 28  # hours that were not begun are not tried


def test_a_tar_that_is_cut_or_lacks_a_part_is_damage(bucket, ledger, tmp_path):
    export = s3.Export(tmp_path / "a").add(HOUR, ["a"])
    export.members = {}
    counts = upload.run(**export.write())
    assert counts["hours_failed"] == 1
    assert bucket.objects() == {}
    files = s3.Export(tmp_path / "b").add(HOUR, ["a"]).write()
    files["parts"].write_bytes(b"no tar")
    with pytest.raises(DamagedError, match="Replay the run from the start"):
        upload.run(**files)


@pytest.mark.parametrize(
    "content",
    [b"not gzip", gzip.compress(b'{"uuid":"a"}\n')[:-9], gzip.compress(b"person@x\n")],
    ids=["not gzip", "cut", "no event"],
)
def test_a_damaged_part_in_the_bucket_fails_its_hour_only(bucket, ledger, tmp_path, content):
    upload.run(**s3.Export(tmp_path / "a").add(HOUR, ["a"]).write())
    (key,) = bucket.objects(PARTS)
    bucket.put(key, content)
    files = s3.Export(tmp_path / "b").add(HOUR, ["a", "b"]).add("2026-11-24T04", ["c"]).write()
    counts = upload.run(**files)
    assert (counts["hours_failed"], counts["versions"]) == (1, 1)
    (error,) = [line.error for line in uploaded(files) if line.error]
    assert "a part of this hour is damaged" in error
    assert "person@x" not in error


def test_other_bytes_in_the_tar_than_extracted_never_reach_the_bucket(bucket, ledger, tmp_path):
    export = s3.Export(tmp_path / "a").add(HOUR, ["a"])
    export.members = {name: gzip.compress(b'{"uuid":"x"}\n') for name in export.members}
    files = export.write()
    assert upload.run(**files)["hours_failed"] == 1
    assert "not what was extracted" in uploaded(files)[0].error
    assert bucket.objects() == {}


def test_b33_two_runs_at_once_on_one_hour_end_as_one(bucket, ledger, tmp_path):
    for number in range(4):
        hour = f"2026-11-{number + 1:02}T05"
        exports = [
            s3.Export(tmp_path / f"{number}a").add(hour, ["a", "b"], after=timedelta(hours=3)).write(),
            s3.Export(tmp_path / f"{number}b").add(hour, ["b", "c"], after=timedelta(hours=3, minutes=1)).write(),
            s3.Export(tmp_path / f"{number}c").add(hour, ["b", "c"], after=timedelta(hours=3, minutes=1)).write(),
        ]
        runs = [threading.Thread(target=upload.run, kwargs=files) for files in exports]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        entry = ledger.entry(hour)
        versions = list(ledger.versions(entry))
        assert (versions[-1].union_uuids, versions[-1].union_digest) == (3, s3.digest("abc"))
        assert entry.version == 2  # the two equal exports are one version
        for version in versions:
            assert all(part.key in bucket.objects() for part in version.manifest.parts)
    assert {len(contents) for contents in bucket.contents.values()} == {1}


@pytest.mark.parametrize(("write", "answered"), [(1, True), (3, False), (4, True), (6, False)])
def test_killed_at_any_write_the_next_run_ends_the_same(bucket, ledger, tmp_path, write, answered):
    """SIGKILL of the real process, at the write or just after it; six writes are all that this export takes."""
    export = s3.Export(tmp_path / "a").add(HOUR, [["a"], ["b"]], after=timedelta(days=1)).add("2026-11-24T04", [])
    files = export.write()
    command = [sys.executable, "-m", "scripts.upload"]
    command += [word for name, path in files.items() for word in (f"--{name}", str(path))]
    process = subprocess.Popen(command, cwd=ROOT)
    writes = iter(range(1, 100))

    def kill(environ):
        if environ["REQUEST_METHOD"] != "PUT" or next(writes) != write:
            return None
        process.kill()
        process.wait()
        return ("after", "200 OK", "") if answered else ("500 Internal Server Error", "")

    bucket.fault = kill
    process.wait(30)
    assert process.returncode == -signal.SIGKILL
    bucket.fault = lambda environ: None
    left = bucket.objects()
    upload.run(**files)
    after = bucket.objects()
    assert left.items() <= after.items()
    assert {hour: (entry.version, entry.unloaded) for hour, entry in ledger.entries().items()} == {
        HOUR: (1, [1]),
        "2026-11-24T04": (1, []),
    }
    assert ledger.entry(HOUR).rechecked == {1}
    assert ledger.read(HOUR, 1).union_digest == s3.digest("ab")


def test_parts_come_first_then_the_version_then_its_markers(bucket, tmp_path):
    upload.run(**s3.Export(tmp_path / "a").add(HOUR, [["a"], ["b"]], after=timedelta(days=7)).write())
    writes = [line.rsplit("/", 1)[1] for line in bucket.requests if line.startswith("PUT")]
    assert [name[-8:] for name in writes[:2]] == [".json.gz"] * 2
    assert writes[2:] == ["v0001.json", "rechecked_7d.json"]


def test_a_version_that_another_run_takes_first_is_compared_with(bucket, ledger, send):
    """The other run publishes between our look at the ledger and our write."""
    other = {}

    def race(environ):
        if environ["REQUEST_METHOD"] == "PUT" and environ["PATH_INFO"].endswith("v0001.json") and not other:
            other["run"] = True
            send(["a", "b"])

    bucket.fault = race
    counts, _ = send(["a", "c"])
    assert (counts["versions"], counts["events_new"], counts["events_gone"]) == (1, 1, 1)
    assert ledger.entry(HOUR).version == 2
    assert ledger.read(HOUR, 2).union_digest == s3.digest("abc")


def test_a_big_part_is_streamed(bucket, tmp_path):
    uuids = [str(random.Random(1).getrandbits(64)) * 60 + str(n) for n in range(30_000)]
    export = s3.Export(tmp_path / "big").add(HOUR, uuids, level=0)
    (content,) = export.members.values()
    assert len(content) > 32 * 1024 * 1024
    assert upload.run(**export.write())["bytes"] == len(content)
    assert list(bucket.objects(PARTS).values()) == [content]


@pytest.mark.parametrize(("reason", "listed"), [("asked", []), ("forced", [1]), ("restore", [1])])
def test_whoever_exports_a_loaded_hour_again_has_its_load_checked_again(send, ledger, reason, listed):
    """The landing table may be lost since; the ledger's markers stay. What a quarantine replaced stays out."""
    send([["a"]])
    ledger.mark_loaded(HOUR, 1, 1)
    _, lines = send([["a"]], reason=reason)
    assert [line.version for line in lines] == listed
    send([["a", "b"]])
    ledger.mark_replaced(HOUR, 2, by=1)
    _, lines = send([["a", "b"]], reason=reason)
    assert [line.version for line in lines] == listed
