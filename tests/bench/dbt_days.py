"""A new day on top of 100 days of history against the same day on top of one: what an incremental build costs."""

from __future__ import annotations

import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.bench import row
from tests.dbt import story
from tests.dbt.warehouse import DATABASE, LANDING, Dbt, Warehouse, deployed

EVENTS_PER_DAY, DAYS = 25_000, 100
INCREMENTAL = ("--select", "+config.materialized:incremental")


def rows() -> list[dict[str, Any]]:
    one, many = _seconds_of_a_new_day(1), _seconds_of_a_new_day(DAYS)
    note = f"a day of {EVENTS_PER_DAY:,} events on top of {DAYS} days and of one; at most 1.3"
    return [row("dbt_day_100_vs_1_days_behind", many, one, many / one, "seconds of dbt run, incremental models", note)]


def _seconds_of_a_new_day(history: int) -> float:
    with tempfile.TemporaryDirectory() as folder, deployed(Path(folder)) as warehouse:
        dbt = Dbt(warehouse)
        manifest = dbt.parse()
        dbt("seed")
        _load(warehouse, 0)
        dbt("run", *INCREMENTAL)
        tables = [
            node.relation_name
            for node in manifest.nodes.values()
            if node.resource_type == "model" and node.config.materialized == "incremental"
        ]
        for table in [LANDING, *tables]:
            _repeat(warehouse, table, history - 1)
        _load(warehouse, 1)
        start = time.perf_counter()
        dbt("run", *INCREMENTAL)
        return time.perf_counter() - start


def _load(warehouse: Warehouse, day: int) -> None:
    begin = story.DAY + timedelta(days=day)
    events = story.traffic(begin, seed=1, events_per_day=EVENTS_PER_DAY)
    warehouse.load(events, f"day-{day}.json.gz", begin + timedelta(hours=28))


def _repeat(warehouse: Warehouse, table: str, days: int) -> None:
    """Adds copies of a table's rows: other people, sessions and events, each a day (and a minute, as loads are never a
    day apart to the second) older than the last; stored day by day, as days arrive."""
    if not days:
        return
    names = table.replace('"', "").split(".")
    columns = warehouse.query(
        f"select column_name, data_type from {DATABASE}.information_schema.columns"
        " where table_schema = %s and table_name = %s order by ordinal_position",
        [names[-2].upper(), names[-1].upper()],
    )
    shifted = [_shifted(column["column_name"], column["data_type"]) for column in columns]
    copies = ", ".join(f"({day})" for day in range(1, days + 1))
    warehouse.query(
        f"insert into {table} select {', '.join(shifted)} from {table}"
        f" cross join (select column1 as days from values {copies}) order by days desc"
    )


def _shifted(name: str, kind: str) -> str:
    if name.lower() in {"uuid", "session_key", "device_id", "source_file", "insert_id", "location_key"}:
        return f"days::varchar || '-' || {name}"
    if name.lower() == "amplitude_id":
        return f"{name} + days * 10000000000000"
    if name.lower() == "session_id":
        return f"iff({name} > 0, {name} - days::bigint * 86460000, {name})"
    if kind.startswith("TIMESTAMP"):
        return f"dateadd('minute', -1441 * days, {name})"
    return f"dateadd('day', -days, {name})" if kind == "DATE" else name
