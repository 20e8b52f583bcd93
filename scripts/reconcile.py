"""Compares what every hop holds of some days: backup, ledger, S3, RAW, SILVER and dbt, hour by hour, uuid by uuid.

    python -m scripts.reconcile --from 2026-11-01 --to 2026-11-07 [--fix]

With `--fix` it mends what it can by itself: a lost object from the backup, missing landing rows (also of hours that
wait for load) by a COPY past Snowflake's load memory, missing SILVER rows by landing them again. What needs a run is
named in the result; the flow `amplitude_reconcile` starts it (a forced export, a dbt build).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path

from scripts import backup
from scripts.notify import is_of, still_open
from scripts.pipeline import hops, warehouse
from scripts.pipeline.entry import as_command, log
from scripts.pipeline.errors import PermanentError, PipelineError
from scripts.pipeline.hops import Figures, HourHops
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.hours import Window, days_window, parse_hour
from scripts.pipeline.landing import Landing, batches
from scripts.pipeline.settings import BucketSettings, DeploySettings, PlanSettings, load
from scripts.plan import interval_of

DEFAULT_DAYS = 7
READER, WRITER = "AMPLITUDE_TRANSFORMER", "AMPLITUDE_LOADER"
ROWS_PER_STATEMENT = 1000
SILVER_SECONDS = 600  # how long SILVER may take to follow what was landed again: its tasks run every minute or so
POLL_SECONDS = 15
SHOWN = 50
# As flows/amplitude_reconcile.yml makes the keys of its alerts.
FLOW, NOT_COMPARED = "amplitude_reconcile", "unknown days"


@dataclass(frozen=True)
class Difference:
    """`hop`: where something is missing or too much; `mend` what `fix` does about it ("" = a person must)."""

    hour: str
    hop: str
    what: str
    step: str
    mend: str = ""


def run(*, start_date: str, end_date: str, fix: str, alerts: str = "", output: Path) -> dict[str, int | str]:
    """Compares, writes `output` (Markdown) and OPS.RECONCILIATION, and mends when `fix` is `true`.

    Returns differences (how many were found), the `days` from the first to the last that differs, and what a run
    must do about them: `export_from` and `export_to` (days to export again, "" = none), `build` (1: dbt must build)
    and `full_refresh` (1: all of it); and `over`: which of `alerts` (notify.py) are over when every hop holds the same,
    parted by `;`.
    """
    window = asked(start_date, end_date)
    found = compare(window)
    differences = differences_of(found)
    output.write_text(as_markdown(window, found, differences), encoding="utf-8")
    record(found.values())
    for each in differences[:SHOWN]:
        log.warning("%s %s: %s %s", each.hour, each.hop, each.what, each.step)
    log.info("reconcile: %d hours, %d differences", len(found), len(differences))
    export: list[str] = []
    if fix == "true" and differences:
        export = mend(window, found)
    mended = {each.mend for each in differences if fix == "true"}
    return {
        "differences": len(differences),
        "days": days_of(differences),
        "over": "; ".join(over(alerts, window)),
        "export_from": min(export, default="")[:10],
        "export_to": max(export, default="")[:10],
        "build": int(bool(mended & {"landing", "object", "dbt"})),
        "full_refresh": int("dbt" in mended),
    }


def days_of(differences: list[Difference]) -> str:
    """The first and the last day that differ, as an alert's key names them."""
    hours = sorted(parse_hour(each.hour) for each in differences)
    return interval_of(Window(hours[0], hours[-1])) if hours else ""


def over(alerts: str, window: Window) -> list[str]:
    """Keys of open alerts of this flow whose days all lie in these. One of a run that could not compare names none."""
    first, last = f"{window.start:%Y-%m-%d}", f"{window.end:%Y-%m-%d}"
    opened = [key for key in still_open(alerts, load(PlanSettings).now()) if is_of(key, FLOW)]
    days = {key: key.removeprefix(f"{FLOW} ") for key in opened}
    return [key for key in opened if days[key] == NOT_COMPARED or (first <= days[key][:10] and days[key][-10:] <= last)]


