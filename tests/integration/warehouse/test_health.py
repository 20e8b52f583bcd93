"""Pipe, streams, tasks and marts as the loader's role sees them, on a deployed database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from scripts import health, maintain


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


@pytest.mark.parametrize(
    ("happened", "state"),
    [
        (
            """create table silver.watched (n number);
create or replace stream silver.amplitude_events_base1_stream on table silver.watched append_only = true;
grant select on stream silver.amplitude_events_base1_stream to database role pipeline_watcher;
drop table silver.watched""",
            "stale",
        ),
        ("drop stream silver.amplitude_events_base1_stream", "not there, or not for AMPLITUDE_LOADER to see"),
    ],
)
def test_a_stream_that_is_stale_or_missing_is_a_problem_until_it_is_made_again(
    look, deployed, snowflake_server, happened, state
):
    """Made again it has its grants again: SHOW STREAMS lists what the role has a privilege on."""
    snowflake_server.script(deployed, happened, role="SYSADMIN")
    try:
        assert look() == {"stream": f"SILVER.AMPLITUDE_EVENTS_BASE1_STREAM is {state}."}
    finally:
        assert maintain.rebuild_streams() == {"rebuilt": 1}
    assert look() == {}


def test_marts_that_were_not_built_for_a_day_are_a_problem(look, deployed, snowflake_server):
    assert list(look(datetime.now(UTC) + timedelta(hours=29))) == []
    assert list(look(datetime.now(UTC) + timedelta(hours=31))) == ["marts"]
    snowflake_server.script(deployed, "drop table marts.daily_engagement")
    assert look() == {"marts": "the marts were never built."}
    snowflake_server.script(deployed, "create table marts.daily_engagement (n number)")
