"""The account: its database files, sessions, catalog, locks and query history."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import duckdb

from local.snowflake.catalog import Catalog, Name, quoted, text
from local.snowflake.errors import SnowflakeError, not_found
from local.snowflake.macros import macros_ddl, prepare_database_ddl
from local.snowflake.privileges import warehouse_for
from local.snowflake.results import Result
from local.snowflake.session import Query, Session
from local.snowflake.storage import Storage
from local.snowflake.transactions import Locks
from local.snowflake.translate import GLOBAL, HIDDEN, account_ddl

if TYPE_CHECKING:
    from local.snowflake.pipes import PipeWorker
    from local.snowflake.task_runner import TaskRunner

_ACCOUNT_TABLES = f"""
create table if not exists {GLOBAL}.{HIDDEN}.objects(
    kind varchar, database_name varchar, schema_name varchar, name varchar, properties json);
create table if not exists {GLOBAL}.{HIDDEN}.task_history(
    run_id bigint, name varchar, database_name varchar, schema_name varchar, query_text varchar,
    condition_text varchar, state varchar, error_code varchar, error_message varchar, scheduled_time timestamptz,
    query_start_time timestamptz, completed_time timestamptz, return_value varchar, query_id varchar,
    graph_run_group_id bigint, root_task_id varchar, attempt_number integer, scheduled_from varchar);
"""


class Account:
    """run: executes one prepared statement of a session (dispatch.run)."""

    def __init__(self, state: Path, storage: Storage, run: Callable[[Session, str], Result]) -> None:
        self.state, self.storage, self.run = state, storage, run
        self.name = "LOCAL"
        self.locks = Locks()
        self.databases_lock = threading.RLock()
        self._ddl_locks: dict[Name, threading.RLock] = defaultdict(threading.RLock)
        self.queries: deque[Query] = deque(maxlen=10_000)
        self.sessions: set[Session] = set()
        self.drops = 0  # rises with each dropped database or schema: sessions then look whether theirs is there
        self._files: dict[str, Path] = {}  # of each database
        self._numbers = itertools.count(time.time_ns() // 1000)
        state.mkdir(parents=True, exist_ok=True)
        (state / "spill").mkdir(exist_ok=True)
        config: dict[str, str | bool | int | float | list[str]] = {
            "lambda_syntax": "ENABLE_SINGLE_ARROW",
            "memory_limit": os.environ.get("DUCKDB_MEMORY_LIMIT", "3GB"),
        }
        self._duck = duckdb.connect(":memory:", config=config)
        self._duck.execute(f"set global temp_directory = {text(str(state / 'spill'))}")
        self._duck.execute("set global TimeZone = 'UTC'")
        # Without it DuckDB tries every method on every column: a load of events costs twice the CPU.
        self._duck.execute("set global force_compression = 'zstd'")
        self._duck.execute(f"attach {text(str(state / 'account.duckdb'))} as {GLOBAL}")
        self._duck.execute(account_ddl())
        self._duck.execute(_ACCOUNT_TABLES)
        self._duck.execute(macros_ddl("memory"))
        self.catalog = Catalog(self.cursor())
        self.catalog.load(GLOBAL)
        for file in sorted(state.glob("db-*.duckdb")):
            self._attach(unquote(file.stem.removeprefix("db-").partition("@")[0]), file)
        self.pipe_worker: PipeWorker
        self.task_runner: TaskRunner

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the same files."""
        return self._duck.cursor()

    def next_number(self) -> int:
        """Rising over restarts: sessions, transactions, queues and runs are numbered with it."""
        return next(self._numbers)

    def ddl_lock(self, name: Name = ("", "", "")) -> threading.RLock:
        """One DDL statement at a time for a table or view; for all other objects together (no name)."""
        with self.databases_lock:
            return self._ddl_locks[name]

    # ---- databases
    def has_database(self, database: str) -> bool:
        return database in self._files

    def create_database(self, database: str) -> None:
        """In a file of a new name: one that still runs in a dropped database of this name keeps the old file open."""
        with self.databases_lock:
            self._attach(database, self.state / f"db-{quote(database, safe='')}@{self.next_number()}.duckdb")
            self._duck.execute(f"create schema if not exists {quoted(database, 'PUBLIC')}")

    def drop_database(self, database: str) -> None:
        with self.databases_lock:
            if not self.has_database(database):
                raise not_found("Database", database)
            self.catalog.drop_container(database)
            self._duck.execute(f"detach {quoted(database)}")
            self.drops += 1
            for file in self.state.glob(f"{self._files.pop(database).name}*"):
                file.unlink()

    def databases(self) -> list[str]:
        return sorted(self._files)

    def _attach(self, database: str, file: Path) -> None:
        self._duck.execute(f"attach {text(str(file))} as {quoted(database)}")
        self._files[database] = file
        cursor = self.cursor()
        cursor.execute("begin transaction")
        try:
            cursor.execute(prepare_database_ddl(database))
            cursor.execute("commit")
        finally:
            cursor.close()
        self.catalog.load(database)

    # ---- sessions
    def login(
        self,
        user: str,
        database: str | None = None,
        schema: str | None = None,
        role: str | None = None,
        warehouse: str | None = None,
    ) -> Session:
        """A session. An unknown database, schema or warehouse leaves none current, as in an account."""
        session = Session(self, user)
        known = self.catalog.get("USER", ("", "", user)) or {"options": {}}
        for name, value in known["options"].items():
            if name in {"TIMEZONE", "QUERY_TAG", "STATEMENT_TIMEOUT_IN_SECONDS", "LOCK_TIMEOUT"}:
                session.set_parameter(name, value)
        session.secondary_roles = known["options"].get("DEFAULT_SECONDARY_ROLES") != []
        session.role = role or str(known["options"].get("DEFAULT_ROLE", "ACCOUNTADMIN")).upper()
        wanted = warehouse or str(known["options"].get("DEFAULT_WAREHOUSE", "")).upper()
        session.warehouse = warehouse_for(session, wanted)
        try:
            session.use(database, schema)
        except SnowflakeError:
            session.use(database if database and self.has_database(database) and schema is None else None)
        self.sessions.add(session)
        return session

    def logout(self, session: Session) -> None:
        self.sessions.discard(session)
        with session.lock:
            session.close()

    def close(self) -> None:
        """Close the files; nothing may run any more."""
        for session in list(self.sessions):
            self.logout(session)
        self._duck.close()
