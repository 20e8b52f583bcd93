"""The ledger's states by the names of its objects, and the calendar that a person sees."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from msgspec import structs

from scripts import ledger as command
from scripts import upload
from scripts.pipeline.errors import DamagedError
from scripts.pipeline.hour_ledger import HourEntry, HourLedger
from scripts.pipeline.records import BadLine
from scripts.pipeline.settings import BucketSettings, load
from tests import s3

HOUR = "2026-11-25T03"
NOW = datetime(2026, 11, 26, 3, 30, tzinfo=UTC)


@pytest.fixture
def ledger(bucket, monkeypatch):
    monkeypatch.setenv("PIPELINE_NOW", NOW.isoformat())
    return HourLedger(load(BucketSettings))


@pytest.mark.parametrize(
    ("names", "state", "unloaded"),
    [
        ([], "open", []),
        (["rechecked_1d.json"], "open", []),
        (["v0001.json"], "uploaded", [1]),
        (["v0001.json", "v0001.loaded.json"], "loaded", []),
        (["v0001.json", "v0001.empty.json"], "empty", []),
        (["v0001.json", "v0001.loaded.json", "v0002.json"], "uploaded", [2]),
        (["v0001.json", "v0002.json", "v0002.loaded.json"], "uploaded", [1]),
        (["v0001.json", "v0001.empty.json", "v0002.json", "v0002.loaded.json"], "loaded", []),
        (["v0001.json", "v0001.loaded.json", "v0002.json", "v0002.empty.json"], "loaded", []),
        (["v0001.json", "v0001.loaded.json", "v0003.json"], "uploaded", [3]),
        (["v0001.loaded.json"], "open", []),
    ],
)
def test_the_state_of_an_hour_is_told_by_names_alone(bucket, ledger, names, state, unloaded):
    for name in names:
        bucket.put(s3.ledger_key(HOUR, name), b"never read")
    entry = ledger.entry(HOUR)
    assert (entry.state(NOW, 2), entry.unloaded) == (state, unloaded)


def test_objects_below_days_that_no_calendar_has_are_passed_over(bucket, ledger):
    for hour in (HOUR, "2026-02-30T03", "2026-11-24T77"):
        bucket.put(s3.ledger_key(hour, "v0001.json"), b"never read")
    assert list(ledger.entries()) == [HOUR]


@pytest.mark.parametrize(("hour", "state"), [("2026-11-26T00", "open"), ("2026-11-26T01", "young")])
def test_an_hour_inside_the_export_latency_is_young(hour, state):
    assert HourEntry(hour).state(NOW, 2) == state


def test_b35_a_range_of_63_days_is_listed_over_all_pages_and_no_further(bucket, ledger):
    first = datetime(2026, 9, 1, tzinfo=UTC)
    for number in range(66 * 24):
        bucket.put(s3.ledger_key((first + timedelta(hours=number)).strftime("%Y-%m-%dT%H"), "v0001.json"), b"{}")
    entries = ledger.entries(date(2026, 9, 2), date(2026, 11, 3))
    assert len(entries) == 63 * 24
    assert (min(entries), max(entries)) == ("2026-09-02T00", "2026-11-03T23")
    assert list(entries) == sorted(entries)
    assert len([line for line in bucket.requests if line.startswith("GET")]) == 2


def test_other_objects_and_other_projects_are_no_hours(bucket, ledger):
    for name in ("notes.txt", "v1.json", "v0001.json.bak", "v0001.deleted.json"):
        bucket.put(s3.ledger_key(HOUR, name), b"")
    bucket.put(s3.ledger_key(HOUR, "v0001.json").replace(str(s3.PROJECT), "5"), b"")
    bucket.put(s3.ledger_key(HOUR, "v0000.json"), b"")
    bucket.put(s3.ledger_key(HOUR, "v0001.json").replace("/date=", "/moved away/date="), b"")
    bucket.put(s3.ledger_key(HOUR, "copy/date=2026-11-25/hour=03/v0001.json"), b"")
    assert ledger.entry(HOUR) == HourEntry(HOUR)
    assert ledger.entries() == {}


def test_a_damaged_version_names_its_key_and_no_content(bucket, ledger):
    bucket.put(s3.ledger_key(HOUR, "v0001.json"), b'{"hour": "person@example.com"')
    with pytest.raises(DamagedError, match=r"hour=03/v0001\.json is not a version") as caught:
        ledger.read(HOUR, 1)
    assert "person@example.com" not in str(caught.value)


def test_a_marker_stays_as_it_was_first_written(bucket, ledger):
    ledger.mark_loaded(HOUR, 1, 7)
    first = bucket.objects()
    ledger.mark_loaded(HOUR, 1, 7)
    assert bucket.objects() == first
    (content,) = first.values()
    assert json.loads(content)["rows"] == 7


@pytest.fixture
def history(bucket, ledger, tmp_path):
    """25 November: hour 03 loaded with two late events, 04 empty, 05 uploaded; the others open or young."""
    uploads = s3.Export(tmp_path / "a").add(HOUR, ["a", "b"]).add("2026-11-25T04", []).add("2026-11-25T05", ["x"])
    upload.run(**uploads.write())
    later = s3.Export(tmp_path / "b").add(HOUR, ["a", "b", "c", "d"], action="recheck", version=1)
    upload.run(**later.write())
    ledger.mark_loaded(HOUR, 1, 2)
    ledger.mark_loaded(HOUR, 2, 4)


def test_the_calendar_shows_a_letter_an_hour_and_counts_a_day(history, capsys):
    assert command.main(["--from", "2026-11-25", "--to", "2026-11-26"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["2026-11-25", "...Leu..................", "5", "2", "0", "4"]
    assert lines[2].split()[:2] == ["2026-11-26", ".yyyyyyyyyyyyyyyyyyyyyyy"]
    assert lines[3] == ". open 22, y young 23, e empty 1, u uploaded 1, L loaded 1"


def test_the_calendar_as_json_has_an_object_an_hour(history, capsys):
    assert command.main(["--from", "2026-11-25", "--to", "2026-11-25", "--json"]) == 0
    hours = json.loads(capsys.readouterr().out)
    assert len(hours) == 24
    assert hours[3] == {
        "hour": HOUR, "state": "loaded", "versions": 2, "events": 4, "late": 2, "quarantined": 0, "refused": [],
        "rechecked_days": [], "problem": "",
    }  # fmt: skip
    assert next(hour["hour"] for hour in hours if hour["state"] == "open") == "2026-11-25T00"


def test_a_damaged_version_does_not_hide_the_other_hours(bucket, history, capsys):
    bucket.put(s3.ledger_key(HOUR, "v0001.json"), b"{half")
    assert command.main(["--from", "2026-11-25", "--to", "2026-11-25"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["2026-11-25", "...Leu..................", "1", "0", "0", "4"]
    assert lines[3].startswith(f"{HOUR}: ")
    assert "v0001.json is not a version" in lines[3]
    assert "Delete all objects" in lines[3]


def test_a_damaged_first_day_says_what_to_do(bucket, ledger):
    for content in (b"{half", b"{}", b"[]", b'{"first_day":"soon"}'):
        bucket.put(f"{s3.PREFIX}-ledger/project={s3.PROJECT}/first_day.json", content)
        with pytest.raises(DamagedError, match=r"first_day\.json is damaged.*AMP_START_DATE"):
            ledger.first_day()


def test_a_reversed_range_is_refused(ledger, caplog):
    assert command.main(["--from", "2026-11-25", "--to", "2026-11-24"]) == 7
    assert "Swap them" in caplog.text


def test_the_calendar_names_lines_in_quarantine_by_reason_and_never_what_they_hold(bucket, ledger, tmp_path, capsys):
    export = s3.Export(tmp_path).add(HOUR, ["a"])
    bad = [BadLine(line=line, reason="no text uuid") for line in range(2, 14)]
    bad.append(BadLine(line=14, reason="a NUL in it"))
    (line,) = export.lines
    part = structs.replace(line.manifest.parts[0], bad_lines=bad, quarantine_key="q/part.json.gz")
    export.lines = [structs.replace(line, manifest=structs.replace(line.manifest, parts=[part]))]
    export.members["quarantine/part.json.gz"] = b"original"
    upload.run(**export.write())
    day = HOUR[:10]
    assert command.main(["--from", day, "--to", day]) == 0
    counts, _, named = capsys.readouterr().out.splitlines()[1:]
    assert counts.split()[4] == "13"
    assert named == (
        f"{HOUR}: q/part.json.gz: no text uuid: line 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …; a NUL in it: line 14"
    )


def test_a_day_that_is_none_is_refused_with_its_form(capsys):
    with pytest.raises(SystemExit):
        command.main(["--from", "yesterday"])
    assert "'yesterday' is not a date: write YYYY-MM-DD" in capsys.readouterr().err
