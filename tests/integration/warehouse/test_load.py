"""The load task against a deployed database: which way each part comes in, and what is said when one does not."""

from __future__ import annotations

import gzip
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from scripts import load
from scripts.pipeline import keys
from scripts.pipeline.hours import parse_hour
from scripts.pipeline.landing import Landing, Pipe
from scripts.pipeline.records import UploadedLine, UploadedPart, write_lines
from tests import s3
from tests.warehouse import ROOT

HOUR = "2026-09-24T03"
LANDING = "RAW.AMPLITUDE_EVENTS_RAW_PYTHON"


@pytest.fixture
def stack(environment, deployed, s3_server, snowflake_server, monkeypatch, tmp_path):
    """The landing table, empty, with its pipe paused: each test says how parts come in."""
    environment(deployed)
    monkeypatch.setenv("SNOWFLAKE_ROLE", "AMPLITUDE_LOADER")
    monkeypatch.setattr(load, "PIPE_SECONDS", 20)
    monkeypatch.setattr(load, "POLL_SECONDS", 0.2)
    s3_server.clear()
    snowflake_server.script(
        deployed,
        f"""alter pipe RAW.AMPLITUDE_EVENTS_PIPE set pipe_execution_paused = true;
        delete from {LANDING};
        delete from OPS.LOAD_AUDIT;
        delete from OPS.REJECTED_ROWS""",
    )
    return Stack(snowflake_server, s3_server, deployed, tmp_path)


class Stack:
    def __init__(self, server, bucket, database, folder):
        self.server, self.bucket, self.database, self.folder = server, bucket, database, folder
        self.number = 0

    def part(self, rows: int | list[str], hour: str = HOUR, *, uploaded: datetime | None = None) -> UploadedPart:
        """A part in the bucket, of so many events or of these lines."""
        self.number += 1
        tag = f"{self.folder.name}-{self.number}"
        lines = rows if isinstance(rows, list) else [json.dumps({"uuid": f"{tag}-{row}"}) for row in range(rows)]
        content = gzip.compress("\n".join(lines).encode(), mtime=0)
        key = keys.part_key("python-import", s3.PROJECT, parse_hour(hour), self.number, tag.encode().hex()[-12:])
        self.bucket.put(key, content)
        at = (uploaded or datetime.now(UTC)).isoformat().replace("+00:00", "Z")
        return UploadedPart(key=key, rows=len(lines), uploaded_at=at)

    def load(self, *parts: UploadedPart, hour: str = HOUR) -> dict:
        return self.load_lines(UploadedLine(hour=hour, version=1, parts=list(parts)))

    def load_lines(self, *lines: UploadedLine) -> dict:
        path = self.folder / "uploaded.jsonl"
        write_lines(path, lines)
        return dict(load.run(uploaded=path))

    def rows(self, statement: str) -> list[tuple]:
        return self.server.rows(self.database, statement)

    def counts(self, part: UploadedPart) -> tuple[int, int]:
        """(distinct rows, rows) of a part in the landing table."""
        statement = f"select count(distinct source_row), count(*) from {LANDING} where source_file = '{part.key}'"
        return self.rows(statement)[0]

    def loaded(self, hour: str = HOUR) -> bool:
        marker = f"{keys.hour_folder('python-import-ledger', s3.PROJECT, parse_hour(hour))}v0001.loaded.json"
        return bool(self.bucket.objects(marker))

    def audit(self) -> dict[str, tuple]:
        statement = "select part_key, rows_expected, rows_loaded, loaded_by, problem from OPS.LOAD_AUDIT"
        return {row[0]: row[1:] for row in self.rows(statement)}

    def run_pipe(self) -> None:
        self.server.script(self.database, "alter pipe RAW.AMPLITUDE_EVENTS_PIPE set pipe_execution_paused = false")


def test_running_pipe_brings_the_parts_in(stack):
    stack.run_pipe()
    parts = [stack.part(5), stack.part(3)]
    assert stack.load(*parts) | {"seconds": 0} == {
        "hours": 1, "parts": 2, "rows": 8, "rows_loaded": 8, "hours_failed": 0, "hours_short": 0, "seconds": 0,
    }  # fmt: skip
    assert [stack.counts(part)[0] for part in parts] == [5, 3]
    assert stack.loaded()
    assert {row[2] for row in stack.audit().values()} <= {"pipe", "earlier"}


def test_paused_pipe_is_passed_over_and_the_parts_are_copied(stack, caplog):
    part = stack.part(4)
    assert stack.load(part)["rows_loaded"] == 4
    assert "PAUSED" in caplog.text
    assert stack.counts(part) == (4, 4)
    assert stack.audit()[part.key] == (4, 4, "copy", None)
    assert stack.loaded()


def test_four_columns_say_what_the_event_was_and_where_it_came_from(stack):
    part = stack.part(['{"uuid": "a"}', '{"uuid": "b", "user_id": null}'])
    before = datetime.now(UTC)
    stack.load(part)
    rows = stack.rows(f"select json_data:uuid::varchar, source_file, source_row, loaded_at from {LANDING} order by 3")
    assert [row[:3] for row in rows] == [("a", part.key, 1), ("b", part.key, 2)]
    assert all(before - timedelta(seconds=5) <= row[3] <= datetime.now(UTC) for row in rows)


def test_a_part_that_is_there_is_not_loaded_again(stack):
    part = stack.part(6)
    stack.load(part)
    assert stack.load(part)["rows_loaded"] == 0
    assert stack.counts(part) == (6, 6)


