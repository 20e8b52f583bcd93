"""The hour ledger for a person: which hours are open, uploaded, empty or loaded, and what is late or in quarantine.

    python -m scripts.ledger --from 2026-11-01 --to 2026-11-07 [--json]

One letter an hour: `.` open (settled, never exported), `y` young (inside the export latency), `e` empty (Amplitude has
no data), `u` uploaded (not loaded yet), `L` loaded. Both days are inclusive, UTC.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta

from scripts.pipeline.entry import as_command
from scripts.pipeline.errors import PermanentError
from scripts.pipeline.hour_ledger import HourEntry, HourLedger, State
from scripts.pipeline.hours import Window, day_window, format_hour
from scripts.pipeline.settings import BucketSettings, PlanSettings, load

LETTERS: dict[State, str] = {"open": ".", "young": "y", "empty": "e", "uploaded": "u", "loaded": "L"}
DAY = timedelta(days=1)


@dataclass(frozen=True)
class HourRow:
    """One hour. `late`: uuids that came with later versions; `quarantined`: bad lines of the newest version."""

    hour: str
    state: State
    versions: int
    events: int = 0
    late: int = 0
    quarantined: int = 0
    rechecked_days: tuple[int, ...] = ()


def calendar(ledger: HourLedger, window: Window, now: datetime, latency_hours: int) -> list[HourRow]:
    """Every hour of the window. Reads each version, so it asks S3 once or more an hour."""
    entries = ledger.entries(window.start.date(), window.end.date())

    def row(hour: str) -> HourRow:
        entry = entries.get(hour, HourEntry(hour))
        versions = list(ledger.versions(entry))
        return HourRow(
            hour=hour,
            state=entry.state(now, latency_hours),
            versions=entry.version,
            events=versions[-1].union_uuids if versions else 0,
            late=sum(version.new for version in versions[1:]),
            quarantined=sum(len(part.bad_lines) for part in versions[-1].manifest.parts) if versions else 0,
            rechecked_days=tuple(sorted(entry.rechecked)),
        )

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(row, (format_hour(hour) for hour in window.hours())))


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
    return "\n".join([*lines, legend])


def show(first: date | None, last: date | None, as_json: bool) -> None:
    """Prints the calendar; without dates the last 14 days."""
    settings = load(PlanSettings)
    now = settings.now()
    last = last or now.date()
    first = first or last - 13 * DAY
    if last < first:
        raise PermanentError(f"--from {first} lies after --to {last}. Swap them.")
    window = Window(day_window(first).start, day_window(last).end)
    rows = calendar(HourLedger(load(BucketSettings)), window, now, settings.export_latency_hours)
    text = json.dumps([asdict(row) for row in rows]) if as_json else as_table(rows)
    sys.stdout.write(text + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.ledger", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="first", type=date.fromisoformat, help="first day (13 days before the last)")
    parser.add_argument("--to", dest="last", type=date.fromisoformat, help="last day (default: today)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="one JSON list, an object an hour")
    return as_command(show, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
