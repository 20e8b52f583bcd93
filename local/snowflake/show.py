"""SHOW."""

from __future__ import annotations

from collections.abc import Callable

from local.snowflake import listings
from local.snowflake.access import show_grants
from local.snowflake.errors import not_found, unsupported
from local.snowflake.lexer import Reader
from local.snowflake.listings import Scope
from local.snowflake.results import SHOW, Result, rows_result
from local.snowflake.session import Session


def show(session: Session, reader: Reader) -> Result:
    reader.need("SHOW")
    terse = reader.take("TERSE")
    if reader.take("GRANTS"):
        return show_grants(session, reader)
    if reader.take("FUTURE", "GRANTS"):
        raise unsupported("SHOW FUTURE GRANTS")
    for words, handler in _HANDLERS.items():
        if reader.take(*words.split()):
            scope = _read_scope(session, reader)
            scope.terse = terse
            columns, rows = handler(session, scope)
            if terse:
                kept = ["created_on", "name", "kind", "database_name", "schema_name"]
                names = [column if isinstance(column, str) else column[0] for column in columns]
                rows = [tuple(dict(zip(names, row, strict=True)).get(name) for name in kept) for row in rows]
                columns = list(kept)
            return rows_result(columns, rows[: scope.limit], SHOW)
    raise unsupported(f"SHOW {reader.peek_text()}")


def _read_scope(session: Session, reader: Reader) -> Scope:
    scope = Scope(session.database, session.schema)
    while not reader.done():
        if reader.take("LIKE"):
            scope.like = reader.text()
        elif reader.take("STARTS", "WITH"):
            scope.starts_with = reader.text()
        elif reader.take("LIMIT"):
            scope.limit = int(reader.next().value)
        elif reader.take("FROM"):
            scope.after = reader.text()
        elif reader.take("HISTORY"):
            continue
        else:
            reader.need("IN")
            _read_container(session, reader, scope)
    return scope


def _read_container(session: Session, reader: Reader, scope: Scope) -> None:
    ends = {"LIKE", "LIMIT", "STARTS", "FROM", ""}
    if reader.take("ACCOUNT"):
        scope.database = scope.schema = None
    elif reader.take("SESSION"):
        return
    elif reader.take("DATABASE"):
        scope.database = session.database if reader.peek_text() in ends else reader.identifier()
        scope.schema = None
        if scope.database and not session.account.has_database(scope.database):
            raise not_found("Database", scope.database)
    elif reader.at("TABLE") or reader.at("VIEW"):
        raise unsupported(f"SHOW … IN {reader.peek_text()}")
    else:
        reader.take("SCHEMA")
        if reader.peek_text() in ends:
            return
        names = reader.name()
        if len(names) == 1 and not session.has_schema(session.database or "", names[0]):
            scope.database, scope.schema = names[0], None
            if not session.account.has_database(names[0]):
                raise not_found("Schema", names[0])
            return
        scope.database, scope.schema = (names[0] if len(names) == 2 else session.database), names[-1]
        if not session.has_schema(scope.database or "", scope.schema):
            raise not_found("Schema", f"{scope.database}.{scope.schema}")


_HANDLERS: dict[str, Callable[[Session, Scope], listings.Shown]] = {
    "COLUMNS": listings.columns,
    "DATABASES": listings.databases,
    "FILE FORMATS": listings.recorded("FILE FORMAT"),
    "INTEGRATIONS": listings.integrations,
    "STORAGE INTEGRATIONS": listings.integrations,
    "NETWORK POLICIES": listings.recorded("NETWORK POLICY"),
    "OBJECTS": listings.objects,
    "PARAMETERS": listings.parameters,
    "PIPES": listings.pipes,
    "PROCEDURES": listings.procedures,
    "USER PROCEDURES": listings.procedures,
    "USER FUNCTIONS": listings.user_functions,
    "RESOURCE MONITORS": listings.recorded("RESOURCE MONITOR"),
    "ROLES": listings.roles,
    "SCHEMAS": listings.schemas,
    "STAGES": listings.stages,
    "STREAMS": listings.streams,
    "TABLES": listings.tables,
    "TASKS": listings.tasks,
    "USERS": listings.recorded("USER"),
    "VIEWS": listings.views,
    "WAREHOUSES": listings.warehouses,
}
