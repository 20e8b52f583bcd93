"""Reads and verifies an export archive: a ZIP of `<project>_<YYYY-MM-DD>_<H>#<n>.json.gz`, each gzip of JSON lines.

Nothing is extracted to a path that the archive names, and nothing is re-serialised: members are read once, in blocks of
bounded size, to verify (ZIP and gzip checksums, every line) and to count them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import stat
import struct
import sys
import zipfile
import zlib
from array import array
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
from isal import igzip, isal_zlib

from scripts.pipeline.errors import ConfigurationError, DamagedError
from scripts.pipeline.event_lines import MAX_LINE, LineTally
from scripts.pipeline.hours import Window, format_hour
from scripts.pipeline.keys import part_key, quarantine_prefix
from scripts.pipeline.records import Part

MAX_MEMBERS = 10_000
MAX_RATIO = 200  # unpacked to received bytes; real exports have 11, one layer of gzip reaches 1000
RATIO_MATTERS_FROM = 64 * 2**20  # unpacked bytes; below, a high ratio harms nobody
BLOCK = 2**17  # stays in a core's cache: a third faster than 1 MiB
_NAME = re.compile(
    r"(?P<project>\d{1,18})_(?P<date>\d{4}-\d{2}-\d{2})_(?P<hour>\d{1,2})#(?P<number>\d{1,6})\.json\.gz", re.ASCII
)

_ISAL_ERROR: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]  # its stub says an instance
# All that zipfile and gzip were seen to raise over changed bytes (OSError: a place before the file's beginning).
_UNREADABLE = (zipfile.BadZipFile, zlib.error, _ISAL_ERROR, struct.error, OSError, EOFError, ValueError, RuntimeError)


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A data member of an archive and what its name says."""

    archive: str  # path
    name: str  # whole name inside the archive
    project: int
    hour: datetime
    number: int


class CheckedMember(msgspec.Struct, frozen=True, kw_only=True):
    """A verified member, and the part that it becomes."""

    member: Member
    part: Part
    unknown_keys: dict[str, int]
    json_bytes: int
    elsewhere: int  # lines whose server_upload_time lies in another hour than the member's name
    cleaned: str = ""  # path of the part's bytes when lines were taken out of it


class CheckedHour(msgspec.Struct, frozen=True, kw_only=True):
    """The members of an hour that hold lines, in order; their uuids and uuid digest taken together."""

    hour: datetime
    members: list[CheckedMember] = []
    uuids: int = 0
    digest: str = "0"


def list_members(archive: Path, window: Window, project: int) -> list[Member]:
    """The data members of a ZIP, by hour and number; markers (`…_complete`), folders and empty members are left out.

    Raises DamagedError for anything that an export of this window cannot hold, ConfigurationError for other projects.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            promised = _promised(file)
    except _UNREADABLE as error:
        raise DamagedError(f"the archive is not a whole ZIP ({type(error).__name__}).") from None
    if promised not in {len(entries), 0xFFFF}:  # 0xFFFF: the number stands elsewhere (ZIP64)
        raise DamagedError(f"the archive lists {len(entries)} of its {promised} members.")
    if len(entries) > MAX_MEMBERS:
        raise DamagedError(f"the archive has {len(entries)} members, more than {MAX_MEMBERS}.")
    members: dict[tuple[datetime, int], Member] = {}
    for index, entry in enumerate(entries):
        _refuse_unsafe(entry, index)
        if not entry.filename.endswith(".json.gz") and (not entry.file_size or entry.filename.endswith("_complete")):
            continue
        member = _named(archive, entry, index)
        if member.project != project:
            raise ConfigurationError(
                f"the archive holds project {member.project}, AMP_PROJECT_ID is {project}. "
                "Correct AMP_PROJECT_ID, or use the API keys of that project."
            )
        if not window.start <= member.hour <= window.end:
            raise DamagedError(
                f"the archive of {window} holds hour {format_hour(member.hour)}, which was not asked for."
            )
        if members.setdefault((member.hour, member.number), member) is not member:
            raise DamagedError(f"the archive holds part {member.number} of hour {format_hour(member.hour)} twice.")
    return [members[place] for place in sorted(members)]


def _promised(file: zipfile.ZipFile) -> int:
    """How many members the end of a ZIP says that it has; zipfile itself takes a directory that is cut for whole."""
    assert file.fp
    file.fp.seek(-12 - len(file.comment), io.SEEK_END)
    return int.from_bytes(file.fp.read(2), "little")


def _refuse_unsafe(entry: zipfile.ZipInfo, index: int) -> None:
    """Names are not shown: an archive that is not Amplitude's may hold anything in them."""
    pieces = entry.filename.replace("\\", "/").split("/")
    if (
        entry.filename.startswith(("/", "\\"))
        or not entry.filename
        or ".." in pieces
        or ":" in pieces[0]
        or "\\" in entry.filename
    ):
        raise DamagedError(f"member {index} of the archive has an unsafe path.")
    if stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise DamagedError(f"member {index} of the archive is a link or a device.")
    if entry.flag_bits & 0x1 or entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise DamagedError(f"member {index} of the archive is encrypted or packed in an unknown way.")
    _refuse_bomb(entry.file_size, entry.compress_size, f"member {index} of the archive")


