"""A million events through the local Snowflake's pipe, against plain DuckDB reading the same file into a table."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from local.amplitude import generator
from tests.bench import row
from tests.integration.conformance.server import BUCKET, s3_running, snowflake_running

EVENTS = 1_000_000
HOUR = "2026-09-24T13"
PLAIN = """
import duckdb, sys, time
duck = duckdb.connect(sys.argv[2], config={"memory_limit": "3GB", "temp_directory": sys.argv[2] + ".spill"})
start = time.monotonic()
source = f"read_ndjson_objects('{sys.argv[1]}', maximum_object_size = 33554432)"
duck.execute(f"create table landing as select json from {source}")
duck.execute("checkpoint")
print(time.monotonic() - start)
"""
OBJECTS = [
    "create database bench",
    "create table landing (json_data variant, source_file varchar, source_row number, loaded_at timestamp_ltz)",
    f"create stage parts url = 's3://{BUCKET}/bench/' storage_integration = conformance_s3 file_format = (type = json)",
    "create stream landed on table landing append_only = true",
    """create pipe brought as copy into landing
    from (select $1, metadata$filename, metadata$file_row_number, metadata$start_scan_time from @parts)""",
]

STATUS = "select system$pipe_status('brought')"


def rows(events: int = EVENTS) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "events.json.gz"
        write_events(file, events)
        ours, peak = through_the_pipe(folder, file, events)
        plain = [sys.executable, "-c", PLAIN, str(file), str(folder / "plain.duckdb")]
        reference = float(subprocess.run(plain, check=True, capture_output=True, text=True).stdout.split()[-1])
    note = f"{events:,} events with a stream on the table; server's peak {peak:.1f} GB"
    return [row("pipe_load_vs_duckdb", ours, reference, ours / reference, "s", note)]


def write_events(file: Path, count: int) -> None:
    """One busy hour; its tail is left out."""
    lines = generator.events(HOUR, events_per_day=9 * count)
    assert len(lines) >= count, f"the hour holds {len(lines)} events only"
    with gzip.open(file, "wb", compresslevel=6) as out:
        for line in itertools.islice(lines, count):
            out.write(line + b"\n")


def through_the_pipe(folder: Path, file: Path, count: int) -> tuple[float, float]:
    """Seconds from REFRESH to the last row, and the peak of the server's memory in GB."""
    with s3_running(folder / "s3") as endpoint, snowflake_running(folder / "snowflake", endpoint) as server:
        with file.open("rb") as body:
            server.aws("s3").put_object(Bucket=BUCKET, Key="bench/events.json.gz", Body=body)
        with server.connect() as connection:
            cursor = connection.cursor()
            for statement in OBJECTS:
                cursor.execute(statement)
            start = time.monotonic()
            cursor.execute("alter pipe brought refresh")
            while "lastIngestedFilePath" not in (status := json.loads(cursor.execute(STATUS).fetchone()[0])):
                assert "error" not in status, status
                time.sleep(0.2)
            seconds = time.monotonic() - start
            cursor.execute("select (select count(*) from landing), (select count(*) from landed)")
            assert cursor.fetchone() == (count, count)
        high = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
        assert high
    return seconds, int(high[1]) / 1e6
