"""One real Kestra engine for all engine tests of this folder; it starts only when a test asks for it."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.engine import Engine
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


@pytest.fixture(scope="session")
def engine(
    build: EngineBuild, engine_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    with Engine(build, tmp_path_factory.mktemp("kestra"), engine_environment) as engine:
        engine.load(PROJECT)
        yield engine
