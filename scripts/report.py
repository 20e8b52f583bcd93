"""Task `report`: writes report.md and one picture from whatever the run got to, also after a failure.

What the run did it reads from the run's files. It asks the ledger which hours of the interval are done, and, when dbt
built, Snowflake for engagement and issues of its days; neither for long. What it could not ask, it says.
"""

from __future__ import annotations

import argparse
import logging
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TypeVar

import msgspec

from scripts import dbt_results, ledger
from scripts.pipeline import prices
from scripts.pipeline.entry import as_command
from scripts.pipeline.errors import DamagedError, PermanentError
from scripts.pipeline.hour_ledger import HourLedger, State
from scripts.pipeline.hours import Window
from scripts.pipeline.records import ManifestLine, PlanLine, UploadedLine, read_lines
from scripts.pipeline.report_facts import Asked, Days, of_days
from scripts.pipeline.report_picture import draw
from scripts.pipeline.settings import BucketSettings, PlanSettings, load
from scripts.plan import window_of

log = logging.getLogger("pipeline")
R = TypeVar("R", bound=msgspec.Struct)
SHOWN = 50  # errors
PATIENCE = 20  # seconds, for the ledger and for Snowflake, both at once
READ_HOURS = 744  # of a longer interval the ledger tells states only: a figure costs a request an hour
# What Kestra knows of a run that is in none of its files; '' where the run did not get so far.
COUNTS_TOLD = {
    "rows_loaded": "rows that `load` brought (others came by the pipe before it looked)",
    "late": "events that came late, with a later version of their hour",
    "gone": "events gone from Amplitude since (kept here)",
    "left_over": "hours left over: run the same again (with `force` from the last day below on)",
}
TOLD = ("interval", "reason", "failed_tasks", "load_seconds", *COUNTS_TOLD)


class Run:
    """What a run did, by its files. A missing or empty file means that its task did not get so far."""

    def __init__(self, plan: Path, manifest: Path, uploaded: Path) -> None:
        self.errors: list[str] = []
        self.planned = {line.hour: line for line in self._read(plan, PlanLine)}
        self.results = {line.hour: line for line in self._read(manifest, ManifestLine)}
        to_load = list(self._read(uploaded, UploadedLine))
        self.rows = Counter[str]()
        for line in to_load:
            self.rows[line.hour] += sum(part.rows for part in line.parts)
        self.hours = sorted(self.planned | self.results | dict.fromkeys(self.rows))
        failed = [(line.hour, f"extract: {line.error}") for line in self.results.values() if line.error]
        failed += [(line.hour, f"upload: {line.error}") for line in to_load if line.error]
        self.errors += [f"{hour} {reason}" for hour, reason in failed]
        self.bad_hours = {hour for hour, _ in failed}
        self.reasons = Counter(reason for _, reason in failed)
        self.manifests = {line.hour: line.manifest for line in self.results.values() if line.manifest}

    def _read(self, path: Path, kind: type[R]) -> Iterator[R]:
        """Up to a line that is damaged, which is an error of the run."""
        try:
            yield from read_lines(path, kind) if path.exists() else ()
        except DamagedError as error:
            self.errors.append(str(error))

    @property
    def events(self) -> dict[str, int]:
        return {hour: found.uuids + found.repeats for hour, found in self.manifests.items()}

    def why(self) -> str:
        """The reason that most hours have in common, for the alert; '' when no hour has an error."""
        for reason, hours in self.reasons.most_common(1):
            return textwrap.shorten(f"{hours} of {len(self.hours)} hours, {reason}", 300, placeholder=" …")
        return ""

    def totals(self) -> dict[str, int]:
        outcomes = Counter(line.outcome for line in self.results.values())
        manifests = self.manifests.values()
        parts = [part for found in manifests for part in found.parts]
        return {
            "hours planned": len(self.planned),
            "hours exported": outcomes["exported"],
            "hours empty (Amplitude has no data)": outcomes["empty"],
            "hours too young": outcomes["young"],
            "hours with an error": len(self.bad_hours),
            "events exported": sum(self.events.values()),
            "of them repeats of a uuid in its hour": sum(found.repeats for found in manifests),
            "lines in quarantine": sum(len(part.bad_lines) for part in parts),
            "parts": len(parts),
            "bytes of parts, compressed": sum(part.bytes for part in parts),
            "rows to load": self.rows.total(),
        }

    def state(self, hour: str) -> State:
        """As far as the run itself can tell."""
        known: dict[str, State] = {"exported": "uploaded", "load": "uploaded", "empty": "empty", "young": "young"}
        return known.get(self.results[hour].outcome, "open") if hour in self.results else "open"


