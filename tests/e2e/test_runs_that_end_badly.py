"""A run that ends badly says so once, and says again when it is over: the real flows against a real receiver."""

from __future__ import annotations

import pytest
import requests

from tests.e2e.pipeline import Pipeline
from tests.receiver import TOKEN, Receiver

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
DAY = "2023-09-05"  # has no events


def test_a_failed_run_alerts_once_and_the_run_that_mends_it_closes_the_alert(
    pipeline: Pipeline, receiver: Receiver
) -> None:
    receiver.bodies.clear()
    faults = pipeline.session.stack.endpoints["amplitude"]["url"] + "/_faults"
    requests.post(faults, json={"do": "status", "status": 403}, timeout=10).raise_for_status()
    try:
        first = pipeline.run("amplitude_daily", start_date=DAY, transform=False)
        again = pipeline.run("amplitude_daily", start_date=DAY, transform=False)
    finally:
        requests.delete(faults, timeout=10).raise_for_status()
    assert (first.state, again.state) == ("FAILED", "FAILED")
    (alert,) = [body["text"] for body in receiver.bodies]  # the second run has nothing new to say
    assert alert.startswith(f"[error] amplitude_daily {DAY} ended FAILED, tasks that failed: extract. ")
    assert first.execution in alert
    assert "docs/runbook.md" in alert

    mended = pipeline.run("amplitude_daily", start_date=DAY, transform=False)
    assert mended.state == "SUCCESS"
    assert receiver.bodies[1:] == [{"text": f"[resolved] amplitude_daily {DAY} is complete: run {mended.execution}."}]
    assert pipeline.run("amplitude_daily", start_date=DAY, transform=False).state == "SUCCESS"
    assert len(receiver.bodies) == 2  # a good run is no news
    assert not [line for run in (first, mended) for line in run.log if TOKEN in line]


@pytest.mark.scenario
def test_a_build_of_its_own_alerts_for_itself(pipeline: Pipeline, receiver: Receiver) -> None:
    receiver.bodies.clear()
    run = pipeline.run("dbt_build", select="no_such_model")
    assert run.state == "WARNING"
    assert [body["text"].split(",")[0] for body in receiver.bodies] == ["[warning] dbt_build ended WARNING"]


@pytest.mark.scenario
def test_a_deploy_that_works_while_something_else_is_wrong_is_a_warning(pipeline: Pipeline, receiver: Receiver) -> None:
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