def _refuse_bomb(unpacked: int, packed: int, what: str) -> None:
    if unpacked > RATIO_MATTERS_FROM and unpacked > packed * MAX_RATIO:
        raise DamagedError(f"{what} unpacks to more than {MAX_RATIO} times its size.")


def _named(archive: Path, entry: zipfile.ZipInfo, index: int) -> Member:
    found = _NAME.fullmatch(entry.filename.rsplit("/", 1)[-1])
    try:
        if found is None:
            raise ValueError(index)  # noqa: TRY301 (both ways lead to the same words)
        day = datetime.strptime(found["date"], "%Y-%m-%d").replace(tzinfo=UTC)
        hour = day.replace(hour=int(found["hour"]))
    except ValueError:
        raise DamagedError(f"member {index} of the archive is not named <project>_<date>_<hour>#<n>.json.gz.") from None
    return Member(
        archive=str(archive),
        name=entry.filename,
        project=int(found["project"]),
        hour=hour,
        number=int(found["number"]),
    )


def check_hour(members: list[Member], prefix: str, work: Path) -> CheckedHour:
    """Verifies, counts and names all members of one hour. Raises DamagedError (see check_member)."""
    results = [check_member(member, prefix, work) for member in members]
    uuids, digest = uuid_figures(digests for _, digests in results)
    checked = [each for each, _ in results if each.part.rows or each.part.bad_lines]
    return CheckedHour(hour=members[0].hour, members=checked, uuids=uuids, digest=digest)


def check_member(member: Member, prefix: str, work: Path) -> tuple[CheckedMember, bytearray]:
    """Verifies and counts one member and names its object. Writes a cleaned copy into `work` if lines are bad.

    Returns also 8 bytes a good line: the lower half of MD5(uuid), in file order. Raises DamagedError when a checksum is
    wrong, the end is missing, or no line lies in the member's hour.
    """
    tally = LineTally(format_hour(member.hour))
    source = _Source(member)
    for chunk in source.chunks():
        tally.add(chunk)
    if tally.rows and tally.elsewhere == tally.rows:
        raise DamagedError(f"no line of {shown(member)} has its server_upload_time in that hour.")
    sha256, size = source.sha256.hexdigest(), source.size
    key = part_key(prefix, member.project, member.hour, member.number, sha256)
    quarantine_key = cleaned = ""
    if tally.bad:
        quarantine_key = quarantine_prefix(prefix) + key.removeprefix(prefix)
        key, sha256, size = "", "", 0
    if tally.bad and tally.rows:
        target = work / f"{member.project}_{member.hour:%Y%m%d%H}_{member.number}.cleaned"
        content = _write_cleaned(member, target, {bad.line for bad in tally.bad})
        key = part_key(prefix, member.project, member.hour, member.number, content)
        with target.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size, cleaned = target.stat().st_size, str(target)
    part = Part(
        member=member.name.rsplit("/", 1)[-1],
        key=key,
        sha256=sha256,
        bytes=size,
        rows=tally.rows,
        min_event_time=tally.event_time[0],
        max_event_time=tally.event_time[1],
        min_server_upload_time=tally.server_upload_time[0],
        max_server_upload_time=tally.server_upload_time[1],
        event_types=dict(sorted(tally.event_types.items())),
        quarantine_key=quarantine_key,
        bad_lines=tally.bad,
    )
    checked = CheckedMember(
        member=member,
        part=part,
        unknown_keys=dict(sorted(tally.unknown_keys.items())),
        json_bytes=source.json_bytes,
        elsewhere=tally.elsewhere,
        cleaned=cleaned,
    )
    return checked, tally.digests


