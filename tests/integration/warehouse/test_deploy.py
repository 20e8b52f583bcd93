"""Deploys of the real DDL, by schemachange over the real connector, to a local Snowflake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import deploy
from scripts.pipeline.errors import ConfigurationError
from tests.warehouse import ROOT, run_deploy

SCOPES = ("account", "database")


@pytest.fixture
def fresh(environment, tmp_path, request):
    """A database name of this test's own, chosen in the environment; nothing is deployed."""
    return environment("D_" + re.sub(r"\W", "_", request.node.name).upper()[:60])


def objects(server, database: str) -> dict[str, list[tuple]]:
    """What the catalog shows of a database, without times."""
    kinds = ("schemas", "tables", "views", "stages", "file formats", "pipes", "streams", "tasks", "procedures")
    found = {}
    with server.session(database) as connection:
        for kind in kinds:
            cursor = connection.cursor().execute(f"show {kind} in database {database}")
            names = [column.name.lower() for column in cursor.description]
            wanted = [names.index(name) for name in ("schema_name", "name") if name in names]
            found[kind] = sorted(tuple(row[index] for index in wanted) for row in cursor.fetchall())
    return found


def test_plan_on_an_empty_account_shows_everything_and_writes_nothing(fresh, snowflake_server, tmp_path):
    for scope in SCOPES:
        counts, plan, ran = run_deploy(tmp_path, scope, "plan")
        files = sorted((deploy.FOLDERS / scope).glob("[VRA]*__*.sql"))
        assert files
        assert counts["changes"] == len(files)
        assert all(f"snowflake/{scope}/{file.name}" in plan for file in files)
        assert ran == []
        assert "{{" not in plan
    assert f"create database if not exists {fresh}" in plan
    assert snowflake_server.rows(None, f"show databases like '{fresh}'") == []


def test_deploy_twice_changes_nothing_and_keeps_rows_and_load_memory(fresh, snowflake_server, tmp_path):
    """Known fault B12: a redeploy that replaces a table or pipe loads everything again. B20: a new external id."""
    for scope in SCOPES:
        run_deploy(tmp_path, scope)
    before = objects(snowflake_server, fresh)
    landing = f"{fresh}.RAW.AMPLITUDE_EVENTS_RAW_PYTHON"
    snowflake_server.script(
        fresh,
        f"""insert into {landing} (json_data, source_file, source_row) select parse_json('{{"uuid": "a"}}'), 'f', 1""",
    )
    external_id = f"desc integration {fresh}_s3"
    first_id = [row for row in snowflake_server.rows(fresh, external_id) if row[0] == "STORAGE_AWS_EXTERNAL_ID"]
    for scope in SCOPES:
        _, _, ran = run_deploy(tmp_path, scope)
        assert [line["script"] for line in ran if not line["script"].startswith("A__")] == []
    assert objects(snowflake_server, fresh) == before
    assert snowflake_server.rows(fresh, f"select count(*) from {landing}") == [(1,)]
    assert [row for row in snowflake_server.rows(fresh, external_id) if row[0] == "STORAGE_AWS_EXTERNAL_ID"] == first_id
    assert first_id[0][2] == "amplitude_pipeline_1"
    # In one table the versions of one folder would make those of the other 'older', and skip them in silence.
    tables = {
        row[1] for row in snowflake_server.rows(fresh, f"show tables like 'CHANGE_HISTORY%' in schema {fresh}.OPS")
    }
    assert tables == {"CHANGE_HISTORY_ACCOUNT", "CHANGE_HISTORY_DATABASE"}


@pytest.mark.scenario  # four deploys
def test_two_deploys_at_once_end_in_the_same_objects(fresh, snowflake_server, tmp_path):
    run_deploy(tmp_path, "account")
    command = [sys.executable, "-m", "scripts.deploy", "apply", "--scope", "database"]
    runs = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        runs.append(
            subprocess.Popen(
                command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
            )
        )
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    both = objects(snowflake_server, fresh)
    _, _, ran = run_deploy(tmp_path, "database")
    assert [line["script"] for line in ran if not line["script"].startswith("A__")] == []
    assert objects(snowflake_server, fresh) == both


@pytest.fixture
def own_scripts(fresh, tmp_path, monkeypatch):
    """A folder of DDL that a test may break."""
    folder = tmp_path / "snowflake" / "database"
    folder.mkdir(parents=True)
    monkeypatch.setattr(deploy, "FOLDERS", tmp_path / "snowflake")
    (folder / "V1.0.0__first.sql").write_text("create schema if not exists one;\n")
    return folder


