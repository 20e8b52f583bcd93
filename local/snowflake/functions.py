"""Functions and casts that DuckDB, sqlglot or fakesnow lack or answer otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlglot import exp

from local.snowflake import lexer, pipes, show, streams, tasks
from local.snowflake.errors import SnowflakeError, compilation, unsupported
from local.snowflake.session import Session

Arguments = list[exp.Expr]
_TEXTS = (exp.DType.VARCHAR, exp.DType.TEXT, exp.DType.CHAR, exp.DType.NVARCHAR)
_NTZ = (exp.DType.TIMESTAMP, exp.DType.TIMESTAMPNTZ, exp.DType.DATETIME)


def call(name: str, *arguments: exp.Expr) -> exp.Expr:
    """A function that no rewrite knows: it reaches DuckDB under this name."""
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def literal(value: object) -> exp.Expr:
    if value is None:
        return exp.null()
    if isinstance(value, bool):
        return exp.Boolean(this=value)
    return exp.Literal.number(value) if isinstance(value, int | float) else exp.Literal.string(str(value))


def constant(session: Session, node: exp.Expr) -> object:
    """The value of an argument that is no column."""
    if isinstance(node, exp.Literal):
        return node.this if node.is_string else float(node.this) if "." in node.this else int(node.this)
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    return session.query(f"select {session.translator.sql(replace(session, node.copy()))}").scalar()


def replace(session: Session, tree: exp.Expr) -> exp.Expr:
    """Inner calls first."""
    for node in reversed(list(tree.walk())):
        new = _replacement(session, node)
        if new is node:
            continue
        if node is tree:
            tree = new
        else:
            node.replace(new)
    return tree


def _replacement(session: Session, node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Anonymous):
        return _anonymous(session, node)
    handler = _NODES.get(type(node))
    return handler(session, node) if handler else node


# ---- functions without a node type of their own
def _anonymous(session: Session, node: exp.Anonymous) -> exp.Expr:
    name, arguments = node.name.upper(), node.expressions
    if name.startswith("SYSTEM$"):
        if name not in _SYSTEM:
            raise unsupported(f"function {name}")
        return literal(_SYSTEM[name](session, [constant(session, argument) for argument in arguments]))
    if name in _PLAIN:
        return _PLAIN[name](session, arguments)
    return node


def _stream_has_data(session: Session, values: list[object]) -> object:
    return streams.has_data(session, session.resolve(lexer.Reader(str(values[0])).name()))


def _pipe_status(session: Session, values: list[object]) -> object:
    return pipes.status_text(session, session.resolve(lexer.Reader(str(values[0])).name()))


def _enable_dependents(session: Session, values: list[object]) -> object:
    return tasks.enable_dependents(session, session.resolve(lexer.Reader(str(values[0])).name()))


def _set_return_value(session: Session, values: list[object]) -> object:
    session.return_value = str(values[0])
    return None


def _wait(session: Session, values: list[object]) -> object:
    session.cancelled.wait(float(str(values[0])))
    return f"waited {values[0]} seconds"


_SYSTEM: dict[str, Callable[[Session, list[object]], object]] = {
    "SYSTEM$STREAM_HAS_DATA": _stream_has_data,
    "SYSTEM$PIPE_STATUS": _pipe_status,
    "SYSTEM$TASK_DEPENDENTS_ENABLE": _enable_dependents,
    "SYSTEM$SET_RETURN_VALUE": _set_return_value,
    "SYSTEM$GET_PREDECESSOR_RETURN_VALUE": lambda session, _: session.predecessor_value,
    "SYSTEM$WAIT": _wait,
}


def _try_timestamp(_: Session, arguments: Arguments) -> exp.Expr:
    return call("sf_try_timestamp", *arguments)


def _to_ntz(_: Session, arguments: Arguments) -> exp.Expr:
    return _cast_ntz(arguments[0])


def _to_ltz(_: Session, arguments: Arguments) -> exp.Expr:
    return exp.cast(arguments[0].copy(), "timestamptz", dialect="duckdb")


def _last_query_id(session: Session, _: Arguments) -> exp.Expr:
    return literal(session.last.query_id if session.last else None)


def _get_ddl(session: Session, arguments: Arguments) -> exp.Expr:
    kind, name = (str(constant(session, argument)) for argument in arguments[:2])
    return literal(show.get_ddl(session, kind, name))


_PLAIN: dict[str, Callable[[Session, Arguments], exp.Expr]] = {
    "TRY_TO_TIMESTAMP": _try_timestamp,
    "TRY_TO_TIMESTAMP_NTZ": _try_timestamp,
    "TO_TIMESTAMP": _to_ntz,
    "TO_TIMESTAMP_NTZ": _to_ntz,
    "TO_TIMESTAMP_LTZ": _to_ltz,
    "TO_TIMESTAMP_TZ": _to_ltz,
    "TRY_TO_TIMESTAMP_LTZ": lambda _, a: exp.TryCast(this=a[0].copy(), to=exp.DataType.build("timestamptz")),
    "TRY_TO_TIMESTAMP_TZ": lambda _, a: exp.TryCast(this=a[0].copy(), to=exp.DataType.build("timestamptz")),
    "HASH": lambda _, a: call("sf_signed_hash", a[0] if len(a) == 1 else exp.Tuple(expressions=a)),
    "LAST_QUERY_ID": _last_query_id,
    "GET_DDL": _get_ddl,
    "CURRENT_WAREHOUSE": lambda s, _: literal(s.warehouse),
    "CURRENT_SESSION": lambda s, _: literal(str(s.id)),
    "CURRENT_REGION": lambda _s, _: literal("LOCAL"),
}


# ---- nodes
def _cast_ntz(value: exp.Expr) -> exp.Expr:
    """Digits count as an epoch, text must be a timestamp, other types are cast."""
    if isinstance(value, exp.Literal) and not value.is_string:
        return call("sf_epoch_timestamp", value)
    if isinstance(value, exp.Literal) or _is_text(value):
        return call("sf_must_timestamp", value)
    return exp.Anonymous(this="sf_ntz", expressions=[value.copy()])


def _is_text(value: exp.Expr) -> bool:
    if isinstance(value, exp.Paren):
        return _is_text(value.this)
    if isinstance(value, exp.Cast):
        return value.to.this in _TEXTS
    return isinstance(value, exp.Literal) and bool(value.is_string)


def _cast(_: Session, node: exp.Expr) -> exp.Expr:
    kind, value = node.args["to"].this, node.this
    if isinstance(node, exp.TryCast):
        if kind in _NTZ:
            return call("sf_try_timestamp", value)
        return node
    if kind in _NTZ:
        if isinstance(value, exp.JSONExtract):
            value = exp.cast(value.copy(), "text")
        return _cast_ntz(value)
    if kind in _TEXTS and node.args["to"].expressions:
        length = node.args["to"].expressions[0].this
        return call("sf_shorter", exp.cast(value.copy(), "text"), length)
    return node


def _divide(_: Session, node: exp.Expr) -> exp.Expr:
    divisor = node.expression
    constant_divisor = isinstance(divisor, exp.Literal) and not divisor.is_string and float(divisor.this) != 0
    if constant_divisor or (isinstance(divisor, exp.Anonymous) and divisor.name == "sf_nonzero"):
        return node
    checked = node.copy()
    checked.set("expression", call("sf_nonzero", divisor))
    return checked


def _format_timestamp(session: Session, node: exp.Expr) -> exp.Expr:
    """TO_CHAR(timestamp, 'YYYY-MM-DD …')."""
    pattern = node.args.get("format")
    if pattern is None:
        return node
    text = str(constant(session, pattern))
    return call("strftime", node.this, exp.Literal.string(duckdb_format(text)))


_FORMAT = (
    ("YYYY", "%Y"), ("MMMM", "%B"), ("MON", "%b"), ("HH24", "%H"), ("HH12", "%I"), ("FF9", "%n"), ("FF6", "%f"),
    ("FF3", "%g"), ("TZHTZM", "%z"), ("TZH:TZM", "%z"), ("TZHTZM", "%z"), ("YY", "%y"), ("MM", "%m"), ("DD", "%d"),
    ("DY", "%a"), ("HH", "%H"), ("MI", "%M"), ("SS", "%S"), ("FF", "%n"), ("AM", "%p"), ("PM", "%p"),
)  # fmt: skip


def duckdb_format(text: str) -> str:
    """Snowflake's date format in strftime's letters."""
    pieces, rest = [], text
    while rest:
        if rest[0] == '"' and '"' in rest[1:]:
            quoted, rest = rest[1:].split('"', 1)
            pieces.append(quoted)
            continue
        found = next(((word, code) for word, code in _FORMAT if rest.upper().startswith(word)), None)
        if found:
            pieces.append(found[1])
            rest = rest[len(found[0]) :]
        else:
            pieces.append(rest[0])
            rest = rest[1:]
    return "".join(pieces)


def _convert_timezone(_: Session, node: exp.Expr) -> exp.Expr:
    source, target, value = (node.args.get(key) for key in ("source_tz", "target_tz", "timestamp"))
    if source is None:
        return call("timezone", target, exp.cast(value.copy(), "timestamptz", dialect="duckdb"))
    return call("timezone", target, call("timezone", source, _cast_ntz(value)))


def _string_to_time(_: Session, node: exp.Expr) -> exp.Expr:
    """TO_TIMESTAMP_NTZ(text, format): sqlglot has already turned the format into strftime's letters, nearly."""
    name = "try_strptime" if node.args.get("safe") else "strptime"
    pattern = node.args["format"].name
    for theirs, ours in (("%f_nine", "%n"), ("%f_three", "%g"), ("%:z", "%z"), ("%-z", "%z")):
        pattern = pattern.replace(theirs, ours)
    parsed = call(name, exp.cast(node.this.copy(), "text"), exp.Literal.string(pattern))
    return parsed if "%z" in pattern else exp.cast(parsed, "timestamp", dialect="duckdb")


