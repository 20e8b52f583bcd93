"""Runs the task `extract` against the stand-in Amplitude, with a day whose every event is known."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.amplitude.server import Server, running
from scripts import extract
from scripts.pipeline.export_api import Patience
from scripts.pipeline.records import ManifestLine, PlanLine, read_lines, write_lines

PROJECT = 100011471
DAY = "2026-09-24"
NOW = datetime(2026, 9, 25, 3, 30, tzinfo=UTC)
API_KEY, SECRET_KEY = "key-of-the-project", "s3cret-of-the-project"
QUICK = Patience(connect=2, read=2, whole=10, tries=3, backoff=0.01, longest_wait=0.05)

# Written out here, not taken from the code under test: facts of the Export API.
KEY_NAMES = """$insert_id $insert_key $schema adid amplitude_attribution_ids amplitude_event_type amplitude_id app city
client_event_time client_upload_time country data data_type device_brand device_carrier device_family device_id
device_manufacturer device_model device_type dma event_id event_properties event_time event_type global_user_properties
group_properties groups idfa ip_address is_attribution_event language library location_lat location_lng os_name
os_version partner_id paying plan platform processed_time region sample_rate server_received_time server_upload_time
session_id source_id start_version user_creation_time user_id user_properties uuid version_name"""
KEYS = KEY_NAMES.split()


def event(uuid: str, hour: str = f"{DAY}T03", **more: Any) -> bytes:
    """One exported event as a line without its newline."""
    moment = f"{hour.replace('T', ' ')}:15:07.203000"
    known = {"uuid": uuid, "event_type": "session_start", "event_time": moment, "server_upload_time": moment}
    known |= {"amplitude_id": 1263130950579, "event_id": 1, "session_id": 1790218987203, "app": PROJECT}
    known |= {"data": {"path": "/2/httpapi"}, "event_properties": {}, "user_properties": {}}
    return json.dumps(dict.fromkeys(KEYS) | known | more, separators=(",", ":")).encode()


def packed(lines: list[bytes]) -> bytes:
    return gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)


def zipped(members: dict[str, bytes], **options: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def member_name(hour: int, number: int = 0, project: int = PROJECT, day: str = DAY) -> str:
    return f"{project}/{project}_{day}_{hour}#{number}.json.gz"


@dataclass
class Known:
    """A source for the stand-in: lines per hour and part."""

    hours: dict[str, list[list[bytes]]]
    project: int = PROJECT
    name: str = "known"

    def parts(self, hour: datetime) -> int:
        return len(self.hours.get(f"{hour:%Y-%m-%dT%H}", []))

    def lines(self, hour: datetime, part: int) -> list[bytes]:
        return self.hours[f"{hour:%Y-%m-%dT%H}"][part]


def a_day(events: int = 3, without: tuple[int, ...] = ()) -> Known:
    """`events` an hour, uuids `<hour>-<n>`."""
    return Known(
        {
            f"{DAY}T{hour:02}": [[event(f"{hour:02}-{number}", f"{DAY}T{hour:02}") for number in range(events)]]
            for hour in range(24)
            if hour not in without
        }
    )


@dataclass
class Result:
    counts: dict[str, Any]
    lines: dict[str, ManifestLine]
    tar: dict[str, bytes]
    folder: Path

    def uuids(self) -> list[str]:
        """Of all parts, in no order, repeats kept."""
        return [
            json.loads(line)["uuid"]
            for name, content in self.tar.items()
            if name.startswith("parts/")
            for line in gzip.decompress(content).splitlines()
        ]

    def outcomes(self) -> dict[str, list[int]]:
        """Hours of the day by outcome."""
        found: dict[str, list[int]] = {}
        for hour, line in self.lines.items():
            found.setdefault(line.outcome, []).append(int(hour[-2:]))
        return found


@dataclass
class Bench:
    """The stand-in, the settings that point at it, and the folder of a run."""

    server: Server
    folder: Path
    patience: Patience = QUICK
    runs: int = field(default=0)

    def program(self, *faults: dict[str, Any]) -> None:
        self.server.project.programme.add(json.dumps(faults).encode())

    def requests(self) -> list[dict[str, Any]]:
        return self.server.project.requests()

    def asked(self) -> list[str]:
        """Windows of the requests, in order."""
        return [f"{entry['start'][-2:]}..{entry['end'][-2:]}" for entry in self.requests()]

    def run(self, hours: range | list[int] = range(24), *, load: tuple[int, ...] = (), **more: Any) -> Result:
        self.runs += 1
        work = self.folder / f"run{self.runs}"
        work.mkdir()
        plan = [
            PlanLine(hour=f"{DAY}T{hour:02}", action="load" if hour in load else "export", reason="asked", **more)
            for hour in sorted({*hours, *load})
        ]
        write_lines(work / "plan.jsonl", plan)
        manifest, parts = work / "manifest.jsonl", work / "parts.tar"
        counts = extract.run(plan=work / "plan.jsonl", manifest=manifest, parts=parts, patience=self.patience)
        with tarfile.open(parts, "r:") as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
        return Result(counts, {line.hour: line for line in read_lines(manifest, ManifestLine)}, members, work)

    def zips(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "data" / "zip" / str(PROJECT)).iterdir())


@contextmanager
def bench(source: Any, folder: Path, monkeypatch: Any, now: datetime = NOW) -> Iterator[Bench]:
    """Starts the stand-in and points the settings at it."""
    monkeypatch.chdir(folder)  # no .env of the developer
    with running(source, folder / "amplitude", (API_KEY, SECRET_KEY), now) as server:
        settings = {
            "AMP_API_KEY": API_KEY,
            "AMP_SECRET_KEY": SECRET_KEY,
            "AMP_PROJECT_ID": str(PROJECT),
            "AMP_BASE_URL": server.url,
            "AWS_PREFIX": "python-import",
            "DATA_DIR": str(folder / "data"),
            "LOG_DIR": str(folder / "logs"),
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        for name in ("PIPELINE_NOW", "EXPORT_LATENCY_HOURS", "BACKUP_READABLE_JSON", "BACKUP_KEEP_DAYS"):
            monkeypatch.delenv(name, raising=False)
        yield Bench(server, folder)
