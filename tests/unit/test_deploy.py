"""What a deploy would run, from rendered scripts and a history; nothing of it needs an account."""

from __future__ import annotations

import hashlib

import pytest

from scripts import deploy
from scripts.deploy import Applied
from scripts.pipeline.errors import ConfigurationError
from scripts.pipeline.settings import DeploySettings

SCRIPTS = {
    "V1.0.2__second.sql": "create table if not exists b (x int);",
    "V1.0.10__third.sql": "create table if not exists c (x int);",
    "R__view.sql": "create or replace view v as select '{{ bucket }}' as x;",
    "A__grants.sql": "grant select on view v to role r;",
}


@pytest.fixture
def settings(tmp_path):
    return DeploySettings(
        snowflake_account="acme",
        snowflake_user="U",
        snowflake_warehouse="W",
        snowflake_database="D",
        snowflake_private_key_file=tmp_path / "key",
        aws_bucket_name="bucket-one",
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(deploy, "FOLDERS", tmp_path / "snowflake")
    folder = tmp_path / "snowflake" / "database"
    folder.mkdir(parents=True)
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text)
    return folder


def names(changes):
    return [change.name.rsplit("/", 1)[-1] for change in changes]


def history(settings, *scripts, status="Success"):
    """As schemachange writes it: SHA-224 of the rendered text without its last `;`."""
    applied = {}
    for name in scripts:
        text = SCRIPTS[name].replace("{{ bucket }}", settings.aws_bucket_name).rstrip(";")
        version = name[1:].split("__")[0] if name.startswith("V") else ""
        applied[name] = Applied(hashlib.sha224(text.encode()).hexdigest(), version, status)
    return applied


def test_empty_account_runs_everything_versions_in_natural_order_then_repeatable_then_always(folder, settings):
    changes = deploy.pending(deploy.render("database", settings), {})
    assert names(changes) == ["V1.0.2__second.sql", "V1.0.10__third.sql", "R__view.sql", "A__grants.sql"]
    assert [change.why for change in changes] == ["new", "new", "new", "always"]
    assert "bucket-one" in changes[2].sql


def test_second_deploy_runs_only_what_always_runs(folder, settings):
    changes = deploy.pending(deploy.render("database", settings), history(settings, *SCRIPTS))
    assert names(changes) == ["A__grants.sql"]


def test_changed_variable_runs_a_repeatable_script_again(folder, settings):
    applied = history(settings, *SCRIPTS)
    settings.aws_bucket_name = "bucket-two"
    changes = deploy.pending(deploy.render("database", settings), applied)
    assert [(name, change.why) for name, change in zip(names(changes), changes, strict=True)] == [
        ("R__view.sql", "changed"),
        ("A__grants.sql", "always"),
    ]


def test_edited_versioned_script_stops_the_deploy(folder, settings):
    """schemachange alone says one INFO line and goes on."""
    applied = history(settings, *SCRIPTS)
    (folder / "V1.0.2__second.sql").write_text("create table if not exists b (x int, y int);")
    with pytest.raises(ConfigurationError, match=r"V1\.0\.2__second\.sql has run and is not what it was.*new V script"):
        deploy.pending(deploy.render("database", settings), applied)


def test_versioned_script_older_than_one_that_ran_stops_the_deploy(folder, settings):
    """schemachange alone passes over it in silence."""
    applied = history(settings, *SCRIPTS)
    (folder / "V1.0.9__late.sql").write_text("select 1;")
    with pytest.raises(ConfigurationError, match=r"V1\.0\.9__late\.sql is older than one that ran"):
        deploy.pending(deploy.render("database", settings), applied)


def test_failed_script_runs_whole_again(folder, settings):
    applied = history(settings, "V1.0.2__second.sql") | history(settings, "V1.0.10__third.sql", status="Failed")
    changes = deploy.pending(deploy.render("database", settings), applied)
    assert changes[0].name.endswith("V1.0.10__third.sql")
    assert changes[0].why == "failed before: runs whole again"


def test_unknown_variable_is_named_with_its_file(folder, settings):
    (folder / "R__view.sql").write_text("create view v as select {{ buckett }};")
    with pytest.raises(ConfigurationError, match=r"R__view\.sql: 'buckett' is undefined"):
        deploy.render("database", settings)


def test_folder_without_scripts_is_an_error(folder, settings):
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(ConfigurationError, match="holds no script"):
        deploy.render("database", settings)


def test_scope_account_asks_for_the_aws_values(settings):
    with pytest.raises(ConfigurationError, match="AWS_ROLE_ARN and AWS_EXTERNAL_ID"):
        deploy.render("account", settings)
