"""Task `extract`: asks Amplitude for the planned hours, verifies and counts every line, writes the local backup."""

from __future__ import annotations

import argparse
import logging
import queue
import tarfile
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.pipeline.backup_store import BackupStore, syncing
from scripts.pipeline.checkers import Checkers
from scripts.pipeline.entry import as_command
from scripts.pipeline.errors import ConfigurationError, PipelineError, RetriableError, TooLargeError
from scripts.pipeline.export_api import MAX_REQUESTS, Answer, ExportClient, Patience
from scripts.pipeline.exported import Exported, Recorder, check_archive, manifest_line, written
from scripts.pipeline.hours import HOURS_PER_REQUEST, Window, parse_hour, plan_windows
from scripts.pipeline.records import PlanLine, read_lines, write_lines
from scripts.pipeline.settings import AmplitudeSettings, BackupSettings, KeySettings, PlanSettings, load

log = logging.getLogger("pipeline")
# A request may take half an hour and be tried five times: both fit into the flow's timeout of 6 h for this task, so
# that a server that hangs cannot take along what was exported before it did.
ASK_FOR = 3 * 3600  # seconds
WAIT_FOR = ASK_FOR + 2.75 * 3600  # then a server that still drips a byte at a time is left alone
COUNTS = (
    *("hours", "hours_exported", "hours_empty", "hours_young", "hours_failed"),
    *("events", "events_repeated", "lines_quarantined", "bytes", "requests", "requests_repeated", "requests_split"),
)


@dataclass(frozen=True)
class Failed:
    window: Window
    error: PipelineError


class Exporter:
    """Asks for windows in several threads; a window that is too large is asked for in halves."""

    def __init__(
        self, settings: AmplitudeSettings, checkers: Checkers, backup: BackupStore, patience: Patience
    ) -> None:
        self._settings = settings
        self._checkers = checkers
        self._backup = backup
        self._patience = patience
        self._tag = uuid.uuid4().hex[:8]
        self._windows: queue.SimpleQueue[Window] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Exported | Failed | BaseException | Counter[str]] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._until = time.monotonic() + ASK_FOR
        self._downloads: set[Path] = set()
        self.counts: Counter[str] = Counter()

    def results(self, windows: list[Window]) -> Iterator[Exported | Failed]:
        """As they come; at last, what no answer came for. Raises ConfigurationError at the first one."""
        waiting = {hour for window in windows for hour in window.hours()}
        until = time.monotonic() + WAIT_FOR
        for window in windows:
            self._windows.put(window)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(MAX_REQUESTS, len(windows)))]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                try:
                    result = self._results.get(timeout=max(0, until - time.monotonic()))
                except queue.Empty:
                    late = RetriableError(f"no whole answer in {WAIT_FOR / 3600:.1f} h. The next run asks again.")
                    yield from (Failed(window, late) for window in plan_windows(waiting))
                    break
                if isinstance(result, Counter):
                    running -= 1
                    self.counts += result
                elif isinstance(result, BaseException):
                    raise result
                else:
                    waiting -= set(result.window.hours())
                    yield result
        finally:
            # The threads may hang in a read: they end with the process, and their files go now.
            self._stopped.set()
            for path in list(self._downloads):
                path.unlink(missing_ok=True)

    def _work(self) -> None:
        counts: Counter[str] = Counter()
        try:
            client = ExportClient(self._settings, self._backup.room, self._patience)
            counts = client.counts
            while not self._stopped.is_set():
                try:
                    window = self._windows.get_nowait()
                except queue.Empty:
                    break
                for result in self._ask(client, window):
                    self._results.put(result)
        except BaseException as error:  # noqa: BLE001 (raised again by results())
            self._results.put(error)
        self._results.put(counts)

    def _ask(self, client: ExportClient, window: Window) -> Iterator[Exported | Failed]:
        if time.monotonic() > self._until:
            yield Failed(window, RetriableError(f"{window}: not asked for, {ASK_FOR // 3600} h of asking are over."))
            return
        download = self._backup.temporary(window, self._tag)
        self._downloads.add(download)
        try:
            yield client.export(window, download, lambda answer: self._accept(window, answer, download))
        except ConfigurationError:
            raise
        except PipelineError as error:
            if isinstance(error, TooLargeError) and len(window) > 1:
                log.info("%s Asking for its halves.", error)
                client.counts["requests_split"] += 1
                for half in window.halves():
                    yield from self._ask(client, half)
            else:
                yield Failed(window, error)
        finally:
            download.unlink(missing_ok=True)

    def _accept(self, window: Window, answer: Answer, download: Path) -> Exported:
        """Verifies all of an answer, then gives it its final name in the backup."""
        hours = {}
        if answer.status == 200:
            with syncing(download):
                hours = check_archive(self._checkers, download, window, self._settings.amp_project_id)
        return Exported(window, answer, self._backup.keep(window, answer, download), hours)


