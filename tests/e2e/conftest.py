"""The whole pipeline on the real Kestra engine and the stand-ins; one stack for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.java import BuildError, ensure_engine
from local.session import Session
from tests.e2e.pipeline import Pipeline


@pytest.fixture(scope="session")
def build():
    try:
        return ensure_engine()
    except BuildError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def pipeline(build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A deployed stack whose Amplitude serves generated events."""
    with Session(build, state=tmp_path_factory.mktemp("stack")) as session:
        yield Pipeline.deployed(session)


def repository() -> Path:
    return Path(__file__).resolve().parents[2]
