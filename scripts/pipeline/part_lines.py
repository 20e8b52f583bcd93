"""Events taken out by hand: a line that Snowflake refuses keeps its whole part out, so the part goes on without it.

The event is remembered by the MD5 of its uuid, in the version that left it out; later exports leave it out as well.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Collection, Iterator
from datetime import datetime
from gzip import BadGzipFile
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from isal import igzip, isal_zlib

from scripts.pipeline import keys
from scripts.pipeline.errors import DamagedError, PermanentError
from scripts.pipeline.records import BadLine, Part, Version

REASON = "taken out by hand"
_ISAL_ERROR: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]  # its stub says an instance


class _Event(msgspec.Struct):
    uuid: str
    event_type: Any = None  # as event_lines takes it: not every event has text there


_EVENT = msgspec.json.Decoder(_Event)


def _events(part: BinaryIO) -> Iterator[tuple[int, bytes, _Event]]:
    """Number, line and event of each line of a part (gzip of NDJSON); a blank line is no row, for Snowflake too."""
    try:
        with igzip.IGzipFile(fileobj=part) as lines:  # type: ignore[no-untyped-call]
            for number, line in enumerate(lines, start=1):
                if not line.isspace():
                    yield number, line, _EVENT.decode(line)
    except (EOFError, BadGzipFile, _ISAL_ERROR, msgspec.MsgspecError) as error:
        message = (
            f"a part of this hour is damaged ({type(error).__name__}). Delete the object, then run amplitude_daily "
            "over its day with `force` (docs/runbook.md, an object is gone)."
        )
        raise DamagedError(message) from None


def _md5(uuid: str) -> str:
    return hashlib.md5(uuid.encode(), usedforsecurity=False).hexdigest()


def uuid_number(md5: str) -> int:
    """What a uuid adds to the uuid digest: the lower 64 bits of its MD5 (hex)."""
    return int(md5[16:], 16)


def uuid_numbers(part: BinaryIO) -> set[int]:
    """`uuid_number` of each distinct uuid of a part."""
    return {uuid_number(_md5(event.uuid)) for _, _, event in _events(part)}


def uuid_md5s(part: BinaryIO, wanted: Collection[int]) -> set[str]:
    """MD5 of the uuids of these lines. Raises PermanentError for a line that is not there."""
    found = {number: _md5(event.uuid) for number, _, event in _events(part) if number in wanted}
    if missing := set(wanted) - found.keys():
        shown = ", ".join(str(number) for number in sorted(missing))
        raise PermanentError(f"the part has no line {shown}. Lines count from 1, as SOURCE_ROW does.")
    return set(found.values())


def banned(versions: Collection[Version]) -> set[str]:
    """MD5 of the uuids that some version of an hour left out by hand."""
    lines = (bad for version in versions for part in version.manifest.parts for bad in part.bad_lines)
    return {bad.uuid_md5 for bad in lines if bad.uuid_md5}


def without(part: Part, content: BinaryIO, md5s: Collection[str], hour: datetime, target: Path) -> Part | None:
    """Writes the part without the events of these uuids to `target`; None, and no file, when it has none of them.

    The part that it returns is named by what is left of it; `quarantine_key` is that of the untouched original.
    """
    taken: list[BadLine] = []
    types = dict(part.event_types)
    before = sorted(bad.line for bad in part.bad_lines)
    left = hashlib.sha256()
    rows = 0
    with target.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file:
        for number, line, event in _events(content):
            md5 = _md5(event.uuid)
            if md5 in md5s:
                taken.append(BadLine(_original(number, before), REASON, md5))
                kind = event.event_type if isinstance(event.event_type, str) else ""
                types[kind] = types.get(kind, 0) - 1
            else:
                left.update(line)
                file.write(line)
                rows += 1
    if not taken:
        target.unlink()
        return None
    prefix, project, number = _named(part)
    key = keys.part_key(prefix, project, hour, number, left.hexdigest()) if rows else ""
    quarantined = keys.quarantine_prefix(prefix) + part.key.removeprefix(prefix)
    with target.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return msgspec.structs.replace(
        part,
        key=key,
        sha256=sha256 if rows else "",
        bytes=target.stat().st_size if rows else 0,
        rows=rows,
        event_types={kind: count for kind, count in types.items() if count > 0},
        quarantine_key=part.quarantine_key or quarantined,
        bad_lines=sorted([*part.bad_lines, *taken], key=lambda bad: bad.line),
        uploaded_at="",
    )


def _original(number: int, removed: list[int]) -> int:
    """The line's number in the original, from its number after the lines `removed` (sorted) were taken out."""
    for line in removed:
        if line <= number:
            number += 1
    return number


def _named(part: Part) -> tuple[str, int, int]:
    """Prefix, project and number of a part, from its key."""
    prefix, _, rest = part.key.partition("/project=")
    name = rest.rsplit("/", 1)[-1]
    return prefix, int(rest.split("/", 1)[0]), int(name.split(".", 1)[0].rsplit("_", 1)[-1])
