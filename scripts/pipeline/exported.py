"""Turns a verified answer of Amplitude into manifest lines and into members of parts.tar."""

from __future__ import annotations

import logging
import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scripts.pipeline.archive import CheckedHour, CheckedMember, list_members, open_member, shown
from scripts.pipeline.checkers import Checkers
from scripts.pipeline.errors import DamagedError
from scripts.pipeline.export_api import Answer
from scripts.pipeline.hours import Window, settled
from scripts.pipeline.records import Manifest, ManifestLine, Outcome, PlanLine

log = logging.getLogger("pipeline")


@dataclass(frozen=True)
class Exported:
    """A window that Amplitude answered, kept in the backup. `archive` is there only for status 200."""

    window: Window
    answer: Answer
    archive: Path
    hours: dict[datetime, CheckedHour]


def check_archive(checkers: Checkers, archive: Path, window: Window, project: int) -> dict[datetime, CheckedHour]:
    """Verifies every member of an archive. Raises DamagedError, or ConfigurationError for another project's."""
    members = list_members(archive, window, project)
    if not members:
        raise DamagedError("the answer was 200 with a ZIP that holds no hour; no data would be a 404.")
    return {checked.hour: checked for checked in checkers.check(members)}


class Recorder:
    """Writes parts into `tar` and makes the manifest lines of the hours they belong to.

    `now`: a rehearsal's clock; without one the server's own counts. `readable` is told of every member of a part.
    """

    def __init__(
        self,
        tar: tarfile.TarFile,
        latency_hours: int,
        now: datetime | None,
        readable: Callable[[zipfile.ZipFile, CheckedMember], object] | None = None,
    ) -> None:
        self._tar = tar
        self._latency_hours = latency_hours
        self._now = now
        self._readable = readable
        self.counts: Counter[str] = Counter()

    def record(self, exported: Exported, asked: Mapping[datetime, PlanLine]) -> Iterator[ManifestLine]:
        answer = exported.answer
        now = self._now or datetime.fromisoformat(answer.server_time or answer.exported_at)
        self.counts["bytes"] += answer.bytes
        young = {hour for hour in exported.window.hours() if not settled(hour, now, self._latency_hours)}
        if young:
            text = "%s: %d hours are too young at %s, Amplitude's time, and wait. Is this machine's clock right?"
            log.warning(text, exported.window, len(young), answer.server_time)
        for hour in exported.window.hours():
            checked = exported.hours.get(hour, CheckedHour(hour=hour))
            if hour in young:
                yield self._line(asked[hour], "young")
                continue
            self._write(exported.archive, checked.members)
            yield self._line(asked[hour], "exported" if checked.members else "empty", _manifest(answer, checked))
        log.info("%s: %d, %d bytes, %d hours", exported.window, answer.status, answer.bytes, len(exported.hours))

    def _line(self, line: PlanLine, outcome: Outcome, manifest: Manifest | None = None) -> ManifestLine:
        self.counts[f"hours_{outcome}"] += 1
        if manifest:
            self.counts["events"] += sum(part.rows for part in manifest.parts)
            self.counts["events_repeated"] += manifest.repeats
            self.counts["lines_quarantined"] += sum(len(part.bad_lines) for part in manifest.parts)
        return manifest_line(line, outcome, manifest)

    def _write(self, path: Path, members: list[CheckedMember]) -> None:
        """Adds `parts/<name>` (the cleaned copy if lines were bad) and `quarantine/<name>` (the untouched original)."""
        if not members:
            return
        with zipfile.ZipFile(path) as archive:
            for checked in members:
                part = checked.part
                name = _place("quarantine", part.quarantine_key) if part.bad_lines else _place("parts", part.key)
                info = tarfile.TarInfo(name)
                info.size = archive.getinfo(checked.member.name).file_size
                with open_member(archive, checked.member) as packed:
                    self._tar.addfile(info, packed)
                if checked.cleaned:
                    cleaned = Path(checked.cleaned)
                    info = tarfile.TarInfo(_place("parts", part.key))
                    info.size = part.bytes
                    with cleaned.open("rb") as file:
                        self._tar.addfile(info, file)
                    cleaned.unlink()
                if self._readable:
                    self._readable(archive, checked)
                _tell(checked)


def manifest_line(line: PlanLine, outcome: Outcome, manifest: Manifest | None = None, error: str = "") -> ManifestLine:
    return ManifestLine(
        hour=line.hour,
        action=line.action,
        reason=line.reason,
        version=line.version,
        outcome=outcome,
        manifest=manifest,
        error=error,
    )


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` when all went well.

    Not forced to the disk: a task's files do not outlive the machine, and the backup does.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _place(folder: str, key: str) -> str:
    return f"{folder}/{key.rsplit('/', 1)[-1]}"


def _manifest(answer: Answer, hour: CheckedHour) -> Manifest:
    unknown: Counter[str] = Counter()
    for checked in hour.members:
        unknown.update(checked.unknown_keys)
    return Manifest(
        window_start=answer.window_start,
        window_end=answer.window_end,
        exported_at=answer.exported_at,
        status=answer.status,
        archive_bytes=answer.bytes,
        parts=[checked.part for checked in hour.members],
        uuids=hour.uuids,
        repeats=sum(checked.part.rows for checked in hour.members) - hour.uuids,
        digest=hour.digest,
        unknown_keys=dict(sorted(unknown.items())),
    )


def _tell(checked: CheckedMember) -> None:
    """What a person should know about a member that is whole, but not as usual."""
    name = shown(checked.member)
    if checked.part.bad_lines:
        log.warning("%s: %d lines go to quarantine", name, len(checked.part.bad_lines))
    if checked.elsewhere:
        log.warning("%s: %d lines have another hour in server_upload_time", name, checked.elsewhere)
    if checked.unknown_keys:
        log.warning("%s: %d keys beside the 55 known ones (in the manifest)", name, len(checked.unknown_keys))
