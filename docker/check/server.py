"""Takes the place of /app/kestra in docker/check.sh: the REST API of tests/kestra_server.py, and behind it the engine.

Flows and files that the loader uploads are run by the real Kestra engine of the laptop, with this process's own
environment, so by what docker/entrypoint.py made. The web server, its API and Postgres are not Kestra's own here.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, "/repository")

from local.engine import Engine
from local.java import ensure_engine
from scripts.pipeline.project import NAMESPACE
from tests.kestra_server import Server, State

SERVER = json.loads(Path(os.environ["MICRONAUT_CONFIG_FILES"]).read_text(encoding="utf-8"))
STORAGE = Path(SERVER.get("STORAGE_DIR", "/app/storage"))  # as docker/kestra.yml has it


class Runs:
    """The engine, started at the first run."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self.states: dict[str, str] = {}

    def start(self, flow: str, inputs: Mapping[str, str]) -> str:
        """Answers at once, as Kestra does, with an id of our own."""
        run = secrets.token_hex(11)
        self.states[run] = "CREATED"
        threading.Thread(target=self._follow, args=(run, flow, inputs), daemon=True).start()
        return run

    def _follow(self, run: str, flow: str, inputs: Mapping[str, str]) -> None:
        ended = "FAILED"
        try:
            with self._lock:
                if not self._engine:
                    self._engine = Engine(ensure_engine(), STORAGE / "engine", os.environ).__enter__()
                self._engine.load(self._written())
            for event in self._engine.run(flow, inputs):
                if event["event"] == "execution":
                    self.states[run] = "RUNNING"
                if event["event"] in {"task", "log", "finished"}:
                    print(f"kestra: {json.dumps(event)[:2000]}", flush=True)
                if event["event"] == "finished":
                    ended = event["state"]
        finally:
            self.states[run] = ended

    def _written(self) -> Path:
        root = STORAGE / "namespace"
        shutil.rmtree(root, ignore_errors=True)
        for name, content in self._state.files.items():
            (root / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (root / name.lstrip("/")).write_bytes(content)
        (root / "flows").mkdir(parents=True, exist_ok=True)
        for flow, source in self._state.flows.items():
            (root / f"flows/{flow}.yml").write_text(source, encoding="utf-8")
        return root

    def stop(self) -> None:
        if self._engine:
            self._engine.stop()


def main() -> None:
    state = State(SERVER["KESTRA_ADMIN_USER"], SERVER["KESTRA_ADMIN_PASSWORD"])
    runs = Runs(state)
    state.run = runs.start
    state.execution = runs.states.get
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    for port in (8080, 8081):
        threading.Thread(target=Server(state, "0.0.0.0", port).serve_forever, daemon=True).start()
    print(f"kestra: serves as uid {os.getuid()}, namespace {NAMESPACE}: {' '.join(sys.argv[1:])}", flush=True)
    stop.wait()
    runs.stop()
    print("kestra: stopped in order", flush=True)


if __name__ == "__main__":
    main()
