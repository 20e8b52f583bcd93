"""A local Snowflake with a landing table, and the dbt project run against it by the real adapter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dbt.cli.main import dbtRunner, dbtRunnerResult

ROOT = Path(__file__).resolve().parents[2]
DATABASE, LANDING = "AMPLITUDE", "AMPLITUDE.RAW.AMPLITUDE_EVENTS_RAW_PYTHON"


class Warehouse:
    """`python -m local.snowflake` with the schemas, the landing table and the freshness view of snowflake/database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.key_file = folder / "key.p8"
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "local.snowflake", "--port", "0", "--state", str(folder / "state")],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.port = int(json.loads(self._process.stdout.readline())["port"])
        self._connection = snowflake.connector.connect(
            account="local",
            user="TESTER",
            private_key_file=str(self.key_file),
            host="127.0.0.1",
            port=self.port,
            protocol="http",
            network_timeout=120,
        )
        for statement in (
            f"create database if not exists {DATABASE}",
            *(
                f"create schema if not exists {DATABASE}.{schema}"
                for schema in ("RAW", "STAGING", "INTERMEDIATE", "MARTS", "SENSITIVE")
            ),
            "create warehouse if not exists AMPLITUDE_WH",
            f"""create table {LANDING}
                (json_data variant, source_file varchar, source_row number(38, 0), loaded_at timestamp_ltz(9))""",
            f"""create view {LANDING}_FRESHNESS as
                select to_timestamp_ntz(json_data:"server_upload_time"::varchar, 'YYYY-MM-DD HH24:MI:SS.FF9')
                    as server_upload_time_ts
                from {LANDING} where loaded_at >= dateadd('day', -8, current_timestamp())""",
        ):
            self.query(statement)

    def close(self) -> None:
        self._connection.close()
        self._process.stdin.close()
        self._process.wait(timeout=20)

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """Rows as dicts with lower-case names."""
        cursor = self._connection.cursor()
        cursor.execute(sql, parameters)
        names = [column.name.lower() for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def load(self, events: Iterable[dict[str, Any]], source_file: str, loaded_at: datetime) -> None:
        """Puts events into the landing table as one part, in this order."""
        rows = [(json.dumps(event), number) for number, event in enumerate(events, start=1)]
        at = loaded_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f +00:00")
        for start in range(0, len(rows), 400):
            values = [cell for row in rows[start : start + 400] for cell in row]
            places = ", ".join(["(%s, %s)"] * (len(values) // 2))
            self.query(
                f"insert into {LANDING} select parse_json(column1), %s, column2,"
                f" to_timestamp_tz(%s, 'YYYY-MM-DD HH24:MI:SS.FF9 TZH:TZM')::timestamp_ltz from values {places}",
                [source_file, at, *values],
            )

    def environment(self) -> dict[str, str]:
        """What a task of the flow dbt_build gets."""
        return {
            "SNOWFLAKE_ACCOUNT": "local",
            "SNOWFLAKE_USER": "TESTER",
            "SNOWFLAKE_WAREHOUSE": "AMPLITUDE_WH",
            "SNOWFLAKE_DATABASE": DATABASE,
            "SNOWFLAKE_ROLE": "ACCOUNTADMIN",
            "SNOWFLAKE_PRIVATE_KEY_FILE": str(self.key_file),
            "SNOWFLAKE_PRIVATE_KEY_FILE_PWD": "unset",
            "SNOWFLAKE_HOST": "127.0.0.1",
            "SNOWFLAKE_PORT": str(self.port),
            "SNOWFLAKE_PROTOCOL": "http",
            "QUERY_TAG": "dbt_build/test-execution",
        }


class Dbt:
    """The project in dbt/, run in this process: dbt is imported and the project parsed once."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.target = warehouse.folder / "target"
        self._environment = warehouse.environment()
        self._manifest = None
        self.log: list[str] = []

    def __call__(self, *arguments: str, succeeds: bool = True, **environment: str) -> dbtRunnerResult:
        """Runs one dbt command; `log` then holds its warnings and errors."""
        self.log = []
        # a copy: a run leaves compiled SQL in its manifest, and the next would not inject the ephemeral model again
        manifest = self._manifest.deepcopy() if self._manifest else None
        runner = dbtRunner(manifest=manifest, callbacks=[self._note])
        with _environment(self._environment | environment):
            result = runner.invoke(
                [
                    *arguments,
                    *("--project-dir", str(ROOT / "dbt"), "--profiles-dir", str(ROOT / "dbt")),
                    *("--target-path", str(self.target), "--log-path", str(self.target.parent / "logs")),
                ]
            )
        assert result.success is succeeds, f"{' '.join(arguments)}: {result.exception or ''} {self.log}"
        return result

    def parse(self, **environment: str) -> Any:
        """Parses once; later commands use this manifest."""
        self._manifest = self("parse", **environment).result
        return self._manifest

    def _note(self, event: Any) -> None:
        if event.info.level in ("warn", "error"):
            self.log.append(event.info.msg)


@contextmanager
def _environment(values: dict[str, str]):
    before = os.environ.copy()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
