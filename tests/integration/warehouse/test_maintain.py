"""Rare work on a deployed database: adoption, stale streams, a pipe's new text, teardown and deploy again."""

from __future__ import annotations

import gzip
import json
import shutil

import pytest

from scripts import deploy, maintain
from scripts.pipeline.errors import ConfigurationError
from tests.exports import event
from tests.warehouse import run_deploy

# What an account holds that was set up by the first design: one schema for everything, a landing table with JSON_DATA
# only, flat `.json` objects below the prefix, objects made by CREATE OR REPLACE.
FIRST_DESIGN = """create storage integration FIRST_INTEGRATION type = external_stage storage_provider = 'S3'
    enabled = true storage_aws_role_arn = 'arn:aws:iam::111122223333:role/first'
    storage_allowed_locations = ('s3://events-test/');
grant usage on integration FIRST_INTEGRATION to role SYSADMIN;
use role SYSADMIN;
create database ADOPTED;
create schema ADOPTED.OTTO;
create file format ADOPTED.OTTO.FIRST_JSON type = json;
create stage ADOPTED.OTTO.FIRST_STAGE url = 's3://events-test/python-import/' storage_integration = FIRST_INTEGRATION
    file_format = (format_name = 'ADOPTED.OTTO.FIRST_JSON');
create table ADOPTED.OTTO.AMPLITUDE_EVENTS_RAW_PYTHON (JSON_DATA variant);
insert into ADOPTED.OTTO.AMPLITUDE_EVENTS_RAW_PYTHON select parse_json('{"uuid": "old-1", "event_type": "x"}');
insert into ADOPTED.OTTO.AMPLITUDE_EVENTS_RAW_PYTHON select parse_json('{"uuid": "old-2", "event_type": "x"}');
create table ADOPTED.OTTO.AMPLITUDE_SESSION (USER_ID integer, SESSION_ID integer, DEVICE_ID varchar);
insert into ADOPTED.OTTO.AMPLITUDE_SESSION values (1, 2, 'd');
create pipe ADOPTED.OTTO.FIRST_PIPE auto_ingest = true as
    copy into ADOPTED.OTTO.AMPLITUDE_EVENTS_RAW_PYTHON from @ADOPTED.OTTO.FIRST_STAGE"""


@pytest.mark.scenario  # two deploys
def test_an_account_of_the_first_design_is_taken_over_without_loss(
    environment, snowflake_server, s3_server, monkeypatch, tmp_path
):
    environment("ADOPTED")
    monkeypatch.setenv("RAW_SCHEMA", "OTTO")
    monkeypatch.setenv("SILVER_TASKS", "false")
    s3_server.clear()
    snowflake_server.script(None, FIRST_DESIGN)
    run_deploy(tmp_path, "account")

    # Two pipes into one table would load everything twice: the deploy stops and says which.
    _, plan, _ = run_deploy(tmp_path, "database", "plan")
    assert "ADOPTED.OTTO.FIRST_PIPE" in plan
    with pytest.raises(ConfigurationError, match=r"alter pipe ADOPTED\.OTTO\.FIRST_PIPE set pipe_execution_paused"):
        run_deploy(tmp_path, "database")
    snowflake_server.script("ADOPTED", "alter pipe ADOPTED.OTTO.FIRST_PIPE set pipe_execution_paused = true")
    s3_server.put("python-import/100011471_2025-11-04_9_0.json", b'{"uuid": "old-flat"}')
    run_deploy(tmp_path, "database")

    def rows(statement: str) -> list[tuple]:
        return snowflake_server.rows("ADOPTED", statement, role="SYSADMIN")

    columns = "json_data:uuid::varchar, source_file, source_row, loaded_at"
    assert rows(f"select {columns} from OTTO.AMPLITUDE_EVENTS_RAW_PYTHON where source_file is null order by 1") == [
        ("old-1", None, None, None),
        ("old-2", None, None, None),
    ]
    assert rows("select * from OTTO.AMPLITUDE_SESSION") == [(1, 2, "d")]
    rows("alter pipe OTTO.AMPLITUDE_EVENTS_PIPE refresh")
    rows("call SILVER.AMPLITUDE_BASE_UPDATE()")
    # Rows that were there before the stream are read too; the flat objects of the old layout are not loaded.
    assert sorted(rows('select "uuid" from SILVER.AMPLITUDE_EVENTS_BASE1')) == [("old-1",), ("old-2",)]


@pytest.fixture
def database(deployed, environment, s3_server, snowflake_server, monkeypatch):
    environment(deployed)
    monkeypatch.setenv("SILVER_TASKS", "false")
    monkeypatch.setattr(maintain, "POLL_SECONDS", 0.2)
    s3_server.clear()
    return deployed


