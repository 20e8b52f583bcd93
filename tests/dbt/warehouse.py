"""The deployed warehouse on a local Snowflake, and the dbt project run against it by the real adapter."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from dbt.cli.main import dbtRunner, dbtRunnerResult

from tests import s3
from tests.warehouse import LocalSnowflake, run_deploy, serving

ROOT = Path(__file__).resolve().parents[2]
DATABASE = "AMPLITUDE"
REPORTING_TIMEZONE = "Europe/London"
LANDING = f"{DATABASE}.RAW.AMPLITUDE_EVENTS_RAW_PYTHON"


class Warehouse:
    """All objects of snowflake/, its tasks off. The service user's time zone is not UTC: no model may depend on it."""

    def __init__(self, server: LocalSnowflake, folder: Path) -> None:
        self.server, self.folder = server, folder
        server.script(DATABASE, "alter user AMPLITUDE_PIPELINE set timezone = 'America/Los_Angeles'")
        self._session = server.session(DATABASE)
        self._connection = self._session.__enter__()

    def close(self) -> None:
        self._session.__exit__(None, None, None)

    def query(self, sql: str, parameters: Sequence[Any] | None = None) -> list[dict[str, Any]]:
        """Rows as dicts with lower-case names."""
        with self._connection.cursor() as cursor:
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
                f"insert into {LANDING} (json_data, source_file, source_row, loaded_at)"
                " select parse_json(column1), %s, column2,"
                f" to_timestamp_tz(%s, 'YYYY-MM-DD HH24:MI:SS.FF9 TZH:TZM')::timestamp_ltz from values {places}",
                [source_file, at, *values],
            )

    def environment(self) -> dict[str, str]:
        """What a task of the flow dbt_build gets."""
        return self.server.settings(DATABASE) | {
            "DBT_LOG_LEVEL_FILE": "none",
            "SNOWFLAKE_ROLE": "AMPLITUDE_TRANSFORMER",
            "SNOWFLAKE_PRIVATE_KEY_FILE_PWD": "unset",
            "REPORTING_TIMEZONE": REPORTING_TIMEZONE,
            "QUERY_TAG": "dbt_build/test-execution",
        }


@contextmanager
def deployed(folder: Path) -> Iterator[Warehouse]:
    with s3.serving() as bucket, serving(folder, bucket.url) as server:
        bucket.create_bucket()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)  # no .env of the developer
            patch.setenv("SILVER_TASKS", "false")
            for name, value in {**s3.settings_for(bucket), **server.settings(DATABASE)}.items():
                patch.setenv(name, value)
            for scope in ("account", "database"):
                run_deploy(folder, scope)
        warehouse = Warehouse(server, folder)
        yield warehouse
        warehouse.close()


class Dbt:
    """The project in dbt/, or a copy of it, run in this process: dbt is imported and the project parsed once."""

    def __init__(self, warehouse: Warehouse, project: Path = ROOT / "dbt") -> None:
        self._project = str(project)
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
                    *("--project-dir", self._project, "--profiles-dir", self._project),
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
