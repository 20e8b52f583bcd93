"""What a flow does on the local engine: events, outputs, failures, restarts, and how the stand-ins of tasks behave."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.engine import Engine, EngineError, Event
from tests.integration.conftest import PROJECT

pytestmark = pytest.mark.engine


def run(events: Iterator[Event]) -> list[Event]:
    told = list(events)
    assert told[-1]["event"] == "finished"
    return told


def logs(events: list[Event], task: str) -> list[str]:
    """Messages of a task, without the engine's own line about namespace files."""
    lines = [event["message"] for event in events if event["event"] == "log" and event.get("task") == task]
    return [line for line in lines if not line.startswith("Loaded ")]


def task_states(events: list[Event], task: str) -> list[str]:
    return [event["state"] for event in events if event["event"] == "task" and event["task"] == task]


def outputs(events: list[Event], task: str) -> dict:
    return [event for event in events if event["event"] == "task" and event["task"] == task][-1]["outputs"]


def test_a_flow_runs_and_hands_over_its_file(engine: Engine):
    events = run(engine.run("hello", {"name": "Grace", "day": "2026-01-02"}, {"reason": "test"}))

    assert events[-1]["state"] == "SUCCESS"
    # One update of a run may bring two steps of a task, and the one before is never seen.
    assert [state for state in task_states(events, "greet") if state != "RUNNING"] == [
        "CREATED",
        "SUBMITTED",
        "SUCCESS",
    ]
    assert engine.file(events[-1]["outputs"]["greeting"]).read_text() == "hello Grace"
    assert outputs(events, "greet")["vars"] == {"length": 5}
    assert [
        (each["name"], each["value"]) for each in events if each["event"] == "metric" and each["name"] == "greetings"
    ] == [("greetings", 1.0)]


def test_settings_reach_the_task_and_its_secret_is_masked_in_the_log(engine: Engine):
    events = run(engine.run("hello"))

    assert logs(events, "greet") == ["day none place Zürich token ******"]


def test_three_thousand_lines_arrive_complete_and_in_order(engine: Engine):
    events = run(engine.run("lines", {"count": 3000}))

    assert logs(events, "print") == [f"line {number}" for number in range(3000)]


def test_a_failing_script_fails_its_task_and_its_run_and_its_last_words_are_told(engine: Engine, tmp_path: Path):
    events = run(engine.run("two_steps", {"file": str(tmp_path / "absent")}))

    assert events[-1]["state"] == "FAILED"
    assert task_states(events, "second")[-1] == "FAILED"
    assert outputs(events, "second")["exitCode"] == 1
    said = logs(events, "second")
    assert set(said[:2]) == {"got from the first step", "the file is not there: make it, then restart"}
    assert all("Command failed with exit code 1" in line for line in said[2:])
    assert logs(events, "report") == ["failed tasks: second"]
    assert logs(events, "verdict") == ["ended FAILED"]


def test_a_restart_runs_only_what_failed_under_the_same_id(engine: Engine, tmp_path: Path):
    file = tmp_path / "late"
    failed = run(engine.run("two_steps", {"file": str(file)}))[-1]
    file.touch()

    events = run(engine.restart(failed["execution"]))

    assert (events[-1]["execution"], events[-1]["state"]) == (failed["execution"], "SUCCESS")
    assert "RUNNING" not in task_states(events, "first")
    assert logs(events, "second") == ["got from the first step"]
    assert logs(events, "verdict") == ["ended SUCCESS"]


def test_a_replay_runs_everything_or_from_a_task_on_under_a_new_id(engine: Engine, tmp_path: Path):
    file = tmp_path / "there"
    file.touch()
    first = run(engine.run("two_steps", {"file": str(file)}))[-1]

    whole = run(engine.replay(first["execution"]))
    later = run(engine.replay(first["execution"], "second"))

    assert len({first["execution"], whole[-1]["execution"], later[-1]["execution"]}) == 3
    assert {whole[-1]["state"], later[-1]["state"]} == {"SUCCESS"}
    assert task_states(whole, "first")[-1] == "SUCCESS"
    assert "RUNNING" not in task_states(later, "first")
    assert logs(later, "second") == ["got from the first step"]


