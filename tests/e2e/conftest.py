"""The whole pipeline on the real Kestra engine and the stand-ins. All tests of this folder share one laptop state.

It is made by the demo itself, run twice as a newcomer would; then the same state serves real events to the flow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from local.java import BuildError, EngineBuild, ensure_engine
from local.session import Session
from tests.e2e.pipeline import Pipeline, Run
from tests.e2e.real_events import lines
from tests.receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def build() -> EngineBuild:
    try:
        return ensure_engine()
    except BuildError as error:
        pytest.fail(str(error))


@dataclass
class Laptop:
    """`python -m local` with a state of its own."""

    state: Path
    demos: list[dict[str, Any]] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "local", *arguments],
            cwd=ROOT,
            env=os.environ | {"LOCAL_STATE": str(self.state)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err


@pytest.fixture(scope="package")
def receiver() -> Iterator[Receiver]:
    """The chat that hears the alerts of these runs."""
    receiver = Receiver()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("ALERT_WEBHOOK_URL", receiver.url)
        yield receiver
    receiver.close()


@pytest.fixture(scope="package")
def laptop(build: EngineBuild, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    """A state in which the demo ran twice."""
    laptop = Laptop(tmp_path_factory.mktemp("laptop"))
    for _ in range(2):
        code, out, err = laptop.run("demo", "--json")
        assert code == 0, err[-4000:]
        laptop.demos.append(json.loads(out.splitlines()[-1]))
        laptop.shown.append(out)
    return laptop


@pytest.fixture(scope="package")
def pipeline(build: EngineBuild, laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The same state after the demos, its Amplitude now serving real events."""
    archives = tmp_path_factory.mktemp("archives")
    (archives / "events.jsonl").write_text("\n".join(lines()) + "\n", encoding="utf-8")
    with Session(build, state=laptop.state, archives=archives) as session:
        yield Pipeline(session)


@dataclass(frozen=True)
class BadDays:
    """The days of the real events: one refused twice, the other killed; then the run that mends both."""

    refused: tuple[Run, Run]
    killed: Run
    mended: Run
    alerts: list[str]  # of the bad runs
    said: list[str]  # by the last run


@pytest.fixture(scope="package")
def bad_days(pipeline: Pipeline, receiver: Receiver) -> BadDays:
    """The short form of tests/scenarios/test_ten_days.py."""
    first, second = "2023-08-24", "2023-08-25"
    receiver.bodies.clear()
    faults = pipeline.session.stack.endpoints["amplitude"]["url"] + "/_faults"
    refuses = {"do": "status", "status": 403, "hours": [f"{first}T05"]}
    hangs = {"do": "delay", "seconds": 60, "hours": [f"{second}T05"]}
    requests.post(faults, json=[refuses, hangs], timeout=10).raise_for_status()
    try:
        one, two = (pipeline.run("amplitude_daily", start_date=first, transform=False) for _ in range(2))
        killed = pipeline.run_and_kill("extract", "amplitude_daily", start_date=second, transform=False)
    finally:
        requests.delete(faults, timeout=10).raise_for_status()
    alerts = [body["text"] for body in receiver.bodies]
    mended = pipeline.run("amplitude_daily", start_date=first, end_date=second)
    said = [body["text"] for body in receiver.bodies[len(alerts) :]]
    return BadDays((one, two), killed, mended, alerts, said)
