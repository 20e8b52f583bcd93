"""Flow files that must not be loaded: each refusal names the file, where, and why, and nothing is changed."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from local.engine import Engine, EngineError

pytestmark = pytest.mark.engine

HEAD = "id: broken\nnamespace: analytics.amplitude\n"
PYTHON = """\
type: io.kestra.plugin.scripts.python.Commands
taskRunner: {type: io.kestra.plugin.core.runner.Process}
packageManager: PIP
"""


def log(message: str) -> str:
    return HEAD + f"tasks:\n  - id: say\n    type: io.kestra.plugin.core.log.Log\n    message: {message}\n"


def python(properties: str) -> str:
    return HEAD + "tasks:\n  - id: work\n" + indent(PYTHON + dedent(properties), "    ") + "\n"


def refusal(engine: Engine, tmp_path: Path, **files: str) -> str:
    """What a load of these flow files says."""
    for name, text in files.items():
        file = tmp_path / "flows" / f"{name}.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    with pytest.raises(EngineError) as error:
        engine.load(tmp_path)
    return str(error.value)


@pytest.mark.parametrize("name", ["drafts/other.yml", "other.yaml"])
def test_a_flow_that_would_be_left_out_in_silence(engine: Engine, tmp_path: Path, name: str) -> None:
    (tmp_path / "flows" / name).parent.mkdir(parents=True)
    (tmp_path / "flows" / name).write_text(log("a"))
    assert f"{name}: a flow's file ends in .yml and lies in" in refusal(engine, tmp_path, broken=log("a"))


MISTAKES = {
    "YAML syntax, with its line": (HEAD + "tasks: [\n", "broken.yml: ", "line 4"),
    "duplicate key, with its line": (
        log("a\n    message: b"),
        "broken.yml: ",
        "Duplicate field 'message'",
        "line 7",
    ),
    "unknown property of the flow": (log("a") + "taks: []\n", "broken.yml: taks: ", 'Unrecognized field "taks"'),
    "unknown property of a task": (log("a\n    mesage: b"), "broken.yml: say.mesage: ", 'Unrecognized field "mesage"'),
    "unknown task type": (
        log("a").replace("log.Log", "log.Logg"),
        "broken.yml: say.type: ",
        "Invalid type: io.kestra.plugin.core.log.Logg",
    ),
    "missing property": (python("env: {A: b}"), "broken.yml: work.commands: must not be null"),
    "wrong type": (log("a") + "concurrency: {limit: many}\n", "broken.yml: ", "many"),
    "wrong shape": (log("a") + "concurrency: {limit: 1, behavior: WAIT}\n", "broken.yml: ", "[QUEUE, CANCEL, FAIL]"),
    "a property of the real plugin that the stand-in lacks": (
        python("dependencies: [pandas]\ncommands: [ls]"),
        "broken.yml: ",
        'Unrecognized field "dependencies"',
        "the stand-in of this task type knows these properties only",
    ),
    "two documents": (log("a") + "---\n" + log("b"), "broken.yml: holds more than one YAML document"),
    "id that is not the file's name": (
        log("a").replace("broken", "other"),
        "broken.yml: id: other must be the name of the file",
    ),
    "another namespace": (
        log("a").replace("analytics.", "other."),
        "broken.yml: namespace: other.amplitude must be analytics.amplitude",
    ),
    "timeout that is no duration": (
        log("a\n    timeout: 5minutes"),
        "broken.yml: say.timeout: '5minutes' is not a Duration",
    ),
    "enum that does not exist": (
        python("packageManager: PIPP\ncommands: [ls]").replace("    packageManager: PIP\n", ""),
        "broken.yml: work.packageManager: 'PIPP' is not a PackageManager [PIP, UV]",
    ),
    "command that YAML reads as a map": (
        python("commands:\n  - ls\n  - echo key: value"),
        "broken.yml: work.commands[1]: ",
        "YAML read the text as a map, put it in quotes",
    ),
    "boolean that is none": (
        log("a")
        + "  - {id: gone, type: io.kestra.plugin.core.storage.Delete, uri: 'kestra:///a', errorOnMissing: never}\n",
        "broken.yml: gone.errorOnMissing: 'never' is not a Boolean",
    ),
    "default of another type": (
        log("a") + "inputs:\n  - {id: day, type: DATE, defaults: tomorrow}\n",
        "broken.yml: inputs.day.defaults: ",
    ),
    "default that is no value of a SELECT": (
        log("a") + "inputs:\n  - {id: scope, type: SELECT, values: [day, recent], defaults: week}\n",
        "broken.yml: inputs.scope.defaults: ",
        "day",
    ),
    "secret that the engine has not": (
        python("env: {A: \"{{ secret('NOPE') }}\"}\ncommands: [ls]"),
        "broken.yml: work.env.A: there is no secret NOPE",
    ),
    "setting that the engine has not": (
        log("'{{ envs.plaec }}'"),
        "broken.yml: say.message: there is no setting plaec",
    ),
    "input that is not declared": (log("'{{ inputs.day }}'"), "broken.yml: say.message: there is no input day"),
    "variable that is not declared": (log("'{{ vars.day }}'"), "broken.yml: say.message: there is no variable day"),
    "output of no task": (
        log("'{{ outputs.extarct.vars.rows }}'"),
        "broken.yml: say.message: there is no task extarct",
    ),
    "output file that the task does not keep": (
        python("commands: [ls]\noutputFiles: [rows.csv]") + "outputs:\n"
        "  - {id: rows, type: FILE, value: \"{{ outputs.work.outputFiles['row.csv'] }}\"}\n",
        "broken.yml: outputs.rows.value: outputFiles of task work has no row.csv",
    ),
    "unknown filter": (log("\"{{ 'a' | upperr }}\""), "broken.yml: say.message: there is no filter upperr"),
    "unknown function": (log('"{{ nwo() }}"'), "broken.yml: say.message: there is no function nwo"),
    "expression that is not closed": (log('"{{ now() "'), "broken.yml: say.message: "),
    "schedule without a value for a required input": (
        log("a") + "inputs:\n  - {id: day, type: DATE}\n"
        'triggers:\n  - {id: daily, type: io.kestra.plugin.core.trigger.Schedule, cron: "0 3 * * *"}\n',
        "broken.yml: daily.inputs.day: Missing required input",
    ),
    "schedule with an input that the flow has not": (
        log("a") + "triggers:\n  - id: daily\n    type: io.kestra.plugin.core.trigger.Schedule\n"
        '    cron: "0 3 * * *"\n    inputs: {scoop: day}\n',
        "broken.yml: daily.inputs.scoop: flow broken has no such input",
    ),
    "schedule that gives an input its own date (each run of it would be born FAILED)": (
        log("a") + "inputs:\n  - {id: day, type: STRING}\n"
        "triggers:\n  - id: daily\n    type: io.kestra.plugin.core.trigger.Schedule\n"
        '    cron: "0 3 * * *"\n    inputs: {day: "{{ trigger.date }}"}\n',
        "broken.yml: daily.inputs.day: must be a constant",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_a_flow_with_a_mistake_is_refused(engine: Engine, tmp_path: Path, mistake: str):
    text, *told = MISTAKES[mistake]
    said = refusal(engine, tmp_path, broken=text)
    for part in told:
        assert part in said


CHILD = """\
id: child
namespace: analytics.amplitude
inputs:
  - {id: day, type: DATE}
