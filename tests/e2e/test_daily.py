"""`amplitude_daily` after the demo's day: one set of uuids at every hop, and what a run tells of itself."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date
from pathlib import Path

import pytest

from local import session
from local.amplitude import generator
from local.engine import EngineError
from scripts.pipeline.project import BUILT, FOLDERS
from tests.e2e.conftest import ROOT, Laptop
from tests.e2e.pipeline import Pipeline

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
LANDING = "raw.amplitude_events_raw_python"


@pytest.fixture(scope="module")
def day(laptop: Laptop) -> str:
    return date.fromisoformat(laptop.demos[0]["day"]["start_date"]).isoformat()


@pytest.fixture(scope="module")
def served(pipeline: Pipeline, day: str) -> dict[str, set[str]]:
    """Hour → uuids, by the generator's own account."""
    project = int(pipeline.settings["AMP_PROJECT_ID"])
    hours = [f"{day}T{number:02}" for number in range(24)]
    return {hour: generator.truth(hour, project=project) for hour in hours}


def test_every_hop_holds_the_uuids_that_amplitude_served(
    pipeline: Pipeline, day: str, served: dict[str, set[str]]
) -> None:
    truth = set().union(*served.values())
    assert {event["uuid"] for event in pipeline.events_in_s3(day)} == truth
    of_day = f"where source_file like '%/date={day}/%'"
    assert {row[0] for row in pipeline.sql(f"select json_data:uuid::varchar from {LANDING} {of_day}")} == truth
    kept = [row[0] for row in pipeline.sql(f"select uuid from intermediate.int_amplitude__events {of_day}")]
    assert sorted(kept) == sorted(truth)  # each once


def test_the_ledger_says_loaded_or_empty_for_every_hour(
    pipeline: Pipeline, day: str, served: dict[str, set[str]]
) -> None:
    prefix = f"python-import-ledger/project={pipeline.settings['AMP_PROJECT_ID']}/date={day}/"
    names = [key.removeprefix(prefix) for key in pipeline.objects(prefix)]
    for hour, uuids in served.items():
        marker = "loaded" if uuids else "empty"
        assert f"hour={hour[-2:]}/v0001.json" in names
        assert f"hour={hour[-2:]}/v0001.{marker}.json" in names


def test_the_first_run_is_labelled_and_its_outputs_are_small(
    laptop: Laptop, day: str, served: dict[str, set[str]]
) -> None:
    events = [json.loads(line) for line in _events_of(laptop, "amplitude_daily")]
    finished = [event for event in events if event["event"] == "finished"][-1]["outputs"]
    assert finished["interval"] == day
    assert finished["hours"] == 24
    assert finished["events"] == sum(len(uuids) for uuids in served.values())
    assert finished["manifest"].startswith("kestra://")
    assert finished["report"].startswith("kestra://")
    tasks = [event for event in events if event["event"] == "task"]
    assert all(len(json.dumps(task.get("outputs") or {})) < 10_000 for task in tasks)


def test_the_report_tells_the_hours_of_the_day_and_its_visitors(
    pipeline: Pipeline, laptop: Laptop, day: str, served: dict[str, set[str]]
) -> None:
    execution = laptop.demos[0]["executions"]["amplitude_daily"]
    stored = laptop.state.glob(f"kestra/storage/main/**/{execution}/tasks/report/**/*")
    files = {file.suffix: file for file in stored if file.is_file()}
    assert files[".png"].read_bytes().startswith(b"\x89PNG")
    text = files[".md"].read_text(encoding="utf-8")
    assert "24 of 24 hours are done." in text
    letters = "".join("L" if uuids else "e" for uuids in served.values())
    assert f"{day}  {letters}  {sum(len(uuids) for uuids in served.values()):>12,}" in text
    ((visitors, sessions),) = pipeline.sql(
        f"select visitors, sessions from marts.daily_engagement where engagement_date = '{day}'"
    )
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {day} | {visitors:,} | ")]
    assert row.split(" | ")[3] == f"{sessions:,}"
    assert "not asked" not in text
    signs = "is_repeated_click or is_page_return or is_loop or is_missing_page or is_dead_end"
    pages = pipeline.sql(
        "select page_url, count(distinct session_key) from marts.detecting_website_issues"
        f" where event_time::date = '{day}' and not is_suspected_bot and ({signs})"
        " group by page_url order by count(*) desc, page_url limit 10"
    )
    assert pages
    for page, stuck in pages:
        assert re.search(rf"\| {re.escape(page)} \| .* \| {stuck} \|", text)


def test_the_metrics_are_those_of_the_documented_table(laptop: Laptop) -> None:
    documented: dict[str, set[str]] = {}
    task = ""
    for line in (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8").splitlines():
        cells = [re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:-1]]
        if cells and cells[1]:
            task = cells[0][0] if cells[0] else task
            documented.setdefault(task, set()).update(cells[1])
    emitted: dict[str, set[str]] = {}
    for run in laptop.state.glob("runs/*.jsonl"):  # a subflow's has its own
        for event in map(json.loads, run.read_text(encoding="utf-8").splitlines()):
            own = event["event"] == "metric" and "." not in event["name"]  # Kestra's have a dot: namespacefiles.count
            if own and event["task"] in documented:
                emitted.setdefault(event["task"], set()).add(event["name"])
    assert set(emitted) >= {"plan", "extract", "upload", "load", "verdict", "report", "results"}
    assert emitted == {task: documented[task] for task in emitted}


def test_a_run_takes_files_that_were_edited_since_the_start(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were passed over in silence until `down` and `up`, and the build was green."""
    for folder in (*FOLDERS, "flows"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns(*BUILT))
    task = "{id: a, type: io.kestra.plugin.core.log.Log, message: a}"
    text = f"id: edited\nnamespace: analytics.amplitude\ntasks: [{task}]\n"
    (tmp_path / "flows/edited.yml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(session, "ROOT", tmp_path)
    assert pipeline.run("edited").state == "SUCCESS"
    monkeypatch.undo()
    with pytest.raises(EngineError, match="edited"):
        pipeline.run("edited")


def test_no_secret_reaches_a_log(pipeline: Pipeline, laptop: Laptop) -> None:
    secret = pipeline.settings["AMP_SECRET_KEY"]
    files = [*laptop.state.glob("runs/*"), *laptop.state.glob("logs/*"), *laptop.state.glob("*.log")]
    assert len(files) > 10
    assert not [file for file in files if secret in file.read_text(encoding="utf-8", errors="replace")]


@pytest.mark.scenario  # waits for the flow's retry; the refusal itself is tested in tests/unit/test_plan.py
def test_a_reversed_range_fails_in_plan_and_says_so(pipeline: Pipeline, day: str) -> None:
    run = pipeline.run("amplitude_daily", start_date=day, end_date="2020-01-01")
    assert run.state == "FAILED"
    assert run.tasks["plan"]["state"] == "FAILED"
    assert "verdict" not in run.tasks
    assert any("2020-01-01" in line for line in run.log)


def _events_of(laptop: Laptop, flow: str) -> list[str]:
    execution = laptop.demos[0]["executions"][flow]
    return (laptop.state / "runs" / f"{execution}.jsonl").read_text(encoding="utf-8").splitlines()
