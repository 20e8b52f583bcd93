"""docs/security.md, erasure: the page's own statements and commands leave nothing of a person, and all of others."""

from __future__ import annotations

import gzip
import re
import shlex
import zipfile
from pathlib import Path

import boto3
import pytest

from scripts import load, upload
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.settings import BucketSettings
from scripts.pipeline.settings import load as load_settings
from tests import s3
from tests.exports import DAY, Known, bench, event
from tests.integration.warehouse.test_reconcile import LANDING, Stack

PAGE = (Path(__file__).resolve().parents[3] / "docs/security.md").read_text(encoding="utf-8")
GONE, STAYS = 1263130950579, 1263130950580
MARK = "erase.me@example.test"
HOURS = (f"{DAY}T03", f"{DAY}T04", f"{DAY}T05")


def statements(name: str) -> str:
    """The SQL of the page below `-- erasure: NAME`, for this person and place."""
    [text] = re.findall(rf"-- erasure: {name}\n(.*?)\n +```", PAGE, re.DOTALL)
    for placeholder, value in (("amplitude_id", str(GONE)), ("bucket", s3.BUCKET), ("prefix", s3.PREFIX)):
        text = text.replace(f"<{placeholder}>", value)
    assert not re.search(r"<\w+>", text)
    return re.sub(r"\n {3}", "\n", text)


def exported(with_the_person: bool) -> Known:
    """Hours 03 and 05 have both people, hour 04 one; hour 03 comes in two parts, of which one has both."""

    def line(person: int, number: int, hour: str) -> bytes:
        texts = {"user_id": MARK, "event_properties": {"[Amplitude] Page URL": MARK}} if person == GONE else {}
        return event(f"{person}-{hour}-{number}", hour, amplitude_id=person, device_id=f"d{person}", **texts)

    def part(hour: str, *people: int) -> list[bytes]:
        return [line(person, n, hour) for person in people if with_the_person or person != GONE for n in range(3)]

    first, second, third = HOURS
    return Known(
        {
            first: [part(first, GONE, STAYS), [event("other-part", first, amplitude_id=STAYS)]],
            second: [part(second, STAYS)],
            third: [part(third, STAYS, GONE)],
        }
    )


def run_commands(commands: list[str], data: Path, server: s3.S3) -> None:
    """What the AWS command line and a shell would do."""
    store = boto3.client(
        "s3", endpoint_url=server.url, aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1"
    )
    for command in commands:
        words = shlex.split(command)
        if words[:2] == ["rm", "-f"]:
            for pattern in words[2:]:
                for path in data.glob(pattern.removeprefix("data/")):
                    path.unlink()
            continue
        *verb, url = words
        bucket, _, key = url.removeprefix("s3://").partition("/")
        if verb == ["aws", "s3", "rm", "--recursive"]:
            assert key.endswith("/")
            listed = store.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
            keys = [each["Key"] for each in listed]
        else:
            assert verb == ["aws", "s3", "rm"]
            keys = [key]
        for each in keys:
            store.delete_object(Bucket=bucket, Key=each)


def places_that_know(stack: Stack, data: Path) -> list[str]:
    """Objects, files and tables of the database in which the person can be found."""
    needles = (str(GONE).encode(), MARK.encode(), f"d{GONE}".encode())
    found = []
    for key, content in stack.bucket.objects().items():
        plain = gzip.decompress(content) if key.endswith(".gz") else content
        found += [key for needle in needles if needle in plain][:1]
    for path in filter(Path.is_file, data.rglob("*")):
        content = path.read_bytes()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                content = b"".join(gzip.decompress(archive.read(name)) for name in archive.namelist())
        found += [str(path.relative_to(data)) for needle in needles if needle in content][:1]
    tables = stack.server.rows(
        stack.database,
        "select table_schema || '.' || table_name from information_schema.tables"
        " where table_type = 'BASE TABLE' and table_schema <> 'INFORMATION_SCHEMA'",
    )
    for (table,) in tables:
        rows = stack.server.rows(stack.database, f"select * from {table}")
        found += [table for needle in needles if needle.decode() in str(rows)][:1]
    return found


def go(stack: Stack, day, hours: list[int], number: int) -> None:
    work = day.run(hours).folder
    uploaded = stack.folder / f"uploaded-{number}.jsonl"
    upload.run(manifest=work / "manifest.jsonl", parts=work / "parts.tar", output=uploaded)
    assert load.run(uploaded=uploaded)["hours_failed"] == 0


@pytest.mark.scenario
def test_nothing_of_a_person_is_left(deployed, s3_server, snowflake_server, tmp_path):
    s3_server.clear()
    data = tmp_path / "data"
    stack = Stack(snowflake_server, s3_server, deployed, tmp_path)
    environment = s3.settings_for(s3_server) | snowflake_server.settings(deployed)
    environment |= {"SNOWFLAKE_ROLE": "AMPLITUDE_LOADER", "SILVER_TASKS": "true"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        stack.script(f"alter pipe RAW.AMPLITUDE_EVENTS_PIPE set pipe_execution_paused = true;\ndelete from {LANDING}")
        (tmp_path / "before").mkdir()
        with bench(exported(True), tmp_path / "before", patch) as day:
            patch.setenv("DATA_DIR", str(data))
            go(stack, day, [hour for hour in range(24) if hour != 5], 1)
            stack.silver()
            stack.script("call silver.amplitude_normalised_update()")
            go(stack, day, [5], 2)  # in RAW, and not yet in SILVER: the stream holds it
        # A part that Snowflake refused stays where it was after `ledger quarantine`, and was never in RAW.
        refused = next(key for key in s3_server.objects(f"{s3.PREFIX}/") if "/hour=03/" in key)
        s3_server.put(f"{refused.rpartition('/')[0]}/refused.json.gz", gzip.compress(MARK.encode()))
        stack.dbt()
        known = places_that_know(stack, data)
        assert {"RAW.AMPLITUDE_EVENTS_RAW_PYTHON", "SILVER.AMPLITUDE_EVENTS_BASE1", "SILVER.AMPLITUDE_USERS"} <= {
            *known
        }
        assert [place for place in known if place.startswith("python-import/")]
        assert [place for place in known if place.startswith("zip/")]
        assert [place for place in known if place.startswith("json/")]

        commands = [
            command for (command,) in snowflake_server.rows(deployed, statements("list").rstrip(";"), "SYSADMIN")
        ]
        stack.script(statements("delete"), role="SYSADMIN")
        run_commands(commands, data, s3_server)
        stack.silver()
        stack.script("call silver.amplitude_normalised_update()")
        stack.dbt()
        assert places_that_know(stack, data) == []

        assert HourLedger(load_settings(BucketSettings)).entries().keys() >= {HOURS[1]}
        assert not HourLedger(load_settings(BucketSettings)).entries().keys() & {HOURS[0], HOURS[2]}
        (tmp_path / "after").mkdir()
        with bench(exported(False), tmp_path / "after", patch) as day:
            patch.setenv("DATA_DIR", str(data))
            go(stack, day, [3, 5], 3)
            stack.silver()
            stack.dbt()
            assert stack.compare()["differences"] == 0
        assert places_that_know(stack, data) == []
        others = {f"{STAYS}-{hour}-{number}" for hour in HOURS for number in range(3)} | {"other-part"}
        for table in (f"(select distinct json_data:uuid::varchar as uuid from {LANDING})", "SILVER.AMPLITUDE_EVENTS"):
            assert {uuid for (uuid,) in snowflake_server.rows(deployed, f"select uuid from {table}")} == others, table
