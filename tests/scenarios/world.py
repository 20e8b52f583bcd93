"""A laptop stack in which days pass as fast as runs do: its clock is the test's, and so is what goes wrong.

The clock (`PIPELINE_NOW`) is a setting, so a new time is a new start of the engine over the same state. A scheduled
tick is a backfill of the `daily` trigger for one date: with the clock at that date it has all marks of a real one, its
`next` in the future included.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import requests
from botocore.config import Config

from local import sql
from local.engine import Engine, Event
from local.java import EngineBuild
from local.stack import Stack

OVER = {"SUCCESS", "WARNING", "FAILED", "KILLED", "SKIPPED"}
PATIENCE = 600.0  # seconds for a whole run on a busy machine


class SmallStack(Stack):
    """A website with few visitors."""

    def _amplitude_options(self) -> list[str]:
        return [*super()._amplitude_options(), "--events-per-day", "300"]


class Run:
    """What an execution has told, its children's included in `log` alone."""

    def __init__(self, execution: str, events: list[Event]) -> None:
        self.execution = execution
        mine = [event for event in events if event.get("execution") == execution]
        self.state: str = [event["state"] for event in mine if event["event"] == "execution"][-1]
        self.tasks = {event["task"]: event["state"] for event in mine if event["event"] == "task"}
        self.vars: dict[str, dict[str, Any]] = {
            event["task"]: (event.get("outputs") or {}).get("vars") or {} for event in mine if event["event"] == "task"
        }
        self.log = [event["message"] for event in mine if event["event"] == "log"]

    @property
    def failed(self) -> list[str]:
        return [task for task, state in self.tasks.items() if state == "FAILED"]

    def __repr__(self) -> str:
        return f"{self.execution} {self.state} {self.tasks}\n" + "\n".join(self.log[-30:])


