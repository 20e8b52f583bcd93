"""One S3 and one local Snowflake for all tests of this folder; each test deploys to a database of its own."""

from __future__ import annotations

import pytest

from tests import s3, warehouse


@pytest.fixture(scope="package")
def s3_server():
    with s3.serving() as running:
        running.create_bucket()
        yield running


@pytest.fixture(scope="package")
def snowflake_server(s3_server, tmp_path_factory):
    with warehouse.serving(tmp_path_factory.mktemp("snowflake"), s3_server.url) as running:
        yield running


@pytest.fixture
def environment(s3_server, snowflake_server, monkeypatch, tmp_path):
    """Points the settings at both servers; returns a function that chooses the database."""
    monkeypatch.chdir(tmp_path)  # no .env of the developer
    for name, value in s3.settings_for(s3_server, DATA_DIR=str(tmp_path / "data")).items():
        monkeypatch.setenv(name, value)

    def choose(database: str) -> str:
        for name, value in snowflake_server.settings(database).items():
            monkeypatch.setenv(name, value)
        return database

    choose("AMPLITUDE")
    return choose


@pytest.fixture(scope="package")
def deployed(snowflake_server, s3_server, tmp_path_factory):
    """A database with everything in it and its tasks off, for tests that clear what they fill."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("deploy")
        patch.chdir(folder)
        settings = {**s3.settings_for(s3_server), **snowflake_server.settings("DEPLOYED"), "SILVER_TASKS": "false"}
        for name, value in settings.items():
            patch.setenv(name, value)
        for scope in ("account", "database"):
            warehouse.run_deploy(folder, scope)
    return "DEPLOYED"
