"""Objects that DuckDB does not know: stages, pipes, streams, tasks, procedures, roles, grants, warehouses and so on.

Kept in memory and written through to a table of the database that they belong to (account objects: the account's).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import duckdb

from local.snowflake.errors import not_found
from local.snowflake.translate import GLOBAL, HIDDEN

Name = tuple[str, str, str]  # database, schema, name; the first two empty for account objects
Properties = dict[str, Any]
T = TypeVar("T")
LABELS = {
    "INTEGRATION": "Integration",
    "STAGE": "Stage",
    "FILE FORMAT": "File format",
    "RESOURCE MONITOR": "Resource monitor",
    "NETWORK POLICY": "Network policy",
}


def label(kind: str) -> str:
    """How messages call a kind of object."""
    return LABELS.get(kind, kind.capitalize())


def utc_now() -> datetime:
    return datetime.now(UTC)


def quoted(*parts: str) -> str:
    """A full name for DuckDB."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def text(value: str) -> str:
    """A text literal for DuckDB."""
    return "'" + value.replace("'", "''") + "'"


class Catalog:
    def __init__(self, duck: duckdb.DuckDBPyConnection) -> None:
        self._duck = duck
        self._lock = threading.RLock()
        self._objects: dict[tuple[str, Name], Properties] = {}
        self._derived: dict[Callable[[Catalog], Any], Any] = {}

    def load(self, database: str) -> None:
        """Read what a database file holds."""
        with self._lock:
            rows = self._duck.execute(f"select * from {quoted(database, HIDDEN, 'objects')}").fetchall()
            for kind, of_database, schema, name, properties in rows:
                self._objects[kind, (of_database, schema, name)] = json.loads(properties)

    def derived(self, build: Callable[[Catalog], T]) -> T:
        """What build makes of the grants, kept until one changes."""
        with self._lock:
            if build not in self._derived:
                self._derived[build] = build(self)
            return self._derived[build]  # type: ignore[no-any-return]

    def get(self, kind: str, name: Name) -> Properties | None:
        return self._objects.get((kind, name))

    def need(self, kind: str, name: Name) -> Properties:
        found = self.get(kind, name)
        if found is None:
            raise not_found(label(kind), ".".join(part for part in name if part))
        return found

    def put(self, kind: str, name: Name, properties: Properties) -> None:
        self.put_all(kind, {name: properties})

    def put_all(self, kind: str, objects: dict[Name, Properties]) -> None:
        """Objects of one database, in one transaction: each commit waits for the disk."""
        with self._lock, self._transaction():
            for name, properties in objects.items():
                properties.setdefault("created_on", utc_now().isoformat())
                self._delete(kind, name)
                self._objects[kind, name] = properties
                self._duck.execute(
                    f"insert into {self._table(name)} values (?, ?, ?, ?, ?)", [kind, *name, json.dumps(properties)]
                )
            self._forget_derived(kind)

    def change(self, kind: str, name: Name, **properties: object) -> Properties | None:
        """Set properties of an object that may be gone by now (None)."""
        with self._lock:
            found = self.get(kind, name)
            if found is not None:
                self.put(kind, name, found | properties)
            return self.get(kind, name)

    def drop(self, kind: str, name: Name) -> None:
        self.drop_all(kind, [name])

    def drop_all(self, kind: str, names: list[Name]) -> None:
        """As put_all."""
        with self._lock, self._transaction():
            for name in names:
                self._objects.pop((kind, name), None)
                self._delete(kind, name)
            self._forget_derived(kind)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._duck.begin()
        try:
            yield
        except BaseException:
            self._duck.rollback()
            raise
        self._duck.commit()

    def _forget_derived(self, kind: str) -> None:
        if kind == "GRANT":
            self._derived.clear()

    def drop_container(self, database: str, schema: str | None = None) -> None:
        """Forget what belonged to a dropped schema or database."""
        with self._lock:
            for kind, name in [key for key in self._objects if key[1][0] == database]:
                if schema is None:
                    del self._objects[kind, name]
                elif name[1] == schema:
                    self.drop(kind, name)

    def all(self, kind: str) -> Iterator[tuple[Name, Properties]]:
        """By name."""
        with self._lock:
            found = sorted(
                (name, properties) for (of_kind, name), properties in self._objects.items() if of_kind == kind
            )
        return iter(found)

    def _table(self, name: Name) -> str:
        return quoted(name[0] or GLOBAL, HIDDEN, "objects")

    def _delete(self, kind: str, name: Name) -> None:
        self._duck.execute(
            f"delete from {self._table(name)} where kind = ? and database_name = ? and schema_name = ? and name = ?",
            [kind, *name],
        )
