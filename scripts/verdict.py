"""Task `verdict`: fails the run while an hour of its plan is not loaded, and says which and why. Reads only."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from datetime import datetime
from pathlib import Path

from scripts.notify import is_of, still_open
from scripts.pipeline.entry import as_command
from scripts.pipeline.errors import PermanentError, RetriableError
from scripts.pipeline.hour_ledger import HourEntry, HourLedger
from scripts.pipeline.hours import Window, format_hour, parse_hour
from scripts.pipeline.records import ManifestLine, PlanLine, UploadedLine, read_lines
from scripts.pipeline.settings import BucketSettings, PlanSettings, load
from scripts.plan import window_of

log = logging.getLogger("pipeline")
REASONS_SHOWN = 20
# As flows/amplitude_daily.yml makes the keys of its alerts.
FLOW = "amplitude_daily"
NO_INTERVAL = {"by hand", "on schedule", "none"}


def run(
    *,
    plan: Path,
    manifest: Path | None = None,
    uploaded: Path | None = None,
    load_errors: int = 0,
    alerts: str = "",
) -> dict[str, int | str]:
    """Asks the ledger for each hour of the plan; returns how many are in each state, and `over`: which of `alerts`
    (notify.py) a run that ends well has mended by the way, parted by `;`.

    Raises RetriableError that names hours which are open or uploaded, and forced exports that failed, with the errors
    of extract and upload. An hour that extract found too young is no failure. `load_errors`: hours that
    were loaded once (`force`), and `load` found incomplete: the ledger does not show these.
    """
    settings = load(PlanSettings)
    now = settings.now()
    planned = {line.hour: line for line in read_lines(plan, PlanLine)}
    results = {line.hour: line for line in read_lines(manifest, ManifestLine)} if manifest else {}
    errors = {line.hour: line.error for line in results.values() if line.error}
    if uploaded:
        errors |= {line.hour: line.error for line in read_lines(uploaded, UploadedLine) if line.error}
    entries: dict[str, HourEntry] = {}
    if planned:
        ledger = HourLedger(load(BucketSettings))
        entries = ledger.entries(parse_hour(min(planned)).date(), parse_hour(max(planned)).date())

    states: Counter[str] = Counter()
    unfinished: dict[str, list[str]] = {}  # reason → hours
    for hour, line in planned.items():
        state = entries.get(hour, HourEntry(hour)).state(now, settings.export_latency_hours)
        if state == "open" and hour in results and results[hour].outcome == "young":
            state = "young"
        states[state] += 1
        if state in {"open", "uploaded"}:
            unfinished.setdefault(f"{state}: {errors.get(hour, _log_of(state))}", []).append(hour)
        elif line.reason == "forced" and hour in errors:
            unfinished.setdefault(f"{state}, not exported again: {errors[hour]}", []).append(hour)
    counts: dict[str, int | str] = {
        f"hours_{state}": states[state] for state in ("loaded", "empty", "uploaded", "open", "young")
    }
    log.info("verdict: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))
    if unfinished or load_errors:
        reasons = [f"{_named(hours)} {reason}" for reason, hours in unfinished.items()]
        if load_errors:
            reasons.insert(0, f"{load_errors} that were loaded once lack rows now: see the log of load")
        more = len(reasons) - REASONS_SHOWN
        shown = "\n  ".join(reasons[:REASONS_SHOWN] + ([f"and {more} more: see report.md"] if more > 0 else []))
        message = (
            f"{sum(map(len, unfinished.values())) + load_errors} of {len(planned)} hours are not finished:\n  {shown}\n"
            "Replay this run (a restart only asks the ledger again), or let the next scheduled run take them."
        )
        raise RetriableError(message)
    return counts | {"over": "; ".join(mended(alerts, settings))}


def mended(alerts: str, settings: PlanSettings) -> list[str]:
    """Keys of open alerts of this flow whose hours are all finished by now: the tick after a bad day closes its gap,
    and nobody replays it then. A run that failed before it had an interval is over with any good one.
    """
    now = settings.now()
    intervals = {key: key.removeprefix(f"{FLOW} ") for key in still_open(alerts, now) if is_of(key, FLOW)}
    windows = {key: _window(interval, now) for key, interval in intervals.items()}
    days = [end.date() for window in windows.values() if window for end in (window.start, window.end)]
    entries = HourLedger(load(BucketSettings)).entries(min(days), max(days)) if days else {}

    def finished(hour: datetime) -> bool:
        text = format_hour(hour)
        state = entries.get(text, HourEntry(text)).state(now, settings.export_latency_hours)
        return state not in {"open", "uploaded"}

    def over(key: str) -> bool:
        window = windows[key]
        return intervals[key] in NO_INTERVAL or (window is not None and all(map(finished, window.hours())))

    return [key for key in intervals if over(key)]


def _window(interval: str, now: datetime) -> Window | None:
    try:
        return window_of(interval, now)
    except PermanentError:
        return None  # a warning, or without an interval


def _named(hours: list[str]) -> str:
    """An outage has one reason for all its hours, and is told once."""
    first, *between = hours
    return f"{first}..{between[-1]} ({len(hours)} hours)" if between else first


def _log_of(state: str) -> str:
    return "see the log of load" if state == "uploaded" else "see the logs of extract and upload"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.verdict", description=__doc__)
    parser.add_argument("--plan", type=Path, default=Path("plan.jsonl"), help="%(default)s")
    parser.add_argument("--manifest", type=Path, help="manifest.jsonl of the same run: says why an hour failed")
    parser.add_argument("--uploaded", type=Path, help="uploaded.jsonl of the same run: says why an upload failed")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
