"""Drives the local Kestra engine: starts it, sends it commands, hands out its events.

Events are dicts with an `event`: `files, flow, execution, task, log, metric, leftover, finished, error` (shapes:
local/kestra/src/main/java/engine/Events.java). Those of a run carry its `execution` or that of one of its children.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from local import private_file
from local.java import ROOT, EngineBuild
from scripts.pipeline.errors import ConfigurationError
from scripts.pipeline.project import NAMESPACE, flow_files, namespace_files

LAST_EVENTS = {"done", "finished", "error"}
STOP_SECONDS = 30

Event = dict[str, Any]


def stored(state: Path, uri: str) -> Path:
    """Where a file output (`kestra:///…`) lies below an engine's folder of state."""
    return state / "storage/main" / uri.removeprefix("kestra:///")


def open_alerts(state: Path) -> dict[str, str]:
    """What `notify` has told and nothing has closed: key → since when. Kestra's KV value `alerts`, a text of JSON."""
    kept = (state / "storage/main/analytics/amplitude/_kv").glob("alerts.ion*")
    versions = [file for file in kept if file.suffix != ".metadata"]
    if not versions:
        return {}
    newest = max(versions, key=lambda file: file.stat().st_mtime_ns)
    return dict(json.loads(json.loads(newest.read_text(encoding="utf-8"))))


class EngineError(Exception):
    """The engine refused a command, could not start, or ended. The message says which and why."""


