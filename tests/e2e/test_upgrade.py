"""The warehouse by its own flow on the real engine: an older state, today's, today's again, down, and up anew."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.engine import namespace_files
from local.java import EngineBuild
from local.session import Session
from tests.e2e.conftest import ROOT
from tests.e2e.pipeline import Pipeline

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(1800)]
DAY = "2026-09-23"
LANDED = "select json_data:uuid::varchar, source_file, source_row from RAW.AMPLITUDE_EVENTS_RAW_PYTHON"
SINCE = ("V1.2.*", "R__10_amplitude_events_base2_pages.sql", "R__20_*", "R__30_*", "A__20_*")  # SILVER came later


@pytest.fixture
def pipeline(build: EngineBuild, tmp_path: Path) -> Iterator[Pipeline]:
    with Session(build, state=tmp_path / "state") as session:
        yield Pipeline(session)


def deploy(pipeline: Pipeline, scope: str = "database") -> list[str]:
    """The scripts that ran, without those that always run."""
    run = pipeline.run("snowflake_deploy", action="apply", scope=scope)
    assert run.state == "SUCCESS", run.warnings
    history = f"select script, status from OPS.CHANGE_HISTORY_{scope.upper()} order by installed_on"
    return [script for script, status in pipeline.sql(history) if status == "Success" and script[0] != "A"]


def copy_of_repository(folder: Path) -> Path:
    for name in [*namespace_files(ROOT), *(f"flows/{file.name}" for file in (ROOT / "flows").iterdir())]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def wait_for_silver(pipeline: Pipeline, uuids: set[str]) -> None:
    """Until both procedures have done all; each event once."""
    deadline = time.monotonic() + 240
    statement = "select uuid from SILVER.AMPLITUDE_EVENTS"
    while len(found := [row[0] for row in pipeline.sql(statement)]) < len(uuids) and time.monotonic() < deadline:
        time.sleep(2)
    assert Counter(found) == Counter(uuids)


def maintain(pipeline: Pipeline, *arguments: str) -> None:
    environment = os.environ | pipeline.settings
    command = [sys.executable, "-m", "scripts.maintain", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_from_an_older_state_to_todays_and_again_and_down_and_up(pipeline: Pipeline, tmp_path: Path) -> None:
    older = copy_of_repository(tmp_path / "older")
    for pattern in SINCE:
        for file in (older / "snowflake" / "database").glob(pattern):
            file.unlink()
    grants = older / "snowflake/database/A__10_grants.sql"
    lines = grants.read_text().splitlines(keepends=True)
    grants.write_text(
        "".join(line for line in lines if not re.match(r"grant .* on (stream |task |table ops\.reconciliation )", line))
    )
    pipeline.session.engine.load(older)
    deploy(pipeline, "account")
    before = deploy(pipeline)
    assert not [script for script in before if "20_" in script]
    assert pipeline.run("amplitude_daily", start_date=DAY, end_date=DAY).tasks["load"]["state"] == "SUCCESS"
    landed = Counter(pipeline.sql(LANDED))
    uuids = {uuid for uuid, _, _ in landed}
    assert len(uuids) > 100

    # Today's: what landed before SILVER was there is read too; no row is lost or loaded again.
    pipeline.session.engine.load()
    after = deploy(pipeline)
    assert len(after) - len(before) == sum(len(list((ROOT / "snowflake/database").glob(each))) for each in SINCE[:-1])
    wait_for_silver(pipeline, uuids)
    assert Counter(pipeline.sql(LANDED)) == landed

    # Again: nothing runs, and the pipe still knows its files.
    assert deploy(pipeline) == after
    pipeline.sql("alter pipe RAW.AMPLITUDE_EVENTS_PIPE refresh")
    time.sleep(5)
    assert Counter(pipeline.sql(LANDED)) == landed

    # Another text of a procedure, with its tasks started and SILVER full: that one script runs, and no row changes.
    newer = copy_of_repository(tmp_path / "newer")
    procedure = newer / "snowflake/database/R__20_amplitude_base_update.sql"
    procedure.write_text(procedure.read_text().replace("BASE TABLES UPDATED: ", "Stored "))
    tasks = newer / "snowflake/database/R__30_tasks.sql"
    tasks.write_text(
        tasks.read_text().replace("suspend_task_after_num_failures = 10", "suspend_task_after_num_failures = 9")
    )
    pipeline.session.engine.load(newer)
    assert deploy(pipeline)[len(after) :] == [procedure.name, tasks.name]
    assert pipeline.sql("call SILVER.AMPLITUDE_BASE_UPDATE()") == [("Stored 0 of 0 rows",)]
    wait_for_silver(pipeline, uuids)
    assert Counter(pipeline.sql(LANDED)) == landed

    # Down, also twice, and up anew: bucket and ledger are still there, and the day comes back by `force`.
    pipeline.session.engine.load()
    maintain(pipeline, "teardown", "--confirm", pipeline.settings["SNOWFLAKE_DATABASE"])
    maintain(pipeline, "teardown", "--confirm", pipeline.settings["SNOWFLAKE_DATABASE"], "--account")
    deploy(pipeline, "account")
    assert set(deploy(pipeline)) == set(after)
    run = pipeline.run("amplitude_daily", start_date=DAY, end_date=DAY, force=True)
    assert run.tasks["load"]["state"] == "SUCCESS", run.warnings
    assert {uuid for uuid, _, _ in pipeline.sql(LANDED)} == uuids
    wait_for_silver(pipeline, uuids)
