"""Task `plan`: which hours this run works on, by what was asked for and by what the ledger lacks."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from scripts.pipeline.entry import as_command
from scripts.pipeline.errors import PermanentError
from scripts.pipeline.hour_ledger import HourEntry, HourLedger
from scripts.pipeline.hours import (
    HOUR,
    Window,
    day_window,
    days_window,
    format_hour,
    recent_window,
    settled,
)
from scripts.pipeline.records import PlanLine, write_lines
from scripts.pipeline.settings import BucketSettings, PlanSettings, load

log = logging.getLogger("pipeline")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Request:
    """What a run was asked: the flow's inputs, trigger variables and labels, typed."""

    start_date: date | None = None
    end_date: date | None = None
    scope: str = "day"
    force: bool = False
    trigger_date: datetime | None = None
    trigger_next: datetime | None = None
    replay: bool = False
    reason_label: str = ""
    interval_label: str = ""

    def reason(self, now: datetime) -> str:
        """Why the run exists. A backfill that reaches the newest tick without a label passes for a schedule."""
        if self.replay:
            return "replay"
        if self.reason_label:
            return self.reason_label
        if self.trigger_date is None:
            return "hand"
        return "schedule" if self.trigger_next and self.trigger_next > now else "backfill"

    def newest_tick(self, now: datetime) -> bool:
        """Only such a run also takes what is due: others must not redo its work, nor a replay a year later."""
        if self.start_date or self.reason(now) != "schedule":
            return False
        return self.trigger_next is not None and self.trigger_next > now

    def asked(self, now: datetime) -> Window | None:
        """The hours asked for, settled or not; None when a replayed run had none.

        Raises PermanentError for a range that is reversed, in the future, longer than 365 days, or lacks its start.
        """
        if self.end_date and not self.start_date:
            raise PermanentError("end_date was given without start_date: give both, or start_date alone for one day.")
        if self.start_date:
            return days_window(self.start_date, self.end_date or self.start_date, now)
        if self.replay and self.trigger_date is None and self.interval_label:
            return window_of(self.interval_label, now)
        moment = self.trigger_date or now
        return recent_window(moment) if self.scope == "recent" else day_window(moment.astimezone(UTC).date() - DAY)


def window_of(label: str, now: datetime) -> Window | None:
    """What `interval_of` wrote."""
    if label == "none":
        return None
    first, _, last = label.partition("..")
    return days_window(_date("label interval", first), _date("label interval", last or first), now)


def interval_of(window: Window | None) -> str:
    """Label `interval`: `YYYY-MM-DD`, `YYYY-MM-DD..YYYY-MM-DD`, or `none` (Kestra refuses an empty label)."""
    if window is None:
        return "none"
    first, last = window.start.date().isoformat(), window.end.date().isoformat()
    return first if first == last else f"{first}..{last}"


def asked_lines(hours: Iterable[str], entries: dict[str, HourEntry], *, force: bool) -> list[PlanLine]:
    """Work on settled hours that were asked for: none on hours that are done, unless `force`."""
    lines = []
    for hour in hours:
        entry = entries.get(hour, HourEntry(hour))
        if force or entry.version == 0:
            reason = "forced" if force and entry.version else "asked"
            lines.append(PlanLine(hour=hour, action="export", reason=reason, version=entry.version))
        elif entry.unloaded:
            lines.append(PlanLine(hour=hour, action="load", reason="not loaded", version=entry.version))
    return lines


def due_lines(entries: dict[str, HourEntry], first_day: date, now: datetime, latency_hours: int) -> list[PlanLine]:
    """What the ledger lacks: versions not loaded, then settled hours never exported, then re-checks; oldest first."""
    loads, rechecks = [], []
    for entry in entries.values():
        if days := entry.recheck_due(now):
            reason = f"re-check after {days} d"
            rechecks.append(PlanLine(hour=entry.hour, action="recheck", reason=reason, version=entry.version))
        elif entry.unloaded:
            loads.append(PlanLine(hour=entry.hour, action="load", reason="not loaded", version=entry.version))
    missing = []
    hour = day_window(first_day).start
    while settled(hour, now, latency_hours):
        text = format_hour(hour)
        if text not in entries or entries[text].version == 0:
            missing.append(PlanLine(hour=text, action="export", reason="missing"))
        hour += HOUR
    return loads + missing + rechecks


