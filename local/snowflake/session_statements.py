"""USE, ALTER SESSION, SET and UNSET, BEGIN, COMMIT, ROLLBACK."""

from __future__ import annotations

from local.snowflake import procedures
from local.snowflake.access import can_use_role
from local.snowflake.errors import SnowflakeError, no_such_session_object
from local.snowflake.lexer import Reader
from local.snowflake.privileges import warehouse_for
from local.snowflake.results import TRANSACTION, USE, Result, status
from local.snowflake.session import Session


def _refuse_in_owner_rights(session: Session, statement: str) -> None:
    if session.owner_rights:
        message = f"Unsupported statement type '{statement}'."
        raise SnowflakeError(90236, f"Stored procedure execution error: {message}", "P0000")


def use(session: Session, reader: Reader) -> Result:
    _refuse_in_owner_rights(session, "USE")
    reader.need("USE")
    if reader.take("ROLE"):
        session.use_role(can_use_role(session, reader.identifier()))
    elif reader.take("WAREHOUSE"):
        name = reader.identifier()
        session.warehouse = warehouse_for(session, name)
        if session.warehouse is None:
            raise no_such_session_object()
    elif reader.take("SECONDARY"):
        reader.need("ROLES")
        session.secondary_roles = not reader.take("NONE")
        reader.rest()
    elif reader.take("SCHEMA"):
        _use_schema(session, reader.name())
    else:
        database = reader.take("DATABASE")
        names = reader.name()
        if database or len(names) == 1:
            session.use(names[0])
        else:
            _use_schema(session, names)
    reader.end()
    return status(type_id=USE)


def _use_schema(session: Session, names: list[str]) -> None:
    if len(names) == 1 and session.database is None:
        message = "Cannot perform USE SCHEMA. This session does not have a current database."
        raise SnowflakeError(90105, f"{message} Call 'USE DATABASE', or use a qualified name.", "22000")
    session.use(names[0] if len(names) == 2 else session.database, names[-1])


def alter_session(session: Session, reader: Reader) -> Result:
    _refuse_in_owner_rights(session, "ALTER_SESSION")
    if reader.take("SET"):
        for name, value in reader.options().items():
            session.set_parameter(name, value)
    else:
        reader.need("UNSET")
        while not reader.done():
            if not reader.take(","):
                session.unset_parameter(reader.identifier())
    return status()


def set_variable(session: Session, reader: Reader) -> Result:
    reader.need("SET")
    if reader.at("("):
        names = [name.strip().upper() for name in reader.parenthesis().split(",")]
        reader.need("=")
        values = session.execute(f"select {reader.parenthesis()}").rows()[0]
        session.variables.update(zip(names, values, strict=True))
        return status()
    name = reader.identifier()
    reader.need("=")
    session.variables[name] = session.execute(f"select {reader.rest()}").scalar()
    return status()


def unset_variable(session: Session, reader: Reader) -> Result:
    reader.need("UNSET")
    session.variables.pop(reader.identifier(), None)
    return status()


def begin(session: Session, reader: Reader) -> Result:
    """BEGIN [TRANSACTION | WORK] [NAME x]; anything else after BEGIN is a block of Snowflake Scripting."""
    if procedures.is_block(reader):
        return procedures.anonymous_block(session, reader)
    reader.need("BEGIN")
    return _begin(session, reader)


def start(session: Session, reader: Reader) -> Result:
    reader.need("START")
    reader.need("TRANSACTION")
    return _begin(session, reader)


def _begin(session: Session, reader: Reader) -> Result:
    if not reader.take("TRANSACTION"):
        reader.take("WORK")
    if reader.take("NAME"):
        reader.identifier()
    reader.end()
    session.begin()
    return status(type_id=TRANSACTION)


def commit(session: Session, reader: Reader) -> Result:
    return _end(session, reader, "COMMIT")


def rollback(session: Session, reader: Reader) -> Result:
    return _end(session, reader, "ROLLBACK")


def _end(session: Session, reader: Reader, word: str) -> Result:
    reader.need(word)
    reader.take("WORK")
    reader.end()
    session.end_transaction(commit=word == "COMMIT")
    return status(type_id=TRANSACTION)
