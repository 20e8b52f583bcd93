"""What arrives at the warehouse of the dbt tests, load by load: generated traffic of three seeds, and the cases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from local.amplitude.generator import Traffic
from tests.dbt import cases

DAY = datetime(2026, 9, 24, tzinfo=UTC)
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Load:
    source_file: str
    loaded_at: datetime
    events: list[dict[str, Any]]


def traffic(day: datetime, seed: int, events_per_day: int = 400) -> list[dict[str, Any]]:
    """A day of one seed. People of two seeds are never one: the generator counts them alike in each."""
    made = Traffic(seed=seed, events_per_day=events_per_day)
    return [
        event | {"amplitude_id": event["amplitude_id"] + seed * 10**12}
        for hour in (day + timedelta(hours=hour) for hour in range(24))
        for part in range(made.parts(hour))
        for event in map(json.loads, made.lines(hour, part))
    ]


def first_loads() -> Iterator[Load]:
    """The day itself, as a run of the night after it loads it: a clean day."""
    for seed in SEEDS:
        yield Load(f"day-{seed}.json.gz", DAY + timedelta(hours=28, minutes=seed), traffic(DAY, seed))
    yield Load("cases.json.gz", DAY + timedelta(hours=28, minutes=30), cases.first)
    # the same hour exported twice before anything was built
    yield Load("cases-again.json.gz", DAY + timedelta(hours=28, minutes=31), cases.exported)


def second_loads() -> Iterator[Load]:
    """Six days without a build later: the day before, an export that was repeated, late events, news."""
    later = DAY + timedelta(days=7, hours=4)
    # scanned nine hours before the newest row of the first loads, committed after its build
    yield Load("slow.json.gz", DAY + timedelta(hours=19), [cases.slow])
    yield Load("again.json.gz", later, [*cases.exported, *cases.more])
    yield Load("day-1-again.json.gz", later + timedelta(minutes=1), traffic(DAY, 1)[:100])
    for seed in SEEDS:
        yield Load(f"before-{seed}.json.gz", later + timedelta(minutes=2), traffic(DAY - timedelta(days=1), seed))
    yield Load("late.json.gz", later + timedelta(minutes=3), cases.second)
