"""One stack with its Kestra engine, and the way to reach it: in this process, or in the one that `up` left running.

`up` starts `python -m local serve` in the background. It listens on `.local/control.sock`: a client sends one JSON
line (`{"do": "run", "arguments": {…}}`) and gets events, one JSON line each, until the connection closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local.engine import Engine, EngineError
from local.java import ROOT, BuildError, EngineBuild, ensure_engine
from local.progress import Event, UnfinishedError
from local.stack import GIVES_WAY, STATE, Stack, StackError, busy, read_settings
from scripts.pipeline.project import NAMESPACE, namespace_files

FAILURES = (StackError, EngineError, BuildError, UnfinishedError)
SOCKET = STATE / "control.sock"


class Session:
    """Stand-ins and engine in this process; every event of every run is kept in `.local/runs/<execution>.jsonl`."""

    def __init__(
        self,
        build: EngineBuild,
        *,
        state: Path = STATE,
        archives: Path | None = None,
        scheduler: bool = False,
        plugins: Path | None = None,
    ) -> None:
        self.stack = Stack(state, archives)
        self._build, self._scheduler, self._plugins = build, scheduler, plugins
        self._runs = self.stack.state / "runs"
        self._engine: Engine | None = None
        self._loaded: dict[str, int] = {}
        self._loading = threading.Lock()

    def __enter__(self) -> Self:
        self.stack.__enter__()
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
            self._engine = Engine(
                self._build,
                self.stack.state / "kestra",
                self.stack.kestra_environment(),
                plugins=self._plugins,
                scheduler=self._scheduler,
                on_event=self._keep,
            ).__enter__()
            self._load()
            self.stack.endpoints["kestra"] = {"namespace": NAMESPACE, "schedules": self._scheduler, "ui": False}
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _load(self) -> None:
        """Flows and files as they are now, for Kestra too: somebody edits them beside `up`."""
        files = [*(ROOT / "flows").rglob("*"), *(ROOT / name for name in namespace_files(ROOT))]
        with self._loading:
            found = {str(file): file.stat().st_mtime_ns for file in files}
            if found != self._loaded:
                self.engine.load(ROOT)
                self._loaded = found

    @property
    def engine(self) -> Engine:
        if not self._engine:
            message = "the Kestra engine is not started"
            raise StackError(message)
        return self._engine

    def check(self) -> None:
        """Raises an error that names whatever ended by itself: without it the rest must not seem to be up."""
        if not self.engine.alive:
            message = f"the Kestra engine ended by itself: see {self.engine.log_file}"
            raise EngineError(message)
        self.stack.check()

    def stop(self) -> None:
        if self._engine:
            self._engine.stop()
            self._engine = None
        self.stack.stop()

    def _keep(self, event: Event) -> None:
        if "execution" in event:
            with (self._runs / f"{event['execution']}.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")

    def do(self, what: str, arguments: Mapping[str, Any]) -> Iterator[Event]:
        """Events of a command: `run`, `restart`, `replay`, `kill`, `backfill`, `status`."""
        if what == "kill":
            self.engine.kill(arguments["execution"])
        elif what == "backfill":
            times = {name: datetime.fromisoformat(arguments[name]) for name in ("start", "end") if arguments[name]}
            self.engine.backfill(**{**arguments, **times})
        elif what in {"run", "restart", "replay"}:
            self._load()
            yield from getattr(self.engine, what)(**arguments)
        elif what == "status":
            # For `sql` and `script`; it goes over a socket that only this user can open.
            yield {"event": "status", "endpoints": self.stack.endpoints, "settings": self.stack.settings}
        else:
            message = f"unknown command {what}"
            raise StackError(message)


class _Answers(socketserver.StreamRequestHandler):
    """One command of one client."""

    def handle(self) -> None:
        server = self.server
        if not isinstance(server, _Control):
            raise TypeError(server)
        try:
            line = self.rfile.readline()
            if not line:
                return  # somebody only asked whether we live
            command = json.loads(line)
            if command["do"] == "stop":
                server.stopped.set()
                return
            for event in server.session.do(command["do"], command["arguments"]):
                self._answer(event)
        except BrokenPipeError:
            return  # the client went away; its run goes on, as it would in Kestra's UI
        except FAILURES as error:
            self._answer({"event": "error", "message": str(error)})

    def _answer(self, event: Event) -> None:
        self.wfile.write(json.dumps(event).encode() + b"\n")


class _Control(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, session: Session) -> None:
        self.session = session
        self.stopped = threading.Event()
        SOCKET.unlink(missing_ok=True)
        super().__init__(_short(SOCKET), _Answers)
        SOCKET.chmod(0o600)


def _short(path: Path) -> str:
    """A path of a socket may have about 100 characters: use the way from the current folder when it is shorter."""
    return min(str(path), os.path.relpath(path), key=len)


def serve(archives: Path | None, plugins: Path | None) -> None:
    """The process behind `up`: stack, engine and schedules until SIGTERM."""

    try:
        with (
            Session(ensure_engine(), archives=archives, scheduler=True, plugins=plugins) as session,
            _Control(session) as control,
        ):
            threading.Thread(target=control.serve_forever, daemon=True).start()
            # A signal, or a command in another thread, ends it: a plain wait would sleep through the latter.
            signal.signal(signal.SIGTERM, lambda *_: control.stopped.set())
            while not control.stopped.wait(0.5):
                session.check()
            control.shutdown()
    finally:
        SOCKET.unlink(missing_ok=True)


class Remote:
    """The stack that `up` left running, with the `do` of a Session."""

    def do(self, what: str, arguments: Mapping[str, Any]) -> Iterator[Event]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(_short(SOCKET))
            connection.sendall(json.dumps({"do": what, "arguments": dict(arguments)}).encode() + b"\n")
            with connection.makefile(encoding="utf-8") as answers:
                for line in answers:
                    event = json.loads(line)
                    if event["event"] == "error":
                        raise StackError(event["message"])
                    yield event


def running() -> Remote | None:
    """The running stack, if `up` was called and it still lives."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(_short(SOCKET))
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    return Remote()


def settings_of(remote: Remote) -> dict[str, str]:
    """Those of the stack that is up. StackError when a stand-in should give way now: that counts at the start only."""
    settings: dict[str, str] = next(remote.do("status", {}))["settings"]
    given = read_settings()
    unheard = [switch for switch, _ in GIVES_WAY.values() if switch in given and given[switch] != settings[switch]]
    if unheard:
        message = f"{', '.join(unheard)} counts at the start only: `python -m local down` first"
        raise StackError(message)
    return settings


@contextlib.contextmanager
def reach(archives: Path | None, plugins: Path | None) -> Iterator[Session | Remote]:
    """The stack that `up` started, or one for this command alone."""
    if archives and not archives.exists():
        message = f"--archives {archives}: no such file or folder"
        raise StackError(message)
    if remote := running():
        if archives or plugins:
            message = "--archives and --plugins count at the start only: `python -m local down` first"
            raise StackError(message)
        settings_of(remote)
        yield remote
        return
    with Session(ensure_engine(), archives=archives and archives.resolve(), plugins=plugins) as own:
        yield own


def wait_up(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Polls until `up`'s process serves; False when it ended or the time is over."""
    deadline = time.monotonic() + seconds
    while not running():
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def wait_down(seconds: float) -> bool:
    """Polls until no process runs the stack; False when the time is over."""
    deadline = time.monotonic() + seconds
    while busy(STATE):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
