"""Procedures."""

from __future__ import annotations

from local.snowflake.catalog import Name
from local.snowflake.errors import unsupported
from local.snowflake.lexer import Reader
from local.snowflake.results import Result
from local.snowflake.session import Session


def is_block(reader: Reader) -> bool:
    """DECLARE …, or BEGIN followed by anything but the words of a transaction."""
    if reader.peek_text() == "DECLARE":
        return True
    return reader.peek_text() == "BEGIN" and reader.peek_text(1) not in {"", "TRANSACTION", "WORK", "NAME", ";"}


def create(session: Session, reader: Reader, *, replace: bool, alter: bool) -> Result:
    raise unsupported("CREATE PROCEDURE")


def alter(session: Session, reader: Reader) -> Result:
    raise unsupported("ALTER PROCEDURE")


def call(session: Session, reader: Reader) -> Result:
    raise unsupported("CALL")


def anonymous_block(session: Session, reader: Reader) -> Result:
    raise unsupported("blocks")


def execute(session: Session, reader: Reader) -> Result:
    raise unsupported("EXECUTE")


def describe(session: Session, reader: Reader) -> Result:
    raise unsupported("DESC PROCEDURE")


def key_of(name: Name, arguments: str) -> Name:
    raise unsupported("procedures")
