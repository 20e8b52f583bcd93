"""Loads the parts of a run into the landing table, and proves it: per part, distinct SOURCE_ROW = rows of the version.

The pipe comes first, because it costs least; what it has never heard of it is told of; what it refused, or what is too
old for it, is copied. A part that lacks rows then is an error of its hour. Other hours go through; the verdict of the
run asks the ledger.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from scripts.pipeline import warehouse
from scripts.pipeline.backup_store import BackupStore
from scripts.pipeline.entry import Result, as_command, log
from scripts.pipeline.errors import PermanentError
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.landing import FILES_PER_COPY, Landing, PartState, batches
from scripts.pipeline.records import UploadedLine, read_lines
from scripts.pipeline.settings import BackupSettings, BucketSettings, SnowflakeSettings
from scripts.pipeline.settings import load as read_settings

# Snowpipe usually loads within a minute of the notification, and promises nothing.
PIPE_SECONDS = 300
POLL_SECONDS = 5
REFRESHED = timedelta(days=6, hours=12)  # REFRESH sees files of the last 7 days
LINES_SHOWN = 10

States = Mapping[str, PartState]


def run(*, uploaded: Path) -> Result:
    """Loads every hour of `uploaded`, checks it, marks it in the ledger, and lets the backup expire.

    Returns counts: hours, parts, rows (expected), rows_loaded (that were not there before), hours_failed, hours_short
    (of them: the ledger calls them loaded), seconds.
    """
    start = time.monotonic()
    lines = [line for line in read_lines(uploaded, UploadedLine) if not line.error]
    bucket = read_settings(BucketSettings)
    ledger = HourLedger(bucket)
    loaded = 0
    failed, short = set[str](), set[str]()
    states = {part.key: PartState(part) for line in lines for part in line.parts}
    if states:
        settings = read_settings(SnowflakeSettings)
        with warehouse.connect(settings) as session:
            landing = Landing(session, settings.snowflake_database, settings.raw_schema, bucket.aws_prefix)
            loaded = bring_in(landing, states)
            landing.record(lines, states)
        failed, short = mark(ledger, lines, states)
    expired = expire_backup(bucket, ledger)
    rows = sum(state.part.rows for state in states.values())
    text = "%d hours, %d rows, of them %d brought now (the others were there), %d hours failed, %d backups expired"
    log.info(text, len(lines), rows, loaded, len(failed), expired)
    return {
        "hours": len(lines),
        "parts": len(states),
        "rows": rows,
        "rows_loaded": loaded,
        "hours_failed": len(failed),
        "hours_short": len(short),
        "seconds": round(time.monotonic() - start, 3),
    }


def bring_in(landing: Landing, states: States) -> int:
    """Gets the parts that lack rows into the table; returns how many rows that brought. States are right at the end."""
    landing.count(states)
    before = sum(state.distinct for state in states.values())
    if lacking(states):
        by_pipe(landing, lacking(states))
        by_copy(landing, lacking(states))
    return sum(state.distinct for state in states.values()) - before


def lacking(states: States) -> dict[str, PartState]:
    return {key: state for key, state in states.items() if not state.complete}


def by_pipe(landing: Landing, states: States) -> None:
    """Waits for the pipe, and tells it of young parts that it has never seen."""
    pipe = landing.pipe()
    if pipe is None or pipe.state != "RUNNING":
        log.warning(
            "The pipe is %s: parts are copied.", pipe.state if pipe else "not there, or not for this role to see"
        )
        return
    limit = datetime.now(UTC) - REFRESHED
    young = {key: state for key, state in states.items() if datetime.fromisoformat(state.part.uploaded_at) > limit}
    if pipe.notified:
        wait(landing, young)
    else:
        log.warning("No notification has ever reached the pipe: it is asked directly. See docs/aws/README.md, step 6.")
    landing.read_history(young)
    unseen = {key: state for key, state in lacking(young).items() if not state.pipe_status}
    for day in sorted({key.rsplit("/", 2)[0] + "/" for key in unseen}):
        landing.refresh(day)
    wait(landing, lacking(young), until_idle=True)


def wait(landing: Landing, states: States, *, until_idle: bool = False) -> None:
    """Until the pipe has dealt with each part, at most PIPE_SECONDS. `until_idle`: no longer than it has work.

    An idle pipe may still get notifications, but none for what it was told of directly.
    """
    deadline = time.monotonic() + PIPE_SECONDS
    waiting = dict(states)
    idle = False
    while waiting:
        landing.read_history(waiting)  # before the rows: a part loaded between the two would seem loaded without rows
        landing.count(waiting)
        for state in waiting.values():
            if state.complete:
                state.loaded_by = "pipe"
        waiting = {key: state for key, state in lacking(waiting).items() if not state.pipe_status}
        if not waiting or idle or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
        pipe = landing.pipe() if until_idle else None
        idle = pipe is not None and pipe.pending == 0


def by_copy(landing: Landing, states: States) -> None:
    """COPY, and the reason for each part that still lacks rows."""
    for batch in batches(list(states), FILES_PER_COPY):
        try:
            landing.copy(batch)
        except PermanentError as error:  # one object that is gone fails the statement for all
            log.warning("%s The parts are copied one by one.", error)
            for key in batch:
                copy_alone(landing, states[key])
    landing.count(states)
    for key, state in states.items():
        state.loaded_by = "copy"
        if not state.complete:
            explain(landing, key, state)


def copy_alone(landing: Landing, state: PartState) -> None:
    try:
        landing.copy([state.part.key])
    except PermanentError as error:
        state.problem = str(error)


def explain(landing: Landing, key: str, state: PartState) -> None:
    """Says why a part lacks rows: lines that Snowflake refuses, or what else is wrong."""
    if state.problem:
        return
    try:
        state.bad_lines = landing.bad_lines(key)
    except PermanentError as error:
        log.warning("%s could not be read as text: %s", key, error)
    name = key.rsplit("/", 1)[-1]
    if state.bad_lines:
        shown = ", ".join(str(number) for number in state.bad_lines[:LINES_SHOWN])
        more = "" if len(state.bad_lines) <= LINES_SHOWN else f" and {len(state.bad_lines) - LINES_SHOWN} more"
        state.problem = (
            f"Snowflake refuses line {shown}{more} of {key} and with it the part. Take the lines out: "
            f"python -m scripts.ledger quarantine {name} {' '.join(f'--line {line}' for line in state.bad_lines[:3])}"
        )
    else:
        state.problem = (
            f"{key} has {state.distinct} of {state.part.rows} rows, and Snowflake's load memory does not let it in "
            "again. See docs/runbook.md, rows are missing in RAW."
        )


def mark(ledger: HourLedger, lines: Iterable[UploadedLine], states: States) -> tuple[set[str], set[str]]:
    """Marks the hours whose parts are all there. Returns the hours that are not, and those of them that were loaded
    once (`force`): the ledger does not show that they lack rows now.
    """
    failed = set()
    for line in lines:
        if not line.parts:
            continue
        mine = [states[part.key] for part in line.parts]
        problems = [state.problem for state in mine if not state.complete]
        if problems:
            failed.add(line.hour)
            log.error("hour %s version %d is not loaded: %s", line.hour, line.version, "; ".join(problems))
        else:
            ledger.mark_loaded(line.hour, line.version, sum(state.part.rows for state in mine))
    return failed, {hour for hour in failed if not ledger.entry(hour).unloaded}


def expire_backup(bucket: BucketSettings, ledger: HourLedger) -> int:
    """Deletes backup files that are old enough and loaded in all their hours; returns how many."""
    settings = read_settings(BackupSettings)

    @cache
    def is_loaded(hour: str) -> bool:
        entry = ledger.entry(hour)
        return entry.version > 0 and not entry.unloaded

    return BackupStore(settings, bucket.amp_project_id).expire(is_loaded, settings.now())


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.load", description="Load uploaded parts into Snowflake.")
    parser.add_argument("uploaded", type=Path, help="uploaded.jsonl of the upload task")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
