"""The report is written from whatever files are there."""

import json

from scripts import report, upload
from scripts.pipeline.records import PlanLine, write_lines
from tests import s3

NAMES = {"plan": "plan.jsonl", "manifest": "manifest.jsonl", "uploaded": "uploaded.jsonl", "run_results": "r.json"}


def files(folder):
    return {name: folder / file for name, file in NAMES.items()} | {"output": folder / "report.md"}


def test_a_day_is_told_per_hop_and_hour(bucket, tmp_path):
    export = s3.Export(tmp_path).add("2026-11-25T03", [["a", "b", "b"], ["c"]]).add("2026-11-25T04", [])
    export.line("2026-11-25T05", "error", error="Amplitude answered 503. Replay the run.")
    upload.run(**export.write())
    paths = files(tmp_path)
    write_lines(
        paths["plan"],
        [PlanLine(hour=f"2026-11-25T{hour:02}", action="export", reason="asked") for hour in (3, 4, 5, 6)],
    )
    results = [
        {"unique_id": "model.a", "status": "success", "execution_time": 1.5, "adapter_response": {}},
        {"unique_id": "model.b", "status": "error", "execution_time": 0.1},
        {"unique_id": "test.c", "status": "skipped", "execution_time": 0},
    ]
    paths["run_results"].write_text(json.dumps({"metadata": {}, "results": results}))
    counts = report.run(**paths)
    assert counts == {"hours": 4, "events": 4, "rows": 4, "errors": 1, "nodes_failed": 1}
    text = paths["output"].read_text()
    rows = {tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in text.splitlines() if line.startswith("|")}
    assert {row[0]: row[1] for row in rows if len(row) == 2}.items() >= {
        "hours planned": "4", "hours exported": "1", "hours empty (Amplitude has no data)": "1",
        "events exported": "4", "of them repeats of a uuid in its hour": "1", "parts": "2", "rows to load": "4",
        "model.b": "error", "test.c": "skipped",
    }.items()  # fmt: skip
    hours = {row[0]: row[1:] for row in rows if len(row) == 8}
    size = sum(len(content) for content in export.members.values())
    assert hours["2026-11-25T03"] == ("asked", "exported", "4", "1", "2", f"{size:,}", "4")
    assert hours["2026-11-25T06"][1] == "not reached"
    assert "- 2026-11-25T05 extract: Amplitude answered 503. Replay the run." in text


def test_files_of_no_bytes_or_none_at_all_mean_that_the_task_did_not_get_so_far(tmp_path):
    paths = files(tmp_path)
    expected = {"hours": 0, "events": 0, "rows": 0, "errors": 0, "nodes_failed": 0}
    assert report.run(**paths) == expected
    for name in NAMES:
        paths[name].write_bytes(b"")
    assert report.run(**paths) == expected
    assert "Not run" in paths["output"].read_text()


def test_a_long_list_of_errors_is_cut(tmp_path):
    export = s3.Export(tmp_path)
    for number in range(60):
        export.line(f"2026-11-{number % 28 + 1:02}T{number % 24:02}", "error", error="503")
    export.write()
    assert report.run(**files(tmp_path))["errors"] == 60
    assert "and 10 more" in (tmp_path / "report.md").read_text()
