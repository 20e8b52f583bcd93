"""How an entry module runs: as a Kestra task (`as_task`) or at a terminal (`as_command`).

An entry module has `run(...)`, which returns a small dict of scalars (counts, seconds, short texts), and `main()`.
"""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from scripts.pipeline.errors import ConfigurationError, PipelineError, RetriableError
from scripts.pipeline.settings import BackupSettings, load

Result = Mapping[str, int | float | str]
log = logging.getLogger("pipeline")
RETRY_SECONDS = 60


def start_logging(task: str, log_dir: Path) -> None:
    """Logs to stdout, errors to stderr (Kestra shows those as ERROR), and all to `<log_dir>/<task>_<UTC>.log`."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = lambda seconds: datetime.fromtimestamp(seconds or 0, UTC).timetuple()
    out, err = logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.stderr)
    out.addFilter(lambda record: record.levelno < logging.ERROR)
    err.setLevel(logging.ERROR)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    root = logging.getLogger()
    root.handlers = [out, err]
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(log_dir / f"{task}_{stamp}.log", encoding="utf-8")
    except OSError:
        if task != "notify":  # an alert that says so must not fail by the same
            raise
    else:
        file.setFormatter(formatter)
        root.addHandler(file)
    root.setLevel(logging.WARNING)  # libraries
    log.setLevel(logging.INFO)


def _prepare_end() -> None:
    """Kestra kills with SIGTERM: leave through every `finally` and `with`, so that no temp file stays.

    At the end Python looks twice for cycles among all that was imported, to free it: a third of a second for nothing.
    """
    signal.signal(signal.SIGTERM, _stop)
    atexit.register(gc.freeze)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def as_task(run: Callable[..., Result], *, tries: int = 1, **arguments: Any) -> None:  # noqa: ANN401 (each has its own)
    """Runs inside a Kestra Script task: results become outputs, numbers among them metrics of the same name.

    A RetriableError is tried again, `tries` times in all. (Kestra's own `retry` would repeat a wrong setting too, and
    lets `afterExecution` run before the last try: docs/decisions.md.) An expected failure ends the process with one
    ERROR line and the error's exit code.
    """
    from kestra import Kestra  # late: it imports numpy, which commands at a terminal need not wait for

    name = run.__module__.rsplit(".", 1)[-1]
    _prepare_end()
    try:
        with files_explained():
            start_logging(name, load(BackupSettings).log_dir)
            results = tried(run, tries, arguments)
    except PipelineError as error:
        log.error("%s", error)  # noqa: TRY400 (the message is the whole story; a traceback would hide it)
        sys.exit(error.exit_code)
    Kestra.outputs(dict(results))
    for key, value in results.items():
        if not isinstance(value, str):
            Kestra.counter(key, value)  # type: ignore[arg-type]  # sent as JSON: fractions arrive


@contextmanager
def files_explained() -> Iterator[None]:
    """A file that is not there or closed to us, and a full disk, are a person's to mend and no defect."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        if not full and not error.filename:  # a network's
            raise
        place = error.filename or "DATA_DIR, LOG_DIR or the working folder"
        advice = "Free disk space" if full else "Check that it is there, and that this user may read and write it"
        raise ConfigurationError(f"{place}: {error.strerror}. {advice}, then run again.") from error


def tried(run: Callable[..., Result], tries: int, arguments: Mapping[str, Any]) -> Result:
    for _ in range(tries - 1):
        try:
            return run(**arguments)
        except RetriableError as error:
            log.warning("%s Trying again in %d s.", error, RETRY_SECONDS)
            time.sleep(RETRY_SECONDS)
    return run(**arguments)


def as_command(run: Callable[..., object], **arguments: Any) -> int:  # noqa: ANN401
    """Runs at a terminal; returns the exit code. Logs go to stdout as plain lines."""
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    _prepare_end()
    try:
        with files_explained():
            run(**arguments)
    except PipelineError as error:
        log.error("%s", error)  # noqa: TRY400
        return error.exit_code
    return 0


def utc_day(text: str) -> date:
    """The type of a command's argument."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date: write YYYY-MM-DD") from None