def _unix_to_time(_: Session, node: exp.Expr) -> exp.Expr:
    scale = int(node.args["scale"].name) if node.args.get("scale") is not None else 0
    factor = {0: 1_000_000, 3: 1000, 6: 1}.get(scale)
    if factor is None:
        return call("make_timestamp_ns", node.this)
    micros = exp.cast(exp.Mul(this=exp.Paren(this=node.this.copy()), expression=exp.Literal.number(factor)), "bigint")
    return call("make_timestamp", micros)


def _parse_json(_: Session, node: exp.Expr) -> exp.Expr:
    return call("sf_try_parse_text" if node.args.get("safe") else "sf_parse_text", node.this)


def _average(_: Session, node: exp.Expr) -> exp.Expr:
    return call("avg", node.this)


def _json_keys(_: Session, node: exp.Expr) -> exp.Expr:
    return call("to_json", call("json_keys", node.this))


def _current(attribute: str) -> Callable[[Session, exp.Expr], exp.Expr]:
    def handler(session: Session, _: exp.Expr) -> exp.Expr:
        return literal(getattr(session, attribute))

    return handler


def _try_number(_: Session, node: exp.Expr) -> exp.Expr:
    return node


_NODES: dict[type[exp.Expr], Callable[[Session, exp.Expr], exp.Expr]] = {
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.Div: _divide,
    exp.ToChar: _format_timestamp,
    exp.ConvertTimezone: _convert_timezone,
    exp.StrToTime: _string_to_time,
    exp.UnixToTime: _unix_to_time,
    exp.ParseJSON: _parse_json,
    exp.JSONKeys: _json_keys,
    exp.Avg: _average,
    exp.Typeof: lambda _, n: call("sf_type_name", n.this),
    exp.IsNullValue: lambda _, n: call("sf_is_null_value", n.this),
    exp.MD5NumberLower64: lambda _, n: call("sf_md5_lower", n.this),
    exp.MD5NumberUpper64: lambda _, n: call("sf_md5_upper", n.this),
    exp.CurrentRole: _current("role"),
    exp.CurrentUser: _current("user"),
    exp.CurrentWarehouse: _current("warehouse"),
    exp.CurrentDatabase: _current("database"),
    exp.CurrentSchema: _current("schema"),
    exp.CurrentSession: lambda s, _: literal(str(s.id)),
    exp.CurrentAccount: lambda s, _: literal(s.account.name),
    exp.CurrentRegion: lambda _s, _: literal("LOCAL"),
}
del SnowflakeError, compilation, time
