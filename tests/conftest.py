"""Which tests share a worker when the suite runs on two cores: those that share servers, else those of one file."""

from __future__ import annotations

import pytest

SHARED = {"dbt", "e2e", "warehouse"}  # folders whose session fixtures are too dear to start twice


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.parent.name
        item.add_marker(pytest.mark.xdist_group(folder if folder in SHARED else item.path.stem))
