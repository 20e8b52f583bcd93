"""Statements to the stack's Snowflake through the real connector, and their results as a table of text."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import snowflake.connector

Rows = list[tuple[Any, ...]]


def query(settings: Mapping[str, str], statement: str) -> tuple[list[str], Rows]:
    """Column names and rows of one statement in the configured database: as SNOWFLAKE_ROLE, else on the stand-in as
    ACCOUNTADMIN and on an account in the user's default role. Raises snowflake.connector.Error.
    """
    local = settings["SNOWFLAKE_HOST"] == "127.0.0.1"
    with contextlib.closing(
        snowflake.connector.connect(
            account=settings["SNOWFLAKE_ACCOUNT"],
            user=settings["SNOWFLAKE_USER"],
            private_key_file=settings["SNOWFLAKE_PRIVATE_KEY_FILE"],
            private_key_file_pwd=settings.get("SNOWFLAKE_PRIVATE_KEY_FILE_PWD"),
            host=settings["SNOWFLAKE_HOST"],
            port=int(settings.get("SNOWFLAKE_PORT", "443")),
            protocol=settings.get("SNOWFLAKE_PROTOCOL", "https"),
            warehouse=settings["SNOWFLAKE_WAREHOUSE"],
            database=settings["SNOWFLAKE_DATABASE"],
            role=settings.get("SNOWFLAKE_ROLE", "ACCOUNTADMIN" if local else None),
            session_parameters={"TIMEZONE": "UTC", "QUERY_TAG": "local"},
            login_timeout=30,
            network_timeout=120,
        )
    ) as connection:
        cursor = connection.cursor()
        cursor.execute(statement)
        return [column.name for column in cursor.description or []], [tuple(row) for row in cursor.fetchall()]


def table(names: list[str], rows: Rows, width: int = 48) -> str:
    """A plain text table; long cells are cut."""
    cells = [[_cell(value, width) for value in row] for row in [tuple(names), *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    lines = ["  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * size for size in widths), *lines[1:]])


def _cell(value: object, width: int) -> str:
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= width else text[: width - 1] + "…"
