"""What a dbt run says of itself, counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import dbt_results
from scripts.pipeline.errors import DamagedError


def result(node: str, status: str, seconds: float = 1.0, **more: object) -> dict[str, object]:
    """One result as dbt-core's artifact schema run-results v6 has it."""
    return {"unique_id": node, "status": status, "execution_time": seconds, "failures": None, **more}


def write(path: Path, *results: dict[str, object]) -> Path:
    path.write_text(json.dumps({"metadata": {}, "results": list(results), "elapsed_time": 12.34, "args": {}}))
    return path


def test_counts_nodes_rows_and_the_slowest(tmp_path: Path):
    found = dbt_results.run(
        run_results=write(
            tmp_path / "run_results.json",
            result("model.amplitude.stg_amplitude__events", "success"),
            result("model.amplitude.journey_analysis", "success", 5.25, adapter_response={"rows_affected": 40}),
            result("model.amplitude.int_amplitude__events", "success", adapter_response={"rows_affected": "2"}),
            result("seed.amplitude.free_mail_domains", "success", adapter_response={"rows_affected": 61}),
            result("test.amplitude.unique_journey_analysis_uuid.1a2b3c", "pass"),
        )
    )
    assert found == {
        "nodes_ok": 5,
        "nodes_warned": 0,
        "nodes_failed": 0,
        "nodes_skipped": 0,
        "rows": 42,
        "seconds": 12.3,
        "slowest": "journey_analysis 5.2 s",
        "failed_names": "",
        "skipped_names": "",
        "warned_names": "",
        "problem": "",
    }


def test_names_what_warned_failed_and_was_skipped(tmp_path: Path):
    found = dbt_results.run(
        run_results=write(
            tmp_path / "run_results.json",
            result("model.amplitude.user_session", "error"),
            result("test.amplitude.event_type_is_known.9f8e7d", "warn", failures=3),
            result("test.amplitude.unique_session.1a2b3c", "fail", failures=2),
            result("model.amplitude.daily_engagement", "skipped"),
            result("model.amplitude.a_new_status", "a status that dbt may invent"),
        )
    )
    assert (found["nodes_ok"], found["nodes_warned"], found["nodes_failed"], found["nodes_skipped"]) == (0, 1, 3, 1)
    assert found["warned_names"] == "event_type_is_known (3)"
    assert found["failed_names"] == "a_new_status, unique_session (2), user_session"
    assert found["skipped_names"] == "daily_engagement"


def test_a_test_is_named_with_its_model(tmp_path: Path):
    manifest = tmp_path / "manifest.json"
    node = "test.amplitude.event_type_is_known.9f8e7d"
    attached = "model.amplitude.stg_amplitude__events"
    manifest.write_text(json.dumps({"nodes": {node: {"name": "event_type_is_known", "attached_node": attached}}}))
    found = dbt_results.run(
        run_results=write(tmp_path / "run_results.json", result(node, "warn", failures=1)), manifest=manifest
    )
    assert found["warned_names"] == "event_type_is_known on stg_amplitude__events (1)"


@pytest.mark.parametrize("empty", [True, False])
def test_a_build_that_wrote_nothing_is_said_so(tmp_path: Path, empty: bool):
    path = tmp_path / "run_results.json"
    if empty:
        path.touch()
    found = dbt_results.run(run_results=path, manifest=tmp_path / "manifest.json")
    assert found["problem"] == "dbt wrote no results: it failed before the first node; see the log of the task build"
    assert found["nodes_ok"] == found["nodes_failed"] == 0


@pytest.mark.parametrize("content", ['{"results": [', "[]"])
def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path, content: str):
    path = tmp_path / "run_results.json"
    path.write_text(content)
    with pytest.raises(DamagedError, match=r"run_results\.json"):
        dbt_results.run(run_results=path)


def test_the_names_of_a_broken_project_stay_short(tmp_path: Path):
    results = [result(f"model.amplitude.a_model_with_a_long_name_{number}", "error") for number in range(500)]
    found = dbt_results.run(run_results=write(tmp_path / "run_results.json", *results))
    assert found["nodes_failed"] == 500
    assert len(str(found["failed_names"])) < 1501
    assert str(found["failed_names"]).endswith(", …")


def test_the_command_tells_the_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = write(tmp_path / "run_results.json", result("model.amplitude.user_session", "success"))
    caplog.set_level("INFO", "pipeline")
    assert dbt_results.main([str(path)]) == 0
    assert "1 ok, 0 warned, 0 failed, 0 skipped" in caplog.text
