"""One real Kestra engine for all engine tests of this folder; it starts only when a test asks for it."""

from __future__ import annotations

import base64
import os
import queue
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.engine import Engine, Event
from local.java import EngineBuild, ensure_engine

PROJECT = Path(__file__).parent / "engine_project"


@pytest.fixture(scope="session")
def build() -> EngineBuild:
    return ensure_engine()


@pytest.fixture(scope="session")
def engine_environment() -> dict[str, str]:
    """What engine and tasks may see: one setting, one secret, and where python is."""
    return {
        "PATH": os.environ["PATH"],
        "VIRTUAL_ENV": sys.prefix,
        "ENV_PLACE": "Zürich",
        "SECRET_TOKEN": base64.b64encode(b"s3cr3t-t0k3n").decode(),
    }


@pytest.fixture(scope="package")
def all_events() -> queue.SimpleQueue[Event]:
    """Every event of the engine, also of runs that no test started itself."""
    return queue.SimpleQueue()


@pytest.fixture(scope="package")
def engine(
    build: EngineBuild,
    engine_environment: dict[str, str],
    all_events: queue.SimpleQueue[Event],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Engine]:
    state = tmp_path_factory.mktemp("kestra")
    with Engine(build, state, engine_environment, scheduler=True, on_event=all_events.put) as engine:
        engine.load(PROJECT)
        yield engine
