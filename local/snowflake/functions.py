"""Functions that DuckDB, sqlglot or fakesnow lack or answer otherwise."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from local.snowflake import casts, describe, lexer, pipes, streams, tasks
from local.snowflake.casts import call
from local.snowflake.errors import compilation, unsupported
from local.snowflake.kinds import Kinds
from local.snowflake.session import Session

Arguments = list[exp.Expr]


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
    kinds = Kinds(session, tree)
    for node in reversed(list(tree.walk())):
        new = _replacement(session, kinds, node)
        if new is node:
            continue
        if node is tree:
            tree = new
        else:
            node.replace(new)
    return tree


def _replacement(session: Session, kinds: Kinds, node: exp.Expr) -> exp.Expr:
    if isinstance(node, exp.Anonymous):
        return _anonymous(session, kinds, node)
    of_session = _OF_SESSION.get(type(node))
    if of_session:
        return literal(of_session(session))
    if isinstance(node, exp.ToChar):
        return casts.to_char(kinds, node, lambda part: constant(session, part))
    handler = _NODES.get(type(node))
    return handler(kinds, node) if handler else node


# ---- functions without a node type of their own
def _anonymous(session: Session, kinds: Kinds, node: exp.Anonymous) -> exp.Expr:
    name, arguments = node.name.upper(), node.expressions
    needed = _NEEDED.get(name, 1 if name in _CONVERSIONS else 0)
    if len(arguments) < needed:
        shown = f"expected {needed}, got {len(arguments)}"
        raise compilation(938, f"not enough arguments for function [{name}], {shown}", "22023")
    if name.startswith("SYSTEM$"):
        if name not in _SYSTEM:
            raise unsupported(f"function {name}")
        return literal(_SYSTEM[name](session, [constant(session, argument) for argument in arguments]))
    if name in _CONVERSIONS:
        return _CONVERSIONS[name](kinds, arguments[0])
    return _PLAIN[name](session, arguments) if name in _PLAIN else node


def _object(session: Session, value: object) -> tuple[str, str, str]:
    return session.resolve(lexer.Reader(str(value)).name())


def _enable_dependents(session: Session, values: list[object]) -> object:
    tasks.enable_dependents(session, _object(session, values[0]))
    return None


def _set_return_value(session: Session, values: list[object]) -> object:
    session.return_value = str(values[0])
    return None


def _wait(session: Session, values: list[object]) -> object:
    session.cancelled.wait(float(str(values[0])))
    return f"waited {values[0]} seconds"


_SYSTEM: dict[str, Callable[[Session, list[object]], object]] = {
    "SYSTEM$STREAM_HAS_DATA": lambda s, values: streams.has_data(s, _object(s, values[0])),
    "SYSTEM$PIPE_STATUS": lambda s, values: pipes.status_text(s, _object(s, values[0])),
    "SYSTEM$TASK_DEPENDENTS_ENABLE": _enable_dependents,
    "SYSTEM$SET_RETURN_VALUE": _set_return_value,
    "SYSTEM$GET_PREDECESSOR_RETURN_VALUE": lambda session, _: session.predecessor_value,
    "SYSTEM$WAIT": _wait,
}


_NEEDED = dict.fromkeys(_SYSTEM, 1) | {"SYSTEM$GET_PREDECESSOR_RETURN_VALUE": 0, "GET_DDL": 2}


def _get_ddl(session: Session, arguments: Arguments) -> exp.Expr:
    kind, name = (str(constant(session, argument)) for argument in arguments[:2])
    return literal(describe.get_ddl(session, kind, name))


def _try_ltz(_: Kinds, value: exp.Expr) -> exp.Expr:
    return exp.TryCast(this=value.copy(), to=exp.DataType.build("timestamptz"))


def _try_ntz(_: Kinds, value: exp.Expr) -> exp.Expr:
    return call("sf_try_timestamp", value)


_CONVERSIONS: dict[str, Callable[[Kinds, exp.Expr], exp.Expr]] = {
    "TRY_TO_TIMESTAMP": _try_ntz,
    "TRY_TO_TIMESTAMP_NTZ": _try_ntz,
    "TO_TIMESTAMP": casts.as_ntz,
    "TO_TIMESTAMP_NTZ": casts.as_ntz,
    "TO_TIMESTAMP_LTZ": casts.as_ltz,
    "TO_TIMESTAMP_TZ": casts.as_ltz,
    "TRY_TO_TIMESTAMP_LTZ": _try_ltz,
    "TRY_TO_TIMESTAMP_TZ": _try_ltz,
}


def _hash(_: Session, arguments: Arguments) -> exp.Expr:
    if len(arguments) == 1:
        return call("sf_hash", arguments[0])
    return call("sf_signed", call("hash", *[call("sf_hash", argument) for argument in arguments]))


_PLAIN: dict[str, Callable[[Session, Arguments], exp.Expr]] = {
    "HASH": _hash,
    "LAST_QUERY_ID": lambda s, _: literal(s.last.query_id if s.last else None),
    "GET_DDL": _get_ddl,
    "CURRENT_WAREHOUSE": lambda s, _: literal(s.warehouse),
    "CURRENT_SESSION": lambda s, _: literal(str(s.id)),
    "CURRENT_REGION": lambda _s, _: literal("LOCAL"),
}

_OF_SESSION: dict[type[exp.Expr], Callable[[Session], object]] = {
    exp.CurrentRole: lambda s: s.role,
    exp.CurrentUser: lambda s: s.user,
    exp.CurrentWarehouse: lambda s: s.warehouse,
    exp.CurrentDatabase: lambda s: s.database,
    exp.CurrentSchema: lambda s: s.schema,
    exp.CurrentSession: lambda s: str(s.id),
    exp.CurrentAccount: lambda s: s.account.name,
    exp.CurrentRegion: lambda _: "LOCAL",
}


# ---- nodes
def _divide(kinds: Kinds, node: exp.Div) -> exp.Expr:
    """Division by zero raises. Exact numbers give max(s1, min(s1 + 6, 12)) digits after the point."""
    divisor = node.expression
    known = isinstance(divisor, exp.Literal) and not divisor.is_string and float(divisor.this) != 0
    checked = exp.Div(
        this=node.this.copy(),
        expression=divisor.copy() if known else call("sf_nonzero", divisor),
        typed=node.args.get("typed"),
        safe=node.args.get("safe"),
    )
    scales = kinds.scale(node.this), kinds.scale(divisor)
    if None in scales:
        return exp.Paren(this=checked)
    scale = max(scales[0] or 0, min((scales[0] or 0) + 6, 12))
    return _exact(checked, scale)


def _exact(value: exp.Expr, scale: int) -> exp.Expr:
    rounded = call("round", value, exp.Literal.number(scale))
    return exp.Cast(this=rounded, to=exp.DataType.build(f"decimal(38, {scale})"))


def _sum(kinds: Kinds, node: exp.Sum) -> exp.Expr:
    """A sum of exact numbers is exact; fakesnow sums whatever has no cast as DOUBLE, and whole numbers as BIGINT."""
    scale = kinds.scale(node.this)
    if scale is not None:
        exact = exp.DataType.build(f"decimal(38, {scale})" if scale else "hugeint", dialect="duckdb")
        node.set("this", exp.Cast(this=node.this, to=exact))
    return node


def _average(kinds: Kinds, node: exp.Avg) -> exp.Expr:
    average = call("avg", node.this)
    scale = kinds.scale(node.this)
    if scale is None or isinstance(node.parent, exp.Window | exp.Filter):
        return average
    return _exact(average, min(scale + 6, 12))


def _compare(kinds: Kinds, node: exp.Expr) -> exp.Expr:
    """A VARIANT compared with text or a number counts as one."""
    sides = [node.this, node.expression]
    for index, (value, other) in enumerate((sides, sides[::-1])):
        if kinds.of(value) != "variant" or kinds.of(other) not in {"text", "integer", "decimal", "real"}:
            continue
        text = casts.as_text(kinds, value)
        number = exp.TryCast(this=text, to=exp.DataType.build("double"))
        node.set("this" if index == 0 else "expression", text if kinds.of(other) == "text" else number)
    return node


def _in(kinds: Kinds, node: exp.In) -> exp.Expr:
    if kinds.of(node.this) == "variant" and any(kinds.of(one) == "text" for one in node.expressions):
        node.set("this", casts.as_text(kinds, node.this))
    return node


def _array_agg(_: Kinds, node: exp.WithinGroup) -> exp.Expr:
    """ARRAY_AGG … WITHIN GROUP leaves NULLs out."""
    if not isinstance(node.this, exp.ArrayAgg):
        return node
    value, order = node.this.this, node.expression
    distinct = value.expressions[0] if isinstance(value, exp.Distinct) else value
    listed = exp.Anonymous(
        this="list", expressions=[exp.Order(this=value.copy(), expressions=[o.copy() for o in order.expressions])]
    )
    not_null = exp.Where(this=exp.Not(this=exp.Is(this=distinct.copy(), expression=exp.null())))
    return call("to_json", exp.Filter(this=listed, expression=not_null))


def _conditional_event(_: Kinds, node: exp.Window) -> exp.Expr:
    """CONDITIONAL_TRUE_EVENT counts the rows so far where the condition holds."""
    name = node.this.name.upper() if isinstance(node.this, exp.Anonymous) else type(node.this).__name__.upper()
    if name in {"CONDITIONAL_CHANGE_EVENT", "CONDITIONALCHANGEEVENT"}:
        raise unsupported("CONDITIONAL_CHANGE_EVENT")
    if name not in {"CONDITIONAL_TRUE_EVENT", "CONDITIONALTRUEEVENT"}:
        return node
    condition = node.this.expressions[0] if isinstance(node.this, exp.Anonymous) else node.this.this
    one = exp.Case(ifs=[exp.If(this=condition.copy(), true=exp.Literal.number(1))], default=exp.Literal.number(0))
    new = node.copy()
    new.set("this", call("sum", one))
    new.set("spec", exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW"))
    return exp.Cast(this=new, to=exp.DataType.build("bigint"))


def _flatten(_: Kinds, node: exp.Expr) -> exp.Expr:
    """FLATTEN with OUTER or RECURSIVE; the plain form is fakesnow's transform over our macro."""
    call_ = node.this
    if not isinstance(call_, exp.Explode):
        return node
    options = {one.this.name.upper(): one.expression for one in call_.expressions if isinstance(one, exp.Kwarg)}
    wanted = [name for name in ("OUTER", "RECURSIVE") if name in options and options[name].this is True]
    for name in options.keys() - {"OUTER", "RECURSIVE"}:
        raise unsupported(f"FLATTEN … {name}")
    if not wanted:
        return node
    if len(wanted) == 2:
        raise unsupported("FLATTEN … OUTER and RECURSIVE together")
    source = call_.this.expression if isinstance(call_.this, exp.Kwarg) else call_.this
    return exp.Table(this=call(f"sf_flatten_{wanted[0].lower()}", source), alias=node.args.get("alias"))


