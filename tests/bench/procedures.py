"""A million landing rows through both procedures, against one plain DuckDB statement that types and flattens them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests import s3
from tests.bench import row
from tests.bench.pipe_load import write_events
from tests.exports import KEYS
from tests.warehouse import LocalSnowflake, run_deploy, serving

EVENTS = 1_000_000
PLAIN = """
import duckdb, sys, time
# One statement over a million does not fit into the 3 GB in which ours runs.
duck = duckdb.connect(sys.argv[2], config={"memory_limit": "8GB", "temp_directory": sys.argv[2] + ".spill"})
source = f"read_ndjson_objects('{sys.argv[1]}', maximum_object_size = 33554432)"
duck.execute(f"create table landing as select json from {source}")
start = time.monotonic()
duck.execute(sys.argv[3])
duck.execute("checkpoint")
print(time.monotonic() - start)
"""
NUMBERS = {"$schema", "amplitude_id", "app", "event_id", "session_id"}
DOUBLES = {"location_lat", "location_lng", "sample_rate"}


def rows(events: int = EVENTS) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "events.json.gz"
        write_events(file, events)
        with s3.serving() as bucket, serving(folder, bucket.url) as server:
            ours = through_the_procedures(folder, bucket, server, file, events)
        plain = [sys.executable, "-c", PLAIN, str(file), str(folder / "plain.duckdb"), statement()]
        reference = float(subprocess.run(plain, check=True, capture_output=True, text=True).stdout.split()[-1])
    note = f"{events:,} new events into all SILVER tables; at most 5"
    return [row("procedures_vs_duckdb", ours, reference, ours / reference, "s", note)]


def through_the_procedures(folder: Path, bucket: s3.S3, server: LocalSnowflake, file: Path, count: int) -> float:
    bucket.create_bucket()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # no .env of the developer
        patch.setenv("SILVER_TASKS", "false")
        for name, value in {**s3.settings_for(bucket), **server.settings("BENCH")}.items():
            patch.setenv(name, value)
        for scope in ("account", "database"):
            run_deploy(folder, scope)
    bucket.put("python-import/events.json.gz", file.read_bytes())
    server.script(
        "BENCH",
        """alter pipe RAW.AMPLITUDE_EVENTS_PIPE set pipe_execution_paused = true;
copy into RAW.AMPLITUDE_EVENTS_RAW_PYTHON (json_data, source_file, source_row, loaded_at) from (
    select $1, metadata$filename, metadata$file_row_number, metadata$start_scan_time
    from @RAW.AMPLITUDE_EVENTS_STAGE) files = ('events.json.gz');
insert into OPS.SILVER_AUDIT (procedure_name, started_at, finished_at, status)
    select column1, '2020-01-01', '2020-01-01', 'ok'
    from values ('AMPLITUDE_BASE_UPDATE'), ('AMPLITUDE_NORMALISED_UPDATE')""",  # they read their streams alone
        role="SYSADMIN",
    )
    start = time.monotonic()
    for procedure in ("AMPLITUDE_BASE_UPDATE", "AMPLITUDE_NORMALISED_UPDATE"):
        server.rows("BENCH", f"call SILVER.{procedure}()", role="SYSADMIN")
    seconds = time.monotonic() - start
    assert server.rows("BENCH", "select count(*) from SILVER.AMPLITUDE_EVENTS") == [(count,)]
    return seconds


def statement() -> str:
    typed = [f"""try_cast(json ->> '$."{key}"' as {kind(key)}) as "{key}\"""" for key in KEYS]
    flat = "map_entries(cast(json -> '$.event_properties' as map(varchar, json))) as properties"
    return f"create table flat as select {', '.join(typed)}, {flat} from landing"


def kind(key: str) -> str:
    if key.endswith("_time"):
        return "timestamp"
    return "bigint" if key in NUMBERS else "double" if key in DOUBLES else "varchar"
