"""The hour ledger for a person: which hours are open, uploaded, empty or loaded, and what is late or in quarantine.

    python -m scripts.ledger --from 2026-11-01 --to 2026-11-07 [--json]
    python -m scripts.ledger quarantine 100011471_2026-11-01_3_0.0123456789ab.json.gz --line 4

One letter an hour: `.` open (settled, never exported), `y` young (to come, or inside the export latency), `e` empty
(Amplitude has no data), `u` uploaded (not loaded yet), `L` loaded. Both days are inclusive, UTC; without them the last
14 days. Below the table: which lines are in quarantine, and why; never what they hold.

`quarantine` is for a part that Snowflake refuses because of some lines (load names them): it publishes a new version of
the hour without their events, which later exports leave out as well. The untouched part is kept in quarantine.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from scripts.pipeline import part_lines
from scripts.pipeline.entry import as_command, utc_day
from scripts.pipeline.errors import DamagedError, PermanentError, RetriableError
from scripts.pipeline.hour_ledger import HourEntry, HourLedger, State
from scripts.pipeline.hours import Window, day_window, format_hour
from scripts.pipeline.parts_tar import Members
from scripts.pipeline.records import Part, Version
from scripts.pipeline.settings import BucketSettings, PlanSettings, load
from scripts.upload import Uploader

log = logging.getLogger("pipeline")
LETTERS: dict[State, str] = {"open": ".", "young": "y", "empty": "e", "uploaded": "u", "loaded": "L"}
DAY = timedelta(days=1)
NAMED = 10  # lines of a part that are shown for each reason
_PART_NAME = re.compile(r"\d+_(?P<date>\d{4}-\d{2}-\d{2})_(?P<hour>\d{1,2})_\d+\.[0-9a-f]{12}\.json\.gz")


@dataclass(frozen=True)
class HourRow:
    """One hour. `late`: uuids that came with later versions; `quarantined`: bad lines of the newest version, which
    `refused` names.

    `problem`: why the figures are missing. The state is right all the same: names alone tell it.
    """

    hour: str
    state: State
    versions: int
    events: int = 0
    late: int = 0
    quarantined: int = 0
    refused: tuple[str, ...] = ()
    rechecked_days: tuple[int, ...] = ()
    problem: str = ""


def calendar(
    ledger: HourLedger, window: Window, now: datetime, latency_hours: int, *, figures: bool = True
) -> list[HourRow]:
    """Every hour of the window. For its figures it reads each version, so it asks S3 once or more an hour."""
    entries = ledger.entries(window.start.date(), window.end.date())

    def row(hour: str) -> HourRow:
        entry = entries.get(hour, HourEntry(hour))
        problem = ""
        try:
            versions = list(ledger.versions(entry)) if figures else []
        except DamagedError as error:
            versions, problem = [], str(error)
        parts = versions[-1].manifest.parts if versions else ()
        return HourRow(
            hour=hour,
            state=entry.state(now, latency_hours),
            versions=len(entry.versions),
            events=versions[-1].union_uuids if versions else 0,
            late=sum(version.new for version in versions[1:]),
            quarantined=sum(len(part.bad_lines) for part in parts),
            refused=tuple(_refused(part) for part in parts if part.bad_lines),
            rechecked_days=tuple(sorted(entry.rechecked)),
            problem=problem,
        )

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(row, (format_hour(hour) for hour in window.hours())))


def _refused(part: Part) -> str:
    """The object in quarantine, and its bad lines by reason."""
    lines: dict[str, list[str]] = {}
    for bad in part.bad_lines:
        lines.setdefault(bad.reason, []).append(str(bad.line))
    reasons = [
        f"{reason}: line {', '.join(numbers[:NAMED])}{', …' if numbers[NAMED:] else ''}"
        for reason, numbers in lines.items()
    ]
    return f"{part.quarantine_key}: {'; '.join(reasons)}"


def as_table(rows: Iterable[HourRow]) -> str:
    """A line a day: a letter an hour, then counts."""
    days: dict[str, list[HourRow]] = {}
    for row in rows:
        days.setdefault(row.hour[:10], []).append(row)
    lines = [f"{'':10}  0     6     12    18      {'events':>12} {'late':>8} {'quarantined':>11} {'versions':>8}"]
    for day, hours in days.items():
        letters = "".join(LETTERS[row.state] for row in hours)
        sums = [sum(getattr(row, name) for row in hours) for name in ("events", "late", "quarantined", "versions")]
        lines.append(f"{day}  {letters:24}  {sums[0]:>12,} {sums[1]:>8,} {sums[2]:>11,} {sums[3]:>8,}")
    states = Counter(row.state for hours in days.values() for row in hours)
    legend = ", ".join(f"{LETTERS[state]} {state} {states[state]}" for state in LETTERS)
    problems = [f"{row.hour}: {row.problem}" for hours in days.values() for row in hours if row.problem]
    refused = [f"{row.hour}: {text}" for hours in days.values() for row in hours for text in row.refused]
    return "\n".join([*lines, legend, *refused, *problems])


def show(first: date | None, last: date | None, as_json: bool) -> None:
    """Prints the calendar; without dates the last 14 days."""
    settings = load(PlanSettings)
    now = settings.now()
    if first and first > (last or now.date()):
        message = f"--from {first} lies after " + (f"--to {last}. Swap them." if last else f"today, {now:%Y-%m-%d}.")
        raise PermanentError(message)
    last = last or now.date()
    first = first or last - 13 * DAY
    window = Window(day_window(first).start, day_window(last).end)
    rows = calendar(HourLedger(load(BucketSettings)), window, now, settings.export_latency_hours)
    text = json.dumps([asdict(row) for row in rows]) if as_json else as_table(rows)
    sys.stdout.write(text + "\n")


def quarantine(part: str, lines: Collection[int]) -> None:
    """Publishes a version without the events of these lines (SOURCE_ROW, from 1). May be repeated after a crash.

    Raises PermanentError when no version that waits for load holds the part, or it has no such line.
    """
    found = _PART_NAME.fullmatch(part.rsplit("/", 1)[-1])
    if found is None:
        raise PermanentError(f"{part!r} is not the name of a part: give what load named, ending in .json.gz.")
    hour = f"{found['date']}T{int(found['hour']):02}"
    ledger = HourLedger(load(BucketSettings))
    entry = ledger.entry(hour)
    versions = list(ledger.versions(entry))
    waiting = [version for version in versions if version.version in entry.unloaded]
    holding = [held for version in waiting for held in version.manifest.parts if held.key.endswith(f"/{found[0]}")]
    if not holding:
        raise PermanentError(f"no version of hour {hour} that waits for load holds {found[0]}. Nothing was changed.")
    version = waiting[-1]
    if not set(version.replaces) & set(entry.unloaded):  # else: killed between the version and the markers
        version = _published_without(ledger, entry, versions, holding[0], lines)
    for number in version.replaces:
        ledger.mark_replaced(hour, number, version.version)
    log.info(
        "%s: version %d has %d events without those of the %d lines. The next run of amplitude_daily that takes %s "
        "loads it.", hour, version.version, version.manifest.uuids, len(lines), hour,
    )  # fmt: skip


def _published_without(
    ledger: HourLedger, entry: HourEntry, versions: list[Version], part: Part, lines: Collection[int]
) -> Version:
    hour, newest = entry.hour, versions[-1]
    waiting = [version for version in versions if version.version in entry.unloaded]
    with tempfile.TemporaryDirectory(prefix="quarantine-") as work:
        uploader = Uploader(ledger, Members(), Path(work))
        with ledger.store.reading(part.key) as content:
            md5s = part_lines.uuid_md5s(content, lines) | part_lines.banned(versions)
        manifest = uploader.without(hour, uploader.fetched(newest.manifest, waiting), md5s)
        version = uploader.compared(entry, manifest, versions, entry.unloaded)
        if not uploader.write(version, Counter()):
            raise RetriableError(f"{hour}: a run published a version at this moment. Give the command again.")
    return version


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="first", type=utc_day, help="first day (13 days before the last)")
    parser.add_argument("--to", dest="last", type=utc_day, help="last day (default: today)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="one JSON list, an object an hour")
    commands = parser.add_subparsers(metavar="quarantine")
    command = commands.add_parser("quarantine", help="let the good lines of a refused part in")
    command.add_argument("part", help="name or key of the part")
    command.add_argument("--line", dest="lines", type=int, action="append", required=True, help="may be repeated")
    options = vars(parser.parse_args(argv))
    if "part" in options:
        return as_command(quarantine, part=options["part"], lines=options["lines"])
    return as_command(show, **options)


if __name__ == "__main__":
    raise SystemExit(main())