def within_limits(
    candidates: Iterable[PlanLine], expected: dict[str, int], max_hours: int, max_bytes: int
) -> tuple[list[PlanLine], int]:
    """The first line of each hour, up to the limits of a run, in time order; and how many hours are left over.

    `expected`: compressed bytes by hour of the day (`HH`); a single hour is taken whatever its size.
    """
    chosen: dict[str, PlanLine] = {}
    left_over: set[str] = set()
    budget = max_bytes
    for line in candidates:
        if line.hour in chosen or line.hour in left_over:
            continue
        size = 0 if line.action == "load" else expected.get(line.hour[-2:], max(expected.values(), default=0))
        if left_over or len(chosen) >= max_hours or (chosen and size > budget):
            left_over.add(line.hour)
            continue
        budget -= size
        chosen[line.hour] = PlanLine(
            hour=line.hour, action=line.action, reason=line.reason, version=line.version, expected_bytes=size
        )
    return sorted(chosen.values(), key=lambda line: line.hour), len(left_over)


def run(
    *,
    start_date: str,
    end_date: str,
    scope: str,
    force: str,
    trigger_date: str,
    trigger_next: str,
    replay: str,
    reason_label: str,
    interval_label: str,
    output: Path,
) -> dict[str, int | str]:
    """Writes the plan; arguments are texts as Kestra renders them, '' = absent. Raises PermanentError for a bad range.

    Returns the labels `interval` and `reason`, and counts of hours: all planned, by action, left over, young.
    """
    settings = load(PlanSettings)
    now = settings.now()
    request = Request(
        start_date=_date("start_date", start_date) if start_date else None,
        end_date=_date("end_date", end_date) if end_date else None,
        scope=_one_of("scope", scope or "day", {"day", "recent"}),
        force=_one_of("force", force or "false", {"true", "false"}) == "true",
        trigger_date=_moment("trigger.date", trigger_date),
        trigger_next=_moment("trigger.next", trigger_next),
        replay=replay == "true",
        reason_label=reason_label,
        interval_label=interval_label,
    )
    window = request.asked(now)
    newest_tick = request.newest_tick(now)
    start = settings.amp_start_date
    if newest_tick and start and window and window.start < day_window(start).start:
        first = day_window(start).start  # a tick never asks for days before the first that is ours
        window = Window(first, window.end) if first <= window.end else None

    ledger = HourLedger(load(BucketSettings))
    if newest_tick:
        first_day = start or ledger.first_day(window.start.date() if window else None)
        entries = ledger.entries()
    else:
        first_day = None
        entries = ledger.entries(window.start.date(), window.end.date()) if window else {}

    hours = window.hours() if window else []
    ready = [format_hour(hour) for hour in hours if settled(hour, now, settings.export_latency_hours)]
    candidates = asked_lines(ready, entries, force=request.force)
    if first_day:
        candidates += due_lines(entries, first_day, now, settings.export_latency_hours)
    expected = ledger.expected_bytes()
    lines, left_over = within_limits(candidates, expected, settings.max_hours_per_run, settings.max_bytes_per_run)
    write_lines(output, lines)
    counts: dict[str, int | str] = {
        f"hours_to_{action}": sum(line.action == action for line in lines) for action in ("export", "recheck", "load")
    }
    result = counts | {
        "interval": interval_of(window),
        "reason": request.reason(now),
        "hours": len(lines),
        "hours_left_over": left_over,
        "hours_young": len(hours) - len(ready),
    }
    log.info("plan: %s", ", ".join(f"{name} {value}" for name, value in result.items()))
    return result


def _date(name: str, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise PermanentError(f"{name} {text!r} is not a date: write YYYY-MM-DD.") from None


def _moment(name: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PermanentError(f"{name} {text!r} is not a time: Kestra renders it as 2026-01-31T03:30:00Z.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _one_of(name: str, text: str, allowed: set[str]) -> str:
    if text not in allowed:
        raise PermanentError(f"{name} {text!r} is not one of {', '.join(sorted(allowed))}.")
    return text


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.plan", description=__doc__)
    parser.add_argument("--start-date", default="", help="first UTC day, YYYY-MM-DD; alone: that day only")
    parser.add_argument("--end-date", default="", help="last UTC day, inclusive")
    parser.add_argument("--scope", default="day", help="day (yesterday) or recent (the last 24 hours)")
    parser.add_argument("--force", action="store_const", const="true", default="false", help="export done hours again")
    parser.add_argument("--output", type=Path, default=Path("plan.jsonl"), help="file to write (%(default)s)")
    nothing = dict.fromkeys(("trigger_date", "trigger_next", "replay", "reason_label", "interval_label"), "")
    return as_command(run, **vars(parser.parse_args(argv)), **nothing)


if __name__ == "__main__":
    raise SystemExit(main())