def uuid_figures(digests: Iterable[bytes | bytearray]) -> tuple[int, str]:
    """Distinct uuids and their digest (decimal sum of the lower 64 bits of MD5), of all members of an hour.

    In buckets, so that the numbers of a large hour are never Python objects all at once.
    """
    buckets = [array("Q") for _ in range(16)]
    for packed in digests:
        values = array("Q", packed)
        if sys.byteorder == "little":
            values.byteswap()
        for value in values:
            buckets[value % 16].append(value)
    count = total = 0
    for bucket in buckets:
        distinct = set(bucket)
        count += len(distinct)
        total += sum(distinct)
    return count, str(total)


def shown(member: Member) -> str:
    return f"member {member.name.rsplit('/', 1)[-1]}"


def open_member(archive: zipfile.ZipFile, member: Member) -> IO[bytes]:
    """The member's own bytes (gzip), as Amplitude made them."""
    return archive.open(member.name)


def _write_cleaned(member: Member, target: Path, bad: set[int]) -> str:
    """Writes the member without its bad lines; returns the SHA-256 of what it unpacks to."""
    content = hashlib.sha256()
    number = 0
    with target.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file:
        for chunk in _Source(member).chunks():
            for line in io.BytesIO(chunk):
                number += 1
                if number not in bad:
                    content.update(line)
                    file.write(line)
    return content.hexdigest()


class _Source(io.RawIOBase):
    """A member being read: hashes and sizes the packed bytes as they pass."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._packed: IO[bytes]
        self._received = 0
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.json_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 (any writable buffer)
        size = int(self._packed.readinto(buffer))  # type: ignore[attr-defined]  # zipfile's is a BufferedIOBase
        self.sha256.update(memoryview(buffer)[:size])
        self.size += size
        return size

    def chunks(self) -> Iterator[bytes]:
        """Whole lines, about BLOCK bytes at a time. A line over MAX_LINE comes alone and cut to MAX_LINE + 1 bytes."""
        try:
            with zipfile.ZipFile(self._member.archive) as archive, open_member(archive, self._member) as packed:
                self._packed = packed
                self._received = archive.getinfo(self._member.name).compress_size
                with igzip.IGzipFile(fileobj=self) as unpacked:  # type: ignore[no-untyped-call]
                    yield from self._whole_lines(unpacked)
        except _UNREADABLE as error:
            raise DamagedError(f"{shown(self._member)} is damaged ({type(error).__name__}).") from None

    def _whole_lines(self, unpacked: io.BufferedIOBase) -> Iterator[bytes]:
        rest = b""
        skipping = False
        while block := unpacked.read(BLOCK):
            self.json_bytes += len(block)
            _refuse_bomb(self.json_bytes, self._received, shown(self._member))
            if skipping:
                end = block.find(b"\n") + 1
                skipping = not end
                block = block[end:] if end else b""
            cut = block.rfind(b"\n") + 1
            if cut:
                yield b"".join((rest, memoryview(block)[:cut])) if rest else block[:cut]
                rest = block[cut:]
            else:
                rest += block
            if len(rest) > MAX_LINE:
                yield rest[: MAX_LINE + 1]
                rest = b""
                skipping = True
        if rest:
            yield rest
