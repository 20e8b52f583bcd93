"""Task `extract`: asks Amplitude for the planned hours, verifies and counts every line, writes the local backup."""

from __future__ import annotations

import argparse
import logging
import os
import queue
import tarfile
import tempfile
import threading
import time
import uuid
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scripts.pipeline.archive import CheckedMember, list_members, open_member, shown, uuid_figures
from scripts.pipeline.backup_store import BackupStore, replace
from scripts.pipeline.checkers import Checkers
from scripts.pipeline.entry import as_command
from scripts.pipeline.errors import ConfigurationError, DamagedError, PipelineError, TooLargeError
from scripts.pipeline.export_api import MAX_REQUESTS, Answer, ExportClient, Patience
from scripts.pipeline.hours import Window, parse_hour, plan_windows, settled
from scripts.pipeline.records import Manifest, ManifestLine, Outcome, PlanLine, read_lines, write_lines
from scripts.pipeline.settings import AmplitudeSettings, BackupSettings, KeySettings, PlanSettings, load

log = logging.getLogger("pipeline")
COUNTS = (
    *("hours", "exported", "empty", "young", "errors"),
    *("events", "bytes", "repeats", "quarantined", "requests", "retries", "splits"),
)


@dataclass(frozen=True)
class Exported:
    """A window that Amplitude answered, kept in the backup. `archive` is there only for status 200."""

    window: Window
    answer: Answer
    archive: Path
    members: list[CheckedMember]


@dataclass(frozen=True)
class Failed:
    window: Window
    error: PipelineError


class Exporter:
    """Asks for windows in several threads; a window that is too large is asked for in halves."""

    def __init__(self, checkers: Checkers, backup: BackupStore, patience: Patience) -> None:
        self._settings = load(AmplitudeSettings)
        self._checkers = checkers
        self._backup = backup
        self._patience = patience
        self._tag = uuid.uuid4().hex[:8]
        self._windows: queue.SimpleQueue[Window] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Exported | Failed | BaseException | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._downloads: set[Path] = set()
        self.counts: Counter[str] = Counter()

    def results(self, windows: list[Window]) -> Iterator[Exported | Failed]:
        """As they come. Raises ConfigurationError at the first one."""
        for window in windows:
            self._windows.put(window)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(MAX_REQUESTS, len(windows)))]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                result = self._results.get()
                if result is None:
                    running -= 1
                elif isinstance(result, BaseException):
                    raise result
                else:
                    yield result
        finally:
            # The threads may hang in a read: they end with the process, and their files go now.
            self._stopped.set()
            for path in self._downloads:
                path.unlink(missing_ok=True)

    def _work(self) -> None:
        client = ExportClient(self._settings, self._backup.room, self._patience)
        try:
            while not self._stopped.is_set():
                try:
                    window = self._windows.get_nowait()
                except queue.Empty:
                    break
                for result in self._ask(client, window):
                    self._results.put(result)
        except BaseException as error:  # noqa: BLE001 (raised again by results())
            self._results.put(error)
        self.counts.update(requests=client.requests, retries=client.retries)
        self._results.put(None)

    def _ask(self, client: ExportClient, window: Window) -> Iterable[Exported | Failed]:
        download = self._backup.temporary(window, self._tag)
        self._downloads.add(download)
        try:
            return [client.export(window, download, lambda answer: self._accept(window, answer, download))]
        except ConfigurationError:
            raise
        except TooLargeError as error:
            if len(window) == 1:
                return [Failed(window, error)]
            log.info("%s Asking for its halves.", error)
            self.counts["splits"] += 1
            return [result for half in window.halves() for result in self._ask(client, half)]
        except PipelineError as error:
            return [Failed(window, error)]
        finally:
            download.unlink(missing_ok=True)

    def _accept(self, window: Window, answer: Answer, download: Path) -> Exported:
        """Verifies all of an answer, then gives it its final name in the backup."""
        members: list[CheckedMember] = []
        if answer.status == 200:
            members = self._checkers.check(list_members(download, window, self._settings.amp_project_id))
            if not members:
                raise DamagedError("the answer was 200 with a ZIP that holds no hour; no data would be a 404.")
        return Exported(window, answer, self._backup.keep(window, answer, download), members)


@dataclass(frozen=True)
class Judge:
    """Turns an answer into the result of each of its hours. `now`: a rehearsal's clock, else the server's counts."""

    latency_hours: int
    now: datetime | None

    def hours(self, exported: Exported) -> Iterator[tuple[datetime, Outcome, Manifest | None, list[CheckedMember]]]:
        answer = exported.answer
        now = self.now or datetime.fromisoformat(answer.server_time or answer.exported_at)
        by_hour = defaultdict(list)
        for checked in exported.members:
            by_hour[checked.member.hour].append(checked)
        for hour in exported.window.hours():
            members = by_hour[hour]
            if not settled(hour, now, self.latency_hours):
                yield hour, "young", None, []
            elif any(checked.part.rows or checked.part.bad_lines for checked in members):
                yield hour, "exported", _manifest(answer, members), members
            else:
                yield hour, "empty", _manifest(answer, []), []


def _manifest(answer: Answer, members: list[CheckedMember]) -> Manifest:
    uuids, digest = uuid_figures(checked.digests for checked in members)
    unknown: Counter[str] = Counter()
    for checked in members:
        unknown.update(checked.unknown_keys)
    return Manifest(
        window_start=answer.window_start,
        window_end=answer.window_end,
        exported_at=answer.exported_at,
        status=answer.status,
        archive_bytes=answer.bytes,
        parts=[checked.part for checked in members],
        uuids=uuids,
        repeats=sum(checked.part.rows for checked in members) - uuids,
        digest=digest,
        unknown_keys=dict(sorted(unknown.items())),
    )


