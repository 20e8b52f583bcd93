"""Checks members of archives on two cores: in this process, and in one helper process beside it.

The helper (`python -m scripts.pipeline.checkers`) takes a task a line on stdin and answers a line on stdout. It imports
little, and ends when its stdin does, however its parent ended.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import msgspec

from scripts.pipeline import errors
from scripts.pipeline.archive import CheckedMember, Member, check_member

_ROOT = Path(__file__).resolve().parents[2]


class _Task(msgspec.Struct):
    member: Member
    prefix: str
    work: str


class _Answer(msgspec.Struct):
    """`error` is the name of a class in scripts.pipeline.errors; empty when the member is whole."""

    checked: CheckedMember | None = None
    error: str = ""
    message: str = ""


class Checkers:
    """Two lanes that check members for any number of threads. `prefix`: of part keys; `work`: for cleaned copies."""

    def __init__(self, prefix: str, work: Path) -> None:
        self._prefix = prefix
        self._work = work
        self._tasks: queue.SimpleQueue[tuple[Future[CheckedMember], Member]] = queue.SimpleQueue()
        self._helper = subprocess.Popen(
            [sys.executable, "-m", "scripts.pipeline.checkers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )
        for check in (self._check_here, self._check_there):
            threading.Thread(target=self._serve, args=(check,), daemon=True).start()

    def check(self, members: Iterable[Member]) -> Iterator[CheckedMember]:
        """Starts to check members and returns the results in order. Raises a member's error, a PipelineError."""
        futures: deque[Future[CheckedMember]] = deque()
        for member in members:
            futures.append(Future())
            self._tasks.put((futures[-1], member))
        return (futures.popleft().result() for _ in range(len(futures)))

    def close(self) -> None:
        self._helper.kill()
        self._helper.wait()

    def _serve(self, check: Callable[[Member], CheckedMember]) -> None:
        while True:
            future, member = self._tasks.get()
            try:
                future.set_result(check(member))
            except Exception as error:  # noqa: BLE001 (it belongs to whoever asked)
                future.set_exception(error)

    def _check_here(self, member: Member) -> CheckedMember:
        return check_member(member, self._prefix, self._work)

    def _check_there(self, member: Member) -> CheckedMember:
        task = _Task(member, self._prefix, str(self._work))
        assert self._helper.stdin
        assert self._helper.stdout
        try:
            self._helper.stdin.write(msgspec.json.encode(task) + b"\n")
            self._helper.stdin.flush()
            line = self._helper.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise RuntimeError(f"the helper process that checks archives ended ({self._helper.wait()}): out of memory?")
        answer = msgspec.json.decode(line, type=_Answer)
        if answer.checked is None:
            raise getattr(errors, answer.error)(answer.message)
        return answer.checked


def _help() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the parent decides
    gc.disable()  # nothing here makes cycles, and looking for them among the events takes a tenth of the time
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=_Task)
        try:
            answer = _Answer(checked=check_member(task.member, task.prefix, Path(task.work)))
        except errors.PipelineError as error:
            answer = _Answer(error=type(error).__name__, message=str(error))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _help()
