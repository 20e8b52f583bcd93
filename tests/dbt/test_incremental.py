"""However events arrive, the tables end the same; and what is stored stays as it is."""

from __future__ import annotations

from tests.dbt import cases
from tests.dbt.conftest import LOAD_COLUMNS, Built


def test_a_clean_day_builds_without_a_warning(built: Built):
    assert built.clean_day == []


def test_incremental_equals_a_full_refresh(built: Built):
    for model in built.models():
        equal_without_load_columns(built, "incremental", "full refresh", model)


def test_a_build_without_new_data_changes_no_row_of_an_incremental_model(built: Built):
    """Times of builds and loads included. B21: run twice, the same rows."""
    for model in built.models("incremental"):
        assert built.tables["again"][model] == built.tables["incremental"][model], model


def test_a_mart_built_before_its_parents_misses_no_session(built: Built):
    """Built alone it saw the new events outside sessions, and not yet the new sessions."""
    assert built.rows("detecting_website_issues", uuid=cases.outside_again["uuid"])
    (late,) = [event for event in cases.second if event["amplitude_id"] == cases.PEOPLE["night"]]
    assert built.rows("detecting_website_issues", uuid=late["uuid"])


def test_no_model_is_empty(built: Built):
    empty = [model for model in built.models() if not built.tables["incremental"][model]]
    assert empty == []


def test_every_loaded_uuid_is_in_the_events_once(built: Built):
    """B02, B03, B22, B24: late, exported again, twice in a batch, after days without a build."""
    uuids = [row["uuid"] for row in built.rows("int_amplitude__events")]
    assert sorted(uuids) == sorted({event["uuid"] for load in built.loads for event in load.events})


def test_the_first_load_of_an_event_wins(built: Built):
    first = {}
    for load in sorted(built.loads, key=lambda load: load.loaded_at):
        for number, event in enumerate(load.events, start=1):
            first.setdefault(event["uuid"], (load.source_file, number))
    for row in built.rows("int_amplitude__events"):
        assert (row["source_file"], row["source_row"]) == first[row["uuid"]]


def equal_without_load_columns(built: Built, one: str, other: str, model: str) -> None:
    kept, compared = (
        sorted((tuple(cell for cell in row if cell[0] not in LOAD_COLUMNS) for row in rows), key=repr)
        for rows in (built.tables[one][model], built.tables[other][model])
    )
    assert kept == compared, model
