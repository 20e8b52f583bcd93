"""Runs the rows of rows.jsonl against a server that speaks Snowflake's protocol.

A row: id, area, setup, sql, expect, doc (where the expectation stands), certainty, note. `{DB}` is a fresh database
with PUBLIC current, `{url}` an S3 folder of the row's own, `{key}` its key prefix, `{integration}` a storage
integration that allows the bucket. Entries of setup: SQL; `{put, text}`; `{wait, value, seconds}`; `{sleep}`;
`{executemany, binds}`; `{notify: pipe}`; `!session b SQL` in a second session; `!fails CODE SQL`; `!fresh` a session
without a database; `!grant-me ROLE`.
"""

from __future__ import annotations

import gzip
import json
import re
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import snowflake.connector
from snowflake.connector import SnowflakeConnection
from snowflake.connector.errors import Error

from tests.integration.conformance.server import BUCKET, USER, Server

ROWS = [json.loads(line) for line in (Path(__file__).parent / "rows.jsonl").read_text().splitlines()]
REFUSED = "not supported locally"
Row = dict[str, Any]


class DiffersError(AssertionError):
    """The server answered otherwise than the row expects."""


@dataclass
class Run:
    """One row on one server."""

    server: Server
    row: Row
    sessions: dict[str, SnowflakeConnection] = field(default_factory=dict)
    database: str = ""

    def __post_init__(self) -> None:
        self.names = {
            "DB": "C_" + re.sub(r"\W", "_", self.row["id"]).upper(),
            "url": f"s3://{BUCKET}/{self.row['id']}/",
            "key": f"{self.row['id']}/",
            "integration": "conformance_s3",
        }

    def fill(self, text: str) -> str:
        for name, value in self.names.items():
            text = text.replace("{" + name + "}", value)
        return text

    def outcome(self) -> str:
        """ "pass", or "refused: …" when the server says that it does not support it. Raises DiffersError otherwise."""
        try:
            self.sessions["a"] = self.server.connect(paramstyle="qmark")
            self.sessions["a"].cursor().execute(f"create or replace database {self.names['DB']}")
            for step in self.row["setup"]:
                self.step(step)
            self.check()
        except Error as error:
            if REFUSED in str(error.msg):
                return f"refused: {str(error.msg).split(REFUSED)[1].strip(': ').splitlines()[0]}"
            raise DiffersError(f"{type(error).__name__} {error.errno} {error.sqlstate}: {error.msg}") from error
        finally:
            for session in self.sessions.values():
                session.close()
        return "pass"

    def session(self, name: str) -> SnowflakeConnection:
        if name not in self.sessions:
            self.sessions[name] = self.server.connect(self.names["DB"], schema="PUBLIC", paramstyle="qmark")
        return self.sessions[name]

    def step(self, step: str | Row) -> None:
        if isinstance(step, str):
            self.statement(self.fill(step))
        elif "put" in step:
            body = self.fill(step["text"]).encode()
            if step["put"].endswith(".gz"):
                body = gzip.compress(body)
            self.server.aws("s3").put_object(Bucket=BUCKET, Key=self.names["key"] + step["put"], Body=body)
        elif "wait" in step:
            self.wait(self.fill(step["wait"]), step["value"], step["seconds"])
        elif "sleep" in step:
            time.sleep(step["sleep"])
        elif "executemany" in step:
            self.session("a").cursor().executemany(self.fill(step["executemany"]), step["binds"])
        elif "notify" in step:
            self.notify(step["notify"])
        else:
            raise ValueError(step)

    def statement(self, sql: str) -> Any:
        name = "a"
        if sql.startswith("!fresh"):
            self.sessions.pop("a").close()
            self.sessions["a"] = self.server.connect(paramstyle="qmark")
            return None
        if sql.startswith("!grant-me "):
            sql = f"grant role {sql.split()[1]} to user {USER}"
        if sql.startswith("!fails "):
            _, code, sql = sql.split(" ", 2)
            return self.must_fail(code, sql)
        if sql.startswith("!session "):
            _, name, sql = sql.split(" ", 2)
        return self.session(name).cursor().execute(sql)

    def must_fail(self, code: str, sql: str) -> None:
        try:
            self.session("a").cursor().execute(sql)
        except Error as error:
            if REFUSED in str(error.msg) or (code != "*" and error.errno != int(code)):
                raise
            return
        raise DiffersError(f"did not fail with {code}: {sql}")

    def wait(self, sql: str, value: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            found = self.session("a").cursor().execute(sql).fetchone()
            if found and same(found[0], value, exact=False):
                return
            if time.monotonic() > deadline:
                raise DiffersError(f"waited for {value!r}, got {found!r}: {sql}")
            time.sleep(0.1)

    def notify(self, pipe: str) -> None:
        """Point the bucket's notification at the pipe's channel, as the one who deploys does."""
        found = self.session("a").cursor(snowflake.connector.DictCursor).execute(f"show pipes like '{pipe}'").fetchone()
        channel = found["notification_channel"]
        queue = {"QueueArn": channel, "Events": ["s3:ObjectCreated:*"]}
        self.server.aws("s3").put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration={"QueueConfigurations": [queue]}
        )

    def check(self) -> None:
        expect, sql = self.row["expect"], self.fill(self.row["sql"])
        if "error" in expect:
            return self.check_error(expect["error"], sql)
        if "describe" in expect:
            return self.check_describe(expect["describe"], sql)
        if self.row.get("num_statements"):
            cursor = self.session("a").cursor()
            cursor.execute(sql, num_statements=self.row["num_statements"])
        else:
            cursor = self.statement(sql)
        rows = [list(row) for row in cursor.fetchall()]
        names = [column.name for column in cursor.description]
        if "columns" in expect:
            wanted = expect["columns"]
            if names[: len(wanted)] != wanted:
                raise DiffersError(f"columns {names}, expected {wanted}")
        if "rows" in expect:
            self.check_rows(rows, [[self.filled(cell) for cell in row] for row in expect["rows"]], expect)
        for wanted_row in expect.get("rows_subset", []):
            self.check_subset(names, rows, {name: self.filled(cell) for name, cell in wanted_row.items()})
        return None

    def filled(self, cell: Any) -> Any:
        return self.fill(cell) if isinstance(cell, str) else cell

    @staticmethod
    def check_rows(rows: list[list[Any]], wanted: list[list[Any]], expect: Row) -> None:
        exact = bool(expect.get("exact"))
        if not expect.get("ordered"):
            rows, wanted = sorted(rows, key=repr), sorted(wanted, key=repr)
        if len(rows) != len(wanted) or not all(
            len(row) == len(want)
            and all(same(cell, cell_wanted, exact=exact) for cell, cell_wanted in zip(row, want, strict=True))
            for row, want in zip(rows, wanted, strict=False)
        ):
            raise DiffersError(f"rows {rows}, expected {wanted}")

    @staticmethod
    def check_subset(names: list[str], rows: list[list[Any]], wanted: Row) -> None:
        at = {name.lower(): index for index, name in enumerate(names)}
        for row in rows:
            if all(
                name.lower() in at and same(row[at[name.lower()]], cell, exact=False) for name, cell in wanted.items()
            ):
                return
        raise DiffersError(f"no row has {wanted}: {names} {rows[:5]}")

    def check_error(self, wanted: Row, sql: str) -> None:
        try:
            cursor = self.statement(sql)
            found = cursor.fetchall() if cursor is not None else None
        except Error as error:
            if REFUSED in str(error.msg):
                raise
            code, state, message = error.errno, error.sqlstate, " ".join(str(error.msg).split()).lower()
            if "code" in wanted and code != wanted["code"]:
                raise DiffersError(f"code {code} {state}, expected {wanted}: {error.msg}") from error
            if "sqlstate" in wanted and state != wanted["sqlstate"]:
                raise DiffersError(f"state {state}, expected {wanted}: {error.msg}") from error
            fragments = wanted.get("message", [])
            for fragment in [fragments] if isinstance(fragments, str) else fragments:
                if " ".join(self.fill(fragment).split()).lower() not in message:
                    raise DiffersError(f"message {error.msg!r}, expected {fragment!r}") from error
            return
        raise DiffersError(f"answered {found}, expected error {wanted}")

    def check_describe(self, wanted: list[list[Any]], sql: str) -> None:
        kinds = dict(enumerate(FIELD_TYPES))
        found = [
            [column.name, kinds[column.type_code], column.precision, column.scale]
            for column in self.session("a").cursor().describe(sql)
        ]
        if found != wanted:
            raise DiffersError(f"described {found}, expected {wanted}")


FIELD_TYPES = (
    "FIXED", "REAL", "TEXT", "DATE", "TIMESTAMP", "VARIANT", "TIMESTAMP_LTZ", "TIMESTAMP_TZ", "TIMESTAMP_NTZ",
    "OBJECT", "ARRAY", "BINARY", "TIME", "BOOLEAN",
)  # fmt: skip


def same(found: Any, wanted: Any, *, exact: bool) -> bool:
    """Numbers by value (as text when exact), JSON text without regard to blanks, everything else as it is."""
    if isinstance(found, bool) or isinstance(wanted, bool) or found is None or wanted is None:
        return found is wanted
    if exact:
        return str(found) == str(wanted)
    if isinstance(found, int | float | Decimal) and isinstance(wanted, int | float):
        return abs(Decimal(str(found)) - Decimal(str(wanted))) < Decimal("1e-9")
    if isinstance(found, str) and isinstance(wanted, str) and wanted[:1] in {"{", "["}:
        return re.sub(r"\s", "", found) == re.sub(r"\s", "", wanted)
    return bool(found == wanted) or (isinstance(wanted, str) and not isinstance(found, str) and str(found) == wanted)
