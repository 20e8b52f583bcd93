"""docs/new_property.patch: the example of CONTRIBUTING, a property more in a mart, applied and built."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.dbt import story
from tests.dbt.conftest import WITHOUT_TESTS
from tests.dbt.warehouse import ROOT, Dbt, deployed

PATCH = ROOT / "docs/new_property.patch"
PROPERTY = "[Amplitude] Viewport Width"


def test_the_patch_fits_the_project_as_it_is() -> None:
    subprocess.run(["git", "apply", "--check", str(PATCH)], cwd=ROOT, check=True)


@pytest.mark.scenario
def test_the_property_stands_in_the_mart_and_an_older_row_takes_it_by_a_full_refresh(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "dbt", tmp_path / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    (tmp_path / "warehouse").mkdir()
    with deployed(tmp_path / "warehouse") as warehouse:
        loads = list(story.first_loads())
        for load in loads:
            warehouse.load(load.events, load.source_file, load.loaded_at)
        Dbt(warehouse, tmp_path / "dbt")("build", "--select", "+journey_analysis", *WITHOUT_TESTS)
        subprocess.run(["git", "apply", str(PATCH)], cwd=tmp_path, check=True)
        dbt = Dbt(warehouse, tmp_path / "dbt")
        mart = "AMPLITUDE.MARTS.JOURNEY_ANALYSIS"
        dbt("run", "--select", "+journey_analysis")
        assert warehouse.query(f"select count(viewport_width) as known from {mart}") == [{"known": 0}]
        dbt("run", "--full-refresh", "--select", "+journey_analysis")
        found = warehouse.query(f"select uuid, viewport_width from {mart} where viewport_width is not null")
    sent = {event["uuid"]: event["event_properties"] for load in loads for event in load.events}
    assert found
    assert all(row["viewport_width"] == sent[row["uuid"]][PROPERTY] for row in found)
    assert Counter(type(row["viewport_width"]).__name__ for row in found).keys() == {"int"}