_NODES: dict[type[exp.Expr], Callable[[Kinds, exp.Expr], exp.Expr]] = {
    exp.Cast: casts.cast,  # type: ignore[dict-item]
    exp.TryCast: casts.try_cast,  # type: ignore[dict-item]
    exp.ConvertTimezone: casts.convert_timezone,  # type: ignore[dict-item]
    exp.StrToTime: casts.string_to_time,  # type: ignore[dict-item]
    exp.UnixToTime: casts.unix_to_time,  # type: ignore[dict-item]
    exp.ToBoolean: casts.to_boolean,  # type: ignore[dict-item]
    exp.TsOrDsToDate: casts.to_date,  # type: ignore[dict-item]
    exp.TimestampTrunc: casts.date_trunc,
    exp.DateTrunc: casts.date_trunc,
    exp.DateAdd: casts.date_add,  # type: ignore[dict-item]
    exp.Div: _divide,  # type: ignore[dict-item]
    exp.Sum: _sum,  # type: ignore[dict-item]
    exp.Avg: _average,  # type: ignore[dict-item]
    exp.In: _in,  # type: ignore[dict-item]
    exp.WithinGroup: _array_agg,  # type: ignore[dict-item]
    exp.Window: _conditional_event,  # type: ignore[dict-item]
    exp.Lateral: _flatten,
    exp.TableFromRows: _flatten,
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE), _compare),
    exp.ParseJSON: lambda _, n: call("sf_try_parse_json" if n.args.get("safe") else "sf_parse_json", n.this),
    exp.JSONKeys: lambda _, n: call("to_json", call("json_keys", n.this)),
    exp.Typeof: lambda _, n: call("sf_type_name", n.this),
    exp.IsNullValue: lambda _, n: call("sf_is_null_value", n.this),
    exp.MD5NumberLower64: lambda _, n: call("sf_md5_lower", n.this),
    exp.MD5NumberUpper64: lambda _, n: call("sf_md5_upper", n.this),
}
