"""Tasks."""

from __future__ import annotations

from local.snowflake.catalog import Name, Properties
from local.snowflake.errors import unsupported
from local.snowflake.lexer import Reader
from local.snowflake.results import Result
from local.snowflake.session import Session


def create(session: Session, reader: Reader, *, replace: bool, alter: bool) -> Result:
    raise unsupported("CREATE TASK")


def alter(session: Session, reader: Reader) -> Result:
    raise unsupported("ALTER TASK")


def drop(session: Session, name: Name) -> None:
    raise unsupported("DROP TASK")


def enable_dependents(session: Session, name: Name) -> None:
    raise unsupported("SYSTEM$TASK_DEPENDENTS_ENABLE")


def dependents(session: Session, name: Name, *, recursive: bool) -> list[tuple[Name, Properties]]:
    raise unsupported("TASK_DEPENDENTS")