def test_runs_at_once_get_their_own_events_and_those_of_their_children(engine: Engine):
    told: dict[str, list[Event]] = {}

    def start(name: str) -> None:
        told[name] = run(engine.run("parent", {"name": name}))

    threads = [threading.Thread(target=start, args=(name,)) for name in ("Ada", "Grace")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for name, events in told.items():
        assert events[-1]["state"] == "SUCCESS"
        assert logs(events, "read") == [f"child wrote hello {name}"]
        assert [event["state"] for event in events if event["event"] == "execution" and event["flow"] == "hello"] == [
            "CREATED",
            "RUNNING",
            "SUCCESS",
        ]
        assert len({event["execution"] for event in events}) == 2


def test_bodies_are_rendered_as_often_as_the_real_plugin_does(engine: Engine):
    """The input's value is the text `{{ 1 + 1 }}`; a second rendering makes it 2 (facts of the real plugin)."""
    events = run(engine.run("rendering"))

    assert logs(events, "script") == [
        "body 2",
        "raw body 10",
        "env 2",
        "file 2",
        "raw file 14",
        "names True False None",
    ]
    assert logs(events, "commands") == [
        "before {{ 1 + 1 }}",
        "command {{ 1 + 1 }}",
        "raw command {{ 5 + 5 }}",
        "env 2",
        "file {{ 1 + 1 }}",
        "raw file {{ 7 + 7 }}",
    ]


def test_dbt_gets_its_options_and_its_json_lines_become_log_and_metrics(engine: Engine):
    events = run(engine.run("dbt"))

    assert events[-1]["state"] == "SUCCESS"
    assert logs(events, "build") == [
        "called with build --select tag:amplitude --project-dir project --log-format json --log-path logs",
        "profile made: here",
        "Done",
        "not JSON",
    ]
    result = outputs(events, "build")
    assert result["vars"] == {"models": 3}
    assert set(result["outputFiles"]) == {"manifest.json", "project/target/run_results.json"}
    assert {event["name"]: event["value"] for event in events if event["event"] == "metric"} == {
        "pass": 3.0,
        "warn": 0.0,
        "error": 1.0,
    }


def test_a_warning_of_dbt_makes_task_and_run_warning(engine: Engine):
    events = run(engine.run("dbt", {"level": "warn"}))

    assert (task_states(events, "build")[-1], events[-1]["state"]) == ("WARNING", "WARNING")


def test_a_failing_dbt_keeps_its_outputs(engine: Engine):
    events = run(engine.run("dbt", {"code": 1, "level": "error"}))

    assert (task_states(events, "build")[-1], events[-1]["state"]) == ("FAILED", "FAILED")
    result = outputs(events, "build")
    assert (result["exitCode"], result["vars"]) == (1, {"models": 3})
    assert set(result["outputFiles"]) == {"manifest.json", "project/target/run_results.json"}


@pytest.mark.parametrize(
    ("flow", "inputs", "told"),
    [
        ("hello", {"nmae": "Ada"}, "no input nmae"),
        ("hello", {"day": "20260102"}, "refuses the value of [day]"),
        ("lines", {"count": "many"}, "refuses the value of [count]"),
        ("parent", {}, "refuses the value of [name]"),
        ("nobody", {}, "no flow nobody"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name_before_a_run_exists(
    engine: Engine, flow: str, inputs: dict[str, str], told: str
):
    with pytest.raises(EngineError) as refusal:
        list(engine.run(flow, inputs))
    assert told in str(refusal.value)


def test_a_killed_run_ends_killed_and_cannot_be_killed_again(engine: Engine):
    events = engine.run("slow")
    running = next(event for event in events if event["event"] == "log")

    engine.kill(running["execution"])

    assert list(events)[-1]["state"] == "KILLED"
    with pytest.raises(EngineError, match="already ended KILLED"):
        engine.kill(running["execution"])
    with pytest.raises(EngineError, match="not killed to be restarted"):
        list(engine.restart(running["execution"]))
    with pytest.raises(EngineError, match="no execution absent"):
        engine.kill("absent")


def test_kills_in_the_midst_of_writing_never_take_the_engine_down(engine: Engine):
    """A kill interrupts the worker's threads; one that wrote closed the database, and the engine ended."""
    for number in range(8):
        events = engine.run("lines")
        seen = 0
        for event in events:
            if event["event"] == "log" and (seen := seen + 1) == 50 * number + 1:
                engine.kill(event["execution"])
                break
        assert list(events)[-1]["state"] == "KILLED"
    assert engine.alive


def test_a_backfill_runs_each_tick_once_in_order_with_its_inputs_and_labels(
    engine: Engine, all_events: queue.SimpleQueue[Event]
):
    first, last = datetime(2026, 1, 2, 3, 30, tzinfo=UTC), datetime(2026, 1, 4, 3, 30, tzinfo=UTC)

    engine.backfill("scheduled", "daily", first, last, {"place": "Leeds"}, {"reason": "backfill"})

    for trigger, refusal in (
        ("daily", "still at its backfill"),
        ("hourly", "disabled in the flow's source"),
        ("weekly", "has no schedule weekly"),
    ):
        with pytest.raises(EngineError, match=refusal):
            engine.backfill("scheduled", trigger, first, last)
    with pytest.raises(EngineError, match="no input plaice"):
        engine.backfill("scheduled", "daily", first, last, {"plaice": "Leeds"})
    assert [wait_for_log(all_events, "tell") for _ in range(3)] == [
        f"2026-01-0{day}T03:30:00Z Leeds backfill" for day in (2, 3, 4)
    ]


def test_a_backfill_of_one_tick_runs_it_and_a_range_without_a_tick_is_refused(
    engine: Engine, all_events: queue.SimpleQueue[Event]
):
    """Kestra would take both, run nothing, and keep the trigger waiting for ever."""
    tick = datetime(2026, 1, 6, 3, 30, tzinfo=UTC)
    with pytest.raises(EngineError, match=r"no tick from 2026-01-06T04:00.* to 2026-01-06T05:00"):
        backfill_when_free(engine, tick + timedelta(minutes=30), tick + timedelta(minutes=90))
    backfill_when_free(engine, tick, tick)
    assert wait_for_log(all_events, "tell") == "2026-01-06T03:30:00Z nowhere no reason"


def test_a_backfill_that_is_asked_for_while_a_flow_is_loaded_is_not_lost(
    engine: Engine, all_events: queue.SimpleQueue[Event], tmp_path: Path
):
    """The scheduler then writes every trigger as it had read it before."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project)
    hello, scheduled = project / "flows/hello.yml", project / "flows/scheduled.yml"
    text = hello.read_text(encoding="utf-8")
    scheduled.write_text(scheduled.read_text(encoding="utf-8").replace("Schedules: LAST", "Schedules: NONE"))
    engine.load(project)
    with ThreadPoolExecutor() as pool:
        for day in (7, 8, 9):
            tick = datetime(2026, 1, day, 3, 30, tzinfo=UTC)
            asked = pool.submit(backfill_when_free, engine, tick, tick)
            time.sleep(0.1)
            hello.write_text(f"description: {day}\n{text}", encoding="utf-8")
            engine.load(project)
            asked.result()
            while not wait_for_log(all_events, "tell").startswith(f"2026-01-0{day}"):
                continue  # a tick that was missed
    engine.load(PROJECT)


def backfill_when_free(engine: Engine, first: datetime, last: datetime) -> None:
    """The trigger may still be at the backfill of the test before."""
    for _ in range(100):
        try:
            return engine.backfill("scheduled", "daily", first, last)
        except EngineError as error:
            if "still at its backfill" not in str(error):
                raise
            time.sleep(0.2)
    pytest.fail("the trigger does not end its backfill")


def wait_for_log(events: queue.SimpleQueue[Event], task: str) -> str:
    while True:
        event = events.get(timeout=120)
        if event["event"] == "log" and event.get("task") == task:
            return event["message"]
