"""Pipes."""

from __future__ import annotations

from local.snowflake.catalog import Name
from local.snowflake.errors import unsupported
from local.snowflake.lexer import Reader
from local.snowflake.results import Result
from local.snowflake.session import Session


def create(session: Session, reader: Reader, *, replace: bool, alter: bool) -> Result:
    raise unsupported("CREATE PIPE")


def alter(session: Session, reader: Reader) -> Result:
    raise unsupported("ALTER PIPE")


def drop(session: Session, name: Name) -> None:
    raise unsupported("DROP PIPE")


def status_text(session: Session, name: Name) -> str:
    raise unsupported("SYSTEM$PIPE_STATUS")