tasks:
  - {id: say, type: io.kestra.plugin.core.log.Log, message: "{{ inputs.day }}"}
outputs:
  - {id: said, type: STRING, value: x}
"""
SUBFLOW = (
    HEAD + "tasks:\n  - {{id: call, type: io.kestra.plugin.core.flow.Subflow, namespace: analytics.amplitude, {}}}\n"
)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ("flowId: chidl", "broken.yml: call.flowId: there is no (valid) flow chidl"),
        ("flowId: child", "broken.yml: call.inputs.day: Missing required input"),
        ("flowId: child, inputs: {day: today}", "broken.yml: call.inputs.day: "),
        (
            'flowId: child, inputs: {day: "2026-01-02", dya: 1}',
            "broken.yml: call.inputs.dya: flow child has no such input, only [day]",
        ),
    ],
)
def test_a_subflow_call_that_cannot_work_is_refused(engine: Engine, tmp_path: Path, call: str, told: str):
    assert told in refusal(engine, tmp_path, child=CHILD, broken=SUBFLOW.format(call))


def test_an_output_that_the_subflow_does_not_have_is_refused(engine: Engine, tmp_path: Path):
    text = SUBFLOW.format('flowId: child, inputs: {day: "2026-01-02"}')
    text += '  - {id: say, type: io.kestra.plugin.core.log.Log, message: "{{ outputs.call.outputs.sayd }}"}\n'
    assert "broken.yml: say.message: flow child has no output sayd, only [said]" in refusal(
        engine, tmp_path, child=CHILD, broken=text
    )


def test_all_mistakes_are_told_at_once_and_nothing_is_loaded(engine: Engine, tmp_path: Path):
    said = refusal(engine, tmp_path, child=CHILD, broken=log("'{{ inputs.a }} {{ outputs.b }}'"), hello=log("a"))

    assert said.splitlines() == [
        "no flow was loaded:",
        "hello.yml: id: broken must be the name of the file",
        "broken.yml: say.message: there is no input a, only []",
        "broken.yml: say.message: there is no task b",
    ]
    assert list(engine.run("hello", {"name": "still there"}))[-1]["state"] == "SUCCESS"
    with pytest.raises(EngineError, match="no flow child"):
        list(engine.run("child"))
