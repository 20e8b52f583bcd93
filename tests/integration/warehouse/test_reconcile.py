"""Every hop compared on the real servers, each broken by hand once, and mended."""

from __future__ import annotations

import json
import shutil

import pytest

from scripts import load, reconcile, upload
from scripts.pipeline.errors import PermanentError
from tests import s3
from tests.exports import DAY, PROJECT, Known, bench, event

LANDING = "RAW.AMPLITUDE_EVENTS_RAW_PYTHON"
HOURS = (3, 4)


class Stack:
    """Two hours of events, extracted, uploaded, loaded, in SILVER and in a table that stands for dbt's."""

    def __init__(self, server, bucket, database, folder):
        self.server, self.bucket, self.database, self.folder = server, bucket, database, folder

    def script(self, text: str, role: str = "ACCOUNTADMIN") -> None:
        self.server.script(self.database, text, role=role)

    def silver(self) -> None:
        self.script("call silver.amplitude_base_update()")

    def dbt(self) -> None:
        events = f"select distinct json_data:uuid::varchar as uuid from {LANDING}"
        self.script(f"create or replace table intermediate.int_amplitude__events as {events}", "AMPLITUDE_TRANSFORMER")

    def compare(self, fix: str = "false") -> dict:
        return reconcile.run(start_date=DAY, end_date="", fix=fix, output=self.folder / "reconciliation.md")

    def prove(self, fix: str = "false") -> None:
        reconcile.prove(start_date=DAY, end_date="", fix=fix, output=self.folder / "reconciliation.md")

    def text(self) -> str:
        return (self.folder / "reconciliation.md").read_text()


@pytest.fixture(scope="module")
def stack(deployed, s3_server, snowflake_server, tmp_path_factory):
    """Each test breaks something, and leaves it whole."""
    folder = tmp_path_factory.mktemp("reconcile")
    source = Known(
        {f"{DAY}T{hour:02}": [[event(f"reconcile-{hour}-{n}", f"{DAY}T{hour:02}") for n in range(4)]] for hour in HOURS}
    )
    s3_server.clear()
    with pytest.MonkeyPatch.context() as patch, bench(source, folder, patch) as day:
        settings = s3.settings_for(s3_server, DATA_DIR=str(folder / "data")) | snowflake_server.settings(deployed)
        for name, value in settings.items():
            patch.setenv(name, value)
        stack = Stack(snowflake_server, s3_server, deployed, folder)
        stack.script(
            f"""alter pipe RAW.AMPLITUDE_EVENTS_PIPE set pipe_execution_paused = true;
delete from {LANDING};
delete from SILVER.AMPLITUDE_EVENTS_BASE1;
delete from SILVER.AMPLITUDE_EVENTS_BASE2;
delete from OPS.RECONCILIATION"""
        )
        work = day.run(range(24)).folder
        upload.run(manifest=work / "manifest.jsonl", parts=work / "parts.tar", output=folder / "uploaded.jsonl")
        patch.setenv("SNOWFLAKE_ROLE", "AMPLITUDE_LOADER")
        load.run(uploaded=folder / "uploaded.jsonl")
        patch.setenv("SILVER_TASKS", "true")
        patch.setattr(reconcile, "SILVER_SECONDS", 0)
        stack.silver()
        stack.dbt()
        yield stack


def part(stack: Stack) -> str:
    return min(stack.bucket.objects(f"python-import/project={PROJECT}/"))


def test_nothing_differs_after_a_good_day_and_the_counts_stand_in_ops(stack):
    assert stack.compare() == {
        "differences": 0,
        "days": "",
        "over": "",
        "export_from": "",
        "export_to": "",
        "build": 0,
        "full_refresh": 0,
    }
    assert f"| {DAY} | 8 | 8 | 8 | 8 | 8 |  |" in stack.text()
    rows = stack.server.rows(
        stack.database,
        "select state, count(*), sum(uuids_ledger), sum(uuids_backup), sum(uuids_raw), sum(uuids_silver),"
        " sum(uuids_dbt), count(problem) from OPS.RECONCILIATION group by state order by state",
    )
    assert rows == [("empty", 22, 0, 0, 0, 0, 0, 0), ("loaded", 2, 8, 8, 8, 8, 8, 0)]


def test_landing_rows_deleted_by_hand_are_copied_past_the_load_memory(stack):
    stack.script(f"delete from {LANDING} where source_file = '{part(stack)}' and source_row <= 3")
    result = stack.compare(fix="true")
    # What dbt has more than RAW is no reason to build all of it.
    assert (result["differences"], result["build"], result["full_refresh"]) == (1, 1, 0)
    assert f"1 of 4 rows of {part(stack)}" in stack.text()
    stack.prove()


