"""Loads the parts of a run into the landing table, and proves it: per part, distinct SOURCE_ROW = rows of the version.

RAW is a log: a part loaded twice is harmless, because everything downstream counts distinct (SOURCE_FILE, SOURCE_ROW).
A part that lacks rows is an error of its hour. Other hours go through; the verdict of the run asks the ledger.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TypeVar

from scripts.pipeline import warehouse
from scripts.pipeline.backup_store import BackupStore
from scripts.pipeline.entry import Result, as_command, log
from scripts.pipeline.errors import PermanentError
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.hours import parse_hour
from scripts.pipeline.records import UploadedLine, UploadedPart, read_lines
from scripts.pipeline.settings import BackupSettings, BucketSettings, SnowflakeSettings
from scripts.pipeline.settings import load as read_settings
from scripts.pipeline.warehouse import Warehouse

FILES_PER_COPY = 1000  # Snowflake's limit for FILES = (…)
KEYS_PER_QUERY = 500
LINES_SHOWN = 10
# LOADED_AT is Snowflake's clock, the upload time is ours: the window that lets the landing table prune has slack.
CLOCK_SLACK_DAYS = 1

T = TypeVar("T")


@dataclass
class PartState:
    """What the landing table says about one part."""

    part: UploadedPart
    distinct: int = 0  # SOURCE_ROW
    stored: int = 0  # rows; more than distinct: loaded twice
    loaded_by: str = "earlier"
    problem: str = ""
    bad_lines: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.distinct == self.part.rows


@dataclass(frozen=True)
class Landing:
    """The landing table of one environment, and the statements over it."""

    session: Warehouse
    schema: str
    prefix: str

    def count(self, states: Mapping[str, PartState]) -> None:
        """Reads rows and distinct rows of each part."""
        for batch in batches(list(states), KEYS_PER_QUERY):
            first = min(states[key].part.uploaded_at for key in batch)
            rows = self.session.rows(
                "select source_file, count(distinct source_row), count(*)"  # noqa: S608 (our own names)
                f" from {self.schema}.amplitude_events_raw_python"
                f" where loaded_at >= dateadd('day', -{CLOCK_SLACK_DAYS}, to_timestamp_tz(?))"
                f" and source_file in ({', '.join('?' * len(batch))}) group by source_file",
                first,
                *batch,
            )
            for key, distinct, stored in rows:
                states[key].distinct, states[key].stored = distinct, stored

    def copy(self, keys: Sequence[str], *, force: bool = False) -> int:
        """COPY of the parts; returns the rows that it loaded. A part with a bad line is skipped whole."""
        relative = ", ".join(f"'{self._path(key)}'" for key in keys)
        answer = self.session.dicts(
            f"copy into {self.schema}.amplitude_events_raw_python (json_data, source_file, source_row, loaded_at)"  # noqa: S608
            " from (select $1, metadata$filename, metadata$file_row_number, metadata$start_scan_time"
            f" from @{self.schema}.amplitude_events_stage) files = ({relative})"
            f" file_format = (format_name = '{self.schema}.amplitude_json') on_error = skip_file"
            f"{' force = true' if force else ''}"
        )
        return sum(int(row.get("rows_loaded") or 0) for row in answer)

    def bad_lines(self, key: str) -> list[int]:
        """Lines of a part that Snowflake does not take for JSON, by reading it as text. Their content stays there."""
        rows = self.session.rows(
            f"select metadata$file_row_number from '@{self.schema}.amplitude_events_stage/{self._path(key)}'"  # noqa: S608
            f" (file_format => '{self.schema}.amplitude_text_lines') where try_parse_json($1) is null order by 1"
        )
        return [row[0] for row in rows]

    def _path(self, key: str) -> str:
        return key.removeprefix(f"{self.prefix}/")

    def record(self, lines: Iterable[UploadedLine], states: Mapping[str, PartState]) -> None:
        """Writes OPS.LOAD_AUDIT and OPS.REJECTED_ROWS."""
        now = datetime.now(UTC).replace(tzinfo=None)
        audit: list[tuple[object, ...]] = []
        for line in lines:
            hour = parse_hour(line.hour).replace(tzinfo=None)
            for state in (states[part.key] for part in line.parts):
                counts = (state.part.rows, state.distinct, state.stored)
                audit.append((state.part.key, hour, line.version, *counts, state.loaded_by, state.problem or None, now))
        for batch in batches(audit, FILES_PER_COPY):
            self.session.insert("insert into ops.load_audit values (?, ?, ?, ?, ?, ?, ?, ?, ?)", batch)
        rejected = [
            (key, number, "not readable as JSON", now) for key, state in states.items() for number in state.bad_lines
        ]
        for batch in batches(rejected, FILES_PER_COPY):
            self.session.insert("insert into ops.rejected_rows values (?, ?, ?, ?)", batch)


def run(*, uploaded: Path) -> Result:
    """Loads every hour of `uploaded`, checks it, marks it in the ledger, and lets the backup expire.

    Returns counts: hours, parts, rows (expected), loaded (by this run's COPY), errors (hours), seconds.
    """
    start = time.monotonic()
    lines = [line for line in read_lines(uploaded, UploadedLine) if not line.error]
    bucket = read_settings(BucketSettings)
    ledger = HourLedger(bucket)
    loaded = 0
    failed: list[str] = []
    states = {part.key: PartState(part) for line in lines for part in line.parts}
    if states:
        settings = read_settings(SnowflakeSettings)
        with warehouse.connect(settings) as session:
            landing = Landing(session, settings.raw_schema, bucket.aws_prefix)
            loaded = bring_in(landing, states)
            landing.record(lines, states)
        failed = mark(ledger, lines, states)
    expired = expire_backup(bucket, ledger)
    log.info(
        "%d hours, %d rows loaded, %d hours failed, %d backup files expired", len(lines), loaded, len(failed), expired
    )
    return {
        "hours": len(lines),
        "parts": len(states),
        "rows": sum(state.part.rows for state in states.values()),
        "loaded": loaded,
        "errors": len(failed),
        "seconds": round(time.monotonic() - start, 3),
    }


def bring_in(landing: Landing, states: Mapping[str, PartState]) -> int:
    """Copies the parts that lack rows; returns how many rows that loaded. States are right at the end."""
    landing.count(states)
    lacking = {key: state for key, state in states.items() if not state.complete}
    loaded = 0
    for batch in batches(list(lacking), FILES_PER_COPY):
        try:
            loaded += landing.copy(batch)
        except PermanentError as error:  # one object that is gone fails the statement for all
            log.warning("%s The parts are copied one by one.", error)
            loaded += sum(copy_alone(landing, lacking[key]) for key in batch)
    if lacking:
        landing.count(lacking)
    for key, state in lacking.items():
        state.loaded_by = "copy"
        if not state.complete:
            explain(landing, key, state)
    return loaded


def copy_alone(landing: Landing, state: PartState) -> int:
    try:
        return landing.copy([state.part.key])
    except PermanentError as error:
        state.problem = str(error)
        return 0


def explain(landing: Landing, key: str, state: PartState) -> None:
    """Says why a part lacks rows: lines that Snowflake refuses, or what else is wrong."""
    if not state.problem:
        state.bad_lines = landing.bad_lines(key)
    name = key.rsplit("/", 1)[-1]
    if state.bad_lines:
        shown = ", ".join(str(number) for number in state.bad_lines[:LINES_SHOWN])
        more = "" if len(state.bad_lines) <= LINES_SHOWN else f" and {len(state.bad_lines) - LINES_SHOWN} more"
        state.problem = (
            f"Snowflake refuses line {shown}{more} of {key} and with it the part. Take the lines out: "
            f"python -m scripts.ledger quarantine {name} {' '.join(f'--line {line}' for line in state.bad_lines[:3])}"
        )
    elif not state.problem:
        state.problem = (
            f"{key} has {state.distinct} of {state.part.rows} rows, and Snowflake's load memory does not let it in "
            "again. Run amplitude_reconcile with `fix` over its day."
        )


def mark(ledger: HourLedger, lines: Iterable[UploadedLine], states: Mapping[str, PartState]) -> list[str]:
    """Marks the hours whose parts are all there. Returns the hours that are not."""
    failed = []
    for line in lines:
        if not line.parts:
            continue
        mine = [states[part.key] for part in line.parts]
        problems = [state.problem for state in mine if not state.complete]
        if problems:
            failed.append(line.hour)
            log.error("hour %s version %d is not loaded: %s", line.hour, line.version, "; ".join(problems))
        else:
            ledger.mark_loaded(line.hour, line.version, sum(state.part.rows for state in mine))
    return failed


def expire_backup(bucket: BucketSettings, ledger: HourLedger) -> int:
    """Deletes backup files that are old enough and loaded in all their hours; returns how many."""
    settings = read_settings(BackupSettings)

    @cache
    def is_loaded(hour: str) -> bool:
        entry = ledger.entry(hour)
        return entry.version > 0 and not entry.unloaded

    return BackupStore(settings, bucket.amp_project_id).expire(is_loaded, settings.now())


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.load", description="Load uploaded parts into Snowflake.")
    parser.add_argument("uploaded", type=Path, help="uploaded.jsonl of the upload task")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
