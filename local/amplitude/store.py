"""What the stand-in would answer for an hour: members on disk, made once, and the truth about them."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import msgspec
from isal import igzip

from local.amplitude import hours


class Source(Protocol):
    """Where events come from: the generator or real archives."""

    project: int

    @property
    def name(self) -> str:
        """Changes whenever the events do."""

    def parts(self, hour: datetime) -> int:
        """Members of the hour; 0: no data."""

    def lines(self, hour: datetime, part: int) -> list[bytes]:
        """The lines of one member, one JSON object each (of real archives: most of them), without newline."""


class _Seen(msgspec.Struct):
    uuid: str
    event_type: str


class Store:
    """Members and truth per hour below `folder`, and what arrived late."""

    def __init__(self, source: Source, folder: Path) -> None:
        self.source = source
        self._folder = folder / "hours" / source.name
        self._late_file = folder / "late.json"
        self._late: dict[str, list[str]] = json.loads(self._late_file.read_text()) if self._late_file.exists() else {}
        self._making = threading.Lock()

    def members(self, hour: datetime) -> list[bytes]:
        """The `.json.gz` members of an hour, in order of their number."""
        folder = self._made(hour)
        members = [file.read_bytes() for file in sorted(folder.glob("*.json.gz"), key=lambda file: file.name)]
        late = self._late.get(hours.name(hour), [])
        if not late:
            return members
        first = gzip.decompress(members[0]) if members else b""
        return [packed(first + "".join(f"{line}\n" for line in late).encode()), *members[1:]]

    def add_late(self, hour: datetime, count: int) -> None:
        """Lets an hour gain events, made from its first one (or that of the nearest hour before that has any)."""
        model = self._model(hour)
        with self._making:
            late = self._late.setdefault(hours.name(hour), [])
            for _ in range(count):
                late.append(self._late_event(model, hour, len(late)))
            part = self._late_file.with_suffix(".part")
            part.write_text(json.dumps(self._late))
            part.replace(self._late_file)

    def _model(self, hour: datetime) -> dict[str, Any]:
        for before in range(24 * 7):
            contents = self.members(hour - before * hours.HOUR)
            if contents:
                model: dict[str, Any] = msgspec.json.decode(gzip.decompress(contents[0]).split(b"\n", 1)[0])
                return model
        raise ValueError(f"no event in the week before {hours.name(hour)} that a late one could be made from")

    def _late_event(self, model: dict[str, Any], hour: datetime, number: int) -> str:
        """The model at the end of the hour, with own ids."""
        uploaded = hour + timedelta(minutes=59, seconds=58, milliseconds=number)
        own = {
            key: str(UUID(hashlib.md5(f"{self.source.name}/{hours.name(hour)}/{number}/{key}".encode()).hexdigest()))
            for key in ("$insert_id", "uuid")
        }
        clocks = {
            "server_upload_time": uploaded.isoformat(" ", "microseconds")[:26],
            "processed_time": (uploaded + timedelta(seconds=1)).isoformat(" ", "microseconds")[:26],
        }
        return msgspec.json.encode(model | own | clocks | {"event_id": model["event_id"] + 1000 + number}).decode()

    def truth(self, hour: datetime) -> dict[str, Any]:
        """`events`, `uuids` (sorted, distinct), `event_types` and `parts` of an hour, late events included."""
        known = {**self.counts(hour), "uuids": (self._made(hour) / "uuids.txt").read_text().split()}
        for line in self._late.get(hours.name(hour), []):
            seen = msgspec.json.decode(line, type=_Seen)
            known["event_types"][seen.event_type] = known["event_types"].get(seen.event_type, 0) + 1
            known["uuids"] = sorted({*known["uuids"], seen.uuid})
        return known

    def counts(self, hour: datetime) -> dict[str, Any]:
        """`events` and `parts` of an hour, late events included, and `event_types` of the punctual ones."""
        known: dict[str, Any] = json.loads((self._made(hour) / "counts.json").read_text())
        late = len(self._late.get(hours.name(hour), []))
        return known | {"events": known["events"] + late, "parts": max(known["parts"], 1 if late else 0)}

    def _made(self, hour: datetime) -> Path:
        """The folder of an hour, made at first need; its counts are written last."""
        folder = self._folder / hours.name(hour)
        with self._making:
            if (folder / "counts.json").exists():
                return folder
            folder.mkdir(parents=True, exist_ok=True)
            parts = self.source.parts(hour)
            uuids: set[str] = set()
            event_types: dict[str, int] = {}
            events = 0
            decode = msgspec.json.Decoder(_Seen).decode
            for part in range(parts):
                lines = self.source.lines(hour, part)
                for line in lines:
                    try:
                        seen = decode(line)
                    except (msgspec.MsgspecError, UnicodeDecodeError):
                        continue  # no event, but served: real archives hold such lines
                    uuids.add(seen.uuid)
                    event_types[seen.event_type] = event_types.get(seen.event_type, 0) + 1
                    events += 1
                (folder / f"{part:03}.json.gz").write_bytes(packed(b"".join(line + b"\n" for line in lines)))
            (folder / "uuids.txt").write_text("\n".join(sorted(uuids)))
            known = {"events": events, "parts": parts, "event_types": event_types}
            (folder / "counts.part").write_text(json.dumps(known))
            (folder / "counts.part").rename(folder / "counts.json")
        return folder


def lines_of(member: bytes) -> list[bytes]:
    """The lines of one gzip member."""
    return gzip.decompress(member).split(b"\n")[:-1]


def packed(text: bytes) -> bytes:
    """One gzip member of an export archive; the same text gives the same bytes."""
    return igzip.compress(text, 2, mtime=0)