def prove(*, start_date: str, end_date: str, fix: str, output: Path) -> dict[str, int]:
    """Compares again; with `fix` it waits until SILVER has followed. Raises PermanentError that names what remains."""
    window = asked(start_date, end_date)
    deadline = time.monotonic() + (SILVER_SECONDS if fix == "true" else 0)
    while True:
        found = compare(window)
        remaining = differences_of(found)
        if {each.hop for each in remaining} != {"SILVER"} or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    output.write_text(as_markdown(window, found, remaining), encoding="utf-8")
    record(found.values())
    if remaining:
        shown = "\n  ".join(f"{each.hour} {each.hop}: {each.what} {each.step}" for each in remaining[:SHOWN])
        more = f"\n  and {len(remaining) - SHOWN} more: see the file" if len(remaining) > SHOWN else ""
        raise PermanentError(f"{len(remaining)} differences remain:\n  {shown}{more}")
    log.info("reconcile: every hop holds the same")
    return {"differences": 0}


def asked(start_date: str, end_date: str) -> Window:
    """The days to compare; without any the last seven that are over, as far as they are ours."""
    settings = load(PlanSettings)
    now = settings.now()
    if end_date and not start_date:
        raise PermanentError("end_date was given without start_date: give both, or start_date alone for one day.")
    try:
        if start_date:
            return days_window(date.fromisoformat(start_date), date.fromisoformat(end_date or start_date), now)
    except ValueError:
        raise PermanentError("a date is not one: write YYYY-MM-DD.") from None
    ledger = HourLedger(load(BucketSettings))
    yesterday = now.astimezone(UTC).date() - timedelta(days=1)
    first = yesterday - timedelta(days=DEFAULT_DAYS - 1)
    known = [parse_hour(hour).date() for hour in ledger.entries(first, yesterday)]
    ours = settings.amp_start_date or ledger.first_day() or min(known, default=None)
    if ours is None or ours > yesterday:
        raise PermanentError("the ledger has none of the last seven days yet: run amplitude_daily first.")
    return days_window(max(first, ours), yesterday, now)


def compare(window: Window) -> dict[str, HourHops]:
    """What every hop holds of these days."""
    planning, bucket, settings = load(PlanSettings), load(BucketSettings), load(DeploySettings)
    found = hops.of_ledger(HourLedger(bucket), window, planning.now(), planning.export_latency_hours)
    hops.add_backup(found, window, bucket)
    since = hops.earliest_upload(found)
    if since:
        with warehouse.connect(settings, READER) as session:
            layers = hops.Layers(session, settings.snowflake_database, settings.raw_schema, bucket)
            built = layers.has_events_of_dbt()
            figures = layers.figures(window, since, silver=settings.silver_tasks, dbt=built)
            rows = layers.rows(window, since)
        for hour in found.values():
            hour.raw, silver, hour.dbt = figures.get(hour.hour, [(0, "0")] * 3)
            hour.silver = silver if settings.silver_tasks else None
            hour.count(rows)
    return found


def differences_of(found: dict[str, HourHops]) -> list[Difference]:
    """Hours that were never exported, one line a day; then those of each hour."""
    never = [hour.hour for hour in found.values() if hour.state == "open"]
    lines = []
    for day, hours in groupby(never, key=lambda hour: hour[:10]):
        opened = list(hours)
        what = f"{len(opened)} hours from here on were never exported."
        lines.append(Difference(opened[0], "ledger", what, f"Execute amplitude_daily with start_date {day}."))
    return lines + [each for hour in found.values() for each in differences_of_hour(hour)]


