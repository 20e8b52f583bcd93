"""The local backup: every answer of Amplitude, as received, until it is loaded and old enough.

data/zip/<project>/<window>.<exported_at>.zip    as received; appears only when whole and verified
data/zip/<project>/<window>.<exported_at>.json   facts about the request and the answer, also of a 404
data/json/<member>.json                          the events, readable (BACKUP_READABLE_JSON)
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from isal import igzip

from scripts.pipeline.archive import CheckedMember, Member, open_member
from scripts.pipeline.errors import RetriableError
from scripts.pipeline.export_api import Answer
from scripts.pipeline.hours import Window, format_hour, parse_hour
from scripts.pipeline.settings import BackupSettings

READABLE_LIMIT = 200 * 10**6  # bytes of JSON a run
# An archive lies in the backup, in parts.tar, and in Kestra's copy of that; then readable JSON and logs.
COPIES = 3
RESERVE = READABLE_LIMIT + 56 * 10**6
_FACTS = msgspec.json.Decoder(Answer)
FOR_EVER = 36_500  # days; a date cannot lie much further back
STALE = timedelta(days=1)  # a temporary file that old belongs to no living run
_NAME = re.compile(r"(?P<start>[\d-]{10}T\d\d)(?:\.\.(?P<end>[\d-]{10}T\d\d))?\.(?P<at>\d{8}T\d{9})Z\.(?:zip|json)")
_READABLE_NAME = re.compile(r"\d+_(?P<date>[\d-]{10})_(?P<hour>\d{1,2})_\d+\.json")


class BackupStore:
    """The backup of one project. `work`: the folder where parts.tar is written, for the check of free space."""

    def __init__(self, settings: BackupSettings, project: int, work: Path | None = None) -> None:
        self._settings = settings
        self._zips = settings.data_dir / "zip" / str(project)
        self._readable = settings.data_dir / "json"
        self._space = [folder for folder in (self._zips, work) if folder]
        self._readable_left = READABLE_LIMIT if settings.backup_readable_json else 0
        self._zips.mkdir(parents=True, exist_ok=True)

    def room(self, size: int) -> None:
        """Raises RetriableError unless an archive of `size` bytes (0: unknown) fits with all its copies."""
        need = size * COPIES + RESERVE
        for folder in self._space:
            free = shutil.disk_usage(folder).free
            if free < need:
                message = (
                    f"{folder}: {free:,} bytes are free, an export needs {need:,}. Free disk space, then run again."
                )
                raise RetriableError(message)

    def temporary(self, window: Window, tag: str) -> Path:
        """Where to download to: beside the final name, so that it can be renamed."""
        return self._zips / f".{window}.{tag}.part"

    def clean(self, now: datetime) -> None:
        """Removes what killed runs and commands left."""
        left = [*self._zips.glob(".*.part"), *self._readable.glob(".*.part")]
        for path in [*left, *self._settings.data_dir.glob("restore-*"), *self._settings.data_dir.glob("reconcile-*")]:
            with suppress(FileNotFoundError):  # another run removes them too
                if datetime.fromtimestamp(path.stat().st_mtime, UTC) < now - STALE:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def keep(self, window: Window, answer: Answer, download: Path) -> Path:
        """Gives a verified archive (or, for a 404, just the facts) its final name; returns the archive's path."""
        stamp = re.sub(r"[-:.Z]", "", answer.exported_at) + "Z"
        archive = self._zips / f"{window}.{stamp}.zip"
        if answer.status == 200:
            replace(download, archive)
        facts = download.with_name(f"{download.name}.json.part")
        facts.write_bytes(msgspec.json.format(msgspec.json.encode(answer)) + b"\n")
        replace(facts, archive.with_suffix(".json"))
        return archive

    def keep_readable(self, archive: zipfile.ZipFile, checked: CheckedMember) -> bool:
        """Writes the events of a member as text; False once the run's limit is reached."""
        if checked.json_bytes > self._readable_left:
            self._readable_left = 0
            return False
        self._readable_left -= checked.json_bytes
        self._readable.mkdir(parents=True, exist_ok=True)
        target = self._readable / readable_name(checked.member)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with (
                open_member(archive, checked.member) as packed,
                igzip.IGzipFile(fileobj=packed) as events,  # type: ignore[no-untyped-call]
                temporary.open("wb") as file,
            ):
                shutil.copyfileobj(events, file)
            replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def answers(self) -> Iterator[tuple[Window, Answer | None, Path]]:
        """What the backup holds, oldest first: window, facts (None: damaged), path of the archive (none for a 404)."""
        for path in sorted(self._zips.glob("*.json"), key=lambda path: (_exported_at(path), path.name)):
            window = _window(path)
            if window is None:
                continue
            try:
                answer = _FACTS.decode(path.read_bytes())
            except msgspec.MsgspecError:
                answer = None
            yield window, answer, path.with_suffix(".zip")

    def expire(self, is_loaded: Callable[[str], bool], now: datetime) -> int:
        """Deletes what is older than BACKUP_KEEP_DAYS and whose every hour is loaded; returns how many files."""
        limit = now - timedelta(days=min(self._settings.backup_keep_days, FOR_EVER))
        old = [(path, _window(path)) for path in self._zips.iterdir() if _exported_at(path) <= limit]
        old += [
            (path, _readable_window(path))
            for path in self._readable.glob(f"{self._zips.name}_*.json")
            if datetime.fromtimestamp(path.stat().st_mtime, UTC) <= limit
        ]
        expired = [
            path for path, window in old if window and all(is_loaded(format_hour(hour)) for hour in window.hours())
        ]
        for path in expired:
            path.unlink(missing_ok=True)
        return len(expired)


def readable_name(member: Member) -> str:
    return f"{member.project}_{member.hour:%Y-%m-%d}_{member.hour.hour}_{member.number}.json"


@contextmanager
def syncing(path: Path) -> Iterator[None]:
    """Writes a file to the disk while the body reads it, so that `replace` need not wait for that."""
    thread = threading.Thread(target=_sync, args=(path,))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def replace(temporary: Path, final: Path) -> None:
    """Makes a written file durable under its final name."""
    _sync(temporary)
    temporary.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _window(path: Path) -> Window | None:
    found = _NAME.fullmatch(path.name)
    return Window(parse_hour(found["start"]), parse_hour(found["end"] or found["start"])) if found else None


def _readable_window(path: Path) -> Window | None:
    found = _READABLE_NAME.fullmatch(path.name)
    hour = parse_hour(f"{found['date']}T{int(found['hour']):02}") if found else None
    return Window(hour, hour) if hour else None


def _exported_at(path: Path) -> datetime:
    found = _NAME.fullmatch(path.name)
    if found is None:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.strptime(found["at"], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
