"""Looks at the whole way of the data, without a warehouse: SHOW, system functions and the ledger cost no credits.

    python -m scripts.health        prints the table; exit code 1 when something is wrong

Hourly by the flow `pipeline_health`, which alerts. What is wrong since when stands in Kestra's KV store (`health`).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from scripts.pipeline import warehouse
from scripts.pipeline.deployment import BASE1_STREAM, STREAM
from scripts.pipeline.entry import as_command, log
from scripts.pipeline.errors import DamagedError, PipelineError
from scripts.pipeline.hour_ledger import HourEntry, HourLedger
from scripts.pipeline.hours import HOUR, day_window, format_hour, parse_hour, settled
from scripts.pipeline.landing import Landing
from scripts.pipeline.settings import BackupSettings, BucketSettings, DeploySettings, PlanSettings, load

# A day's hours are exported by the tick at 03:30 UTC of the next day (`daily` in flows/amplitude_daily.yml), those that
# are young then by the next one; what is not there at six is late.
TICK, LATE = timedelta(hours=3, minutes=30), timedelta(hours=6)
LOADING = timedelta(hours=6)  # the longest that uploaded hours wait: `load` has a timeout of 4 hours
RECHECKS = timedelta(days=3)  # how long re-checks may be due: as many ticks have tried them by then
SILENCE = timedelta(hours=34)  # without a single event, beyond the export latency
BUILD = timedelta(hours=30)  # the marts are built once a day
QUARANTINE = timedelta(hours=48)  # how long bad lines stay news
VERSIONS_READ = 200
MART = "DAILY_ENGAGEMENT"  # a table that each build makes anew
ROLE = "AMPLITUDE_LOADER"


class Problem(msgspec.Struct, frozen=True):
    """`kind` is one word; `count` tells growth; `todo` names a heading of docs/runbook.md."""

    kind: str
    what: str
    todo: str
    severity: str = "error"
    count: int = 0


class Seen(msgspec.Struct):
    since: datetime
    count: int = 0


def run(*, previous: str, output: Path) -> dict[str, int | str]:
    """Writes `output` (Markdown). `previous`: `state` of the last check. Returns for the alert: problems (how many),
    kinds, severity, text; and `state` for the next check. A check that cannot be made is a problem itself.
    """
    now = load(PlanSettings).now()
    seen = _seen(previous)
    problems = [found for check in (of_ledger, of_warehouse, of_disk) for found in _checked(check, now)]
    state = {
        problem.kind: Seen(seen[problem.kind].since if problem.kind in seen else now, problem.count)
        for problem in problems
    }
    lines = [_line(problem, state[problem.kind].since, seen.get(problem.kind)) for problem in problems]
    for line in lines:
        log.warning("%s", line)
    if not problems:
        log.info("health: nothing is wrong")
    output.write_text(as_markdown(now, problems, state), encoding="utf-8")
    return {
        "problems": len(problems),
        "kinds": " ".join(sorted(state)),
        "severity": "error" if any(problem.severity == "error" for problem in problems) else "warning",
        "text": "\n".join(lines),
        "state": msgspec.json.encode(state).decode(),
    }


def _seen(previous: str) -> dict[str, Seen]:
    try:
        return msgspec.json.decode(previous or "{}", type=dict[str, Seen])
    except msgspec.MsgspecError:
        log.warning("The KV value `health` is not readable and is made anew: every problem counts from now.")
        return {}


def _checked(check: Callable[[datetime], Iterable[Problem]], now: datetime) -> Iterator[Problem]:
    try:
        yield from check(now)
    except PipelineError as error:
        kind = check.__name__.removeprefix("of_")
        yield Problem(f"{kind}_unknown", f"could not be looked at: {error}", "A run failed")


def _line(problem: Problem, since: datetime, before: Seen | None) -> str:
    grown = before and problem.count > before.count > 0
    growing = f" Growing: {before.count} at the last check." if before and grown else ""
    return f"{problem.kind}, since {_text(since)}: {problem.what}{growing} docs/runbook.md, “{problem.todo}”."


def as_markdown(now: datetime, problems: Iterable[Problem], state: dict[str, Seen]) -> str:
    rows = [
        f"| {each.kind} | {each.severity} | {_text(state[each.kind].since)} | {each.what} | {each.todo} |"
        for each in problems
    ]
    if not rows:
        return f"# Health at {_text(now)}\n\nNothing is wrong.\n"
    head = ["| what | severity | seen since | in words | in the runbook |", "|---|---|---|---|---|"]
    return "\n".join([f"# Health at {_text(now)}", "", *head, *rows, ""])


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def of_ledger(now: datetime) -> Iterator[Problem]:
    """Hours that are late, uploaded and not loaded, not re-checked, without any event, or with lines in quarantine."""
    settings = load(PlanSettings)
    ledger = HourLedger(load(BucketSettings))
    entries = ledger.entries()
    first = settings.amp_start_date or ledger.first_day()
    latency = settings.export_latency_hours
    late = _late(entries, day_window(first).start, now, latency) if first else []
    if late:
        what = f"{len(late)} hours are not exported, the oldest is {late[0]}."
        yield Problem("open_hours", what, "A day is missing, or looks wrong", count=len(late))
    waiting = [entry for entry in entries.values() if entry.unloaded]
    oldest = [_exported_at(ledger, entry) for entry in waiting[:VERSIONS_READ]]
    if any(now - exported_at > LOADING for exported_at in oldest):
        what = f"{len(waiting)} hours are in S3 and not in Snowflake, the oldest is {waiting[0].hour}."
        yield Problem("not_loaded", what, "A run failed", count=len(waiting))
    overdue = [entry.hour for entry in entries.values() if entry.recheck_due(now - RECHECKS)]
    if overdue:
        what = f"{len(overdue)} hours were not re-checked for late events, the oldest is {overdue[0]}."
        yield Problem("rechecks", what, "A day is missing, or looks wrong", "warning", len(overdue))
    full = [entry.hour for entry in entries.values() if entry.version in entry.loaded]
    if full and not late and not waiting and now - parse_hour(full[-1]) - HOUR > SILENCE + latency * HOUR:
        yield Problem("silence", f"Amplitude has had no event since hour {full[-1]}.", "No events", "warning")
    yield from _quarantine(ledger, entries, now)


def _exported_at(ledger: HourLedger, entry: HourEntry) -> datetime:
    """Of the version that waits the longest. One that cannot be read will never be loaded: as old as its hour."""
    try:
        return datetime.fromisoformat(ledger.read(entry.hour, entry.unloaded[0]).manifest.exported_at)
    except DamagedError as error:
        log.warning("%s", error)
        return parse_hour(entry.hour)


def _late(entries: dict[str, HourEntry], hour: datetime, now: datetime, latency_hours: int) -> list[str]:
    """Hours without a version that were settled at the newest tick, of days that are over for longer than LATE."""
    late = []
    end = day_window((now - LATE).date()).start
    while hour < end and settled(hour, end + TICK, latency_hours):
        text = format_hour(hour)
        if text not in entries or entries[text].version == 0:
            late.append(text)
        hour += HOUR
    return late


def _quarantine(ledger: HourLedger, entries: dict[str, HourEntry], now: datetime) -> Iterator[Problem]:
    recent = [entry for entry in entries.values() if entry.version and now - parse_hour(entry.hour) < QUARANTINE]
    lines: dict[str, int] = {}
    for entry in recent:
        try:
            version = ledger.read(entry.hour, entry.version)
        except DamagedError as error:
            log.warning("%s", error)
            continue
        if bad := sum(len(part.bad_lines) for part in version.manifest.parts):
            lines[entry.hour] = bad
    if lines:
        what = f"{sum(lines.values())} lines of {len(lines)} hours are no events, the first of hour {min(lines)}."
        yield Problem("quarantine", what, "Lines are in quarantine", "warning", sum(lines.values()))


def of_warehouse(now: datetime) -> Iterator[Problem]:
    """Pipe, streams, tasks and the age of the marts."""
    settings = load(DeploySettings)
    database = settings.snowflake_database
    with warehouse.connect(settings, ROLE) as session:
        pipe = Landing(session, database, settings.raw_schema, settings.aws_prefix).pipe()
        if pipe is None or pipe.state != "RUNNING":
            state = pipe.state if pipe else "not there"
            yield Problem("pipe", f"the pipe is {state}; `load` copies the parts itself meanwhile.", "Pipe")
        for schema, name in ((settings.raw_schema, STREAM), ("SILVER", BASE1_STREAM)):
            streams = session.dicts(f"show streams like '{name}' in schema {database}.{schema}")
            if not streams or streams[0]["stale"] == "true":
                state = "stale" if streams else f"not there, or not for {ROLE} to see"
                yield Problem("stream", f"{schema}.{name} is {state}.", "Stale stream")
        tasks = session.dicts(f"show tasks like 'AMPLITUDE%' in schema {database}.SILVER")
        suspended = sorted(task["name"] for task in tasks if task["state"] != "started")
        if settings.silver_tasks and (suspended or not tasks):
            what = f"SILVER stands still: {', '.join(suspended) + ' suspended' if tasks else 'there are no tasks'}."
            yield Problem("tasks", what, "SILVER is behind")
        marts = session.dicts(f"show tables like '{MART}' in schema {database}.MARTS")
        # The connector gives a datetime; text is what the local Snowflake gives.
        built = max((datetime.fromisoformat(str(mart["created_on"])).astimezone(UTC) for mart in marts), default=None)
        if built is None or now - built > BUILD:
            what = f"the marts were last built at {_text(built)}." if built else "the marts were never built."
            yield Problem("marts", what, "dbt")


def of_disk(_now: datetime) -> Iterator[Problem]:
    """Room for the backup of one full run and its copies."""
    folder, need = load(BackupSettings).data_dir, 3 * load(PlanSettings).max_bytes_per_run
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < need:
        what = f"{free / 1e9:.1f} GB are free for the backup, a full run may need {need / 1e9:.1f} GB."
        yield Problem("disk", what, "The disk fills up", "warning")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.health", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    found = 0

    def show() -> None:
        nonlocal found
        found = int(run(previous="", output=Path("/dev/null"))["problems"])

    return as_command(show) or int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