def differences_of_hour(hour: HourHops) -> list[Difference]:
    """Each with its likely cause and the next step. Later hops are only looked at when the earlier ones are whole."""
    run_day = f"Execute amplitude_daily with start_date {hour.hour[:10]}."
    if hour.state in {"young", "open"}:
        return []
    found = []
    if not hops.backup_agrees(hour):
        step = f"Amplitude answered otherwise than the ledger knows: {run_day[:-1]} and `force`."
        found.append(Difference(hour.hour, "backup", "its newest export is none of the ledger's versions.", step))
    for part in hour.lost:
        step = "`fix` puts it again from the backup, or exports the hour again."
        found.append(Difference(hour.hour, "S3", f"{part.key} is gone.", step, "object"))
    for part in hour.damaged:
        step = "Find who wrote it (S3 access log), delete it, then `fix`."
        found.append(Difference(hour.hour, "S3", f"{part.key} has not the size it was put with.", step))
    if hour.state == "uploaded":
        step = f"`fix` copies its parts past the load memory. If it stays: {run_day} `load` says what is wrong."
        return [*found, Difference(hour.hour, "RAW", "it waits for load.", step, "landing")]
    for key, count in hour.short.items():
        what = f"{count} of {hour.parts[key].rows} rows of {key}: rows were deleted."
        found.append(Difference(hour.hour, "RAW", what, "`fix` copies the part past the load memory.", "landing"))
    if hour.short:
        return found
    if hour.raw != hour.ledger:
        what = f"{hour.raw[0]} uuids, the ledger has {hour.ledger[0]}: rows that no version of this hour explains."
        found.append(Difference(hour.hour, "RAW", what, "Look who else writes the landing table."))
    if hour.silver is not None and hour.silver != hour.raw:
        what = f"{hour.silver[0]} of {hour.raw[0]} uuids: rows were deleted, or its tasks have not run yet."
        found.append(Difference(hour.hour, "SILVER", what, "`fix` lands them again.", "silver"))
    if hour.dbt != hour.raw:
        what = f"{hour.dbt[0]} of {hour.raw[0]} uuids: rows were deleted, or dbt has not built since."
        found.append(Difference(hour.hour, "dbt", what, "`fix` rebuilds the models (dbt_build, full_refresh).", "dbt"))
    return found


def mend(window: Window, found: dict[str, HourHops]) -> list[str]:
    """Mends S3, RAW and SILVER; returns the hours that must be exported again."""
    lost = [hour.hour for hour in found.values() if hour.lost]
    export = restored(window, lost) if lost else []
    bucket, settings = load(BucketSettings), load(DeploySettings)
    # A part that is to be exported again cannot be copied.
    short = sorted(key for hour in found.values() if hour.hour not in export for key in hour.short)
    missing: list[tuple[str, int]] = []
    since = hops.earliest_upload(found)
    if settings.silver_tasks and since:
        with warehouse.connect(settings, READER) as session:
            layers = hops.Layers(session, settings.snowflake_database, settings.raw_schema, bucket)
            missing = sorted(layers.missing_in_silver(window, since))
    if len(missing) > hops.ROWS_PER_READ:
        log.warning(
            "SILVER lacks too much to land again: `python -m scripts.maintain rebuild-streams --every` does it."
        )
        missing = []
    with warehouse.connect(settings, WRITER) as session:
        landing = Landing(session, settings.snowflake_database, settings.raw_schema, bucket.aws_prefix)
        for keys in batches(short, 100):
            landing.copy(keys, force=True)
        layers = hops.Layers(session, settings.snowflake_database, settings.raw_schema, bucket)
        for key, rows in groupby(missing, key=lambda row: row[0]):
            for numbers in batches([row[1] for row in rows], ROWS_PER_STATEMENT):
                layers.land_again(key, numbers)
        if since and any(hour.state == "uploaded" for hour in found.values()):
            mark_loaded(window, found, layers.rows(window, since))
    log.info("mended: %d parts copied, %d rows landed again for SILVER", len(short), len(missing))
    return export


