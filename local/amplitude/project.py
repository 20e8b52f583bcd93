"""One Amplitude project of the stand-in: its key pair, clock, events, faults and request log."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from stat import S_IFLNK
from typing import IO, Any

from local.amplitude import faults, hours
from local.amplitude.faults import Fault, Member, Programme
from local.amplitude.store import Source, Store, lines_of, packed

LONGEST = 365 * 24  # hours of one request
LATENCY = 2 * hours.HOUR  # "within 2 hours" after the end of the hour
Due = list[tuple[Fault, set[datetime]]]


class Project:
    """`state` keeps generated hours, faults, log and a clock that was set; `now` freezes it for this process only."""

    def __init__(self, source: Source, state: Path, pair: tuple[str, str], now: datetime | None = None) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.store = Store(source, state)
        self.programme = Programme(state / "programme.json")
        self._pair = ":".join(pair).encode()
        self._log_file, self._clock_file = state / "requests.jsonl", state / "clock.json"
        self._lock = threading.Condition()
        self._under_way = 0
        kept = json.loads(self._clock_file.read_text()) if self._clock_file.exists() else None
        self._now = now or (datetime.fromisoformat(kept) if kept else None)

    def now(self) -> datetime:
        return self._now or datetime.now(UTC)

    def set_clock(self, now: datetime | None) -> None:
        """Freezes the clock, or lets it go with the machine's."""
        self._now = now
        self._clock_file.write_text(json.dumps(now and now.isoformat()))

    def refusal(self, authorization: str | None) -> HTTPStatus | None:
        """401 without credentials, 403 for a wrong pair, None for the right one."""
        scheme, _, encoded = (authorization or "").partition(" ")
        try:
            pair = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return HTTPStatus.UNAUTHORIZED
        if scheme.lower() != "basic" or b":" not in pair:
            return HTTPStatus.UNAUTHORIZED
        return None if hmac.compare_digest(pair, self._pair) else HTTPStatus.FORBIDDEN

    @contextmanager
    def under_way(self) -> Iterator[int]:
        """Counts the export requests that are being answered, this one included."""
        with self._lock:
            self._under_way += 1
            count = self._under_way
        try:
            yield count
        finally:
            with self._lock:
                self._under_way -= 1
                self._lock.notify_all()

    def archive(self, window: list[datetime], due: Due, target: IO[bytes]) -> dict[str, int]:
        """Writes the ZIP of the settled hours of a window; returns the lines of each hour (none: no data)."""
        served = {}
        with zipfile.ZipFile(target, "w") as archive:
            for hour in window:
                if not self._settled(hour):
                    break
                changes = [fault for fault, met in due if hour in met]
                members, lines = self._members(hour, changes)
                for member in members:
                    _write(archive, member, hour)
                if members:
                    served[hours.name(hour)] = lines
        return served

    def _members(self, hour: datetime, changes: list[Fault]) -> tuple[list[Member], int]:
        """The members of an hour as they are sent, and how many lines they have."""
        contents, lines = self.store.members(hour), self.store.counts(hour)["events"]
        inside = [fault for fault in changes if fault.do in faults.Lines.__args__]  # type: ignore[attr-defined]
        if inside and contents:
            texts = [lines_of(content) for content in contents]
            for fault in inside:
                texts = [faults.changed_lines(text, fault, part) for part, text in enumerate(texts)]
            contents = [packed(b"".join(line + b"\n" for line in text)) for text in texts]
            lines = sum(len(text) for text in texts)
        project = self.store.source.project
        name = f"{project}/{project}_{hour:%Y-%m-%d}_{hour.hour}#"
        members = [Member(f"{name}{number}.json.gz", content) for number, content in enumerate(contents)]
        for fault in changes:
            members = faults.changed_members(members, fault, hour, project)
        return members, lines

    def _settled(self, hour: datetime) -> bool:
        return hour + hours.HOUR + LATENCY <= self.now()

    def exported(self, window: list[datetime]) -> None:
        """After an archive was made: data that arrives late by a fault programme."""
        for fault, met in self.programme.due([hour for hour in window if self._settled(hour)], late=True):
            for hour in sorted(met):
                self.store.add_late(hour, fault.events)

    def log(self, entry: dict[str, Any]) -> None:
        with self._lock, self._log_file.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def requests(self) -> list[dict[str, Any]]:
        """Export requests since the last reset, oldest first; those that are just ending are waited for."""
        with self._lock:
            self._lock.wait_for(lambda: self._under_way == 0, timeout=1)
            lines = self._log_file.read_text().splitlines() if self._log_file.exists() else []
        return [json.loads(line) for line in lines]

    def forget_requests(self) -> None:
        with self._lock:
            self._log_file.unlink(missing_ok=True)


def window(query: dict[str, list[str]]) -> list[datetime]:
    """The hours that `start` and `end` ask for. Raises ValueError when they are no window of at most 365 days."""
    start, end = (hours.asked(query.get(key, [""])[0]) for key in ("start", "end"))
    asked = hours.between(start, end)
    if not 0 < len(asked) <= LONGEST:
        raise ValueError("reversed, or longer than 365 days")
    return asked


def _write(archive: zipfile.ZipFile, member: Member, hour: datetime) -> None:
    info = zipfile.ZipInfo(member.name, (hour.year, hour.month, hour.day, hour.hour, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED if member.deflated else zipfile.ZIP_STORED
    info.external_attr = (S_IFLNK | 0o777 if member.link else 0o644) << 16
    info.file_size = len(member.content)
    with archive.open(info, "w", force_zip64=member.zip64) as file:
        file.write(member.content)
