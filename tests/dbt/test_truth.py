"""Each mart, row by row, against values computed in Python from the events and the definitions alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.dbt.conftest import Built
from tests.dbt.truth import Truth
from tests.dbt.warehouse import REPORTING_TIMEZONE


@pytest.fixture(scope="module")
def truth(built: Built) -> Truth:
    return built.truth()


def compare(found: Iterable[dict[str, Any]], expected: Iterable[dict[str, Any]], *key: str) -> None:
    """Equal rows by key, in the columns that the truth knows."""
    expected = {tuple(row[name] for name in key): row for row in expected}
    names = set(next(iter(expected.values())))
    found = {tuple(row[name] for name in key): {name: row[name] for name in names} for row in found}
    assert found.keys() == expected.keys()
    wrong = [
        (row, {name: (found[row][name], value) for name, value in values.items() if not _same(found[row][name], value)})
        for row, values in expected.items()
    ]
    wrong = [(row, cells) for row, cells in wrong if cells]
    assert not wrong, f"{len(wrong)} of {len(expected)} rows differ (found, expected): {wrong[:3]}"


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and found is not None:
        return abs(float(found) - expected) < 1e-6
    return found == expected


def test_journeys(built: Built, truth: Truth):
    compare(built.rows("journey_analysis"), truth.journeys(), "uuid")


def test_issues(built: Built, truth: Truth):
    compare(built.rows("detecting_website_issues"), truth.issues(), "uuid")


def test_the_story_shows_every_sign(truth: Truth):
    """The comparison would prove little if nothing happened."""
    signs = list(truth.issues())
    for name in (
        "is_repeated_click",
        "is_page_return",
        "is_loop",
        "is_missing_page",
        "is_dead_end",
        "is_suspected_bot",
    ):
        assert sum(row[name] for row in signs) > 1, name
    assert sum(row["repeat_click_flag"] == "Y" for row in signs) >= 1


def test_sessions(built: Built, truth: Truth):
    compare(built.rows("user_session"), truth.sessions(), "amplitude_id", "session_id")


def test_daily_engagement(built: Built, truth: Truth):
    """In the reporting time zone, whose clock changes."""
    days = list(truth.engagement(REPORTING_TIMEZONE))
    compare(built.rows("daily_engagement"), days, "engagement_date")
    assert days != list(truth.engagement("UTC"))


def test_company_traffic(built: Built, truth: Truth):
    found = {
        row["user_id"]: (
            None if row["suspected_company"].startswith("Unknown, office network ") else row["suspected_company"],
            row["confidence"],
        )
        for row in built.rows("identifying_company_traffic")
    }
    assert found == truth.companies()
    assert {confidence for _, confidence in found.values()} == {"high", "medium", "low"}


def test_property_catalogue(built: Built, truth: Truth):
    compare(built.rows("property_catalogue"), truth.properties(), "event_type", "property", "value_kind")