class World:
    def __init__(self, build: EngineBuild, stack: Stack, project: Path) -> None:
        self._build, self.stack, self._project = build, stack, project
        self._engine: Engine | None = None
        self._events: list[Event] = []
        self._told = threading.Condition()
        self.now = datetime.now(UTC)
        self.ticks: list[str] = []  # executions

    # Time

    def at(self, now: datetime, project: Path | None = None, **settings: str) -> list[str]:
        """It is `now`, and a server with these settings starts. Returns the runs that it found left."""
        self.down()
        self.now = now
        requests.post(f"{self.amplitude}/_clock", json={"now": now.isoformat()}, timeout=10).raise_for_status()
        environment = self.stack.kestra_environment() | {"TZ": "Europe/London"}
        for name, value in ({"PIPELINE_NOW": now.isoformat()} | settings).items():
            environment |= {name: value, f"ENV_{name}": value}
        state = self.stack.state / "kestra"
        self._engine = Engine(self._build, state, environment, scheduler=True, on_event=self._tell).__enter__()
        self._engine.load(project or self._project)
        left = [event for event in self._engine.leftovers if event["flow"] == "amplitude_daily"]
        return [self.ends(event["execution"]).execution for event in left]

    def down(self) -> None:
        if self._engine:
            self._engine.stop()
            self._engine = None

    @property
    def engine(self) -> Engine:
        assert self._engine
        return self._engine

    def _tell(self, event: Event) -> None:
        with self._told:
            self._events.append(event)
            self._told.notify_all()

    def _wait(self, found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What `found` returns once it is true; it is called under the lock whenever something was told."""
        deadline = time.monotonic() + seconds
        with self._told:
            while not (answer := found()):
                assert self.engine.alive, self.engine.log_file
                assert time.monotonic() < deadline, f"nothing for {seconds} s"
                self._told.wait(1)
            return answer

    def ends(self, execution: str) -> Run:
        """Waits for the end of a run of amplitude_daily, afterExecution included: `when_over` is its last task."""
        self._wait(
            lambda: any(
                event["event"] == "task" and event["task"] == "when_over" and event["state"] in OVER
                for event in self._events
                if event.get("execution") == execution
            )
        )
        return Run(execution, self._events)

    # What a person, or the schedule, does

    def begin_tick(self) -> str:
        """The schedule's tick of this moment; returns its execution once it runs."""
        known = {event.get("execution") for event in self._events}
        tick = self.now.replace(second=0, microsecond=0)
        self.engine.backfill("amplitude_daily", "daily", tick - timedelta(seconds=1), tick)

        def began() -> str:
            mine = (each for each in self._events if each["event"] == "execution" and each["flow"] == "amplitude_daily")
            return next((each["execution"] for each in mine if each["execution"] not in known), "")

        self.ticks.append(self._wait(began))
        return self.ticks[-1]

    def tick(self) -> Run:
        return self.ends(self.begin_tick())

    def run(self, flow: str, **inputs: object) -> Run:
        return self._followed(self.engine.run(flow, inputs))

    def restart(self, run: Run) -> Run:
        return self._followed(self.engine.restart(run.execution))

    def replay(self, execution: str, task: str | None = None) -> Run:
        return self._followed(self.engine.replay(execution, task))

    def _followed(self, events: Iterator[Event]) -> Run:
        told = list(events)
        return Run(told[-1]["execution"], self._events)

    def begin_replay(self, execution: str) -> str:
        return str(next(self.engine.replay(execution))["execution"])

    def reaches(self, execution: str, task: str, seconds: float) -> None:
        """Waits until the task has been running for some seconds, or has ended."""
        self._wait(
            lambda: any(
                event["event"] == "task" and event["task"] == task and event["state"] == "RUNNING"
                for event in self._events
                if event.get("execution") == execution
            )
        )
        time.sleep(seconds)

    def kill(self, execution: str) -> Run:
        self.engine.kill(execution)
        return self.ends(execution)

    def crash(self) -> None:
        """The server is gone, with the processes of its tasks."""
        os.kill(self.engine.pid, signal.SIGKILL)
        self.down()

    # What is true

    @property
    def amplitude(self) -> str:
        return str(self.stack.endpoints["amplitude"]["url"])

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return sql.query(self.stack.settings, statement)[1]

    def s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.stack.endpoints["s3"]["endpoint"],
            aws_access_key_id="local",
            aws_secret_access_key="local",
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def delete_parts(self, hour: str) -> None:
        """Takes the parts of an hour (`YYYY-MM-DDTHH`) out of the bucket."""
        s3, bucket = self.s3(), self.stack.settings["AWS_BUCKET_NAME"]
        project = self.stack.settings["AMP_PROJECT_ID"]
        prefix = f"python-import/project={project}/date={hour[:10]}/hour={hour[-2:]}/"
        found = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
        for each in found:
            s3.delete_object(Bucket=bucket, Key=each["Key"])

    def forget_files(self, execution: str) -> None:
        """What `pipeline_purge` does with an old run of amplitude_daily."""
        shutil.rmtree(
            self.stack.state / "kestra/storage/main/analytics/amplitude/amplitude-daily/executions" / execution
        )

    def faults(self, *faults: dict[str, Any]) -> None:
        """What goes wrong at Amplitude from now on; without any all is well there."""
        requests.delete(f"{self.amplitude}/_faults", timeout=10).raise_for_status()
        if faults:
            requests.post(f"{self.amplitude}/_faults", json=list(faults), timeout=10).raise_for_status()

    def late(self, hour: str, events: int) -> None:
        requests.post(f"{self.amplitude}/_late", json={"hour": hour, "events": events}, timeout=10).raise_for_status()

    def truth(self, first: str, last: str) -> dict[str, list[str]]:
        """Hour → uuids, by Amplitude's own account; hours as YYYY-MM-DDTHH, both inclusive."""
        window = {"start": first.replace("-", ""), "end": last.replace("-", "")}
        answer = requests.get(f"{self.amplitude}/_truth", params=window, timeout=120).json()
        return {hour: known["uuids"] for hour, known in answer["hours"].items()}
