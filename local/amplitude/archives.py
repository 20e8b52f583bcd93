"""Real exported events from files, served again hour by hour."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

SUFFIXES = (".jsonl", ".json", ".ndjson", ".json.gz", ".jsonl.gz", ".zip")


class ArchiveError(ValueError):
    """The files cannot be served; the message names the file and what is wrong."""


class _Clock(msgspec.Struct):
    server_upload_time: str


class Archives:
    """Lines of a file or folder, each in the hour of its `server_upload_time`, its bytes untouched.

    Reads `.jsonl`, `.json.gz` and export `.zip` files by their content, not their suffix (a saved `.json.gz` is
    often the whole ZIP). Times may be RFC 3339 or the API's own `YYYY-MM-DD HH:MM:SS.ffffff`. All is kept in memory.
    """

    def __init__(self, path: Path, project: int) -> None:
        self.project = project
        self._hours: dict[datetime, list[bytes]] = defaultdict(list)
        digest = hashlib.sha256()
        decode = msgspec.json.Decoder(_Clock).decode
        for label, content in _contents(path):
            hour: datetime | None = None
            before: list[bytes] = []  # a line that is no event stays with its neighbours: a member holds one hour
            for line in filter(bytes.strip, content.split(b"\n")):
                digest.update(line)
                try:
                    uploaded = datetime.fromisoformat(decode(line).server_upload_time)
                except (msgspec.MsgspecError, ValueError):
                    (self._hours[hour] if hour else before).append(line)
                    continue
                uploaded = uploaded.replace(tzinfo=UTC) if uploaded.tzinfo is None else uploaded.astimezone(UTC)
                hour = uploaded.replace(minute=0, second=0, microsecond=0)
                self._hours[hour] += [*before, line]
                before = []
            if before:
                raise ArchiveError(f"{label}: no line of it has a server_upload_time. Take it out, or give an export.")
        if not self._hours:
            raise ArchiveError(f"{path}: no event in it. Give a file or folder of .jsonl, .json.gz or .zip exports.")
        self.name = f"archives-{project}-{digest.hexdigest()[:12]}"

    def parts(self, hour: datetime) -> int:
        return 1 if hour in self._hours else 0

    def lines(self, hour: datetime, part: int) -> list[bytes]:
        return self._hours[hour] if part == 0 and hour in self._hours else []


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Label and text of every file and archive member below `path`."""
    if not path.exists():
        raise ArchiveError(f"{path}: no such file or folder")
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        if file.is_file() and (file == path or file.name.endswith(SUFFIXES)):
            yield from _unpacked(file.name, file.read_bytes())


def _unpacked(label: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    try:
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                for member in archive.namelist():
                    if member.endswith(".json.gz"):
                        yield from _unpacked(f"{label}: {member}", archive.read(member))
        elif content.startswith(b"\x1f\x8b"):
            yield label, gzip.decompress(content)
        else:
            yield label, content
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise ArchiveError(f"{label}: not a whole archive ({error})") from None