def run(
    *, plan: Path, manifest: Path, uploaded: Path, run_results: Path, output: Path, picture: Path, **told: str
) -> dict[str, int | float | str]:
    """Writes `output` (Markdown) and `picture` (PNG, none without hours). `told`: TOLD.

    Returns counts: hours planned, events, rows to load, errors, dbt nodes that failed, estimated credits; and `why`
    hours are not finished, for the alert.
    """
    this = Run(plan, manifest, uploaded)
    interval = told.get("interval", "")
    built = run_results.exists() and run_results.stat().st_size > 0
    calendar = Asked(lambda: _calendar(interval), PATIENCE)
    days = Asked(lambda: _days(interval, built=built), PATIENCE)
    rows = calendar.answer() or []
    shown = [(row.hour, this.events.get(row.hour, row.events), row.state) for row in rows]
    shown = shown or [(hour, this.events.get(hour, 0), this.state(hour)) for hour in this.hours]
    if shown:
        draw(shown, picture)
    totals = this.totals() | {name: int(told[key]) for key, name in COUNTS_TOLD.items() if told.get(key)}
    failed, dbt_seconds, dbt = _dbt(run_results)
    awake = (float(told.get("load_seconds") or 0) if this.rows.total() else 0) + dbt_seconds
    spent, cost = _credits(this.rows.total() if told.get("rows_loaded") else 0, awake)
    text = [
        "# Amplitude run",
        "",
        f"Interval: {interval or 'not known'}. Reason: {told.get('reason') or 'not known'}.",
        "",
    ]
    if told.get("failed_tasks"):
        text += [f"**Tasks that failed: {told['failed_tasks']}.**", ""]
    text += _table(["what", "count"], [[name, f"{value:,}"] for name, value in totals.items()])
    text += _completeness(rows, calendar.why)
    text += _errors(this.errors)
    text += _of_days(days.answer(), days.why)
    text += dbt + cost + _hours(this)
    output.write_text("\n".join(text), encoding="utf-8")
    events = totals["events exported"]
    log.info("report: %d events, %d errors, about %.3f credits", events, len(this.errors), spent)
    return {
        "hours": len(this.planned),
        "events": events,
        "rows": this.rows.total(),
        "errors": len(this.errors),
        "nodes_failed": failed,
        "credits": round(spent, 6),
        "why": this.why() or _waiting(rows),
    }


def _calendar(interval: str) -> list[ledger.HourRow]:
    """The hours of the interval as the ledger has them."""
    settings = load(PlanSettings)
    window = _window(interval, settings)
    found = HourLedger(load(BucketSettings))
    figures = len(window) <= READ_HOURS
    return ledger.calendar(found, window, settings.now(), settings.export_latency_hours, figures=figures)


def _days(interval: str, *, built: bool) -> Days:
    if not built:  # nothing new in the marts, and the warehouse sleeps: to wake it costs a minute of credits
        raise PermanentError("dbt did not build in this run.")
    window = _window(interval, load(PlanSettings))
    return of_days(f"{window.start:%Y-%m-%d}", f"{window.end:%Y-%m-%d}")


