"""What can go wrong with an export, programmed per hour and attempt.

A programme is a JSON list of faults, given by `--faults FILE` or posted to `/_faults`:

    {"do": "status", "status": 429, "retry_after": 2, "hours": ["2026-09-24T05"], "attempts": [1, 2]}

`hours` (default: all) are the hours it is about; `attempts` (default: all) says which requests for such an hour,
counted from 1 per hour since the fault was programmed; `longer_than` restricts it to windows of more hours than that.
An answer or body fault meets the whole request, the others only the hours they are about. The rest are arguments:

answer    status (status, body: json|html, retry_after in seconds, retry_form: seconds|date) · too_large (400 when
          the archive has more than `bytes`) · rate_limit (429 when more than `concurrent` are under way) ·
          delay (seconds)
body      truncate (ends after `share`, yet the response is whole) · cut (the connection ends after `share`; length:
          chunked|header|none) · drip (bytes_per_second) · content_length · empty · html · error_body (these three: 200)
members   corrupt_gzip · cut_gzip (share) · bomb (mebibytes) · deflate · zip64 · member (one more, `name`, a symbolic
          link if `link`) · rename (name, a format of project, date, hour, part)
lines     reorder · repeat, drop (lines) · unknown_key (name) · repeated_key (of the first line) · bad_line (kind,
          line: one more that is no event, at this place of the hour's first member)
late      the hour gains `events` events after it was exported; attempts default to [1]

`text` is put into every made-up body, member and line, so that a test can look for it where it must not be.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from isal import igzip

from local.amplitude import hours

Answer = Literal["status", "too_large", "rate_limit", "delay"]
Body = Literal["truncate", "cut", "drip", "content_length", "empty", "html", "error_body"]
Members = Literal["corrupt_gzip", "cut_gzip", "bomb", "deflate", "zip64", "rename", "member"]
Lines = Literal["reorder", "repeat", "drop", "unknown_key", "repeated_key", "bad_line"]
Bad = Literal["not_json", "not_object", "no_uuid", "uuid_number", "nul", "lone_surrogate", "not_utf8", "huge", "blank"]


class FaultError(ValueError):
    """The programme is not understood; the message says where."""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    do: Answer | Body | Members | Lines | Literal["late"]
    hours: list[str] = []
    attempts: list[int] = []
    longer_than: int = 0
    status: int = 503
    body: Literal["", "json", "html"] = ""
    retry_after: int | None = None
    retry_form: Literal["seconds", "date"] = "seconds"
    bytes: int = 0
    concurrent: int = 4
    seconds: float = 1.0
    share: float = 0.6
    length: Literal["chunked", "header", "none"] = "chunked"
    bytes_per_second: int = 1000
    mebibytes: int = 256
    name: str = ""
    link: bool = False
    lines: int = 1
    line: int = 1
    kind: Bad = "not_json"
    events: int = 1
    text: str = ""


class Member(msgspec.Struct):
    """One file of the archive."""

    name: str
    content: bytes
    deflated: bool = False
    zip64: bool = False
    link: bool = False


class Programme:
    """The faults in force and how often each hour was asked since; survives a restart in `file`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        kept = json.loads(file.read_text()) if file.exists() else {"faults": [], "asked": []}
        self.faults = msgspec.convert(kept["faults"], list[Fault])
        self._asked: list[dict[str, int]] = kept["asked"]

    def add(self, programme: bytes) -> None:
        """Adds a JSON list of faults (or one fault). Raises FaultError."""
        try:
            added = msgspec.json.decode(programme, type=list[Fault] | Fault)
            for hour in (hour for fault in (added if isinstance(added, list) else [added]) for hour in fault.hours):
                hours.named(hour)
        except (msgspec.MsgspecError, ValueError) as error:
            raise FaultError(f"fault programme: {error}. Kinds and arguments: local/amplitude/faults.py") from None
        with self._lock:
            for fault in added if isinstance(added, list) else [added]:
                self.faults.append(fault)
                self._asked.append({})
            self._keep()

    def clear(self) -> None:
        with self._lock:
            self.faults, self._asked = [], []
            self._keep()

    def due(self, window: list[datetime], late: bool = False) -> list[tuple[Fault, set[datetime]]]:
        """Counts a request (`late`: a served one) and returns the faults that meet it, each with its hours."""
        found = []
        names = {hours.name(hour): hour for hour in window}
        with self._lock:
            for fault, asked in zip(self.faults, self._asked, strict=True):
                if (fault.do == "late") is not late or len(window) <= fault.longer_than:
                    continue
                attempts = fault.attempts or ([1] if late else [])
                met = set()
                for name in set(fault.hours) & names.keys() if fault.hours else names:
                    asked[name] = asked.get(name, 0) + 1
                    if not attempts or asked[name] in attempts:
                        met.add(names[name])
                if met:
                    found.append((fault, met))
            if self.faults:
                self._keep()
        return found

    def described(self) -> list[dict[str, Any]]:
        """Each fault and how often each of its hours was asked."""
        with self._lock:
            return [
                msgspec.to_builtins(fault) | {"asked": asked}
                for fault, asked in zip(self.faults, self._asked, strict=True)
            ]

    def _keep(self) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps({"faults": msgspec.to_builtins(self.faults), "asked": self._asked}))
        part.replace(self._file)


