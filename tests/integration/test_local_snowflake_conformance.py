"""Each row of the conformance list against the local Snowflake: as documented, or refused with a reason.

states.json holds what each row does: "pass", "refused: <what>", or "differs: <why>", the last only for a row whose
expectation is marked unsure. A row that comes to pass must be written down as well, so that it cannot be lost again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.integration.conformance.harness import ROWS, Row, Run
from tests.integration.conformance.server import Server, s3_running, snowflake_running

STATES: dict[str, str] = json.loads((Path(__file__).parent / "conformance" / "states.json").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("conformance")
    with s3_running(folder / "s3") as endpoint, snowflake_running(folder / "snowflake", endpoint) as server:
        yield server


@pytest.fixture(scope="module")
def outcomes(server: Server, request: pytest.FixtureRequest) -> Iterator[Callable[[Row], str]]:
    """All selected rows at once in a few threads: most of their time is waiting for pipes and tasks.

    They end before the first test does: pytest changes os.environ after each one, which a thread that looks for
    proxies walks through (KeyError: PYTEST_CURRENT_TEST).
    """
    selected = {item.callspec.id for item in request.session.items if hasattr(item, "callspec")}
    with ThreadPoolExecutor(6) as pool:
        started: dict[str, Future[str]] = {
            row["id"]: pool.submit(Run(server, row).outcome) for row in ROWS if row["id"] in selected
        }
        wait(started.values(), timeout=280)
        yield lambda row: started[row["id"]].result(timeout=0)


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_answers_as_documented_or_refuses(row: Row, outcomes: Callable[[Row], str]) -> None:
    expected = STATES[row["id"]]
    if expected.startswith("differs: "):
        assert row["certainty"] == "unsure"
        with pytest.raises(AssertionError):
            outcomes(row)
        return
    assert outcomes(row) == expected


def test_every_row_has_a_state_and_none_is_refused_that_the_product_sends() -> None:
    assert STATES.keys() == {row["id"] for row in ROWS}
    sent = {"dbt", "errors", "merge", "metadata", "procedure", "roles", "session", "task", "transactions"}
    refused = {row["id"] for row in ROWS if STATES[row["id"]].startswith("refused") and row["area"] in sent}
    assert not refused
