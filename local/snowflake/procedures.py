"""Procedures in Snowflake Scripting, anonymous blocks, EXECUTE IMMEDIATE and EXECUTE TASK."""

from __future__ import annotations

from local.snowflake import interpreter, lexer, privileges, scripting, tasks
from local.snowflake.catalog import Name, Properties
from local.snowflake.errors import SnowflakeError, already_exists, compilation, not_found, unsupported
from local.snowflake.lexer import Reader, Unexpected
from local.snowflake.results import DESCRIBE, Result, rows_result, status
from local.snowflake.session import Session

_TEXTS = {"VARCHAR", "STRING", "TEXT", "CHAR"}
_NUMBERS = {"INT", "INTEGER", "NUMBER", "BIGINT", "SMALLINT", "DECIMAL", "NUMERIC", "FLOAT", "DOUBLE"}


def is_block(reader: Reader) -> bool:
    """DECLARE …, or BEGIN followed by anything but the words of a transaction."""
    if reader.peek_text() == "DECLARE":
        return True
    return reader.peek_text() == "BEGIN" and reader.peek_text(1) not in {"", "TRANSACTION", "WORK", "NAME", ";"}


def key_of(name: Name, arguments: str) -> Name:
    """A procedure's name in the catalog: with its argument types, so that it can be overloaded."""
    types = [part.split("(")[0].strip().upper() for part in lexer.split_arguments(arguments)]
    return name[0], name[1], f"{name[2]}({', '.join(types)})"


def create(session: Session, reader: Reader, *, replace: bool, alter: bool) -> Result:
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    name = session.resolve(reader.name())
    arguments = [_argument(part) for part in lexer.split_arguments(reader.parenthesis())]
    reader.take("COPY", "GRANTS")
    reader.need("RETURNS")
    start = reader.peek()
    while not reader.done() and reader.peek_text() not in {"LANGUAGE", "AS", "EXECUTE", "COMMENT", "CALLED", "STRICT"}:
        reader.parenthesis() if reader.at("(") else reader.next()
    following = reader.peek()
    if start is None or following is None:
        raise Unexpected(None)
    properties: Properties = {
        "text": reader.sql,
        "arguments": arguments,
        "returns": reader.sql[start.start : following.start].strip().upper().removesuffix(" NOT NULL"),
        "language": "SQL",
        "rights": "OWNER",
        "comment": "",
        "owner": session.role,
    }
    _read_properties(reader, properties)
    if properties["language"] != "SQL":
        raise unsupported(f"procedures in {properties['language']}")
    reader.need("AS")
    token = reader.peek()
    body = str(reader.next().value) if token is not None and token.kind in {"dollar", "string"} else reader.rest()
    reader.end()
    properties["body"] = body
    _parse(body)
    key = key_of(name, ", ".join(argument[1] for argument in arguments))
    if not session.catalog.get("PROCEDURE", key):
        privileges.need_create(session, "PROCEDURE", name)
    else:
        privileges.need_owner(session, "PROCEDURE", key)
        if if_not_exists:
            return status(f"{name[2]} already exists, statement succeeded.")
        if not replace and not alter:
            raise already_exists(name[2])
    session.catalog.put("PROCEDURE", key, properties)
    return status(f"Function {name[2]} successfully created.")


def _argument(text: str) -> tuple[str, str, str | None]:
    """(name, type, default or None)."""
    reader = Reader(text)
    name = reader.identifier()
    kind = reader.next().upper
    if reader.at("("):
        kind += f"({reader.parenthesis()})"
    default = reader.rest() if reader.take("DEFAULT") else None
    reader.end()
    return name, kind, default


def _read_properties(reader: Reader, properties: Properties) -> None:
    while not reader.at("AS"):
        if reader.take("LANGUAGE"):
            properties["language"] = reader.next().upper
        elif reader.take("EXECUTE", "AS"):
            properties["rights"] = reader.next().upper
        elif reader.take("COMMENT", "="):
            properties["comment"] = reader.text()
        elif not (
            reader.take("CALLED", "ON", "NULL", "INPUT")
            or reader.take("RETURNS", "NULL", "ON", "NULL", "INPUT")
            or reader.take("STRICT")
        ):
            raise Unexpected(reader.peek())


def _parse(body: str) -> scripting.Block:
    return scripting.parse_block(body if lexer.head(body) in {"BEGIN", "DECLARE"} else f"BEGIN {body}; END")


def alter(session: Session, reader: Reader) -> Result:
    """ALTER PROCEDURE p(types) SET COMMENT = '…'."""
    if_exists = reader.take("IF", "EXISTS")
    name = session.resolve(reader.name())
    key = key_of(name, reader.parenthesis())
    properties = session.catalog.get("PROCEDURE", key)
    if properties is None:
        if if_exists:
            return status()
        raise not_found("Procedure", ".".join(key))
    reader.need("SET", "COMMENT", "=")
    properties["comment"] = reader.text()
    session.catalog.put("PROCEDURE", key, properties)
    return status()


