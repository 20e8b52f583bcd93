"""The one door: the first words of a statement choose its handler; what none claims goes through sqlglot to DuckDB."""

from __future__ import annotations

from collections.abc import Callable

from local.snowflake import access, copying, ddl, describe, objects, pipes, procedures, show, streams, tables, tasks
from local.snowflake import session_statements as of_session
from local.snowflake import sql as plain_sql
from local.snowflake.errors import SnowflakeError, compilation, unsupported
from local.snowflake.lexer import Reader, Unexpected, tokens
from local.snowflake.results import Result
from local.snowflake.session import Session

Handler = Callable[[Session, Reader], Result]

# Refused wherever they are created, altered or dropped: README.md says why.
REFUSED = (
    "DYNAMIC", "EXTERNAL", "HYBRID", "ICEBERG", "MATERIALIZED", "MASKING", "ROW", "AGGREGATION", "PROJECTION",
    "FUNCTION", "SECRET", "SHARE", "APPLICATION", "REPLICATION", "FAILOVER", "SEQUENCE", "TAG", "ALERT", "COMPUTE",
    "EVENT", "NOTEBOOK", "STREAMLIT", "IMAGE", "SERVICE", "MODEL", "SEMANTIC",
)  # fmt: skip


def run(session: Session, text: str) -> Result:
    """Execute one statement whose binds and `$names` are already in the text."""
    text = text.strip().rstrip(";").strip()
    if not tokens(text):
        raise compilation(900, "Empty SQL statement.", "42601")
    reader = Reader(text)
    first = reader.peek_text()
    if any(token.text == ";" for token in reader.tokens) and not _holds_a_body(reader):
        count = 1 + sum(token.text == ";" for token in reader.tokens)
        raise _statement_count(count)
    handler = _HANDLERS.get(first)
    if handler is None and first not in {"SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "(", "VALUES"}:
        raise Unexpected(reader.peek())
    return handler(session, reader) if handler else plain_sql.run(session, text)


def _statement_count(count: int) -> SnowflakeError:
    message = f"Actual statement count {count} did not match the desired statement count 1."
    return SnowflakeError(8, message, "0A000")


def _holds_a_body(reader: Reader) -> bool:
    """A block, or a procedure or task whose body stands without `$$`: their `;` do not end the statement."""
    return procedures.is_block(reader) or (
        reader.at("CREATE") and any(token.upper in {"PROCEDURE", "TASK"} for token in reader.tokens[1:5])
    )


def _create(session: Session, reader: Reader) -> Result:
    text = reader.sql
    reader.need("CREATE")
    replace = reader.take("OR", "REPLACE")
    alter = not replace and reader.take("OR", "ALTER")
    kind = _kind(reader, "CREATE")
    if kind in {"TABLE", "VIEW"}:
        return tables.create(session, text, kind, alter=alter)
    session.commit_before_ddl()
    with session.account.ddl_lock():
        return _create_object(session, reader, kind, replace=replace, alter=alter)


def _create_object(session: Session, reader: Reader, kind: str, *, replace: bool, alter: bool) -> Result:
    if kind in {"DATABASE", "SCHEMA"}:
        return ddl.create_container(session, reader, kind, replace=replace)
    own: dict[str, Callable[..., Result]] = {
        "PIPE": pipes.create,
        "STREAM": streams.create,
        "TASK": tasks.create,
        "PROCEDURE": procedures.create,
    }
    make = own.get(kind)
    if make:
        return make(session, reader, replace=replace, alter=alter)
    return objects.create(session, reader, kind, replace=replace, alter=alter)


def _alter(session: Session, reader: Reader) -> Result:
    reader.need("ALTER")
    if reader.take("SESSION"):
        return of_session.alter_session(session, reader)
    kind = _kind(reader, "ALTER")
    session.commit_before_ddl()
    own: dict[str, Handler] = {
        "TABLE": ddl.alter_table,
        "VIEW": ddl.alter_table,
        "SCHEMA": ddl.alter_container,
        "DATABASE": ddl.alter_container,
        "PIPE": pipes.alter,
        "TASK": tasks.alter,
        "STREAM": streams.alter,
        "PROCEDURE": procedures.alter,
    }
    handler = own.get(kind)
    if kind in {"TABLE", "VIEW"}:
        return own[kind](session, reader)
    with session.account.ddl_lock():
        return handler(session, reader) if handler else objects.alter(session, reader, kind)


def _drop(session: Session, reader: Reader) -> Result:
    reader.need("DROP")
    kind = _kind(reader, "DROP")
    session.commit_before_ddl()
    own: dict[str, Callable[[Session, Reader, str], Result]] = {
        "TABLE": ddl.drop_relation,
        "VIEW": ddl.drop_relation,
        "SCHEMA": ddl.drop_container,
        "DATABASE": ddl.drop_container,
    }
    if kind in {"TABLE", "VIEW"}:
        return own[kind](session, reader, kind)
    with session.account.ddl_lock():
        return own.get(kind, objects.drop)(session, reader, kind)


def _kind(reader: Reader, verb: str) -> str:
    """Read the kind of object, modifiers included; refuse what is not supported."""
    for word in ("TRANSIENT", "TEMPORARY", "TEMP", "LOCAL", "SECURE", "RECURSIVE", "VOLATILE"):
        reader.take(word)
    if reader.peek_text() in REFUSED:
        raise unsupported(f"{verb} {reader.peek_text()} {reader.peek_text(1)}".rstrip())
    for kind in objects.KINDS:
        if reader.take(*kind.split()):
            return objects.KINDS[kind]
    raise Unexpected(reader.peek())


def _refuse(what: str) -> Handler:
    def handler(session: Session, reader: Reader) -> Result:  # noqa: ARG001 - the signature of a handler
        raise unsupported(what)

    return handler


_HANDLERS: dict[str, Handler] = {
    "ALTER": _alter,
    "BEGIN": of_session.begin,
    "CALL": procedures.call,
    "COMMENT": ddl.comment,
    "COMMIT": of_session.commit,
    "COPY": copying.copy,
    "CREATE": _create,
    "DECLARE": procedures.anonymous_block,
    "DESC": describe.describe,
    "DESCRIBE": describe.describe,
    "DROP": _drop,
    "EXECUTE": procedures.execute,
    "EXPLAIN": _refuse("EXPLAIN"),
    "GET": _refuse("GET"),
    "GRANT": access.grant,
    "LIST": copying.list_stage,
    "LS": copying.list_stage,
    "PUT": _refuse("PUT"),
    "REMOVE": _refuse("REMOVE"),
    "REVOKE": access.revoke,
    "RM": _refuse("REMOVE"),
    "ROLLBACK": of_session.rollback,
    "SET": of_session.set_variable,
    "SHOW": show.show,
    "START": of_session.start,
    "TRUNCATE": ddl.truncate,
    "UNDROP": _refuse("UNDROP"),
    "UNSET": of_session.unset_variable,
    "USE": of_session.use,
}
