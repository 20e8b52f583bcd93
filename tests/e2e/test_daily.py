"""`amplitude_daily` for a generated day: one set of uuids at every hop, and the same again after a second run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.pipeline import Pipeline, Run

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
DAY = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()
LANDING = "raw.amplitude_events_raw_python"


@pytest.fixture(scope="module")
def day(pipeline: Pipeline) -> Run:
    return pipeline.run("amplitude_daily", start_date=DAY)


def test_a_day_is_green_and_every_hop_holds_the_same_uuids(pipeline: Pipeline, day: Run) -> None:
    assert day.state == "SUCCESS", day.log[-60:]
    served = set().union(*pipeline.truth(DAY).values())
    assert len(served) > 100
    assert {event["uuid"] for event in pipeline.events_in_s3(DAY)} == served
    assert set(pipeline.uuids(LANDING, "json_data:uuid::varchar")) == served
    kept = pipeline.uuids("intermediate.int_amplitude__events")
    assert sorted(kept) == sorted(served)  # each once


def test_the_ledger_says_loaded_or_empty_for_every_hour(pipeline: Pipeline, day: Run) -> None:
    prefix = f"python-import-ledger/project={pipeline.settings['AMP_PROJECT_ID']}/date={DAY}/"
    names = [key.removeprefix(prefix) for key in pipeline.objects(prefix)]
    served = {hour[-2:] for hour in pipeline.truth(DAY)}
    for hour in (f"{number:02d}" for number in range(24)):
        marker = "loaded" if hour in served else "empty"
        assert f"hour={hour}/v0001.json" in names
        assert f"hour={hour}/v0001.{marker}.json" in names


def test_a_second_run_asks_for_nothing_and_changes_nothing(pipeline: Pipeline, day: Run) -> None:
    def state() -> tuple[object, ...]:
        return (
            pipeline.sql(f"select count(*), count(distinct source_file, source_row) from {LANDING}"),
            sorted(pipeline.uuids("intermediate.int_amplitude__events")),
            pipeline.sql("select count(*) from marts.journey_analysis"),
            sorted(pipeline.objects("")),
        )

    before, asked = state(), len(pipeline.exports())
    again = pipeline.run("amplitude_daily", start_date=DAY)
    assert again.state == "SUCCESS", again.log[-60:]
    assert state() == before
    assert len(pipeline.exports()) == asked


def test_the_run_is_labelled_and_its_outputs_are_small_files(pipeline: Pipeline, day: Run) -> None:
    assert day.outputs["interval"] == DAY
    assert day.outputs["hours"] == 24
    assert day.outputs["events"] == sum(len(uuids) for uuids in pipeline.truth(DAY).values())
    assert day.outputs["manifest"].startswith("kestra://")
    assert day.outputs["report"].startswith("kestra://")
    assert all(len(str(task.get("outputs") or "")) < 10_000 for task in day.tasks.values())


def test_no_secret_reaches_a_log(pipeline: Pipeline, day: Run) -> None:
    secrets = [pipeline.settings[name] for name in ("AMP_SECRET_KEY",)]
    assert not [line for line in day.log for secret in secrets if secret in line]


def test_a_refused_key_fails_the_run_and_says_what_to_do(pipeline: Pipeline, day: Run) -> None:
    run = pipeline.run("amplitude_daily", start_date=DAY, end_date="2020-01-01")
    assert run.state == "FAILED"
    assert run.tasks["plan"]["state"] == "FAILED"
    assert "verdict" not in run.tasks
    assert any("2020-01-01" in line for line in run.log)
