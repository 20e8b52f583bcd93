"""What every database file holds beside the user's objects: fakesnow's views and macros, ours, and our tables."""

from __future__ import annotations

from pathlib import Path

from local.snowflake.translate import HIDDEN, database_ddl

_MACROS = (Path(__file__).parent / "macros.sql").read_text()
_VIEWS = (Path(__file__).parent / "information_schema.sql").read_text()

# Tables in every database file, so that one DuckDB transaction can write them beside the rows they belong to.
_TABLES = f"""
create schema if not exists {{db}}.{HIDDEN};
create table if not exists {{db}}.{HIDDEN}.objects(
    kind varchar, database_name varchar, schema_name varchar, name varchar, properties json);
create table if not exists {{db}}.{HIDDEN}.loads(
    schema_name varchar, table_name varchar, file varchar, etag varchar, bytes bigint, modified timestamptz,
    load_time timestamptz, status varchar, row_count bigint, row_parsed bigint, first_error varchar,
    first_error_line bigint, first_error_character bigint, first_error_column varchar, error_count bigint,
    error_limit bigint, pipe varchar, stage varchar, remembered boolean, received timestamptz);
create table if not exists {{db}}.{HIDDEN}.pipe_files(pipe varchar, key varchar, received timestamptz)
"""


def macros_ddl(database: str) -> str:
    """A macro belongs to one database: DuckDB looks it up in the current one."""
    return _MACROS.replace("{db}", f'"{database}"')


def prepare_database_ddl(database: str) -> str:
    """Everything that a database file needs before its first use; safe to repeat."""
    quoted = f'"{database}"'
    text = "'" + database.replace("'", "''") + "'"
    parts = [
        database_ddl(database),
        _TABLES.format(db=quoted),
        macros_ddl(database),
        _VIEWS.replace("{db}", quoted).replace("{name}", text).replace("{hidden}", HIDDEN),
    ]
    return ";".join(part.strip().rstrip(";") for part in parts)
