"""One warehouse and one story for all tests of the dbt project: building it is what takes the time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.dbt import story
from tests.dbt.truth import Truth
from tests.dbt.warehouse import Dbt, Warehouse, deployed

SELECT = ("--select", "+tag:amplitude")
WITHOUT_TESTS = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
# Of models only: what depends on when and from which file something was loaded.
LOAD_COLUMNS = {"loaded_at", "source_file", "source_row", "processed_at"}
Table = list[tuple[Any, ...]]


@dataclass
class Built:
    """What the story left behind at each step."""

    warehouse: Warehouse
    dbt: Dbt
    manifest: Any
    clean_day: list[str] = field(default_factory=list)  # dbt's warnings
    drift: list[str] = field(default_factory=list)
    tables: dict[str, dict[str, Table]] = field(default_factory=dict)  # step → model → rows
    stored: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # model → rows of the step kept first
    loads: list[story.Load] = field(default_factory=list)

    def load(self, loads: Iterator[story.Load]) -> None:
        for load in loads:
            self.warehouse.load(load.events, load.source_file, load.loaded_at)
            self.loads.append(load)

    def truth(self) -> Truth:
        """Of what was loaded, in the order of LOADED_AT, file and row."""
        loads = sorted(self.loads, key=lambda load: (load.loaded_at, load.source_file))
        return Truth(event for load in loads for event in load.events)

    def rows(self, model: str, **equal: Any) -> list[dict[str, Any]]:
        """As the incremental builds left them: after a full refresh a fault of theirs would be gone."""
        if model in self.stored:
            return [row for row in self.stored[model] if row.items() >= equal.items()]
        where = " and ".join(f"{name} = %s" for name in equal) or "true"
        return self.warehouse.query(f"select * from {self.relation(model)} where {where}", list(equal.values()))

    def relation(self, model: str) -> str:
        return self.manifest.nodes[f"model.amplitude.{model}"].relation_name

    def models(self, *materialized: str) -> list[str]:
        nodes = self.manifest.nodes.values()
        return [
            node.name
            for node in nodes
            if node.resource_type == "model" and node.config.materialized in (materialized or ("incremental", "table"))
        ]

    def keep(self, step: str) -> None:
        found = {model: self.warehouse.query(f"select * from {self.relation(model)}") for model in self.models()}
        self.tables[step] = {
            model: sorted((tuple(sorted((k, str(v)) for k, v in row.items())) for row in rows), key=repr)
            for model, rows in found.items()
        }
        self.stored = self.stored or found


@pytest.fixture(scope="package")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with deployed(tmp_path_factory.mktemp("dbt")) as running:
        yield running


@pytest.fixture(scope="package")
def built(warehouse: Warehouse) -> Built:
    """Built on an empty source, then a clean day, then late news, then nothing new, then in full."""
    dbt = Dbt(warehouse)
    made = Built(warehouse, dbt, dbt.parse())
    dbt("build", *SELECT, *WITHOUT_TESTS)
    made.load(story.first_loads())
    dbt("build", *SELECT)
    made.clean_day = dbt.log
    made.load(story.second_loads())
    dbt("run", "--select", "int_amplitude__events")  # a build that was killed after its first table
    dbt("run", "--select", "detecting_website_issues")  # somebody builds one mart alone
    dbt("build", *SELECT, *WITHOUT_TESTS)
    dbt("test", "--select", "event_type_is_known")
    made.drift = dbt.log
    made.keep("incremental")
    dbt("run", *SELECT)
    made.keep("again")
    dbt("run", *SELECT, "--full-refresh")
    made.keep("full refresh")
    return made