def run(*, plan: Path, manifest: Path, parts: Path, patience: Patience | None = None) -> dict[str, int | float]:
    """Exports the hours of `plan` (PlanLine) and writes `manifest` (ManifestLine, one per plan line) and `parts` (tar).

    An hour that fails becomes a line with its error. Raises ConfigurationError, which stops the run: keys, region,
    project, settings. Returns counts of hours by outcome, events, bytes, and of what it took to get them.
    """
    started = time.monotonic()
    lines = list(read_lines(plan, PlanLine))
    amplitude, keys, planning = load(AmplitudeSettings), load(KeySettings), load(PlanSettings)
    backup = BackupStore(load(BackupSettings), keys.amp_project_id, parts.resolve().parent)
    backup.clean(datetime.now(UTC))
    asked = {parse_hour(line.hour): line for line in lines if line.action != "load"}
    done = {line.hour: manifest_line(line, "load") for line in lines if line.action == "load"}
    counts: Counter[str] = Counter(hours=len(lines))
    with tempfile.TemporaryDirectory(prefix="extract-", dir=parts.resolve().parent) as work, written(parts) as target:
        checkers = Checkers(keys.aws_prefix, Path(work))
        exporter = Exporter(amplitude, checkers, backup, patience or Patience())
        try:
            with tarfile.open(target, "w") as tar:
                recorder = Recorder(tar, planning.export_latency_hours, planning.pipeline_now, backup.keep_readable)
                windows = plan_windows(asked, {hour: line.expected_bytes for hour, line in asked.items()})
                for result in exporter.results(windows):
                    if isinstance(result, Exported):
                        done |= {line.hour: line for line in recorder.record(result, asked)}
                        continue
                    log.error("%s", result.error)
                    counts["hours_failed"] += len(result.window)
                    for line in (asked[hour] for hour in result.window.hours()):
                        done[line.hour] = manifest_line(line, "error", error=str(result.error))
        finally:
            checkers.close()
    if asked and recorder.counts["hours_empty"] == len(asked) >= HOURS_PER_REQUEST:
        log.warning(
            "No event in any of %d hours: right? Else check AMP_PROJECT_ID, AMP_REGION, AMP_BASE_URL.", len(asked)
        )
    with written(manifest) as target:
        write_lines(target, [done[line.hour] for line in lines])
    counts += exporter.counts + recorder.counts
    totals: dict[str, int | float] = {name: counts[name] for name in COUNTS}
    totals["seconds"] = round(time.monotonic() - started, 3)
    log.info("extract: %s", ", ".join(f"{name} {value}" for name, value in totals.items()))
    return totals


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.extract", description=__doc__)
    parser.add_argument("--plan", type=Path, default=Path("plan.jsonl"), help="%(default)s, by plan")
    parser.add_argument("--manifest", type=Path, default=Path("manifest.jsonl"), help="file to write (%(default)s)")
    parser.add_argument("--parts", type=Path, default=Path("parts.tar"), help="file to write (%(default)s)")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
