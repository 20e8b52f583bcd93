"""Transactions of one session on DuckDB, with Snowflake's rules.

A failed statement undoes itself only, but DuckDB gives up the whole transaction: the journal of what was written is
then played again. Tables are READ COMMITTED, but DuckDB reads one snapshot: it is renewed before each read until the
transaction writes. A writer waits for the writer before it, where DuckDB would fail with a conflict.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from local.snowflake.errors import SnowflakeError


class Locks:
    """One at a time for those that conflict: UPDATE, DELETE, MERGE and DDL of a table, COPY into it.

    INSERT takes none, as in an account. Keys say what is locked; the owner is the number of a transaction scope.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._owners: dict[str, int] = {}

    def acquire(self, owner: int, key: str, seconds: float, cancelled: threading.Event) -> None:
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._owners.get(key, owner) != owner:
                left = deadline - time.monotonic()
                if cancelled.is_set():
                    raise SnowflakeError(604, "SQL execution canceled", "57014")
                if left <= 0:
                    raise SnowflakeError(
                        625, f"Statement has waited {seconds:.0f} s for the lock on '{key}' and gave up.", "57014"
                    )
                self._changed.wait(min(left, 0.5))
            self._owners[key] = owner

    def release(self, owner: int) -> None:
        with self._changed:
            for key in [key for key, holder in self._owners.items() if holder == owner]:
                del self._owners[key]
            self._changed.notify_all()


class Transaction:
    """The transaction scope of a session: a DuckDB cursor and what was done on it since BEGIN.

    A procedure that begins a transaction inside its caller's gets a scope of its own.
    """

    lock_seconds = 300.0  # LOCK_TIMEOUT is 12 hours in an account; a forgotten session must not stop a laptop

    def __init__(self, duck: duckdb.DuckDBPyConnection, locks: Locks, owner: int, cancelled: threading.Event) -> None:
        self.duck, self.locks, self.owner, self._cancelled = duck, locks, owner, cancelled
        self.number = 0  # 0: none is open
        self.explicit = False
        self.depth = 0  # how deep in procedures BEGIN was said
        self.pinned = False  # a stream was read: the snapshot stays
        self.consumed: set[str] = set()  # stream queues whose visible rows go at COMMIT
        self.files: list[Path] = []  # kept until the end: the journal may read them again
        self._journal: list[tuple[str, Sequence[object]]] = []
        self._aborted = False

    def begin(self, number: int, *, explicit: bool, depth: int = 0) -> None:
        self.duck.execute(f"set variable transaction_number = {number}")
        self.duck.execute("begin transaction")
        self.number, self.explicit, self.depth = number, explicit, depth

    def commit(self) -> None:
        """Without an open transaction nothing, as in Snowflake."""
        if not self.number:
            return
        try:
            for queue in sorted(self.consumed):
                self.write(f'delete from {queue} where "TRANSACTION_NUMBER" <> {self.number}')
            self.duck.execute("commit")
        except duckdb.Error:
            self.rollback()
            raise
        self._end()

    def rollback(self) -> None:
        if not self.number:
            return
        self._back()
        self._end()

    def _back(self) -> None:
        with suppress(duckdb.TransactionException):  # a failed COMMIT has already ended it
            self.duck.execute("rollback")
        self._aborted = False

    def _end(self) -> None:
        self.duck.execute("set variable transaction_number = 0")
        self.number, self.explicit, self.depth, self.pinned = 0, False, 0, False
        self._journal.clear()
        self.consumed.clear()
        for file in self.files:
            file.unlink(missing_ok=True)
        self.files.clear()
        self.locks.release(self.owner)

    def read(self, sql: str, parameters: Sequence[object] = ()) -> duckdb.DuckDBPyConnection:
        """Run a query; the rows are read from the returned cursor."""
        if self.number and not self._journal and not self.pinned:
            self._back()
            self.duck.execute("begin transaction")
        return self._execute(sql, parameters)

    def write(self, sql: str, parameters: Sequence[object] = ()) -> duckdb.DuckDBPyConnection:
        """Run a statement that changes rows, inside `statement()`."""
        try:
            done = self._execute(sql, parameters)
        except duckdb.TransactionException as error:
            if "onflict" not in str(error):
                raise
            self._replay(len(self._journal))  # another transaction has changed the rows since the snapshot
            done = self._execute(sql, parameters)
        self._journal.append((sql, parameters))
        return done

    @property
    def written(self) -> int:
        """How many statements the journal holds."""
        return len(self._journal)

    def restore(self, written: int) -> None:
        """Come back to so many statements of the journal after a part of a statement that failed."""
        self._replay(written)

    def _execute(self, sql: str, parameters: Sequence[object]) -> duckdb.DuckDBPyConnection:
        try:
            return self.duck.execute(sql, parameters) if parameters else self.duck.execute(sql)
        except duckdb.Error:
            self._aborted = bool(self.number)
            raise

    def _replay(self, count: int) -> None:
        del self._journal[count:]
        self._back()
        self.duck.execute("begin transaction")
        for sql, parameters in self._journal:
            self._execute(sql, parameters)

    @contextmanager
    def statement(self, number: int, lock: str | None = None) -> Iterator[None]:
        """One statement: a transaction of its own unless one is open; a failure undoes this statement only."""
        if lock:
            self.locks.acquire(self.owner, lock, self.lock_seconds, self._cancelled)
        own, mark, consumed = not self.number, len(self._journal), set(self.consumed)
        try:
            if own:
                self.begin(number, explicit=False)
            yield
        except BaseException:
            if own:
                self.rollback()
            elif self._aborted or len(self._journal) > mark:
                self._replay(mark)
                self.consumed = consumed
            raise
        finally:
            if own and not self.number:
                self.locks.release(self.owner)
        if own:
            self.commit()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One query: a failure inside an open transaction must not lose what it wrote."""
        try:
            yield
        except BaseException:
            if self._aborted:
                self._replay(len(self._journal))
            raise