def test_a_part_loaded_twice_is_no_error(stack):
    """Pipe and COPY do not know of each other; distinct source rows are what counts."""
    part = stack.part(6)
    stack.load(part)
    stack.server.script(stack.database, f"insert into {LANDING} select * from {LANDING}")
    assert stack.load(part)["hours_failed"] == 0
    assert stack.counts(part) == (6, 12)
    assert stack.loaded()


def test_b15_a_line_that_only_snowflake_refuses_is_named_and_the_hour_is_not_loaded(stack, caplog):
    """Known fault B15: ON_ERROR skips the file, the sync is green, and the table lacks the file's rows."""
    bad = stack.part(['{"uuid": "a"}', '{"uuid": "b", "x": 1, "x": 2}', '{"uuid": "secret-content", "x": [}'])
    good = stack.part(2, "2026-09-24T04")
    counts = stack.load_lines(
        UploadedLine(hour=HOUR, version=1, parts=[bad]),
        UploadedLine(hour="2026-09-24T04", version=1, parts=[good]),
    )
    assert (counts["hours_failed"], counts["rows_loaded"]) == (1, 2)
    assert not stack.loaded()
    assert stack.loaded("2026-09-24T04")
    name = bad.key.rsplit("/", 1)[-1]
    assert f"Snowflake refuses line 2, 3 of {bad.key}" in caplog.text
    assert f"scripts.ledger quarantine {name} --line 2 --line 3" in caplog.text
    assert "secret-content" not in caplog.text
    rejected = stack.rows("select part_key, source_row, reason from OPS.REJECTED_ROWS order by 2")
    assert [row[:2] for row in rejected] == [(bad.key, 2), (bad.key, 3)]
    assert "secret-content" not in str(rejected)


def test_a_missing_object_fails_its_hour_and_no_other(stack, caplog):
    gone = stack.part(2)
    stack.bucket.remove(gone.key)
    good = stack.part(3, "2026-09-24T04")
    counts = stack.load_lines(
        UploadedLine(hour=HOUR, version=1, parts=[gone]),
        UploadedLine(hour="2026-09-24T04", version=1, parts=[good]),
    )
    assert (counts["hours_failed"], counts["rows_loaded"]) == (1, 3)
    assert not stack.loaded()
    assert stack.loaded("2026-09-24T04")
    assert "amplitude_daily over its day with `force`" in caplog.text


def test_rows_that_vanished_are_an_error_and_not_a_silent_success(stack, caplog):
    part = stack.part(5)
    stack.load(part)
    stack.server.script(stack.database, f"delete from {LANDING} where source_row = 3")
    stack.bucket.remove(keys.ledger_prefix("python-import"))
    assert stack.load(part)["hours_failed"] == 1
    assert f"{part.key} has 4 of 5 rows" in caplog.text
    assert not stack.loaded()
    page = (ROOT / "docs" / "runbook.md").read_text()
    remedy = page.split("## Rows are missing in RAW")[1].split("```sql\n")[1].split("```")[0]
    remedy = remedy.replace("<key of the part>", part.key)
    remedy = remedy.replace("<key without the prefix>", part.key.removeprefix("python-import/"))
    stack.server.script(stack.database, remedy, role="SYSADMIN")
    assert stack.load(part)["hours_failed"] == 0
    assert stack.loaded()


def test_a_part_that_the_pipe_refused_is_copied_and_a_pipe_that_works_is_not_waited_for(stack):
    stack.run_pipe()
    bad = stack.part(['{"uuid": "a"}', "{"])
    assert stack.load(bad)["hours_failed"] == 1
    assert stack.audit()[bad.key][2] == "copy"


def test_a_pipe_that_no_notification_ever_reached_is_asked_at_once_and_it_is_said(stack, monkeypatch, caplog):
    monkeypatch.setattr(Landing, "pipe", lambda self: Pipe("RUNNING", pending=0, notified=False))
    asked = []
    monkeypatch.setattr(Landing, "refresh", lambda self, folder: asked.append(folder))
    part = stack.part(3)
    began = time.monotonic()
    assert stack.load(part)["rows_loaded"] == 3
    assert time.monotonic() - began < load.PIPE_SECONDS
    assert asked == [part.key.rsplit("/", 2)[0] + "/"]
    assert "No notification has ever reached the pipe" in caplog.text
    assert stack.audit()[part.key][2] == "copy"


def test_old_parts_go_to_copy_at_once(stack):
    stack.run_pipe()
    part = stack.part(2, uploaded=datetime.now(UTC) - timedelta(days=8))
    assert stack.load(part)["hours_failed"] == 0


def test_lines_with_an_error_of_upload_are_left_alone(stack):
    assert stack.load_lines(UploadedLine(hour=HOUR, version=0, parts=[], error="no"))["hours"] == 0
    assert not stack.loaded()


def test_hours_without_parts_need_no_warehouse(stack, monkeypatch):
    monkeypatch.setenv("SNOWFLAKE_PORT", "1")
    assert stack.load()["hours_failed"] == 0


def test_more_parts_than_one_statement_takes(stack, monkeypatch):
    monkeypatch.setattr(load, "FILES_PER_COPY", 2)
    monkeypatch.setattr("scripts.pipeline.landing.KEYS_PER_QUERY", 2)
    parts = [stack.part(1) for _ in range(5)]
    assert stack.load(*parts)["rows_loaded"] == 5
    assert [stack.counts(part) for part in parts] == [(1, 1)] * 5