def describe(session: Session, reader: Reader) -> Result:
    key = key_of(session.resolve(reader.name()), reader.parenthesis())
    properties = session.catalog.get("PROCEDURE", key)
    if properties is None:
        raise not_found("Procedure", ".".join(key))
    signature = ", ".join(f"{name} {kind}" for name, kind, _ in properties["arguments"])
    rows = [
        ("signature", f"({signature})"),
        ("returns", properties["returns"]),
        ("language", properties["language"]),
        ("execute as", properties["rights"]),
        ("body", properties["body"]),
    ]
    return rows_result(["property", "value"], rows, DESCRIBE)


def call(session: Session, reader: Reader) -> Result:
    """CALL p(1, name => 'x')."""
    reader.need("CALL")
    written = reader.name()
    name = session.resolve(written)
    values = [_value(session, part) for part in lexer.split_arguments(reader.parenthesis())]
    reader.end()
    chosen = _choose(session, name, values)
    if chosen is None:
        raise compilation(2140, f"Unknown function {'.'.join(written)}", "42601")
    key, properties = chosen
    privileges.need(session, "PROCEDURE", key, "USAGE")
    frame = interpreter.Frame(session, {})
    variables = {
        argument[0]: frame.evaluate(argument[2]) if argument[2] is not None else None
        for argument in properties["arguments"]
    }
    for index, (argument_name, value) in enumerate(values):
        variables[argument_name or properties["arguments"][index][0]] = value
    return _run(session, name, properties, variables)


def _value(session: Session, text: str) -> tuple[str | None, object]:
    reader = Reader(text)
    named = reader.peek_text(1) == "=>"
    name = reader.identifier() if named else None
    if named:
        reader.next()
    value = interpreter.Frame(session, {}).evaluate(reader.rest())
    return name, value.scalar() if isinstance(value, Result) else value


def _choose(session: Session, name: Name, values: list[tuple[str | None, object]]) -> tuple[Name, Properties] | None:
    """The overload whose number and, if several fit, types of arguments match."""
    fitting = []
    for key, properties in session.catalog.all("PROCEDURE"):
        arguments = properties["arguments"]
        needed = [argument for argument in arguments if argument[2] is None]
        if (*key[:2], key[2].split("(")[0]) == name and len(needed) <= len(values) <= len(arguments):
            fitting.append((key, properties))
    if len(fitting) > 1:
        exact = [
            one
            for one in fitting
            if all(_fits(value, a[1]) for (_, value), a in zip(values, one[1]["arguments"], strict=False))
        ]
        fitting = exact or fitting
    return fitting[0] if fitting else None


def _fits(value: object, kind: str) -> bool:
    base = kind.split("(")[0]
    if isinstance(value, str):
        return base in _TEXTS
    if isinstance(value, bool):
        return base == "BOOLEAN"
    return base in _NUMBERS if isinstance(value, int | float) else True


def _run(session: Session, name: Name, properties: Properties, variables: dict[str, object]) -> Result:
    block = _parse(properties["body"])
    outer = (session.database, session.schema)
    rights = (session.owner_rights, session.role, session.secondary_roles)
    session.call_depth += 1
    try:
        if properties["rights"] == "OWNER":
            session.owner_rights, session.role, session.secondary_roles = True, properties["owner"], False
            session.use(name[0], name[1])
        try:
            value = interpreter.run_block(session, block, variables)
        except SnowflakeError:
            session.leave_procedure()
            raise
        if session.leave_procedure():
            message = "Scoped transaction started in stored procedure is incomplete and it was rolled back."
            raise SnowflakeError(90232, f"Stored procedure execution error: {message}", "25000")
    finally:
        session.call_depth -= 1
        session.owner_rights, session.role, session.secondary_roles = rights
        if properties["rights"] == "OWNER":
            session.use(*outer)
    return _answer(session, value, name[2], properties["returns"])


def _answer(session: Session, value: object, column: str, returns: str) -> Result:
    if isinstance(value, Result) and returns.startswith("TABLE"):
        return value
    if isinstance(value, Result):
        value = value.scalar()
    return session.execute(f'select {lexer.literal(value)}::{returns or "varchar"} as "{column}"')


def anonymous_block(session: Session, reader: Reader) -> Result:
    value = interpreter.run_block(session, scripting.parse_block(reader.sql), {})
    if isinstance(value, Result):
        return value
    return session.execute(f'select {lexer.literal(value)} as "anonymous block"')


def execute(session: Session, reader: Reader) -> Result:
    """EXECUTE IMMEDIATE 'text' [USING (…)], EXECUTE TASK."""
    reader.need("EXECUTE")
    if reader.take("TASK"):
        return tasks.execute(session, reader)
    reader.need("IMMEDIATE")
    if reader.at("FROM"):
        raise unsupported("EXECUTE IMMEDIATE FROM")
    text = reader.text()
    binds = []
    if reader.take("USING"):
        names = lexer.split_arguments(reader.parenthesis())
        binds = [interpreter.Frame(session, {}).evaluate(name) for name in names]
    reader.end()
    return interpreter.execute_text(session, text, binds)