@pytest.mark.scenario
def test_pipe_gets_a_new_text_and_loads_what_comes_after(database, snowflake_server, s3_server, monkeypatch, tmp_path):
    def rows(statement: str) -> list[tuple]:
        return snowflake_server.rows(database, statement, role="SYSADMIN")

    folder = tmp_path / "snowflake"
    newer = folder / "database" / "V9.0.0__pipe.sql"
    newer.parent.mkdir(parents=True)
    current = (deploy.FOLDERS / "database" / "V1.1.0__pipe.sql").read_text()
    shutil.copy(deploy.FOLDERS / "database" / "A__10_grants.sql", newer.parent)
    newer.write_text(current.replace("'.*[.]json[.]gz'", "'project=.*[.]json[.]gz'"))
    monkeypatch.setattr(deploy, "FOLDERS", folder)
    rows("alter pipe RAW.AMPLITUDE_EVENTS_PIPE set pipe_execution_paused = false")
    rows("delete from RAW.AMPLITUDE_EVENTS_RAW_PYTHON")
    grants = "show grants on pipe RAW.AMPLITUDE_EVENTS_PIPE"
    before = {row[1:6] for row in rows(grants)}
    assert maintain.replace_pipe() == {"replaced": 1}
    assert {row[1:6] for row in rows(grants)} == before  # Snowflake's go with the old one: there is no COPY GRANTS
    (pipe,) = rows("show pipes like 'AMPLITUDE_EVENTS_PIPE' in schema RAW")
    assert "'project=.*[.]json[.]gz'" in str(pipe)
    status = json.loads(rows(f"select system$pipe_status('{database}.RAW.AMPLITUDE_EVENTS_PIPE')")[0][0])
    assert status["executionState"] == "RUNNING"
    assert rows("select count(*) from RAW.AMPLITUDE_EVENTS_RAW_PYTHON") == [(0,)]


def test_streams_are_made_again_and_each_event_is_stored_once(database, snowflake_server, s3_server):
    def rows(statement: str) -> list[tuple]:
        return snowflake_server.rows(database, statement, role="SYSADMIN")

    rows("alter pipe RAW.AMPLITUDE_EVENTS_PIPE set pipe_execution_paused = true")
    rows("delete from RAW.AMPLITUDE_EVENTS_RAW_PYTHON")
    rows("delete from SILVER.AMPLITUDE_EVENTS_BASE1")
    s3_server.put("python-import/x.json.gz", gzip.compress(event("a") + b"\n" + event("b")))
    rows("""copy into RAW.AMPLITUDE_EVENTS_RAW_PYTHON (json_data, source_file, source_row, loaded_at) from (
        select $1, metadata$filename, metadata$file_row_number, metadata$start_scan_time
        from @RAW.AMPLITUDE_EVENTS_STAGE) files = ('x.json.gz')""")
    rows("drop stream RAW.AMPLITUDE_EVENTS_STREAM")
    assert maintain.rebuild_streams() == {"rebuilt": 1}
    assert maintain.rebuild_streams() == {"rebuilt": 0}
    rows("call SILVER.AMPLITUDE_BASE_UPDATE()")
    assert maintain.rebuild_streams(every=True) == {"rebuilt": 2}
    rows("call SILVER.AMPLITUDE_BASE_UPDATE()")
    stored = rows('select "uuid", count(*) from SILVER.AMPLITUDE_EVENTS_BASE1 group by 1 order by 1')
    assert stored == [("a", 1), ("b", 1)]


@pytest.mark.scenario  # two deploys
def test_teardown_asks_for_the_name_and_leaves_nothing_and_a_deploy_makes_it_again(
    environment, snowflake_server, monkeypatch, tmp_path
):
    environment("SHORT_LIVED")
    monkeypatch.setenv("SILVER_TASKS", "false")
    for scope in ("account", "database"):
        run_deploy(tmp_path, scope)
    with pytest.raises(ConfigurationError, match="confirm with that name"):
        maintain.teardown(confirm="AMPLITUDE")
    maintain.teardown(confirm="SHORT_LIVED")
    assert snowflake_server.rows(None, "show databases like 'SHORT_LIVED'") == []
    assert maintain.teardown(confirm="SHORT_LIVED") == {"statements": 0}  # nothing names a database that is gone
    run_deploy(tmp_path, "account")
    _, _, ran = run_deploy(tmp_path, "database")
    assert all(line["status"] == "Success" for line in ran)
