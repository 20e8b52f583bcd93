"""The verdict asks the ledger: a run is red while one of its hours is open or uploaded, and says why."""

import json

import pytest

from scripts import load, verdict
from scripts.pipeline import settings
from scripts.pipeline.errors import RetriableError
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.records import ManifestLine, PlanLine, UploadedLine, UploadedPart, write_lines
from tests import s3

HOURS = [f"2026-11-25T{hour:02}" for hour in range(4)]


@pytest.fixture
def run(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("PIPELINE_NOW", "2026-11-26T03:30:00Z")

    def run_it(results=(), uploads=(), *, action="export", reason="asked", alerts="", **told):
        files = {name: tmp_path / f"{name}.jsonl" for name in ("plan", "manifest", "uploaded")}
        write_lines(files["plan"], [PlanLine(hour=hour, action=action, reason=reason) for hour in HOURS])
        write_lines(files["manifest"], results)
        write_lines(files["uploaded"], uploads)
        return verdict.run(**files, alerts=alerts, **told)

    return run_it


def finish(bucket, *hours, how="loaded"):
    for hour in hours:
        bucket.put(s3.ledger_key(hour, "v0001.json"), b"{}")
        if how != "uploaded":
            bucket.put(s3.ledger_key(hour, f"v0001.{how}.json"), b"{}")


def result(hour, outcome, error=""):
    return ManifestLine(hour=hour, action="export", reason="asked", version=0, outcome=outcome, error=error)


def test_a_finished_run_is_green(bucket, run):
    finish(bucket, *HOURS[:3])
    finish(bucket, HOURS[3], how="empty")
    assert run() == {
        "hours_loaded": 3,
        "hours_empty": 1,
        "hours_uploaded": 0,
        "hours_open": 0,
        "hours_young": 0,
        "over": "",
    }


def test_a_good_run_names_the_alerts_of_earlier_runs_that_it_mended(bucket, run):
    """The next tick closes a bad day's gap and nobody replays that day: its alert would stay open for ever."""
    finish(bucket, *HOURS)
    finish(bucket, *(f"2026-11-{day}T{hour:02}" for day in (22, 23) for hour in range(24)))
    finish(bucket, "2026-11-24T00", how="uploaded")
    intervals = ("2026-11-23", "2026-11-22..2026-11-23", "2026-11-23..2026-11-24", "on schedule", "by hand", "warning")
    keys = [*(f"amplitude_daily {interval}" for interval in intervals), "pipeline_health tasks", "amplitude_daily_2 x"]
    alerts = json.dumps(dict.fromkeys(keys, "2026-11-24T03:40:00Z"))
    assert run(alerts=alerts)["over"].split("; ") == [keys[0], keys[1], keys[3], keys[4]]
    assert run(alerts="{")["over"] == ""


def test_unfinished_hours_are_named_with_their_reasons(bucket, run):
    finish(bucket, HOURS[0])
    finish(bucket, HOURS[1], how="uploaded")
    with pytest.raises(RetriableError) as caught:
        run(
            [result(HOURS[2], "error", "Amplitude answered 503."), result(HOURS[3], "exported")],
            [UploadedLine(hour=HOURS[3], version=0, parts=[], error="the bucket was slow.")],
        )
    text = str(caught.value)
    assert text.startswith("3 of 4 hours are not finished:")
    for words in (
        "2026-11-25T01 uploaded: see the log of load",
        "2026-11-25T02 open: Amplitude answered 503.",
        "2026-11-25T03 open: the bucket was slow.",
        "Replay this run (a restart only asks the ledger again)",
    ):
        assert words in text


def test_a_restart_turns_green_once_another_run_has_mended_the_hours(bucket, run):
    failed = [result(hour, "error", "503") for hour in HOURS]
    with pytest.raises(RetriableError):
        run(failed)
    finish(bucket, *HOURS)
    assert run(failed)["hours_loaded"] == 4


def test_an_hour_that_amplitude_calls_too_young_is_no_failure(bucket, run):
    finish(bucket, *HOURS[:3])
    assert run([result(HOURS[3], "young")])["hours_young"] == 1


def test_an_older_version_that_was_never_loaded_keeps_its_hour_unfinished(bucket, run):
    finish(bucket, *HOURS)
    finish(bucket, HOURS[0])
    bucket.put(s3.ledger_key(HOURS[0], "v0002.json"), b"{}")
    bucket.put(s3.ledger_key(HOURS[0], "v0002.loaded.json"), b"{}")
    bucket.remove(s3.ledger_key(HOURS[0], "v0001.loaded.json"))
    with pytest.raises(RetriableError, match="2026-11-25T00 uploaded"):
        run()


def test_a_forced_export_that_failed_is_a_failure_although_the_hour_is_loaded(bucket, run):
    finish(bucket, *HOURS)
    with pytest.raises(RetriableError, match="2026-11-25T02 loaded, not exported again: Amplitude answered 500"):
        run([result(HOURS[2], "error", "Amplitude answered 500.")], reason="forced")


def test_a_recheck_that_failed_is_tried_by_the_next_tick_and_no_failure(bucket, run):
    finish(bucket, *HOURS)
    assert run([result(HOURS[2], "error", "503")], action="recheck", reason="re-check after 1 d")["hours_loaded"] == 4


def test_an_outage_is_told_once_for_all_its_hours(bucket, run):
    with pytest.raises(RetriableError) as caught:
        run([result(hour, "error", "Amplitude answered 503.") for hour in HOURS])
    first, last = HOURS[0], HOURS[-1]
    assert f"\n  {first}..{last} (4 hours) open: Amplitude answered 503.\n" in str(caught.value)
    assert str(caught.value).count("503") == 1


def test_a_long_list_is_cut(bucket, monkeypatch, tmp_path):
    plan = tmp_path / "plan.jsonl"
    hours = [f"2026-11-{day:02}T{hour:02}" for day in range(1, 26) for hour in range(24)]
    write_lines(plan, [PlanLine(hour=hour, action="export", reason="asked") for hour in hours])
    manifest = tmp_path / "manifest.jsonl"
    write_lines(manifest, [result(hour, "error", f"reason of {hour}") for hour in hours])
    with pytest.raises(RetriableError, match=r"and 580 more: see report\.md") as caught:
        verdict.run(plan=plan, manifest=manifest)
    assert len(str(caught.value)) < 4000


def test_nothing_planned_is_green_without_asking(bucket, tmp_path):
    plan = tmp_path / "plan.jsonl"
    plan.write_bytes(b"")
    assert set(verdict.run(plan=plan).values()) == {0, ""}
    assert bucket.requests == []
    assert verdict.main(["--plan", str(plan)]) == 0


def test_an_hour_that_was_loaded_once_and_lacks_rows_now_makes_a_forced_run_red(bucket, run):
    finish(bucket, *HOURS)
    assert run(reason="forced")["hours_loaded"] == 4
    with pytest.raises(
        RetriableError, match=r"^2 of 4 hours are not finished:\n  2 that were loaded once lack rows now"
    ):
        run(reason="forced", load_errors=2)


class Lacking:
    """A part of two rows that the landing table has one of."""

    complete, problem = False, "1 of 2 rows"


def test_only_hours_that_the_ledger_calls_loaded_are_told_apart_from_it(bucket, run):
    """Else a restart of `verdict` stays red after another run has loaded what its own `load` could not."""
    ledger = HourLedger(settings.load(settings.BucketSettings))
    finish(bucket, HOURS[0], how="uploaded")
    finish(bucket, HOURS[1])
    part = UploadedPart(key="k", rows=2, uploaded_at="2026-11-25T04:00:00Z")
    lines = [UploadedLine(hour=hour, version=number, parts=[part]) for hour in HOURS[:2] for number in (1, 2)]
    assert load.mark(ledger, lines, {"k": Lacking()}) == (set(HOURS[:2]), {HOURS[1]})
