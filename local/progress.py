"""Prints the events of a run as they come, keeps them in `.local/runs/`, and shows them again (`logs`)."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

Event = dict[str, Any]
MARKS = {"SUCCESS": "✔", "WARNING": "!", "FAILED": "✘", "KILLED": "✘", "SKIPPED": "-"}
# The engine's own last words about a failed process: the task's own lines say more.
ENGINE_NOISE = ("Command failed with exit code", "TaskException: Command failed")
GREEN = {"SUCCESS", "WARNING"}
ENDED = {*GREEN, "FAILED", "KILLED", "CANCELLED"}
TAIL = 20


class Progress:
    """Turns events into lines: one when a task starts, one when it ends, and the end of its log when it failed."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._logs: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._running: set[tuple[str, str, int]] = set()

    def show(self, event: Event) -> None:
        kind = event["event"]
        if kind == "task":
            self._task(event)
        elif kind == "log" and event.get("task"):
            self._logs[event["execution"], event["task"]].append(event["message"])
        elif kind == "execution" and event["state"] == "CREATED":
            self._say(f"▷ {event['flow']} ({event['execution']})")
        elif kind == "finished":
            seconds = f" after {event['seconds']:.1f} s" if event.get("seconds") else ""
            self._say(f"{MARKS.get(event['state'], '?')} {event['flow']} {event['state']}{seconds}")
        elif kind == "leftover":
            self._say(
                f"! {event['flow']} ({event['execution']}) was left {event['state']} by an engine that died: killed"
            )
        elif kind == "error":
            self._say(f"✘ {event['message']}")

    def _task(self, event: Event) -> None:
        state, where = event["state"], f"{event['flow']} › {event['task']}"
        key = (event["execution"], event["task"], event.get("attempt", 0))
        if state == "RUNNING" and key not in self._running:
            self._running.add(key)
            self._say(f"  ▷ {where}")
        elif state in MARKS:
            self._say(f"  {MARKS[state]} {where} {state} {event.get('seconds') or 0:.1f} s{_figures(event)}")
            if state == "FAILED":
                lines = self._logs[event["execution"], event["task"]]
                lines = [each for each in lines if not any(noise in each for noise in ENGINE_NOISE)]
                if hidden := len(lines[:-TAIL]):
                    self._say(f"      ({hidden} lines before: `python -m local logs {event['execution']}`)")
                for line in lines[-TAIL:]:
                    self._say(f"      {line}")
        elif state == "RETRYING":
            self._say(f"  ↻ {where} failed and is tried again")

    def _say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


def _figures(event: Event) -> str:
    """The numbers that a task reported, zeros left out."""
    values = (event.get("outputs") or {}).get("vars") or {}
    told = [f"{name} {value:,}" for name, value in values.items() if isinstance(value, int | float) and value]
    return f"  ({', '.join(told)})" if told else ""


class UnfinishedError(Exception):
    """A run's events ended without its `finished`."""


def follow(events: Iterator[Event]) -> Event:
    """Shows a run's events as they come; returns its `finished`."""
    shown, last = Progress(), None
    for event in events:
        shown.show(event)
        if event["event"] == "finished":
            last = event
    if last is None:
        message = "the run ended without a word: see .local/kestra/engine.log"
        raise UnfinishedError(message)
    return last


def show_logs(runs: Path, execution: str | None, out: TextIO = sys.stdout) -> bool:
    """Prints the task logs of one run (default: the newest); False when there is none."""
    files = (
        [runs / f"{execution}.jsonl"] if execution else sorted(runs.glob("*.jsonl"), key=lambda f: f.stat().st_mtime)
    )
    if not files or not files[-1].exists():
        return False
    for event in _kept(files[-1]):
        if event["event"] == "log":
            out.write(f"{event['at']} {event['level']:5} {event.get('task') or '-'}: {event['message']}\n")
    if last := _last_state(files[-1]):
        out.write(f"{last['flow']} {last['execution']} {last['state']}\n")
    return True


def at_work(runs: Path) -> list[Event]:
    """The last word of each run that has not ended, the oldest first; also of those that no command waits for."""
    last = [_last_state(file) for file in sorted(runs.glob("*.jsonl"), key=lambda file: file.stat().st_mtime)]
    return [event for event in last if event and event["state"] not in ENDED]


def _last_state(file: Path) -> Event | None:
    """Only a run that a command waited for has a `finished`; scheduled runs and children have states alone."""
    states = [event for event in _kept(file, '"state"') if event["event"] in {"execution", "leftover", "finished"}]
    return states[-1] if states else None


def _kept(file: Path, word: str = "") -> Iterator[Event]:
    """The events of a run whose line holds the word; without a line that is being written, or that a full disk cut."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if word in line:
            with contextlib.suppress(json.JSONDecodeError):
                yield json.loads(line)