def write_parts(tar: tarfile.TarFile, archive: zipfile.ZipFile, members: Iterable[CheckedMember]) -> None:
    """Adds `parts/<name>` (the cleaned copy if lines were bad) and `quarantine/<name>` (the untouched original)."""
    for checked in members:
        original = (
            ("quarantine", checked.part.quarantine_key) if checked.part.bad_lines else ("parts", checked.part.key)
        )
        info = tarfile.TarInfo("/".join((original[0], original[1].rsplit("/", 1)[-1])))
        info.size = archive.getinfo(checked.member.name).file_size
        with open_member(archive, checked.member) as packed:
            tar.addfile(info, packed)
        if checked.cleaned:
            cleaned = Path(checked.cleaned)
            tar.add(cleaned, f"parts/{checked.part.key.rsplit('/', 1)[-1]}", filter=_anonymous)
            cleaned.unlink()


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` when all went well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def run(*, plan: Path, manifest: Path, parts: Path, patience: Patience | None = None) -> dict[str, int | float]:
    """Exports the hours of `plan` (PlanLine) and writes `manifest` (ManifestLine, one per plan line) and `parts` (tar).

    An hour that fails becomes a line with its error. Raises ConfigurationError, which stops the run: keys, region,
    project, settings. Returns counts of hours by outcome, events, bytes, and of what it took to get them.
    """
    started = time.monotonic()
    lines = list(read_lines(plan, PlanLine))
    keys, planning, backups = load(KeySettings), load(PlanSettings), load(BackupSettings)
    judge = Judge(planning.export_latency_hours, planning.pipeline_now)
    backup = BackupStore(backups, keys.amp_project_id, parts.resolve().parent)
    backup.clean(datetime.now(UTC))
    asked = {parse_hour(line.hour): line for line in lines if line.action != "load"}
    done = {line.hour: _line(line, "load") for line in lines if line.action == "load"}
    counts: Counter[str] = Counter(hours=len(lines))
    with tempfile.TemporaryDirectory(prefix="extract-", dir=parts.resolve().parent) as work, _written(parts) as target:
        checkers = Checkers(keys.aws_prefix, Path(work))
        exporter = Exporter(checkers, backup, patience or Patience())
        try:
            with tarfile.open(target, "w") as tar:
                windows = plan_windows(asked, {hour: line.expected_bytes for hour, line in asked.items()})
                for result in exporter.results(windows):
                    for line in _finish(result, asked, judge, backup, tar, counts):
                        done[line.hour] = line
        finally:
            checkers.close()
    with _written(manifest) as target:
        write_lines(target, [done[line.hour] for line in lines])
    counts.update(exporter.counts)
    totals: dict[str, int | float] = {name: counts[name] for name in COUNTS}
    totals["seconds"] = round(time.monotonic() - started, 3)
    log.info("extract: %s", ", ".join(f"{name} {value}" for name, value in totals.items()))
    return totals


def _finish(
    result: Exported | Failed,
    asked: dict[datetime, PlanLine],
    judge: Judge,
    backup: BackupStore,
    tar: tarfile.TarFile,
    counts: Counter[str],
) -> Iterator[ManifestLine]:
    """Writes the parts of a window and makes the manifest lines of its hours."""
    if isinstance(result, Failed):
        log.error("%s", result.error)
        counts["errors"] += len(result.window)
        yield from (_line(asked[hour], "error", error=str(result.error)) for hour in result.window.hours())
        return
    counts["bytes"] += result.answer.bytes
    for hour, outcome, manifest, members in judge.hours(result):
        counts[outcome] += 1
        if members:
            with zipfile.ZipFile(result.archive) as archive:
                write_parts(tar, archive, members)
                for checked in members:
                    backup.keep_readable(archive, checked)
            _tell(members)
        if manifest:
            counts["events"] += sum(part.rows for part in manifest.parts)
            counts["repeats"] += manifest.repeats
            counts["quarantined"] += sum(len(part.bad_lines) for part in manifest.parts)
        yield _line(asked[hour], outcome, manifest)
    log.info(
        "%s: %d, %d bytes, %d members", result.window, result.answer.status, result.answer.bytes, len(result.members)
    )


def _tell(members: list[CheckedMember]) -> None:
    """What a person should know about members that are whole, but not as usual."""
    for checked in members:
        if checked.part.bad_lines:
            log.warning("%s: %d lines go to quarantine", shown(checked.member), len(checked.part.bad_lines))
        if checked.elsewhere:
            log.warning("%s: %d lines have another server_upload_time hour", shown(checked.member), checked.elsewhere)
        if checked.unknown_keys:
            log.warning("%s: %d keys beside the 55 known ones", shown(checked.member), len(checked.unknown_keys))


def _line(line: PlanLine, outcome: Outcome, manifest: Manifest | None = None, error: str = "") -> ManifestLine:
    return ManifestLine(
        hour=line.hour,
        action=line.action,
        reason=line.reason,
        version=line.version,
        outcome=outcome,
        manifest=manifest,
        error=error,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.extract", description=__doc__)
    parser.add_argument("--plan", type=Path, default=Path("plan.jsonl"), help="%(default)s, by plan")
    parser.add_argument("--manifest", type=Path, default=Path("manifest.jsonl"), help="file to write (%(default)s)")
    parser.add_argument("--parts", type=Path, default=Path("parts.tar"), help="file to write (%(default)s)")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
