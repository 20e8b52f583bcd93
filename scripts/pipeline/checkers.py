"""Checks hours of archives on two cores: in this process, and in one helper process beside it.

The helper (`python -m scripts.pipeline.checkers`) takes a task a line on stdin and answers a line on stdout. It imports
little, and ends when its stdin does, however its parent ended.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import groupby
from pathlib import Path

import msgspec

from scripts.pipeline import errors
from scripts.pipeline.archive import CheckedHour, Member, check_hour

log = logging.getLogger("pipeline")
_ROOT = Path(__file__).resolve().parents[2]


class _Task(msgspec.Struct):
    members: list[Member]
    prefix: str
    work: str


class _Answer(msgspec.Struct):
    """`error` is the name of a class in scripts.pipeline.errors; empty when the hour is whole."""

    checked: CheckedHour | None = None
    error: str = ""
    message: str = ""


_TASK, _ANSWER = msgspec.json.Decoder(_Task), msgspec.json.Decoder(_Answer)  # made before there are threads


class Checkers:
    """Two lanes that check hours for any number of threads. `prefix`: of part keys; `work`: for cleaned copies."""

    def __init__(self, prefix: str, work: Path) -> None:
        self._prefix = prefix
        self._work = work
        self._closed = False
        self._tasks: queue.SimpleQueue[tuple[Future[CheckedHour], list[Member]]] = queue.SimpleQueue()
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "scripts.pipeline.checkers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )
        gc.disable()  # in this process until close(): see _help
        for check in (self._check_here, self._check_there):
            threading.Thread(target=self._serve, args=(check,), daemon=True).start()

    def check(self, members: Iterable[Member]) -> list[CheckedHour]:
        """Checks members, which are sorted by hour. Raises the error of the first bad hour, a PipelineError."""
        futures: list[Future[CheckedHour]] = []
        for _, hour in groupby(members, key=lambda member: member.hour):
            futures.append(Future())
            self._tasks.put((futures[-1], list(hour)))
        return [future.result() for future in futures]

    def close(self) -> None:
        gc.enable()
        self._closed = True
        self._helper.kill()
        self._helper.wait()

    def _serve(self, check: Callable[[list[Member]], CheckedHour]) -> None:
        while True:
            future, members = self._tasks.get()
            try:
                future.set_result(check(members))
            except Exception as error:  # noqa: BLE001 (it belongs to whoever asked)
                future.set_exception(error)

    def _check_here(self, members: list[Member]) -> CheckedHour:
        return check_hour(members, self._prefix, self._work)

    def _check_there(self, members: list[Member]) -> CheckedHour:
        task = _Task(members, self._prefix, str(self._work))
        assert self._helper.stdin
        assert self._helper.stdout
        try:
            self._helper.stdin.write(msgspec.json.encode(task) + b"\n")
            self._helper.stdin.flush()
            line = self._helper.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            if not self._closed:  # else: nobody waits any more
                log.warning(
                    "The helper that checks archives ended (%d; out of memory?). Going on without it.",
                    self._helper.wait(),
                )
            return self._check_here(members)
        answer = _ANSWER.decode(line)
        if answer.checked is None:
            raise getattr(errors, answer.error)(answer.message)
        return answer.checked


def _help() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    gc.disable()  # looking for cycles among the events, which have none, takes a tenth of the time
    for line in sys.stdin.buffer:
        task = _TASK.decode(line)
        try:
            answer = _Answer(checked=check_hour(task.members, task.prefix, Path(task.work)))
        except errors.PipelineError as error:
            answer = _Answer(error=type(error).__name__, message=str(error))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _help()
