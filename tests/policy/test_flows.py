"""Rules that every flow keeps (docs/decisions.md; Kestra 1.3 and 2.x must both take them)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FLOWS = sorted((ROOT / "flows").glob("*.yml"))
PYTHON = "io.kestra.plugin.scripts.python.Script"
DBT = "io.kestra.plugin.dbt.cli.DbtCLI"
PROCESS = {"type": "io.kestra.plugin.core.runner.Process"}
# Gone or renamed in Kestra 2 (its migration guide), or unsafe on 1.3.
FORBIDDEN = ("ForEach", "EachSequential", "EachParallel", "pluginDefaults", "taskDefaults", "runIf", "conditions:",
             "schedule.", "| json", "outputDir", "allowConcurrent", "minLogLevel", "io.kestra.core.")  # fmt: skip


@pytest.fixture(params=FLOWS, ids=lambda file: file.stem)
def flow(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load(request.param.read_text(encoding="utf-8"))


def tasks(value: Any) -> Iterator[dict[str, Any]]:
    """Every task of a flow, nested ones too (triggers and inputs are no tasks)."""
    if isinstance(value, list):
        for each in value:
            yield from tasks(each)
    elif isinstance(value, dict):
        if "type" in value and "id" in value:
            yield value
        for key in ("tasks", "then", "else", "errors", "finally", "afterExecution"):
            yield from tasks(value.get(key, []))


def test_there_are_flows() -> None:
    assert {file.stem for file in FLOWS} >= {
        "amplitude_daily",
        "dbt_build",
        "snowflake_deploy",
        "pipeline_health",
        "pipeline_purge",
        "notify",
    }


def test_the_file_name_is_the_id_and_the_namespace_is_ours(flow: dict[str, Any]) -> None:
    assert flow["id"] in {file.stem for file in FLOWS}
    assert flow["namespace"] == "analytics.amplitude"
    assert flow["labels"] == {"domain": "amplitude", "managed_by": "amplitude-pipeline"}
    assert len(flow["description"]) > 100


def test_every_task_is_described_and_every_process_is_bounded(flow: dict[str, Any]) -> None:
    for task in tasks(flow):
        assert task.get("description"), task["id"]
        assert task["id"] == task["id"].lower().replace("-", "_")
        if task["type"] in {PYTHON, DBT}:
            assert task["taskRunner"] == PROCESS, task["id"]
            assert task["timeout"], task["id"]
            assert task["namespaceFiles"]["include"], task["id"]
        if task["type"] == PYTHON:
            assert task["packageManager"] == "PIP", task["id"]
        if task["type"] == DBT:
            assert task["parseRunResults"] is False, task["id"]


def test_every_run_that_ends_badly_alerts_and_only_the_tasks_themselves_try_again(flow: dict[str, Any]) -> None:
    """Kestra 1.3.31 lets `afterExecution` run while a task waits for its `retry`: the alert would be spent by then."""
    assert not [task["id"] for task in tasks(flow) if "retry" in task]
    if flow["id"] == "notify":
        assert "afterExecution" not in flow
        return
    when_bad = next(task for task in last_tasks(flow) if task["id"] == "when_bad")
    bad = "(tasksWithState('warning') | length) > 0" if "concurrency" in flow else "execution.state != 'SUCCESS'"
    assert bad in when_bad["condition"]
    assert "(tasksWithState('failed') | length) > 0" in when_bad["condition"]
    (alert,) = when_bad["then"]
    assert (alert["flowId"], alert["wait"], alert["transmitFailed"]) == ("notify", True, True)
    assert 'docs/runbook.md, "A run failed"' in alert["inputs"]["text"]


def test_every_alert_is_closed_by_a_good_run(flow: dict[str, Any]) -> None:
    """A failing task of `finally` leaves a run SUCCESS: such a run must not close the alert that it has just sent."""
    if flow["id"] == "notify":
        return
    tasks_of = flow["tasks"] if flow["id"] == "pipeline_health" else last_tasks(flow)
    when_over = next(task for task in tasks_of if task["id"] == "when_over")
    if flow["id"] != "pipeline_health":  # which has no `finally`, and ends FAILED when its check could not run
        assert "(tasksWithState('failed') | length) == 0" in when_over["condition"]
    (resolve,) = when_over["then"]
    assert (resolve["flowId"], resolve["inputs"]["severity"]) == ("notify", "resolved")


def test_the_heartbeat_is_that_of_the_day() -> None:
    """`hourly` would ping for a `daily` that has stopped, or that fails in dbt every day."""
    flow = yaml.safe_load((ROOT / "flows/amplitude_daily.yml").read_text(encoding="utf-8"))
    (when_good,) = [task for task in flow["afterExecution"] if task["id"] == "when_good"]
    assert "inputs.scope == 'day'" in when_good["condition"]
    (hourly,) = [trigger for trigger in flow["triggers"] if trigger["id"] == "hourly"]
    assert hourly["inputs"]["scope"] == "recent"


def test_the_words_of_an_alert_are_no_expression() -> None:
    """Kestra renders `env` twice: `{% if` in an error's text failed the alert, `{{ … }}` was worked out."""
    flow = yaml.safe_load((ROOT / "flows/notify.yml").read_text(encoding="utf-8"))
    for name in ("KEY", "TEXT"):
        assert flow["tasks"][0]["env"][name] == f"{{{{ inputs.{name.lower()} | replace({{'{{': '('}}) }}}}"


def last_tasks(flow: dict[str, Any]) -> list[dict[str, Any]]:
    """Where a flow says how it ended. Kestra 1.3.31 never gives back the place of a killed run that has
    `afterExecution`: every later run of a flow with `concurrency` would wait in the queue for ever.
    """
    return flow["finally" if "concurrency" in flow else "afterExecution"]


def test_a_flow_that_queues_has_no_after_execution(flow: dict[str, Any]) -> None:
    assert not {"concurrency", "afterExecution"} <= set(flow)


def test_inline_glue_is_short_and_holds_nothing_that_kestra_would_render(flow: dict[str, Any]) -> None:
    for task in tasks(flow):
        if task["type"] == PYTHON:
            script = task["script"]
            assert len(script.splitlines()) <= 15, task["id"]
            assert "from scripts import" in script, task["id"]
            assert not [mark for mark in ("{{", "{%", "{#") if mark in script], task["id"]


def test_schedules_are_in_utc_and_recover_the_last_tick(flow: dict[str, Any]) -> None:
    for trigger in flow.get("triggers", []):
        assert trigger["timezone"] == "UTC"
        assert trigger["recoverMissedSchedules"] == "LAST"
        assert "labels" not in trigger
        assert "{{" not in str(trigger.get("inputs", ""))


def test_flow_outputs_survive_a_failed_run(flow: dict[str, Any]) -> None:
    for output in flow.get("outputs", []):
        assert output["required"] is False, output["id"]
        assert "??" in output["value"], output["id"]


@pytest.mark.parametrize("file", FLOWS, ids=lambda file: file.stem)
def test_nothing_that_kestra_2_does_not_take(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not [word for word in FORBIDDEN if word in text]
    assert "\n---" not in text