class Engine:
    """One engine process; `with Engine(...) as engine` starts and stops it. Safe to use from several threads.

    `environment` is the whole environment of engine and tasks: `SECRET_*`, `ENV_*`, plain settings, `PATH`,
    `VIRTUAL_ENV`. `plugins` is a folder of jars that takes the place of the stand-ins. Schedules run only with
    `scheduler`. `on_event` gets every event, also those of scheduled runs, in the thread that reads them.
    """

    def __init__(
        self,
        build: EngineBuild,
        state: Path,
        environment: Mapping[str, str],
        *,
        plugins: Path | None = None,
        scheduler: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        self._build = build
        self._state = state.resolve()
        self._environment = dict(environment)
        self._plugins = plugins or build.plugins
        self._scheduler = scheduler
        self._on_event = on_event
        self._lock = threading.Lock()
        self._requests = 0
        self._queues: dict[int | None, queue.SimpleQueue[Event]] = {}
        self.leftovers: list[Event] = []  # runs that a killed engine left behind, killed at this start

    def __enter__(self) -> Self:
        try:
            self._start("wb")
        except EngineError:
            # The first start after a SIGKILL may fail on H2's half-written queue table; the next one works.
            self._start("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log_file(self) -> Path:
        """What the engine says for itself; of interest when it does not start or ends."""
        return self._state / "engine.log"

    @property
    def pid(self) -> int:
        """Process id of the JVM, which is also the id of its process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _start(self, log_mode: str) -> None:
        for folder in ("h2", "storage", "work"):
            (self._state / folder).mkdir(parents=True, exist_ok=True)
        settings = {
            "STATE_DIR": str(self._state),
            "KESTRA_ENCRYPTION_KEY": self._encryption_key(),
            "LANG": "C.UTF-8",  # without one Java reads the environment as ASCII
        }
        with self.log_file.open(log_mode) as log:
            self._process = subprocess.Popen(
                [*self._build.command(self._plugins), *(["scheduler"] if self._scheduler else [])],
                env=settings | self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C reaches the driver only, and the group can be killed with its tasks
            )
        starting = self._queues[None] = queue.SimpleQueue()
        self.leftovers.clear()
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        try:
            while (event := starting.get())["event"] not in {"ready", "error"}:
                pass  # what the leftovers do while they are killed
        except BaseException:
            self.stop()
            raise
        del self._queues[None]
        if event["event"] == "error":
            self.stop()
            message = f"the Kestra engine did not start: {event['message']} (more in {self.log_file})"
            raise EngineError(message)

    def _encryption_key(self) -> str:
        """The laptop's own key, made once: it encrypts inputs of type SECRET in the engine's database."""
        file = self._state / "encryption.key"
        if not file.exists():
            private_file.write(file, base64.b64encode(secrets.token_bytes(32)))
        return file.read_text(encoding="ascii")

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Hands each event to the caller whose request it belongs to, until the engine ends."""
        output: IO[str] = process.stdout  # type: ignore[assignment]  # it is a pipe
        reason = ""
        try:
            for line in output:
                event: Event = json.loads(line)
                if event["event"] == "error" and "request" not in event:
                    reason = f"{event['message']}; "
                if event["event"] == "leftover":
                    self.leftovers.append(event)
                with self._lock:
                    waiting = self._queues.get(event.get("request"))
                if waiting:
                    waiting.put(event)
                if self._on_event:
                    self._on_event(event)
        except OSError as error:  # an event could not be kept: a full disk, a folder that was removed
            reason = f"{error}; "
            process.kill()
        code = process.wait()
        self._kill_group(process)  # the tasks of an engine that was killed
        message = f"the Kestra engine ended with code {code}: {reason}see {self.log_file}"
        ended: Event = {"event": "error", "message": message}
        with self._lock:
            for waiting in self._queues.values():
                waiting.put(ended)

    def _send(self, do: str, **fields: object) -> Iterator[Event]:
        with self._lock:
            self._requests += 1
            request = self._requests
            self._queues[request] = queue.SimpleQueue()
            try:
                self._process.stdin.write(json.dumps({"do": do, "request": request, **fields}) + "\n")  # type: ignore[union-attr]
                self._process.stdin.flush()  # type: ignore[union-attr]
            except (BrokenPipeError, ValueError):
                del self._queues[request]
                message = f"the Kestra engine is not running: see {self.log_file}"
                raise EngineError(message) from None
        return self._answers(request)

    def _answers(self, request: int) -> Iterator[Event]:
        answers = self._queues[request]
        try:
            while True:
                event = answers.get()
                if event["event"] == "error":
                    raise EngineError(event["message"])
                yield event
                if event["event"] in LAST_EVENTS:
                    return
        finally:
            with self._lock:
                del self._queues[request]

    def load(self, root: Path = ROOT, flows: Path | None = None) -> list[Event]:
        """Makes the engine's namespace files and flows those below the root; returns `files` and `flow` events.

        Raises EngineError that names file, reason, and line or path when a flow is refused; nothing is changed then.
        Schedules start after the first load.
        """
        folder = flows or root / "flows"
        try:
            flow_files(folder)
        except ConfigurationError as error:
            raise EngineError(str(error)) from None
        events = self._send("load", namespace=NAMESPACE, root=str(root), files=namespace_files(root), flows=str(folder))
        return [event for event in events if event["event"] != "done"]

    def run(
        self, flow: str, inputs: Mapping[str, object] | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Event]:
        """Starts a run now; yields its events as they come, those of its children too; the last is `finished`.

        Raises EngineError when the flow or an input is refused, or when the engine ends meanwhile.
        """
        return self._send("run", namespace=NAMESPACE, flow=flow, inputs=inputs or {}, labels=labels or {})

    def restart(self, execution: str) -> Iterator[Event]:
        """Runs the failed tasks of an execution again, under its id; events as of `run`."""
        return self._send("restart", execution=execution)

    def replay(self, execution: str, task: str | None = None) -> Iterator[Event]:
        """Runs an execution again under a new id, from the start or from a task; events as of `run`."""
        return self._send("replay", execution=execution, task=task)

    def kill(self, execution: str) -> None:
        """Stops an execution with its children and processes; its own iterator ends with state KILLED."""
        list(self._send("kill", execution=execution))

    def backfill(
        self,
        flow: str,
        trigger: str,
        start: datetime,
        end: datetime | None = None,
        inputs: Mapping[str, object] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Has the scheduler run a schedule's past ticks, one after another; both ends inclusive, no end: to now.

        Returns when the first has begun; their events come to `on_event`. Raises EngineError without `scheduler`, or
        while the trigger has one.
        """
        if not self._scheduler:
            message = f"a backfill of {flow} needs an engine that runs schedules: `python -m local up` first"
            raise EngineError(message)
        dates = {"start": start.isoformat(), "end": end and end.isoformat()}
        fields = {"flow": flow, "trigger": trigger, "inputs": inputs or {}, "labels": labels or {}}
        list(self._send("backfill", namespace=NAMESPACE, **fields, **dates))

    def file(self, uri: str) -> Path:
        """Where a file output (`kestra:///…`) lies on this machine."""
        return stored(self._state, uri)

    def stop(self) -> None:
        """Ends the engine, its runs and their processes. Safe to call twice, and after a crash of the engine."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        finally:
            self._kill_group(self._process)

    @staticmethod
    def _kill_group(process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
