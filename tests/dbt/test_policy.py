"""Rules that every model keeps, read from the manifest and from the warehouse."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlglot
import yaml
from sqlglot import exp

from dbt_dev.docs import dictionary
from docs import pages
from docs.pages import PERSONAL
from tests.dbt.conftest import Built
from tests.dbt.warehouse import DATABASE, ROOT, Dbt


def nodes(built: Built) -> list:
    return [node for node in built.manifest.nodes.values() if node.resource_type == "model"]


def test_personal_data_is_read_only_in_staging_and_sensitive(built: Built):
    """By the columns in each model's compiled SQL. `user_id` may be the name of a mart's own column (amplitude_id)."""
    looked_at = 0
    for node in nodes(built):
        if node.schema in ("STAGING", "SENSITIVE"):
            continue
        compiled = (built.dbt.target / "compiled" / "amplitude" / node.original_file_path).read_text()
        tree = sqlglot.parse_one(compiled, read="snowflake")
        for cte in tree.find_all(exp.CTE):  # an ephemeral parent is a model of its own
            if cte.alias.lower().startswith("__dbt__cte__"):
                cte.pop()
        columns = {column.name.lower() for column in tree.find_all(exp.Column)}
        assert not columns & PERSONAL, f"{node.name} reads {columns & PERSONAL}"
        looked_at += 1
    assert looked_at > 10


def test_no_table_outside_staging_and_sensitive_has_a_personal_column(built: Built):
    found = built.warehouse.query(
        f"select table_schema, table_name, column_name from {DATABASE}.information_schema.columns"
        " where table_schema in ('INTERMEDIATE', 'MARTS')"
    )
    assert len(found) > 100
    personal = {(row["table_name"], row["column_name"]) for row in found if row["column_name"].lower() in PERSONAL}
    assert personal == {("IDENTIFYING_COMPANY_TRAFFIC", "USER_ID")}


def test_every_column_is_described(built: Built):
    for node in nodes(built):
        described = {name.lower() for name, column in node.columns.items() if column.description.strip()}
        assert node.description.strip(), node.name
        if node.config.materialized == "ephemeral":
            continue
        found = built.warehouse.query(f"select * from {node.relation_name} limit 1")
        assert found, node.name
        assert set(found[0]) == described, node.name


def test_every_model_has_a_key_test(built: Built):
    tested = {
        node.attached_node
        for node in built.manifest.nodes.values()
        if node.resource_type == "test"
        and node.test_metadata
        and node.test_metadata.name in ("unique", "unique_together")
    }
    without = {node.name for node in nodes(built) if node.unique_id not in tested}
    # one row per row of the landing table, a log that may hold a row twice
    assert without == {"stg_amplitude__events", "int_amplitude__event_enhanced_with_properties"}


def test_a_warning_about_events_ends_a_week_after_its_cause(built: Built):
    """One malformed event of last year must not colour every run, nor each such test read the whole history."""
    tests = [node for node in built.manifest.nodes.values() if node.resource_type == "test"]
    warnings = {node.name: node.config.where for node in tests if node.config.severity.lower() == "warn"}
    assert len(warnings) == 6
    assert set(warnings.values()) == {"processed_at >= dateadd('day', -7, sysdate())"}


def test_schemas_and_tags_are_those_of_the_design(built: Built):
    assert {node.schema for node in nodes(built)} == {"STAGING", "INTERMEDIATE", "MARTS", "SENSITIVE"}
    for node in nodes(built):
        assert ("amplitude" in node.tags) is (node.schema != "STAGING"), node.name
        assert (node.config.get("query_tag") == "dbt_marts") is (node.schema == "MARTS"), node.name
        assert node.config.contract.enforced is (node.schema == "MARTS"), node.name


def test_everything_is_built_by_the_tag(built: Built):
    """`dbt build --select +tag:amplitude` leaves no model out."""
    results = built.dbt("ls", "--select", "+tag:amplitude", "--resource-type", "model").result
    assert len(results) == len(nodes(built))


def test_the_data_dictionary_is_up_to_date(built: Built):
    """`make docs` writes it."""
    assert (ROOT / "docs" / "data_dictionary.md").read_text(encoding="utf-8") == dictionary(built.manifest)


def test_the_generated_pieces_of_the_other_pages_are_up_to_date(built: Built):
    """Pictures of dbt and of the daily flow, limits and credits: `make docs` writes them."""
    texts, found = pages.pieces(built.manifest), 0
    for page in pages.generated():
        text = page.read_text(encoding="utf-8")
        assert text == pages.fill(text, texts), page.name
        found += len(pages.PIECE.findall(text))
    assert found == len(texts)


def test_the_project_needs_no_hub_package():
    assert not (ROOT / "dbt" / "packages.yml").exists()
    assert not (ROOT / "dbt" / "dependencies.yml").exists()


@pytest.mark.parametrize("seed", ["free_mail_domains", "excluded_elements", "outdated_browsers"])
def test_a_seed_has_no_line_twice(seed: str):
    path: Path = ROOT / "dbt" / "seeds" / f"{seed}.csv"
    with path.open() as file:
        lines = [tuple(line) for line in csv.reader(file)]
    assert len(set(lines)) == len(lines) > 1


@pytest.mark.scenario  # two parses of the project
def test_state_modified_selects_nothing_in_another_environment(built: Built, tmp_path: Path):
    """The manifest that a run stored, against the same project with another database."""
    stored = Dbt(built.warehouse)
    stored.parse()
    stored.target.joinpath("manifest.json").rename(tmp_path / "manifest.json")
    other = Dbt(built.warehouse)
    other.parse(SNOWFLAKE_DATABASE="OTHER")
    found = other("ls", "--select", "state:modified", "--state", str(tmp_path), SNOWFLAKE_DATABASE="OTHER").result
    assert found == []


@pytest.mark.parametrize("zone", ["Europe/London", "America/Los_Angeles"])
def test_the_days_on_which_clocks_change_are_those_of_the_time_zone_database(zone: str):
    """What dbt's unit tests expect of `daily_engagement` there: each session on one local day, none lost or doubled."""
    file = ROOT / "dbt/models/marts/amplitude/_amplitude__unit_tests.yml"
    tests = yaml.safe_load(file.read_text(encoding="utf-8"))["unit_tests"]
    (test,) = [each for each in tests if each.get("overrides", {}).get("env_vars") == {"REPORTING_TIMEZONE": zone}]
    rows = list(csv.DictReader(test["given"][0]["rows"].splitlines()))
    starts = [datetime.fromisoformat(row["started_at"]).replace(tzinfo=UTC).astimezone(ZoneInfo(zone)) for row in rows]
    assert len({start.utcoffset() for start in starts}) == 2
    assert len({start.replace(tzinfo=None) for start in starts}) < len(starts)  # some wall times come twice
    days = Counter(start.date().isoformat() for start in starts)
    expected = {row["engagement_date"]: row["sessions"] for row in test["expect"]["rows"]}
    assert expected == days