def _window(interval: str, settings: PlanSettings) -> Window:
    window = window_of(interval, settings.now()) if interval else None
    if window is None:
        raise PermanentError("the run has no interval.")
    return window


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    line = "| " + " | ".join(head) + " |"
    rule = "|" + "|".join("---" if index == 0 else "---:" for index in range(len(head))) + "|"
    return [line, rule, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _waiting(rows: list[ledger.HourRow]) -> str:
    """Why hours are not finished that neither extract nor upload has an error for."""
    waiting = sum(row.state == "uploaded" for row in rows)
    return f"{waiting} of {len(rows)} hours wait in S3, see the log of load." if waiting else ""


def _completeness(rows: list[ledger.HourRow], why: str) -> list[str]:
    text = ["## Completeness of the interval", ""]
    if not rows:
        return [*text, f"The ledger was not asked: {why}", ""]
    states = Counter(row.state for row in rows)
    done = states["loaded"] + states["empty"]
    table = ledger.as_table(rows)
    if len(rows) > READ_HOURS:  # without figures: the letters, and the legend below them
        *days, legend = table.splitlines()
        table = "\n".join([*(line[:36].rstrip() for line in days), legend])
    return [*text, f"{done:,} of {len(rows):,} hours are done.", "", "```", table, "```", ""]


def _errors(errors: list[str]) -> list[str]:
    if not errors:
        return []
    more = [f"- and {len(errors) - SHOWN} more"] if len(errors) > SHOWN else []
    return ["## Errors", "", *(f"- {error}" for error in errors[:SHOWN]), *more, ""]


def _of_days(days: Days | None, why: str) -> list[str]:
    """The marts, by the day of the events in the reporting time zone; the hours above are those of their arrival."""
    if days is None:
        return ["## Engagement and issues", "", f"Snowflake was not asked: {why}", ""]
    text = ["## Engagement", ""]
    if days.engagement:
        text += _table([name.replace("_", " ") for name in days.engagement[0]], map(_cells, days.engagement))
    else:
        text += ["No session began on these days.", ""]
    text += ["## Pages where visitors got stuck", ""]
    if days.pages:
        text += _table([name.replace("_", " ") for name in days.pages[0]], map(_cells, days.pages))
    else:
        text += ["None.", ""]
    return text


def _cells(row: Mapping[str, object]) -> list[str]:
    return [_cell(value) for value in row.values()]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if value is None or isinstance(value, date):
        return str(value or "")
    return f"{value:,}" if isinstance(value, int) else str(value).partition("?")[0].replace("|", "%7C")


def _credits(rows: int, awake: float) -> tuple[float, list[str]]:
    """Estimated from documented prices; `awake`: seconds in which load and dbt kept the warehouse at work."""
    pipe, warehouse = prices.snowpipe(rows), prices.warehouse(awake)
    lines = [
        [f"Snowpipe, at most: {rows:,} rows of {prices.BYTES_PER_EVENT:,} bytes, a mean", f"{pipe:.6f}"],
        [
            f"X-Small warehouse: {awake:,.0f} s of load and dbt, and {prices.SUSPEND} s until it sleeps",
            f"{warehouse:.4f}",
        ],
    ]
    note = "By documented prices; what was billed: docs/architecture.md, “Credits a day”."
    return pipe + warehouse, ["## Credits, estimated", "", *_table(["what", "credits"], lines), note, ""]


def _hours(this: Run) -> list[str]:
    lines = []
    for hour in this.hours:
        line, found = this.results.get(hour), this.manifests.get(hour)
        reason = this.planned[hour].reason if hour in this.planned else ""
        counts = ["", "", "", ""]
        if found:
            size = sum(part.bytes for part in found.parts)
            counts = [f"{each:,}" for each in (this.events[hour], found.repeats, len(found.parts), size)]
        rows = f"{this.rows[hour]:,}" if hour in this.rows else ""
        lines.append([hour, reason, line.outcome if line else "not reached", *counts, rows])
    head = ["hour", "why", "result", "events", "repeats", "parts", "bytes", "rows to load"]
    return ["## Hours of this run", "", *_table(head, lines)] if lines else []


def _dbt(run_results: Path) -> tuple[int, float, list[str]]:
    """How many nodes failed, how long it took, and the section."""
    try:
        found = dbt_results.counted(run_results)
    except DamagedError as error:
        return 0, 0.0, ["## dbt", "", str(error), ""]
    if found["problem"]:
        return 0, 0.0, ["## dbt", "", "Not run, or it left no results.", ""]
    kinds = ("ok", "warned", "failed", "skipped")
    text = [", ".join(f"{found[f'nodes_{kind}']} {kind}" for kind in kinds) + f", in {found['seconds']} s.", ""]
    text += [f"- {kind}: {found[f'{kind}_names']}" for kind in kinds[1:] if found[f"{kind}_names"]]
    return int(found["nodes_failed"]), float(found["seconds"]), ["## dbt", "", *text, ""]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("plan.jsonl", "manifest.jsonl", "uploaded.jsonl", "run_results.json"):
        parser.add_argument(f"--{name.split('.')[0].replace('_', '-')}", type=Path, default=Path(name), help=name)
    parser.add_argument("--interval", default="", help="YYYY-MM-DD or YYYY-MM-DD..YYYY-MM-DD, as the run's label")
    parser.add_argument("--output", type=Path, default=Path("report.md"), help="file to write (%(default)s)")
    parser.add_argument("--picture", type=Path, default=Path("report.png"), help="file to write (%(default)s)")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
