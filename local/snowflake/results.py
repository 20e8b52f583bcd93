"""The result of one statement: an Arrow table, and Snowflake's description of its columns."""

# mypy: disable-error-code="attr-defined, name-defined, no-untyped-call"
# (pyarrow re-exports its names without saying so)

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

# statementTypeId of Snowflake's drivers: how a client tells rows from counts (connector: STATEMENT_TYPE_ID_DML_SET).
SELECT, INSERT, UPDATE, DELETE, MERGE = 0x1000, 0x3100, 0x3200, 0x3300, 0x3400
COPY, USE, SHOW, DESCRIBE, TRANSACTION, DDL = 0x3600, 0x4300, 0x4400, 0x4500, 0x5000, 0x6000

MAX_TEXT = 16_777_216
_ARROW = {
    "text": pa.string(),
    "variant": pa.string(),
    "fixed": pa.int64(),
    "real": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp_ltz": pa.timestamp("us", "UTC"),
    "timestamp_ntz": pa.timestamp("us"),
}
_OF_DUCKDB = {
    "BOOLEAN": "boolean",
    "DOUBLE": "real",
    "FLOAT": "real",
    "VARCHAR": "text",
    '"NULL"': "text",
    "JSON": "variant",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp_ntz",
    "TIMESTAMP_NS": "timestamp_ntz",
    "TIMESTAMP_MS": "timestamp_ntz",
    "TIMESTAMP_S": "timestamp_ntz",
    "TIMESTAMP WITH TIME ZONE": "timestamp_ltz",
    "BLOB": "binary",
}
_INTEGERS = {
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """type: Snowflake's wire type in lower case; precision and scale of numbers and times; length of texts."""

    name: str
    type: str
    precision: int | None = None
    scale: int | None = None
    length: int | None = None

    def wire(self) -> dict[str, object]:
        """The `rowtype` entry of a query answer."""
        return {
            "name": self.name,
            "database": "",
            "schema": "",
            "table": "",
            "nullable": True,
            "type": self.type,
            "byteLength": self.length,
            "length": self.length,
            "scale": self.scale,
            "precision": self.precision,
            "collation": None,
        }


def column(name: str, kind: str) -> Column:
    """A column of a Snowflake type with that type's default size."""
    if kind == "fixed":
        return Column(name, kind, 38, 0)
    if kind.startswith("time"):
        return Column(name, kind, 0, 9)
    return Column(name, kind, length=MAX_TEXT if kind == "text" else 8_388_608 if kind == "binary" else None)


def column_of_duckdb(name: str, duckdb_type: str) -> Column:
    """What Snowflake calls a DuckDB column; nested types travel as JSON text of type VARIANT."""
    if (found := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", duckdb_type)) is not None:
        return Column(name, "fixed", int(found[1]), int(found[2]))
    if duckdb_type in _INTEGERS:
        return column(name, "fixed")
    nested = duckdb_type.endswith("]") or duckdb_type.startswith(("STRUCT", "MAP", "UNION"))
    return column(name, "variant" if nested else _OF_DUCKDB.get(duckdb_type, "text"))


@dataclass(slots=True)
class Result:
    """rowcount: affected rows of DML, else the number of rows. dml: the rows are counts."""

    table: pa.Table
    columns: list[Column]
    type_id: int = SELECT
    rowcount: int = 0
    dml: bool = False
    query_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def rows(self) -> list[tuple[Any, ...]]:
        return list(zip(*(values.to_pylist() for values in self.table.columns), strict=True))

    def scalar(self) -> Any:  # noqa: ANN401 - a cell may hold any SQL value
        """The first cell, None without rows."""
        return self.table.column(0)[0].as_py() if self.table.num_rows else None


def rows_result(columns: Sequence[str | tuple[str, str]], rows: Iterable[Sequence[object]], type_id: int) -> Result:
    """Rows made in Python. columns: a name (text) or (name, Snowflake type)."""
    described = [column(*(entry if isinstance(entry, tuple) else (entry, "text"))) for entry in columns]
    kept = [list(row) for row in rows]
    arrays = [
        pa.array([_fit(row[index], entry.type) for row in kept], _ARROW[entry.type])
        for index, entry in enumerate(described)
    ]
    table = pa.Table.from_arrays(arrays, names=[entry.name for entry in described])
    return Result(table, described, type_id, len(kept))


def status(message: str = "Statement executed successfully.", type_id: int = DDL) -> Result:
    """The one-cell answer of DDL and session statements."""
    return rows_result(["status"], [(message,)], type_id)


def counts(type_id: int, **rows: int) -> Result:
    """The answer of DML: `number of rows inserted` and so on."""
    columns = [(name.replace("_", " "), "fixed") for name in rows]
    result = rows_result(columns, [tuple(rows.values())], type_id)
    result.dml = True
    result.rowcount = sum(count for name, count in rows.items() if "multi" not in name)
    return result


def _fit(value: object, kind: str) -> object:
    if kind not in {"text", "variant"} or value is None or isinstance(value, str):
        return value
    if isinstance(value, dict | list | bool):
        return json.dumps(value)
    return value.isoformat(sep=" ") if isinstance(value, datetime) else str(value)