def mark_loaded(window: Window, found: dict[str, HourHops], rows: dict[str, int]) -> None:
    """As `load` does: versions whose parts are complete by now. `rows`: distinct rows of each part in RAW."""
    ledger = HourLedger(load(BucketSettings))
    for entry in ledger.entries(window.start.date(), window.end.date()).values():
        waiting = set(entry.unloaded)
        for version in found[entry.hour].versions:
            parts = [part for part in version.manifest.parts if part.key]
            if version.version in waiting and all(rows.get(part.key) == part.rows for part in parts):
                ledger.mark_loaded(entry.hour, version.version, sum(part.rows for part in parts))
                log.info("%s version %d is loaded now", entry.hour, version.version)


def restored(window: Window, lost: list[str]) -> list[str]:
    """Puts lost objects again from the backup; returns the hours of which some are still lost."""
    try:
        backup.restore(first=parse_hour(lost[0]).date(), last=parse_hour(lost[-1]).date(), into_snowflake=False)
    except PipelineError as error:
        log.warning("not all is in the backup: %s", error)
    ledger, planning = HourLedger(load(BucketSettings)), load(PlanSettings)
    again = hops.of_ledger(ledger, window, planning.now(), planning.export_latency_hours)
    still = [hour for hour in lost if again[hour].lost]
    log.info("S3: %d of %d hours with lost objects are whole again by the backup", len(lost) - len(still), len(lost))
    return still


def record(found: Iterable[HourHops]) -> None:
    """Writes OPS.RECONCILIATION."""
    now = datetime.now(UTC).replace(tzinfo=None)
    rows = [
        (
            now,
            parse_hour(hour.hour).replace(tzinfo=None),
            hour.state,
            hour.ledger[0],
            hour.backup[0] if hour.backup else None,
            hour.raw[0],
            hour.silver[0] if hour.silver else None,
            hour.dbt[0],
            "; ".join(f"{each.hop}: {each.what}" for each in differences_of_hour(hour)) or None,
        )
        for hour in found
    ]
    with warehouse.connect(load(DeploySettings), WRITER) as session:
        for batch in batches(rows, ROWS_PER_STATEMENT):
            session.insert("insert into ops.reconciliation values (?, ?, ?, ?, ?, ?, ?, ?, ?)", batch)


def as_markdown(window: Window, found: dict[str, HourHops], differences: list[Difference]) -> str:
    """Counts of each hop by day, then every difference."""
    text = [f"# Reconciliation of {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}", ""]
    text += ["Distinct uuids by upload day, UTC; SILVER and dbt: of those in RAW. – : not looked at, or expired.", ""]
    text += ["| day | ledger | backup | RAW | SILVER | dbt | differences |", "|---|---:|---:|---:|---:|---:|---:|"]
    for day, group in groupby(found.values(), key=lambda hour: hour.hour[:10]):
        hours = list(group)
        counts: list[list[Figures | None]] = [
            [hour.ledger for hour in hours],
            [hour.backup for hour in hours],
            [hour.raw for hour in hours],
            [hour.silver for hour in hours],
            [hour.dbt for hour in hours],
        ]
        shown = [f"{sum(each[0] for each in hop if each):,}" if any(hop) else "–" for hop in counts]
        mine = sum(each.hour.startswith(day) for each in differences)
        text.append(f"| {day} | {' | '.join(shown)} | {mine or ''} |")
    if not differences:
        return "\n".join([*text, "", "Every hop holds the same.", ""])
    text += ["", "| hour | where | what | next step |", "|---|---|---|---|"]
    text += [f"| {each.hour} | {each.hop} | {each.what} | {each.step} |" for each in differences]
    return "\n".join([*text, ""])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.reconcile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="start_date", default="", help="first UTC day (default: the last seven)")
    parser.add_argument("--to", dest="end_date", default="", help="last UTC day, inclusive")
    parser.add_argument("--fix", action="store_const", const="true", default="false", help="mend what can be mended")
    parser.add_argument("--output", type=Path, default=Path("reconciliation.md"), help="file to write (%(default)s)")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
