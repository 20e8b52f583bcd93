"""`make demo`: deploys the DDL, runs `amplitude_daily`, and shows what happened at every hop."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import requests

from local import engine, progress, session, sql, stack
from local.java import ensure_engine

DAY = stack.STATE / "demo_day"
RESULT = stack.STATE / "demo.json"
LATENCY_HOURS = 2  # a day is settled when its last hour is
FLOWS = (
    ("snowflake_deploy", {"action": "apply", "scope": "account"}),
    ("snowflake_deploy", {"action": "apply", "scope": "database"}),
)
COUNTS = {
    "landing table, distinct rows": (
        "select count(distinct source_file, source_row) from {raw}.amplitude_events_raw_python"
    ),
    "staging": "select count(*) from staging.stg_amplitude__events",
    "int_amplitude__events": "select count(*) from intermediate.int_amplitude__events",
    "journey_analysis": "select count(*) from marts.journey_analysis",
}
# Why the last one is smaller than the one before it.
NO_STEPS = """
select (select count_if(is_ghost_view) from intermediate.int_amplitude__session_events),
    (select count(*) from intermediate.int_amplitude__events)
        - (select count(*) from intermediate.int_amplitude__session_events)
"""
LOOK = """
select event_time, event_type, page_title, step_number
from marts.journey_analysis
where session_id = (
    select session_id from marts.journey_analysis group by session_id order by count(*) desc, session_id limit 1
)
order by step_number
limit 8
"""
NEXT = """
Where to look next
  python -m local logs                     what the tasks of the last run said (of another: with its id)
  python -m local sql "select …"           the warehouse, e.g. "select * from marts.journey_analysis limit 5"
  python -m local up                       leave it running, schedules included; `python -m local down` stops it
  .local/report.md, .local/report.png      the report of the run, which Kestra's UI shows too
  .local/data/                             the local backup as Amplitude sent it
  .local/demo.json                         the figures above
  flows/amplitude_daily.yml                the flow that just ran
