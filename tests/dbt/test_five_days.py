"""Five days that arrive in a bad order, late, repeated and exported again, end as if they had come at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dbt import story
from tests.dbt.conftest import SELECT, WITHOUT_TESTS, Built
from tests.dbt.test_incremental import equal_without_load_columns
from tests.dbt.test_truth import compare
from tests.dbt.warehouse import Dbt, deployed

ORDER = (2, 0, 4, 1, 3)
LATE_HOUR = 9  # of each day: its events come with the next day's load


def arrivals(first_day: datetime) -> Iterator[list[story.Load]]:
    """Per build what was loaded before it: a day without one hour, the hour that the day before lacked, and a part of
    that day exported again."""
    withheld: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    for number, day in enumerate(ORDER, start=1):
        events = story.traffic(first_day + timedelta(days=day), seed=7, events_per_day=600)
        late = [event for event in events if event["server_upload_time"][11:13] == f"{LATE_HOUR:02d}"]
        loaded_at = first_day + timedelta(days=10 + number)
        yield [
            story.Load(f"day-{day}.json.gz", loaded_at, [event for event in events if event not in late]),
            story.Load(f"late-{number}.json.gz", loaded_at + timedelta(minutes=1), withheld),
            story.Load(f"again-{number}.json.gz", loaded_at + timedelta(minutes=2), again),
        ]
        withheld, again = late, events[:150]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder: Path = tmp_path_factory.mktemp("five-days")
    with deployed(folder) as warehouse:
        dbt = Dbt(warehouse)
        made = Built(warehouse, dbt, dbt.parse())
        for loads in arrivals(story.DAY):
            made.load(iter(loads))
            dbt("build", *SELECT, *WITHOUT_TESTS)
        made.keep("incremental")
        dbt("build", *SELECT)
        made.keep("again")
        dbt("run", *SELECT, "--full-refresh")
        made.keep("full refresh")
        yield made


@pytest.mark.scenario
@pytest.mark.timeout(1800)
def test_five_days_in_a_bad_order(built: Built):
    for model in built.models():
        equal_without_load_columns(built, "incremental", "full refresh", model)
    for model in built.models("incremental"):
        assert built.tables["again"][model] == built.tables["incremental"][model], model
    truth = built.truth()
    compare(built.rows("journey_analysis"), truth.journeys(), "uuid")
    compare(built.rows("detecting_website_issues"), truth.issues(), "uuid")
    compare(built.rows("user_session"), truth.sessions(), "amplitude_id", "session_id")
