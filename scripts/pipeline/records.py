"""The records that walk from task to task, one JSON object a line, and the version that the ledger keeps.

plan.jsonl      PlanLine       plan → extract
manifest.jsonl  ManifestLine   extract → upload, report
uploaded.jsonl  UploadedLine   upload → load, verdict, report

An hour is written `YYYY-MM-DDTHH`, UTC, the hour of Amplitude's server_upload_time. Times of events are text as in
the export (`YYYY-MM-DD HH:MM:SS.ffffff`, UTC); our own times are ISO 8601 with `Z`. Sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from scripts.pipeline.errors import DamagedError

Action = Literal["export", "recheck", "load"]
Outcome = Literal["exported", "empty", "young", "load", "error"]


class PlanLine(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of a run: what to do with it, why, and the newest version that the ledger held (0 = none)."""

    hour: str
    action: Action
    reason: str
    version: int = 0
    expected_bytes: int = 0  # compressed, learned from the newest days in S3; 0 = unknown, or action `load`


class BadLine(msgspec.Struct, frozen=True):
    """A line of a member that is not an event: its number in the original (from 1) and why. Never its content."""

    line: int
    reason: str
    uuid_md5: str = ""  # of a line quarantined by hand: it stays so in later exports


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One archive member as it lies in S3."""

    member: str  # Amplitude's name, `<project>_<date>_<H>#<n>.json.gz`
    key: str  # object key in the parts prefix; "" when no line of the member was good
    sha256: str  # of the object's bytes
    bytes: int
    rows: int  # good lines = rows that Snowflake must hold
    min_event_time: str = ""
    max_event_time: str = ""
    min_server_upload_time: str = ""
    max_server_upload_time: str = ""
    event_types: dict[str, int] = {}
    quarantine_key: str = ""  # the untouched original, when lines were taken out
    bad_lines: list[BadLine] = []
    uploaded_at: str = ""  # first upload of this key; set by upload


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What one export said about one hour."""

    window_start: str  # both hours inclusive
    window_end: str
    exported_at: str
    status: int  # HTTP: 200, or 404 for an empty hour
    archive_bytes: int  # of the whole response, which may hold other hours too
    parts: list[Part] = []
    uuids: int = 0  # distinct
    repeats: int = 0  # good lines minus distinct uuids
    digest: str = "0"  # sum over distinct uuids of the lower 64 bits of MD5(uuid), decimal
    unknown_keys: dict[str, int] = {}


class ManifestLine(msgspec.Struct, frozen=True, kw_only=True):
    """A plan line with its result. `error` says what failed and what to do; the hour then stays open."""

    hour: str
    action: Action
    reason: str
    version: int
    outcome: Outcome
    manifest: Manifest | None = None
    error: str = ""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """`v0001.json` in the ledger: one published export of one hour. Written last, never changed."""

    hour: str
    version: int
    manifest: Manifest
    written_at: str
    tool: str  # version of this pipeline
    new: int = 0  # uuids that no earlier version had
    gone: int = 0  # uuids of earlier versions that this one lacks
    union_uuids: int = 0  # over all versions of the hour: what SILVER must hold
    union_digest: str = "0"
    replaces: list[int] = []  # versions that Snowflake refused; this one has their good events, so they are done


class UploadedPart(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    rows: int
    uploaded_at: str


class UploadedLine(msgspec.Struct, frozen=True, kw_only=True):
    """An hour whose newest version must be loaded: `parts` are all parts of that version (none: it was empty)."""

    hour: str
    version: int
    parts: list[UploadedPart]
    error: str = ""


R = TypeVar("R", bound=msgspec.Struct)


def write_lines(path: Path, records: Iterable[msgspec.Struct]) -> int:
    """Writes one record a line (an empty file for none); returns how many."""
    encoder = msgspec.json.Encoder()
    count = 0
    with path.open("wb") as file:
        for record in records:
            file.write(encoder.encode(record) + b"\n")
            count += 1
    return count


def read_lines(path: Path, kind: type[R]) -> Iterator[R]:
    """Reads what `write_lines` wrote. A line of another shape is a DamagedError that names file and line."""
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                message = f"{path.name} line {number} is not a {kind.__name__}: {error}. Replay the run from the start."
                raise DamagedError(message) from None
