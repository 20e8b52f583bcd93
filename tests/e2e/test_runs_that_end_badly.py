"""A run that ends badly says so once, and says again when it is over: the real flows against a real receiver."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import BadDays
from tests.e2e.pipeline import Pipeline
from tests.receiver import TOKEN, Receiver

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def test_bad_days_alert_once_each_and_the_run_that_mends_them_closes_all(
    pipeline: Pipeline, receiver: Receiver, bad_days: BadDays
) -> None:
    refused, killed, mended = bad_days.refused, bad_days.killed, bad_days.mended
    assert [run.state for run in (*refused, killed)] == ["FAILED", "FAILED", "KILLED"]
    assert [alert.split(". ")[0] for alert in bad_days.alerts] == [  # the second run has nothing new to say
        "[error] amplitude_daily 2023-08-24 ended FAILED, tasks that failed: extract",
        "[error] amplitude_daily 2023-08-25 ended KILLED, tasks that failed: none",
    ]
    assert refused[0].execution in bad_days.alerts[0]
    assert "docs/runbook.md" in bad_days.alerts[0]
    closed = "Over with it: amplitude_daily 2023-08-24, amplitude_daily 2023-08-25."
    complete = f"amplitude_daily 2023-08-24..2023-08-25 is complete: run {mended.execution}."
    assert bad_days.said[-1] == f"[resolved] {complete} {closed}"

    receiver.bodies.clear()
    again = pipeline.replay(killed.execution)
    assert (again.state, again.tasks["plan"]["outputs"]["vars"]["hours"]) == ("SUCCESS", 0)
    assert receiver.bodies == []  # a good run is no news
    assert not [line for run in (*refused, killed, mended) for line in run.log if TOKEN in line]


@pytest.mark.scenario
def test_a_build_of_its_own_alerts_for_itself_until_a_good_one_of_everything(
    pipeline: Pipeline, receiver: Receiver
) -> None:
    receiver.bodies.clear()
    assert pipeline.run("dbt_build", select="no_such_model").state == "WARNING"
    assert pipeline.run("dbt_build", select="daily_engagement").state == "SUCCESS"
    assert [body["text"].split(",")[0] for body in receiver.bodies] == ["[warning] dbt_build ended WARNING"]
    good = pipeline.run("dbt_build")
    assert [body["text"] for body in receiver.bodies[1:]] == [
        f"[resolved] dbt_build is good again. Run {good.execution}."
    ]


@pytest.mark.scenario
def test_a_run_without_a_build_leaves_the_alert_of_its_day_open(pipeline: Pipeline, receiver: Receiver) -> None:
    """The build may be what has failed."""
    receiver.bodies.clear()
    day, key = "2023-08-24", "amplitude_daily 2023-08-24"
    assert pipeline.run("notify", key=key, text="its build failed {{ 1 + 1 }} {% if").state == "SUCCESS"
    assert pipeline.run("amplitude_daily", start_date=day, transform=False).state == "SUCCESS"
    assert [body["text"] for body in receiver.bodies] == ["[error] its build failed (( 1 + 1 }} (% if"]
    good = pipeline.run("amplitude_daily", start_date=day)
    (closed,) = [body["text"] for body in receiver.bodies if body["text"].startswith("[resolved]")]
    assert closed.startswith(f"[resolved] {key} is complete: run {good.execution}.")


@pytest.mark.scenario
def test_a_build_that_was_killed_leaves_its_place_in_the_queue(pipeline: Pipeline) -> None:
    """Every later build waited for ever: Kestra keeps the place of a killed run whose flow has `afterExecution`."""
    assert pipeline.run_and_kill("build", "dbt_build").state == "KILLED"
    assert pipeline.run("dbt_build", select="daily_engagement").state == "SUCCESS"


@pytest.mark.scenario
def test_a_deploy_that_works_while_something_else_is_wrong_is_a_warning(pipeline: Pipeline, receiver: Receiver) -> None:
    # closes the alert that a deploy which was killed left
    assert pipeline.run("snowflake_deploy", action="apply", scope="database").state == "SUCCESS"
    receiver.bodies.clear()
    change = "alter storage integration amplitude_s3 set storage_aws_external_id"
    pipeline.sql(f"{change} = 'typed-anew'")
    try:
        run = pipeline.run("snowflake_deploy", action="apply", scope="database")
    finally:
        pipeline.sql(f"{change} = '{pipeline.settings['AWS_EXTERNAL_ID']}'")
    assert run.state == "WARNING"
    assert {"plan", "deployed", "doctor"} <= {name for name, file in run.outputs.items() if file}
    (alert,) = [body["text"] for body in receiver.bodies]
    assert alert.startswith("[warning] snowflake_deploy apply ended WARNING")
    assert "AMPLITUDE_S3 has another AWS_EXTERNAL_ID than .env" in alert
    assert pipeline.run("snowflake_deploy", action="apply", scope="database").state == "SUCCESS"