def test_an_hour_that_the_load_memory_keeps_out_is_copied_past_it_and_marked(stack):
    """`load` cannot: the pipe and COPY remember the file, so its verdict is red until somebody copies it by force."""
    marker = s3.ledger_key(f"{DAY}T03", "v0001.loaded.json")
    stack.bucket.remove(marker)
    stack.script(f"delete from {LANDING} where source_file = '{part(stack)}'")
    assert load.run(uploaded=stack.folder / "uploaded.jsonl")["hours_failed"] == 1
    assert stack.compare(fix="true")["build"] == 1
    assert f"| {DAY}T03 | RAW | it waits for load." in stack.text()
    assert json.loads(stack.bucket.objects(marker)[marker])["rows"] == 4
    stack.prove()


def test_a_lost_object_comes_from_the_backup(stack):
    key = part(stack)
    content = stack.bucket.objects(key)[key]
    stack.bucket.remove(key)
    with pytest.raises(PermanentError, match=f"{DAY}T03 S3: {key} is gone"):
        stack.prove()
    result = stack.compare(fix="true")
    assert (result["differences"], result["export_from"]) == (1, "")
    assert stack.bucket.objects(key) == {key: content}


@pytest.mark.scenario
def test_a_lost_object_without_a_backup_must_be_exported_again(stack):
    key, zips = part(stack), stack.folder / "data/zip"
    content = stack.bucket.objects(key)[key]
    stack.bucket.remove(key)
    zips.rename(zips.with_name("elsewhere"))
    result = stack.compare(fix="true")
    shutil.rmtree(zips)
    zips.with_name("elsewhere").rename(zips)
    stack.bucket.put(key, content)
    assert (result["export_from"], result["export_to"]) == (DAY, DAY)
    assert f"| {DAY} | 8 | – |" in stack.text()


@pytest.mark.scenario
def test_an_object_that_somebody_overwrote_is_named_and_left(stack):
    key = part(stack)
    content = stack.bucket.objects(key)[key]
    stack.bucket.put(key, b"other bytes")
    assert stack.compare(fix="true")["export_from"] == ""
    assert stack.bucket.objects(key) == {key: b"other bytes"}
    assert "has not the size it was put with. | Find who wrote it" in stack.text()
    stack.bucket.put(key, content)


def test_a_missing_silver_row_is_landed_again_and_no_event_is_there_twice(stack):
    stack.script('delete from SILVER.AMPLITUDE_EVENTS_BASE1 where "event_id" is null or "event_id" >= 0')
    stack.compare(fix="true")
    assert f"| {DAY}T03 | SILVER | 0 of 4 uuids" in stack.text()
    stack.silver()
    stack.prove()
    doubles = 'select count(*), count(distinct "uuid") from SILVER.AMPLITUDE_EVENTS_BASE1'
    assert stack.server.rows(stack.database, doubles) == [(8, 8)]


@pytest.mark.scenario
def test_an_event_missing_in_dbt_asks_for_a_full_refresh(stack):
    stack.script("delete from intermediate.int_amplitude__events", "AMPLITUDE_TRANSFORMER")
    result = stack.compare(fix="true")
    assert (result["differences"], result["build"], result["full_refresh"]) == (2, 1, 1)
    stack.dbt()


@pytest.mark.scenario
def test_rows_that_nobody_exported_are_a_difference(stack):
    forged = (
        f"insert into {LANDING} select parse_json('{{\"uuid\": \"forged\"}}'), '{part(stack)}', 9, current_timestamp()"
    )
    stack.script(forged)
    stack.compare()
    assert "5 uuids, the ledger has 4: rows that no version of this hour explains" in stack.text()
    stack.script(f"delete from {LANDING} where source_row = 9")


@pytest.mark.scenario
def test_without_dates_only_days_that_are_ours_are_compared(stack, monkeypatch):
    monkeypatch.setenv("PIPELINE_NOW", f"{DAY[:8]}25T06:00:00Z")
    result = reconcile.run(start_date="", end_date="", fix="false", output=stack.folder / "r.md")
    assert result["differences"] == 0


@pytest.mark.parametrize(("first", "last"), [("", DAY), ("2026-13-01", ""), (DAY, "2020-01-01"), ("2999-01-01", "")])
def test_a_range_that_cannot_be_is_refused(stack, first, last):
    with pytest.raises(PermanentError):
        reconcile.run(start_date=first, end_date=last, fix="false", output=stack.folder / "r.md")