def test_failing_statement_is_named_with_its_file_and_what_ran_stays(own_scripts, fresh, snowflake_server, tmp_path):
    (own_scripts / "V1.0.1__second.sql").write_text(
        "create table if not exists one.a (x int);\n-- why\nalter table one.nothing add column y int;\nselect 1;\n"
    )
    with pytest.raises(ConfigurationError) as caught:
        run_deploy(tmp_path, "database")
    said = str(caught.value)
    assert "snowflake/database/V1.0.1__second.sql statement 2 (alter table one.nothing add column y int" in said
    assert "does not exist" in said
    ran = [json.loads(line) for line in (tmp_path / "deployed.jsonl").read_text().splitlines()]
    assert [(line["script"], line["status"]) for line in ran] == [
        ("V1.0.0__first.sql", "Success"),
        ("V1.0.1__second.sql", "Failed"),
    ]
    assert snowflake_server.rows(fresh, f"show tables like 'A' in schema {fresh}.one") != []


def test_a_trust_policy_that_lets_nobody_in_is_told_with_the_step(own_scripts, fresh, s3_server, tmp_path):
    """The first statement that makes Snowflake take on the AWS role is the pipe's."""
    trust = (ROOT / "docs/aws/snowflake-trust-policy.json").read_text()
    s3_server.client("iam").create_role(RoleName="deploy", AssumeRolePolicyDocument=trust)
    (own_scripts / "V1.0.1__pipe.sql").write_text(
        f"""create storage integration {fresh}_s3 type = external_stage storage_provider = 'S3' enabled = true
    storage_aws_role_arn = 'arn:aws:iam::111122223333:role/deploy' storage_allowed_locations = ('s3://events-test/t/');
create stage one.st url = 's3://events-test/t/' storage_integration = {fresh}_s3 file_format = (type = json);
create table one.landed (v variant);
create pipe one.p auto_ingest = true as copy into one.landed from @one.st;
"""
    )
    with pytest.raises(ConfigurationError, match=r"statement 4 \(create pipe.*Error assuming AWS_ROLE.*step 4\)"):
        run_deploy(tmp_path, "database")


def test_mended_script_runs_whole_again(own_scripts, fresh, tmp_path):
    script = own_scripts / "V1.0.1__second.sql"
    script.write_text("create table if not exists one.a (x int);\nselect * from one.nothing;\n")
    with pytest.raises(ConfigurationError):
        run_deploy(tmp_path, "database")
    script.write_text("create table if not exists one.a (x int);\nselect * from one.a;\n")
    _, plan, ran = run_deploy(tmp_path, "database")
    assert "failed before: runs whole again" in plan
    assert [(line["script"], line["status"]) for line in ran] == [("V1.0.1__second.sql", "Success")]


def test_edited_versioned_script_stops_before_anything_runs(own_scripts, fresh, snowflake_server, tmp_path):
    run_deploy(tmp_path, "database")
    (own_scripts / "V1.0.0__first.sql").write_text("create schema if not exists two;\n")
    (own_scripts / "V1.0.1__second.sql").write_text("create schema if not exists three;\n")
    with pytest.raises(ConfigurationError, match="has run and is not what it was"):
        run_deploy(tmp_path, "database")
    assert snowflake_server.rows(fresh, f"show schemas like 'THREE' in database {fresh}") == []


def test_missing_role_is_a_matter_of_settings(fresh, monkeypatch, tmp_path):
    monkeypatch.setenv("DEPLOY_ROLE", "NOBODY_MADE_THIS")
    with pytest.raises(ConfigurationError):
        run_deploy(tmp_path, "database", "plan")


@pytest.mark.scenario  # a deploy more
def test_command_line_of_schemachange_deploys_the_same_folder(fresh, snowflake_server, tmp_path):
    run_deploy(tmp_path, "account")
    variables = deploy.variables("database", deploy.load(deploy.DeploySettings))
    snowflake_server.script(None, f"create schema if not exists {fresh}.ops", role="SYSADMIN")
    command = [
        Path(sys.executable).with_name("schemachange"), "deploy", "-f", str(ROOT / "snowflake" / "database"),
        "-c", f"{fresh}.OPS.CHANGE_HISTORY_DATABASE", "--create-change-history-table", "--vars", json.dumps(variables),
    ]  # fmt: skip
    environment = {**os.environ, "SNOWFLAKE_ROLE": "SYSADMIN"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    _, _, ran = run_deploy(tmp_path, "database")
    assert [line["script"] for line in ran if not line["script"].startswith("A__")] == []
