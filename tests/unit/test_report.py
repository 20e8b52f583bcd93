"""The report is written from whatever files are there, and from what the ledger and Snowflake answer in time."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import report, upload
from scripts.pipeline import prices
from scripts.pipeline.records import PlanLine, write_lines
from tests import s3

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"plan": "plan.jsonl", "manifest": "manifest.jsonl", "uploaded": "uploaded.jsonl", "run_results": "r.json"}
NOTHING = {"hours": 0, "events": 0, "rows": 0, "errors": 0, "nodes_failed": 0, "credits": 0.0, "why": ""}


def files(folder):
    paths = {name: folder / file for name, file in NAMES.items()}
    return paths | {"output": folder / "report.md", "picture": folder / "report.png"}


def rows_of(text, cells):
    rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows if len(row) == cells}


@pytest.fixture
def day(bucket, tmp_path, monkeypatch):
    """A day of four planned hours: one exported, one empty, one failed, one that extract did not reach."""
    monkeypatch.setenv("PIPELINE_NOW", "2026-11-26T08:00:00Z")
    export = s3.Export(tmp_path).add("2026-11-25T03", [["a", "b", "b"], ["c"]]).add("2026-11-25T04", [])
    export.line("2026-11-25T05", "error", error="Amplitude answered 503. Replay the run.")
    upload.run(**export.write())
    paths = files(tmp_path)
    hours = [PlanLine(hour=f"2026-11-25T{hour:02}", action="export", reason="asked") for hour in (3, 4, 5, 6)]
    write_lines(paths["plan"], hours)
    results = [
        {"unique_id": "model.a.b", "status": "success", "execution_time": 1.5, "adapter_response": {}},
        {"unique_id": "model.a.c", "status": "error", "execution_time": 0.1},
        {"unique_id": "test.a.d", "status": "skipped", "execution_time": 0},
    ]
    paths["run_results"].write_text(json.dumps({"metadata": {}, "elapsed_time": 30, "results": results}))
    return export, paths


def test_a_day_is_told_per_hop_and_hour(day):
    export, paths = day
    told = {"rows_loaded": "4", "load_seconds": "10.5", "late": "0", "gone": "", "left_over": "7"}
    counts = report.run(**paths, interval="2026-11-25", reason="hand", failed_tasks="load, verdict", **told)
    text = paths["output"].read_text()
    assert text.startswith(
        "# Amplitude run\n\nInterval: 2026-11-25. Reason: hand.\n\n**Tasks that failed: load, verdict.**"
    )
    assert rows_of(text, 2).items() >= {
        "hours planned": ("4",), "hours exported": ("1",), "hours empty (Amplitude has no data)": ("1",),
        "events exported": ("4",), "of them repeats of a uuid in its hour": ("1",), "parts": ("2",),
        "rows to load": ("4",),
        "rows that `load` brought (others came by the pipe before it looked)": ("4",),
        "hours left over: run the same again (with `force` from the last day below on)": ("7",),
        "events that came late, with a later version of their hour": ("0",),
    }.items()  # fmt: skip
    assert "gone from Amplitude" not in text  # not known is not none
    hours = rows_of(text, 8)
    size = sum(len(content) for content in export.members.values())
    assert hours["2026-11-25T03"] == ("asked", "exported", "4", "1", "2", f"{size:,}", "4")
    assert hours["2026-11-25T06"][1] == "not reached"
    assert "- 2026-11-25T05 extract: Amplitude answered 503. Replay the run." in text
    assert "1 ok, 0 warned, 1 failed, 1 skipped, in 30.0 s.\n\n- failed: c\n- skipped: d" in text
    # Snowflake's prices: 0.0037 credits a GB; an X-Small costs 1 an hour, here for load, dbt and 60 s until it sleeps.
    spent = 4 * 2361 / 1e9 * 0.0037 + (10.5 + 30 + 60) / 3600
    assert counts == {
        "hours": 4,
        "events": 4,
        "rows": 4,
        "errors": 1,
        "nodes_failed": 1,
        "credits": round(spent, 6),
    } | {"why": "1 of 4 hours, extract: Amplitude answered 503. Replay the run."}


def test_the_interval_is_told_by_the_ledger_an_hour_of_another_run_too(day):
    _, paths = day
    report.run(**paths, interval="2026-11-24..2026-11-25")
    text = paths["output"].read_text()
    assert "1 of 48 hours are done." in text  # the empty one; hour 3 waits for load
    assert "2026-11-25  ...ue..................." in text
    assert "2026-11-24  ........................" in text


def test_hours_that_load_left_out_are_the_reason_when_nothing_else_failed(day):
    _, paths = day
    paths["manifest"].unlink()
    assert report.run(**paths, interval="2026-11-25")["why"] == "1 of 24 hours wait in S3, see the log of load."


def test_a_year_is_told_by_states_alone(day, s3_server):
    _, paths = day
    s3_server.requests.clear()
    report.run(**paths, interval="2025-11-26..2026-11-25")
    lines = paths["output"].read_text().splitlines()
    assert "1 of 8,760 hours are done." in lines
    assert "2026-11-25  ...ue..................." in lines
    assert lines[lines.index("2026-11-25  ...ue...................") + 1].startswith(
        ". open 8758, y young 0, e empty 1"
    )
    assert not [request for request in s3_server.requests if "v0001.json" in request]


def test_without_an_answer_the_report_says_why(day, s3_server):
    _, paths = day
    s3_server.fault = lambda environ: ("403 Forbidden", "AccessDenied")
    report.run(**paths, interval="2026-11-25")
    text = paths["output"].read_text()
    assert "The ledger was not asked: s3://events-test" in text
    assert "Snowflake was not asked: settings: SNOWFLAKE_ACCOUNT is missing" in text
    assert paths["picture"].read_bytes().startswith(b"\x89PNG")
    paths["run_results"].unlink()
    report.run(**paths, interval="2026-11-25")
    assert "Snowflake was not asked: dbt did not build in this run." in paths["output"].read_text()


def test_a_snowflake_that_hangs_does_not_hold_the_report_up(day, tmp_path):
    _, paths = day
    key = tmp_path / "key.p8"
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", key], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings = {
            "SNOWFLAKE_ACCOUNT": "local", "SNOWFLAKE_USER": "u", "SNOWFLAKE_WAREHOUSE": "w", "SNOWFLAKE_DATABASE": "d",
            "SNOWFLAKE_PRIVATE_KEY_FILE": str(key), "SNOWFLAKE_HOST": "127.0.0.1", "SNOWFLAKE_PROTOCOL": "http",
            "SNOWFLAKE_PORT": str(mute.getsockname()[1]), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        code = (
            "import time; from scripts import report; report.PATIENCE = 3; start = time.monotonic()\n"
            "status = report.main(['--run-results', 'r.json', '--interval', '2026-11-25'])\n"
            "print(time.monotonic() - start); raise SystemExit(status)"
        )
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True,
            check=True, timeout=60,
        )  # fmt: skip
        took = float(done.stdout.split()[-1])
        assert 3 <= took < 10
        assert time.monotonic() - started - took < 10  # what hangs ends with the process
    assert "Snowflake was not asked: there was no answer within 3 s" in paths["output"].read_text()


def test_files_of_no_bytes_or_none_at_all_mean_that_the_task_did_not_get_so_far(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = files(tmp_path)
    assert report.run(**paths) == NOTHING
    assert not paths["picture"].exists()
    for name in NAMES:
        paths[name].write_bytes(b"")
    assert report.run(**paths) == NOTHING
    assert "Not run" in paths["output"].read_text()


@pytest.mark.parametrize("name", ["plan", "manifest", "uploaded"])
def test_a_file_that_is_cut_is_an_error_in_the_report_and_no_reason_for_none(day, name):
    _, paths = day
    with paths[name].open("ab") as file:
        file.write(b'{"hour":"2026-')
    assert report.run(**paths)["errors"] == 2
    text = paths["output"].read_text()
    assert f"- {NAMES[name]} line " in text
    assert rows_of(text, 2)["hours with an error"] == ("1",)


def test_a_long_list_of_errors_is_cut(tmp_path):
    export = s3.Export(tmp_path)
    for number in range(60):
        export.line(f"2026-11-{number % 28 + 1:02}T{number % 24:02}", "error", error="503")
    export.write()
    assert report.run(**files(tmp_path))["errors"] == 60
    assert "and 10 more" in (tmp_path / "report.md").read_text()


def test_no_query_string_and_no_table_break_comes_from_a_page(tmp_path):
    days = report.Days([], [{"page_url": "https://site.example/a|b?email=x@y.example", "sessions": 1234}])
    text = "\n".join(report._of_days(days, ""))
    assert "| https://site.example/a%7Cb | 1,234 |" in text


def test_a_warehouse_that_slept_costs_nothing():
    assert prices.warehouse(0) == 0
    assert prices.warehouse(60) == pytest.approx(120 / 3600)