(`python` is .venv/bin/python.)
"""


def main(options: argparse.Namespace) -> int:
    threading.Thread(target=_stop_with_parent, args=(os.getppid(),), daemon=True).start()
    started = time.monotonic()
    _say("Kestra engine: building it if it is not built yet (the first time takes a minute or two)")
    ensure_engine()
    _say("Starting the stack: S3, Amplitude, Snowflake, Kestra")
    with session.reach(options.archives, options.plugins) as there:
        runs = []
        for flow, inputs in (*FLOWS, ("amplitude_daily", _days(options.days))):
            runs.append(Run(flow, inputs))
            if not runs[-1].follow(there):
                _say(f"\n{flow} ended {runs[-1].state}: `python -m local logs {runs[-1].execution}` has all of it")
                return 1
        for output, name in (("report", "report.md"), ("picture", "report.png")):
            shutil.copyfile(engine.stored(stack.STATE / "kestra", runs[-1].outputs[output]), stack.STATE / name)
        settings = next(there.do("status", {}))
        figures = _figures(runs, settings["settings"], settings["endpoints"])
        figures["seconds"] = round(time.monotonic() - started, 1)
        _show(figures, settings["settings"])
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(figures))
    return 0 if figures["states"] == ["SUCCESS"] * len(figures["states"]) else 1


class Run:
    """One run of a flow, with what its tasks and those of its children reported."""

    def __init__(self, flow: str, inputs: Mapping[str, object]) -> None:
        self.flow, self.inputs = flow, dict(inputs)
        self.execution, self.state = "", ""
        self.outputs: dict[str, Any] = {}
        self.tasks: dict[str, dict[str, Any]] = {}

    def follow(self, there: session.Session | session.Remote) -> bool:
        """Runs to the end, shown live; False unless it is green."""
        last = progress.follow(self._told(there.do("run", {"flow": self.flow, "inputs": self.inputs, "labels": {}})))
        self.execution, self.state, self.outputs = last["execution"], last["state"], last.get("outputs") or {}
        return self.state in progress.GREEN

    def _told(self, events: Iterator[progress.Event]) -> Iterator[progress.Event]:
        for event in events:
            if event["event"] == "task" and event.get("seconds") is not None:
                told = (event.get("outputs") or {}).get("vars") or {}
                self.tasks[event["task"]] = told | {"seconds": event["seconds"]}
            yield event


def _days(count: int) -> dict[str, str]:
    """The newest wholly settled day, kept for the next demo so that it works on the same one; and those before it."""
    try:
        last = date.fromisoformat(DAY.read_text().strip())
    except (FileNotFoundError, ValueError):  # none yet, or half-written by a demo that was killed
        last = (datetime.now(UTC) - timedelta(hours=LATENCY_HOURS)).date() - timedelta(days=1)
        DAY.parent.mkdir(parents=True, exist_ok=True)
        DAY.write_text(last.isoformat())
    if count == 1:
        return {"start_date": last.isoformat()}
    return {"start_date": (last - timedelta(days=count - 1)).isoformat(), "end_date": last.isoformat()}


def _figures(runs: list[Run], settings: Mapping[str, str], endpoints: Mapping[str, Any]) -> dict[str, Any]:
    daily = runs[-1]
    raw = settings.get("RAW_SCHEMA", "RAW")
    counts = ", ".join(f"({text.format(raw=raw)})" for text in COUNTS.values())
    rows = dict(zip(COUNTS, sql.query(settings, f"select {counts}")[1][0], strict=True))
    return {
        "day": daily.inputs,
        "states": [run.state for run in runs],
        "executions": {f"{run.flow} {run.inputs.get('scope', '')}".strip(): run.execution for run in runs},
        "served_events": _served(endpoints["amplitude"]["url"], daily.inputs),
        "tasks": daily.tasks,
        "rows": rows,
    }


def _served(url: str, inputs: Mapping[str, object]) -> int | None:
    """What the stand-in holds for the days; None when the real Amplitude was asked."""
    if not url.startswith("http://127.0.0.1:"):
        return None
    first, last = str(inputs["start_date"]), str(inputs.get("end_date", inputs["start_date"]))
    window = {"start": first.replace("-", "") + "T00", "end": last.replace("-", "") + "T23"}
    answer = requests.get(f"{url}/_truth", params=window, timeout=60)
    answer.raise_for_status()
    return len({uuid for hour in answer.json()["hours"].values() for uuid in hour["uuids"]})


def _show(figures: Mapping[str, Any], settings: Mapping[str, str]) -> None:
    tasks, rows = figures["tasks"], figures["rows"]
    left_out = sql.query(settings, NO_STEPS)[1][0]

    def of(task: str, *names: str) -> str:
        said = tasks.get(task, {})
        return ", ".join(f"{name.replace('_', ' ')} {said[name]:,}" for name in names if said.get(name) is not None)

    def seconds(task: str) -> str:
        return f"{tasks[task]['seconds']:.1f} s" if task in tasks else ""

    served = figures["served_events"]
    hops = [
        ("Amplitude", "" if served is None else f"events {served:,}", ""),
        (
            "plan",
            of("plan", "hours", "hours_to_export", "hours_to_recheck", "hours_to_load", "hours_left_over"),
            seconds("plan"),
        ),
        (
            "extract",
            of("extract", "events", "bytes", "hours_empty", "events_repeated", "lines_quarantined"),
            seconds("extract"),
        ),
        ("S3", of("upload", "objects", "objects_kept", "bytes", "versions", "events_late"), seconds("upload")),
        ("load", of("load", "parts", "rows", "hours_failed"), seconds("load")),
        *((f"  {name}", f"rows {count:,} (of all days)", "") for name, count in rows.items()),
        ("  no steps of a journey", "page views sent twice {:,}, events outside sessions {:,}".format(*left_out), ""),
        ("dbt", of("results", "nodes_ok", "nodes_warned", "nodes_failed", "nodes_skipped"), seconds("build")),
    ]
    when = " to ".join(str(value) for value in figures["day"].values())
    print(f"\nWhat happened for {when} (UTC)\n{sql.table(['hop', 'what', 'time'], hops, width=100)}")
    if not tasks.get("plan", {}).get("hours"):
        print("Nothing was left to export or load: every hour of it stands in the ledger as loaded or empty.")
    said = "a click stands before the page that it opened, whose time can be some ms earlier"
    print(f"\nOne visitor's journey (marts.journey_analysis; {said})\n{sql.table(*sql.query(settings, LOOK))}")
    print(NEXT)


def _stop_with_parent(parent: int) -> None:
    """`make` that is killed cannot stop us: notice that it is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