def changed_lines(lines: list[bytes], fault: Fault, part: int) -> list[bytes]:
    """The lines of one member under a line fault."""
    match fault.do:
        case "reorder":
            return lines[::-1]
        case "repeat":
            return lines + lines[: fault.lines]
        case "drop":
            return lines[: max(len(lines) - fault.lines, 0)]
        case "unknown_key":
            return [line[:-1] + b"," + json.dumps({fault.name or "new_key": fault.text})[1:].encode() for line in lines]
        case "repeated_key":
            return [lines[0][:-1] + b',"city":"again"}', *lines[1:]]
        case "bad_line" if part == 0:
            return [*lines[: fault.line - 1], bad_line(fault.kind, fault.text), *lines[fault.line - 1 :]]
    return lines


def bad_line(kind: Bad, text: str) -> bytes:
    """A line that is not an event that Snowflake can hold."""
    good = json.dumps({"uuid": f"bad-{kind}", "event_type": "bad", "city": text})
    changes = {
        "not_json": good[:-2],
        "not_object": json.dumps([text]),
        "no_uuid": json.dumps({"event_type": "bad", "city": text}),
        "uuid_number": json.dumps({"uuid": 7, "city": text}),
        "nul": good[:-1] + ',"region":"\\u0000"}',
        "lone_surrogate": good[:-1] + ',"region":"\\ud800"}',
        "not_utf8": good[:-1] + ',"region":"?"}',
        "huge": good[:-1] + f',"region":"{"x" * (17 << 20)}"}}',
        "blank": "",
    }
    line = changes[kind].encode()
    return line.replace(b"?", b"\xff") if kind == "not_utf8" else line


def changed_members(members: list[Member], fault: Fault, hour: datetime, project: int) -> list[Member]:
    """The members of one hour under a member fault."""
    match fault.do:
        case "corrupt_gzip":  # the CRC, four bytes before the length
            return [_with(member, member.content[:-8] + b"\0\0\0\0" + member.content[-4:]) for member in members]
        case "cut_gzip":
            return [_with(member, member.content[: int(len(member.content) * fault.share)]) for member in members]
        case "bomb":
            bomb = igzip.compress(bytes(1 << 20), 3, mtime=0) * fault.mebibytes
            return [msgspec.structs.replace(members[0], content=bomb, deflated=True), *members[1:]] if members else []
        case "deflate":
            return [msgspec.structs.replace(member, deflated=True) for member in members]
        case "zip64":
            return [msgspec.structs.replace(member, zip64=True) for member in members]
        case "rename":
            known = {"project": project, "date": f"{hour:%Y-%m-%d}", "hour": hour.hour}
            names = [fault.name.format(part=number, **known) for number in range(len(members))]
            return [msgspec.structs.replace(member, name=name) for member, name in zip(members, names, strict=True)]
        case "member":
            content = fault.text.encode() if fault.link else igzip.compress(fault.text.encode(), 2, mtime=0)
            return [*members, Member(fault.name, content, link=fault.link)]
    return members


def of(kinds: Any, due: Iterable[tuple[Fault, set[datetime]]]) -> list[tuple[Fault, set[datetime]]]:  # noqa: ANN401
    """Those of one stage: `Answer`, `Body`, `Members` or `Lines`."""
    return [(fault, met) for fault, met in due if fault.do in kinds.__args__]


def _with(member: Member, content: bytes) -> Member:
    return msgspec.structs.replace(member, content=content)
