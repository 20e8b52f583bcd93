"""Real events through the whole flow: all 55 keys right in the landing table and in staging.

Times come in two forms: as the Export API writes them, and as RFC 3339 from a public connector's records.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from local import sql
from tests.e2e.conftest import BadDays
from tests.e2e.pipeline import Pipeline
from tests.e2e.real_events import FULL, OBJECTS, events

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
LANDING = "raw.amplitude_events_raw_python"


@pytest.fixture(scope="module")
def loaded(pipeline: Pipeline, bad_days: BadDays) -> Pipeline:
    run = bad_days.mended
    # An event type that dbt does not know is news, and nothing else is.
    assert run.state == "WARNING", "\n".join(run.warnings)
    (warning,) = [line for line in run.warnings if "Warning in test" in line]
    assert "event_type_is_known" in warning
    assert any("Something New" in line for line in run.log)
    (alert,) = [text for text in bad_days.said if not text.startswith("[resolved]")]
    assert alert.startswith(
        "[warning] amplitude_daily 2023-08-24..2023-08-25 ended WARNING"
    )  # and not dbt_build itself
    return pipeline


def test_the_list_of_keys_is_the_documented_one() -> None:
    assert len(FULL) == 55
    assert list(FULL) == sorted(FULL)


def test_every_key_is_unchanged_in_the_landing_table(loaded: Pipeline) -> None:
    rows = loaded.sql(
        f"select distinct json_data:uuid::varchar, to_json(json_data) from {LANDING}"
        " where source_file like '%/date=2023-%'"
    )
    assert {uuid: json.loads(text) for uuid, text in rows} == {event["uuid"]: event for event in events()}


def test_the_hours_without_events_are_recorded_as_empty(loaded: Pipeline) -> None:
    prefix = f"python-import-ledger/project={loaded.settings['AMP_PROJECT_ID']}/date=2023-08-2"
    markers = [key.rsplit(".", 2)[1] for key in loaded.objects(prefix) if key.count(".") == 2]
    hours = {event["server_upload_time"][:13] for event in events()}
    assert sorted(markers) == ["empty"] * (48 - len(hours)) + ["loaded"] * len(hours)


@pytest.fixture(scope="module")
def staged(loaded: Pipeline) -> dict[str, dict[str, Any]]:
    """Uuid → column → value."""
    names, rows = sql.query(
        loaded.settings, "select * from staging.stg_amplitude__events where source_file like '%/date=2023-%'"
    )
    found = [dict(zip([name.lower() for name in names], row, strict=True)) for row in rows]
    return {event["uuid"]: event for event in found}


@pytest.mark.parametrize("key", list(FULL))
def test_every_key_is_right_in_staging(staged: dict[str, dict[str, Any]], key: str) -> None:
    assert set(staged) == {event["uuid"] for event in events()}
    column = "schema_version" if key == "$schema" else key.removeprefix("$")
    for event in events():
        assert comparable(key, staged[event["uuid"]][column]) == expected(key, event[key])


def expected(key: str, value: Any) -> Any:
    if value is None or key in OBJECTS:
        return value
    if key.endswith("_time"):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return value if isinstance(value, bool) else Decimal(str(value)) if isinstance(value, int | float) else value


def comparable(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key in OBJECTS:
        return json.loads(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    if isinstance(value, bool):
        return value
    return Decimal(str(value)) if isinstance(value, int | float | Decimal) else value
