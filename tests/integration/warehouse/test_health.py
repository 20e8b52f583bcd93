"""Pipe, streams, tasks and marts as the loader's role sees them, on a deployed database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from scripts import health


@pytest.fixture
def look(environment, deployed, snowflake_server, monkeypatch):
    environment(deployed)
    monkeypatch.setenv("SILVER_TASKS", "false")
    built = "create or replace table marts.daily_engagement (n number)"
    snowflake_server.script(deployed, built, role="AMPLITUDE_TRANSFORMER")
    yield lambda now=None: {each.kind: each.what for each in health.of_warehouse(now or datetime.now(UTC))}
    snowflake_server.script(deployed, "drop table marts.daily_engagement")


def test_nothing_is_wrong_with_a_deployed_and_built_database(look):
    assert look() == {}


def test_tasks_that_should_run_and_are_suspended_are_named(look, monkeypatch):
    monkeypatch.setenv("SILVER_TASKS", "true")
    assert "AMPLITUDE_BASE_UPDATE_TASK" in look()["tasks"]


def test_a_paused_pipe_is_a_problem(look, deployed, snowflake_server):
    pipe = "alter pipe raw.amplitude_events_pipe set pipe_execution_paused"
    snowflake_server.script(deployed, f"{pipe} = true")
    try:
        assert "PAUSED" in look()["pipe"]
    finally:
        snowflake_server.script(deployed, f"{pipe} = false")


def test_a_stale_stream_is_a_problem(look, deployed, snowflake_server):
    snowflake_server.script(
        deployed,
        """create table raw.watched (n number);
create stream raw.amplitude_watched_stream on table raw.watched append_only = true;
grant select on stream raw.amplitude_watched_stream to role amplitude_loader;
drop table raw.watched""",
    )
    try:
        assert look() == {"stream": "RAW.AMPLITUDE_WATCHED_STREAM is stale."}
    finally:
        snowflake_server.script(deployed, "drop stream raw.amplitude_watched_stream")


def test_marts_that_were_not_built_for_a_day_are_a_problem(look, deployed, snowflake_server):
    assert list(look(datetime.now(UTC) + timedelta(hours=29))) == []
    assert list(look(datetime.now(UTC) + timedelta(hours=31))) == ["marts"]
    snowflake_server.script(deployed, "drop table marts.daily_engagement")
    assert look() == {"marts": "the marts were never built."}
    snowflake_server.script(deployed, "create table marts.daily_engagement (n number)")
