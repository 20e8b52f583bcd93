"""Two workers share the suite (`pytest -n 2`): tests that share servers stay with one, all others file by file."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

SHARED = ("tests/e2e/", "tests/dbt/", "tests/integration/warehouse/")  # their fixtures are too dear to start twice
LONGEST = ("tests/scenarios/", *SHARED)  # first, or one worker is left with them at the end


# A slow machine says nothing about the data that a property test draws.
settings.register_profile("suite", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("suite")


class ByServer(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in SHARED if nodeid.startswith(folder)), nodeid.split("::", 1)[0])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, folder in enumerate(LONGEST) if item.nodeid.startswith(folder)), 9))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByServer:
    return ByServer(config, log)
