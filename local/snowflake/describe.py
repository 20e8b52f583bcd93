"""DESC and DESCRIBE, GET_DDL."""

from __future__ import annotations

import re

from local.snowflake import lexer, objects, procedures
from local.snowflake.catalog import Name, label
from local.snowflake.errors import not_found, unsupported
from local.snowflake.lexer import Reader
from local.snowflake.results import DESCRIBE, Column, Result, rows_result
from local.snowflake.session import Session

TABLE_COLUMNS = [
    "name", "type", "kind", "null?", "default", "primary key", "unique key", "check", "expression", "comment",
    "policy name", "privacy domain",
]  # fmt: skip
_TYPES = {
    "VARCHAR": "VARCHAR(16777216)",
    "JSON": "VARIANT",
    "TIMESTAMP": "TIMESTAMP_NTZ(9)",
    "TIMESTAMP_NS": "TIMESTAMP_NTZ(9)",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP_LTZ(9)",
    "DOUBLE": "FLOAT",
    "FLOAT": "FLOAT",
    "BLOB": "BINARY(8388608)",
    "TIME": "TIME(9)",
}


def snowflake_type(duckdb_type: str, length: int | None = None) -> str:
    """The type as DESC shows it."""
    if (found := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", duckdb_type)) is not None:
        return f"NUMBER({found[1]},{found[2]})"
    if duckdb_type.endswith("INT") or duckdb_type in {"INTEGER", "HUGEINT"}:
        return "NUMBER(38,0)"
    if duckdb_type == "VARCHAR" and length is not None:
        return f"VARCHAR({length})"
    return _TYPES.get(duckdb_type, duckdb_type)


def describe(session: Session, reader: Reader) -> Result:
    reader.next()
    if reader.take("RESULT"):
        return _result(session, reader)
    for word in ("TRANSIENT", "TEMPORARY"):
        reader.take(word)
    kind = objects.read_kind(reader)
    if kind in {"TABLE", "VIEW"}:
        return _table(session, session.resolve(reader.name()), kind)
    if kind == "PROCEDURE":
        return procedures.describe(session, reader)
    if kind in {"DATABASE", "SCHEMA"}:
        raise unsupported(f"DESC {kind}")
    name = objects.full_name(session, kind, reader.name())
    properties = session.catalog.get(kind, name)
    if properties is None:
        raise not_found(label(kind), ".".join(part for part in name if part))
    if kind == "INTEGRATION":
        return _integration(properties)
    if kind == "STAGE":
        return _stage(properties)
    rows = [(key, "String", value, "") for key, value in properties.get("options", properties).items()]
    return rows_result(["property", "property_type", "property_value", "property_default"], rows, DESCRIBE)


def _table(session: Session, name: Name, kind: str) -> Result:
    if session.relation_kind(name) is None:
        raise not_found(kind.capitalize(), ".".join(name), "42S02")
    place = session.temporary.get(name, name)
    cursor = session.transaction.duck if name in session.temporary else session.meta
    found = cursor.execute(
        """select column_name, data_type, is_nullable, column_default, comment from duckdb_columns()
           where database_name = ? and schema_name = ? and table_name = ? order by column_index""",
        list(place),
    ).fetchall()
    lengths = text_lengths(session, place)
    keys = {column for key in (session.catalog.get("TABLE", name) or {}).get("keys", []) for column in key}
    rows = [
        (
            column, snowflake_type(type_, lengths.get(column)), "COLUMN", "Y" if nullable else "N", default,
            "Y" if column in keys else "N", "N", None, None, comment or None, None, None,
        )
        for column, type_, nullable, default, comment in found
    ]  # fmt: skip
    return rows_result(TABLE_COLUMNS, rows, DESCRIBE)


def text_lengths(session: Session, place: Name) -> dict[str, int]:
    """VARCHAR(n) lives on as a check of the length."""
    found = session.meta.execute(
        """select constraint_text from duckdb_constraints()
           where database_name = ? and schema_name = ? and table_name = ? and constraint_type = 'CHECK'""",
        list(place),
    ).fetchall()
    lengths = {}
    for (check,) in found:
        match = re.search(r'length\("?(.+?)"?\) > (\d+)', check)
        if match:
            lengths[match[1]] = int(match[2])
    return lengths


def _result(session: Session, reader: Reader) -> Result:
    """DESC RESULT 'query id' | LAST_QUERY_ID()."""
    if reader.take("LAST_QUERY_ID"):
        reader.parenthesis()
        result = session.last
    else:
        result = session.results.get(reader.text())
    if result is None:
        raise not_found("Statement", "?")
    rows = [(column.name, _wire_type(column), "COLUMN", "Y") for column in result.columns]
    return rows_result(["name", "type", "kind", "null?"], rows, DESCRIBE)


def _wire_type(column: Column) -> str:
    if column.type == "fixed":
        return f"NUMBER({column.precision},{column.scale})"
    return {"text": f"VARCHAR({column.length})", "real": "FLOAT"}.get(column.type, column.type.upper())


def _integration(properties: dict[str, object]) -> Result:
    options = properties["options"]
    if not isinstance(options, dict):
        raise TypeError("options")

    def shown(value: object) -> object:
        if isinstance(value, list):
            return ",".join(str(entry) for entry in value)
        return str(value).lower() if isinstance(value, bool) else value

    rows = [
        ("ENABLED", "Boolean", shown(options.get("ENABLED")), "false"),
        ("STORAGE_PROVIDER", "String", shown(options.get("STORAGE_PROVIDER")), ""),
        ("STORAGE_ALLOWED_LOCATIONS", "List", shown(options.get("STORAGE_ALLOWED_LOCATIONS", [])), "[]"),
        ("STORAGE_BLOCKED_LOCATIONS", "List", shown(options.get("STORAGE_BLOCKED_LOCATIONS", [])), "[]"),
        ("STORAGE_AWS_IAM_USER_ARN", "String", properties.get("principal"), ""),
        ("STORAGE_AWS_ROLE_ARN", "String", options.get("STORAGE_AWS_ROLE_ARN"), ""),
        ("STORAGE_AWS_EXTERNAL_ID", "String", properties.get("external_id"), ""),
        ("COMMENT", "String", properties.get("comment"), ""),
    ]
    return rows_result(["property", "property_type", "property_value", "property_default"], rows, DESCRIBE)


def _stage(properties: dict[str, object]) -> Result:
    rows: list[tuple[object, ...]] = [
        ("STAGE_LOCATION", "URL", "String", f'["{properties["url"]}"]', ""),
        ("STAGE_INTEGRATION", "STORAGE_INTEGRATION", "String", properties["storage_integration"], ""),
    ]
    file_format = properties["file_format"]
    if isinstance(file_format, dict):
        rows += [("STAGE_FILE_FORMAT", key, "String", value, "") for key, value in file_format.items()]
    columns = ["parent_property", "property", "property_type", "property_value", "property_default"]
    return rows_result(columns, rows, DESCRIBE)


def get_ddl(session: Session, kind: str, name: str) -> str:
    """GET_DDL('kind', 'name'): what the user wrote where that is kept, else built from the columns."""
    of_kind = kind.upper().replace("_", " ")
    full = session.resolve(lexer.Reader(name.split("(")[0]).name())
    if of_kind == "PROCEDURE":
        for key, p in session.catalog.all("PROCEDURE"):
            if (*key[:2], key[2].split("(")[0]) == full:
                return str(p["text"])
        raise not_found("Procedure", name)
    if of_kind in {"PIPE", "TASK"}:
        return str(session.catalog.need(of_kind, full)["text"])
    if session.relation_kind(full) is None:
        raise not_found(of_kind.capitalize(), name, "42S02")
    view = session.catalog.get("VIEW", full)
    if view is not None:
        return str(view["text"])
    lengths = text_lengths(session, full)
    columns = ",\n\t".join(f"{column} {snowflake_type(t, lengths.get(column))}" for column, t in session.columns(full))
    return f"create or replace TABLE {full[2]} (\n\t{columns}\n);"
