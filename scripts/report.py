"""Task `report`: writes report.md from whatever files the run got to, also after a failure."""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from scripts.pipeline.entry import as_command
from scripts.pipeline.records import ManifestLine, PlanLine, UploadedLine, read_lines

log = logging.getLogger("pipeline")
R = TypeVar("R", bound=msgspec.Struct)
ERRORS_SHOWN = 50


def run(*, plan: Path, manifest: Path, uploaded: Path, run_results: Path, output: Path) -> dict[str, int]:
    """Writes Markdown: counts per hop, per day and per hour, errors, dbt's result. A missing or empty file means that
    its task did not get so far. Returns counts: hours planned, events, rows to load, errors, dbt nodes that failed.
    """
    planned = {line.hour: line for line in _read(plan, PlanLine)}
    results = {line.hour: line for line in _read(manifest, ManifestLine)}
    to_load = list(_read(uploaded, UploadedLine))
    nodes = _dbt_nodes(run_results)
    hours = sorted(planned | results | dict.fromkeys(line.hour for line in to_load))
    errors = [f"{line.hour} extract: {line.error}" for line in results.values() if line.error]
    errors += [f"{line.hour} upload: {line.error}" for line in to_load if line.error]
    rows = Counter[str]()
    for line in to_load:
        rows[line.hour] += sum(part.rows for part in line.parts)
    outcomes = Counter(line.outcome for line in results.values())
    manifests = [line.manifest for line in results.values() if line.manifest]
    bad = sum(len(part.bad_lines) for found in manifests for part in found.parts)
    totals = {
        "hours planned": len(planned),
        "hours exported": outcomes["exported"],
        "hours empty (Amplitude has no data)": outcomes["empty"],
        "hours too young": outcomes["young"],
        "hours with an error": len({line.split(" ", 1)[0] for line in errors}),
        "events exported": sum(found.uuids + found.repeats for found in manifests),
        "of them repeats of a uuid in its hour": sum(found.repeats for found in manifests),
        "lines in quarantine": bad,
        "parts": sum(len(found.parts) for found in manifests),
        "bytes of parts, compressed": sum(part.bytes for found in manifests for part in found.parts),
        "rows to load": rows.total(),
    }
    text = ["# Amplitude run", "", f"Hours of server upload time, UTC: {_span(hours)}.", ""]
    text += _table(["what", "count"], [[name, f"{value:,}"] for name, value in totals.items()])
    text += _hours(hours, planned, results, rows)
    if errors:
        more = len(errors) - ERRORS_SHOWN
        shown = errors[:ERRORS_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        text += ["## Errors", "", *[f"- {error}" for error in shown], ""]
    text += _dbt(nodes)
    output.write_text("\n".join(text), encoding="utf-8")
    failed = sum(status in {"error", "fail", "runtime error"} for _, status, _ in nodes)
    return {
        "hours": len(planned),
        "events": totals["events exported"],
        "rows": rows.total(),
        "errors": len(errors),
        "nodes_failed": failed,
    }


def _read(path: Path, kind: type[R]) -> Iterator[R]:
    return read_lines(path, kind) if path.exists() else iter(())


def _span(hours: list[str]) -> str:
    return f"{hours[0]} to {hours[-1]}" if hours else "none"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    line = "| " + " | ".join(head) + " |"
    rule = "|" + "|".join("---" if index == 0 else "---:" for index in range(len(head))) + "|"
    return [line, rule, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _hours(
    hours: list[str], planned: dict[str, PlanLine], results: dict[str, ManifestLine], rows: Counter[str]
) -> list[str]:
    lines = []
    for hour in hours:
        line = results.get(hour)
        found = line.manifest if line else None
        reason = planned[hour].reason if hour in planned else ""
        sizes = [found.uuids + found.repeats, found.repeats, len(found.parts)] if found else []
        size = [f"{sum(part.bytes for part in found.parts):,}"] if found else [""]
        counts = [f"{value:,}" for value in sizes] or ["", "", ""]
        outcome = line.outcome if line else "not reached"
        lines.append([hour, reason, outcome, *counts, *size, f"{rows[hour]:,}" if hour in rows else ""])
    head = ["hour", "why", "result", "events", "repeats", "parts", "bytes", "rows to load"]
    return ["## Hours", "", *_table(head, lines)] if lines else []


def _dbt_nodes(run_results: Path) -> list[tuple[str, str, float]]:
    """(unique id, status, seconds) of each node in dbt's run_results.json."""
    if not run_results.exists() or run_results.stat().st_size == 0:
        return []
    content = msgspec.json.decode(run_results.read_bytes(), type=_RunResults)
    return [(node.unique_id, node.status, node.execution_time) for node in content.results]


class _Node(msgspec.Struct):
    unique_id: str
    status: str
    execution_time: float


class _RunResults(msgspec.Struct):
    results: list[_Node]


def _dbt(nodes: list[tuple[str, str, float]]) -> list[str]:
    if not nodes:
        return ["## dbt", "", "Not run, or it left no results.", ""]
    counts = Counter(status for _, status, _ in nodes)
    text = ["## dbt", "", ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) + ".", ""]
    bad = [[node, status] for node, status, _ in nodes if status not in {"success", "pass"}]
    return text + (_table(["node", "status"], bad) if bad else [])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.report", description=__doc__)
    for name in ("plan.jsonl", "manifest.jsonl", "uploaded.jsonl", "run_results.json"):
        parser.add_argument(f"--{name.split('.')[0].replace('_', '-')}", type=Path, default=Path(name), help=name)
    parser.add_argument("--output", type=Path, default=Path("report.md"), help="file to write (%(default)s)")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
