"""From the Export API to the bucket: extract and upload against the program that everybody writes first.

Both ask one server for one day and put it into one bucket; every program is measured as a whole process. Ours checks
every line, keeps a backup and writes a ledger; the plain one does none of it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import requests

from local.amplitude.generator import Traffic
from scripts.pipeline.records import PlanLine, write_lines
from tests.bench import row

ROOT = Path(__file__).resolve().parents[2]
DAY = datetime(2026, 9, 24, tzinfo=UTC)
EVENTS, PROJECT, BUCKET = 240_000, 100011471, "bench"
TIMES = 5


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        day, larger = made(Path(folder) / "day", 1), made(Path(folder) / "larger", 10)
        with serving(day) as export, bucket(Path(folder)) as store:
            runs = [Ours(Path(folder), export, store).run() for _ in range(TIMES)]
            whole = [timed(export, store) for _ in range(TIMES)]
            without = [timed(export, "") for _ in range(TIMES)]
            unpacked = [gunzipped(day) for _ in range(TIMES)]
            memory = max(run.memory for run in runs)
            size = sum(len(gzip.decompress(file.read_bytes())) for file in day.iterdir())
        with serving(larger) as export, bucket(Path(folder) / "more") as store:
            ten = Ours(Path(folder), export, store).run().memory
    ours, extract = min(run.extract + run.upload for run in runs), min(run.extract for run in runs)
    rate = f"{EVENTS / extract:,.0f} events/s, {size / extract / 1e6:,.0f} MB/s; gunzip alone {min(unpacked):.2f} s"
    note = f"{EVENTS:,} events in 24 parts, every line checked; best of {TIMES}"
    return [
        row("extract_to_bucket_vs_plain", ours, min(whole), min(whole) / ours, "seconds", f"{note}; at least 4"),
        row("extract_vs_plain", extract, min(without), min(without) / extract, "seconds", f"{note}; {rate}"),
        row("extract_memory_10x_day", ten, memory, ten / memory, "MB, all processes", "at most 1.1, and under 150 MB"),
    ]


def made(folder: Path, times: int) -> Path:
    """A day's 24 members as Amplitude packs them."""
    folder.mkdir()
    traffic = Traffic(project=PROJECT, events_per_day=EVENTS * times)
    for number in range(24):
        hour = DAY + timedelta(hours=number)
        lines = [line for part in range(traffic.parts(hour)) for line in traffic.lines(hour, part)]
        name = f"{PROJECT}_{DAY:%Y-%m-%d}_{number}#0.json.gz"
        (folder / name).write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), 6, mtime=0))
    return folder


@contextmanager
def serving(day: Path) -> Iterator[str]:
    """The Export API for this day, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.extract", "serve", str(day)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@contextmanager
def bucket(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "local.s3", "--state", str(folder / "s3")]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        url = f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"
        client(url).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        process.kill()
        process.wait()


def client(url: str) -> Any:
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=url, **keys)


class Ours:
    """The two tasks as the flow runs them: a process each."""

    def __init__(self, folder: Path, export: str, store: str) -> None:
        self.work = Path(tempfile.mkdtemp(dir=folder))
        self.environment = os.environ | {
            "AMP_API_KEY": "k",
            "AMP_SECRET_KEY": "s",
            "AMP_PROJECT_ID": str(PROJECT),
            "AMP_BASE_URL": export,
            "AWS_ACCESS_KEY": "local",
            "AWS_ACCESS_SECRET_KEY": "local",
            "AWS_BUCKET_NAME": BUCKET,
            "AWS_ENDPOINT_URL_S3": store,
            "AWS_REGION": "us-east-1",
            "S3_ADDRESSING_STYLE": "path",
            # a prefix of its own: every run puts every object
            "AWS_PREFIX": self.work.name.replace("_", "-"),
            "BACKUP_READABLE_JSON": "false",
            "DATA_DIR": str(self.work / "data"),
            # the night after, as the schedule has it: no hour is due for a re-check
            "PIPELINE_NOW": f"{DAY + timedelta(days=1, hours=3, minutes=30):%Y-%m-%dT%H:%M:%SZ}",
            "PYTHONPATH": str(ROOT),
        }
        self.memory = self.extract = self.upload = 0.0

    def run(self) -> Ours:
        hours = [DAY + timedelta(hours=number) for number in range(24)]
        write_lines(
            self.work / "plan.jsonl",
            [PlanLine(hour=f"{hour:%Y-%m-%dT%H}", action="export", reason="asked") for hour in hours],
        )
        self.extract, self.upload = self.seconds("extract"), self.seconds("upload")
        return self

    def seconds(self, task: str) -> float:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", f"scripts.{task}"],
            cwd=self.work,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while process.poll() is None:
            self.memory = max(self.memory, resident(process.pid))
            time.sleep(0.02)
        assert process.stderr
        assert process.returncode == 0, process.stderr.read()
        return time.perf_counter() - begin


def resident(pid: int) -> float:
    """MB that a process and its children hold now."""
    total = 0.0
    for each in [pid, *children(pid)]:
        try:
            text = Path(f"/proc/{each}/statm").read_text()
        except FileNotFoundError:
            continue
        total += int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return total


def children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def timed(export: str, store: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "tests.bench.extract", "plain", export, store], cwd=ROOT, check=True)
    return time.perf_counter() - begin


def plain(export: str, store: str) -> None:
    """What most public pipelines do."""
    answer = requests.get(
        f"{export}/api/2/export", params={"start": f"{DAY:%Y%m%d}T00", "end": f"{DAY:%Y%m%d}T23"}, auth=("k", "s")
    )
    s3 = client(store) if store else None
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            archive.extractall(folder)
        for packed in Path(folder).rglob("*.json.gz"):
            with gzip.open(packed) as source:
                packed.with_suffix("").write_bytes(source.read())
            if s3:
                s3.upload_file(str(packed.with_suffix("")), BUCKET, f"plain/{packed.stem}")


def gunzipped(day: Path) -> float:
    begin = time.perf_counter()
    for file in day.iterdir():
        gzip.decompress(file.read_bytes())
    return time.perf_counter() - begin


def serve(day: Path) -> None:
    archives: dict[str, bytes] = {}
    making = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            first, last = (int(query[name][0][-2:]) for name in ("start", "end"))
            with making:
                if self.path not in archives:
                    archives[self.path] = packed(day, range(first, last + 1))
            body = archives[self.path]
            self.send_response(200)
            self.send_header("Content-Type", "application/zip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def packed(day: Path, hours: range) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for hour in hours:
            name = f"{PROJECT}_{DAY:%Y-%m-%d}_{hour}#0.json.gz"
            archive.write(day / name, f"{PROJECT}/{name}")
    return file.getvalue()


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    plain(*given) if what == "plain" else serve(Path(given[0]))
