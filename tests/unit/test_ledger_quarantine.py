"""A line that Snowflake refuses is taken out by hand, and stays out."""

import gzip
import json

import pytest

from scripts import ledger as command
from scripts import upload
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.records import UploadedLine, read_lines
from scripts.pipeline.settings import BucketSettings, load
from tests import s3

HOUR = "2026-11-24T03"
PARTS = s3.PREFIX + "/"


@pytest.fixture
def ledger(bucket):
    return HourLedger(load(BucketSettings))


@pytest.fixture
def send(bucket, tmp_path):
    runs = iter(range(100))

    def send_hour(*uuids):
        files = s3.Export(tmp_path / f"run{next(runs)}").add(HOUR, list(uuids)).write()
        counts = upload.run(**files)
        return counts, list(read_lines(files["output"], UploadedLine))

    return send_hour


def uuids_of(bucket, parts):
    return [
        json.loads(line)["uuid"] for part in parts for line in gzip.decompress(bucket.objects()[part.key]).splitlines()
    ]


def test_the_good_lines_of_a_refused_part_go_on_in_a_new_version(bucket, ledger, send):
    send(["a", "bad", "c"], ["d"])
    refused, untouched = ledger.read(HOUR, 1).manifest.parts
    original = bucket.objects()[refused.key]
    assert command.main(["quarantine", refused.key.rsplit("/", 1)[-1], "--line", "2"]) == 0
    version = ledger.read(HOUR, 2)
    assert version.replaces == [1]
    assert uuids_of(bucket, version.manifest.parts) == ["a", "c", "d"]
    assert [part.rows for part in version.manifest.parts] == [2, 1]
    assert version.manifest.parts[1].key == untouched.key
    (line,) = version.manifest.parts[0].bad_lines
    assert (line.line, line.reason) == (2, "taken out by hand")
    assert bucket.objects()[version.manifest.parts[0].quarantine_key] == original
    assert (version.union_uuids, version.union_digest) == (3, s3.digest("acd"))  # SILVER never gets the bad one
    assert (version.manifest.uuids, version.manifest.digest) == (3, s3.digest("acd"))
    assert (version.new, version.gone) == (0, 0)
    assert ledger.entry(HOUR).unloaded == [2]


def test_a_later_export_leaves_the_line_out_too(bucket, ledger, send):
    send(["a", "bad"])
    command.main(["quarantine", ledger.read(HOUR, 1).manifest.parts[0].key, "--line", "2"])
    counts, lines = send(["bad"], ["a"])
    assert (counts["exports_unchanged"], [line.version for line in lines]) == (1, [2])
    counts, lines = send(["bad", "late"], ["a"])
    version = ledger.read(HOUR, 3)
    assert (counts["events_new"], version.gone) == (1, 0)
    assert sorted(uuids_of(bucket, version.manifest.parts)) == ["a", "late"]
    assert version.union_digest == s3.digest(["a", "late"])
    for part in version.manifest.parts:
        assert "bad" not in uuids_of(bucket, [part])


def test_a_second_line_of_the_same_part_keeps_the_original_numbers(bucket, ledger, send):
    send(["a", "bad1", "c", "bad2", "e"])
    command.main(["quarantine", ledger.read(HOUR, 1).manifest.parts[0].key, "--line", "2"])
    cleaned = ledger.read(HOUR, 2).manifest.parts[0]
    assert command.main(["quarantine", cleaned.key, "--line", "3"]) == 0  # the third of what is left
    version = ledger.read(HOUR, 3)
    (part,) = version.manifest.parts
    assert [bad.line for bad in part.bad_lines] == [2, 4]
    assert gzip.decompress(bucket.objects()[part.quarantine_key]).count(b"\n") == 5
    assert uuids_of(bucket, [part]) == ["a", "c", "e"]
    assert version.union_digest == s3.digest("ace")
    assert ledger.entry(HOUR).unloaded == [3]


def test_a_part_of_bad_lines_only_leaves_the_hour_done(bucket, ledger, send, tmp_path):
    send(["bad1", "bad2"])
    key = ledger.read(HOUR, 1).manifest.parts[0].key
    assert command.main(["quarantine", key, "--line", "1", "--line", "2"]) == 0
    (part,) = ledger.read(HOUR, 2).manifest.parts
    assert (part.key, part.rows) == ("", 0)
    upload.run(**s3.Export(tmp_path / "load").line(HOUR, "load", action="load").write())
    assert ledger.entry(HOUR).unloaded == []


def test_events_of_an_older_version_that_never_loaded_are_not_lost(bucket, ledger, send):
    send(["bad", "only here"])
    send(["bad", "c"])
    command.main(["quarantine", ledger.read(HOUR, 2).manifest.parts[0].key, "--line", "1"])
    version = ledger.read(HOUR, 3)
    assert version.replaces == [1, 2]
    assert sorted(uuids_of(bucket, version.manifest.parts)) == ["c", "only here"]
    assert version.union_digest == s3.digest(["c", "only here"])


def test_what_another_version_loaded_stays_in_the_union(bucket, ledger, send):
    send(["a", "b"])
    ledger.mark_loaded(HOUR, 1, 2)
    send(["a", "b", "c"])  # and this time Snowflake refuses the line of b
    command.main(["quarantine", ledger.read(HOUR, 2).manifest.parts[0].key, "--line", "2"])
    version = ledger.read(HOUR, 3)
    assert version.replaces == [2]
    assert version.union_digest == s3.digest("abc")


def test_killed_before_the_markers_it_ends_when_given_again(bucket, ledger, send):
    send(["a", "bad"])
    key = ledger.read(HOUR, 1).manifest.parts[0].key
    command.main(["quarantine", key, "--line", "2"])
    bucket.remove(s3.ledger_key(HOUR, "v0001.loaded.json"))
    assert command.main(["quarantine", key, "--line", "2"]) == 0
    entry = ledger.entry(HOUR)
    assert (entry.version, entry.unloaded) == (2, [2])


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("notes.txt", "1", "not the name of a part"),
        (f"{s3.PROJECT}_2026-11-24_3_0.000000000000.json.gz", "1", "Nothing was changed"),
        (f"{s3.PROJECT}_2026-11-24_4_0.000000000000.json.gz", "1", "Nothing was changed"),
        (None, "9", "no line 9"),
    ],
)
def test_what_is_not_there_is_refused(bucket, ledger, send, caplog, name, line, words):
    send(["a", "b"])
    before = bucket.objects()
    assert command.main(["quarantine", name or ledger.read(HOUR, 1).manifest.parts[0].key, "--line", line]) == 7
    assert words in caplog.text
    assert bucket.objects() == before


def test_a_loaded_part_is_left_alone(bucket, ledger, send, caplog):
    send(["a"])
    ledger.mark_loaded(HOUR, 1, 1)
    assert command.main(["quarantine", ledger.read(HOUR, 1).manifest.parts[0].key, "--line", "1"]) == 7
    assert "waits for load" in caplog.text
