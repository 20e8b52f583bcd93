"""Casts and conversions, which in Snowflake depend on the value's type: the macros decide (macros.sql)."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from local.snowflake.errors import SnowflakeError
from local.snowflake.kinds import Kinds

_TEXTS = {exp.DType.VARCHAR, exp.DType.TEXT, exp.DType.CHAR, exp.DType.NVARCHAR, exp.DType.NCHAR}
_NTZ = {exp.DType.TIMESTAMP, exp.DType.TIMESTAMPNTZ, exp.DType.DATETIME}
_LTZ = {exp.DType.TIMESTAMPLTZ, exp.DType.TIMESTAMPTZ}
_VARIANTS = {exp.DType.VARIANT, exp.DType.OBJECT, exp.DType.ARRAY}
_NUMBERS = {
    exp.DType.INT, exp.DType.BIGINT, exp.DType.SMALLINT, exp.DType.TINYINT, exp.DType.DECIMAL, exp.DType.DOUBLE,
    exp.DType.FLOAT,
}  # fmt: skip
MAX_LENGTH = 16_777_216


def call(name: str, *arguments: exp.Expr) -> exp.Expr:
    """A function that no other rewrite knows: it reaches DuckDB under this name."""
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def extracted_text(value: exp.Expr) -> exp.Expr | None:
    """The text at a path into a VARIANT, None when the value is no path."""
    if isinstance(value, exp.Paren):
        return extracted_text(value.this)
    if isinstance(value, exp.JSONExtract) and not isinstance(value, exp.JSONExtractScalar):
        return exp.JSONExtractScalar(this=value.this.copy(), expression=value.expression.copy(), only_json_types=True)
    return None


def as_text(kinds: Kinds, value: exp.Expr) -> exp.Expr:
    """VARCHAR of any value, as an account writes it. By the kind when it is known, else the macro decides."""
    extracted = extracted_text(value)
    if extracted is not None:
        return extracted
    kind = kinds.of(value)
    if kind == "text":
        return value.copy()
    if kind in {"integer", "decimal", "real", "boolean", "date"}:
        return exp.Cast(this=value.copy(), to=exp.DataType.build("text"))
    names = {"timestamp": "sf_ntz_text", "timestamp_ltz": "sf_ltz_text", "variant": "sf_variant_text"}
    return call(names.get(str(kind), "sf_text"), value)


def as_ntz(kinds: Kinds, value: exp.Expr) -> exp.Expr:
    """TIMESTAMP_NTZ of any value."""
    kind = kinds.of(value)
    if kind == "timestamp":
        return value.copy()
    if kind == "integer":
        return call("sf_epoch", value, exp.Literal.number(0))
    names = {"text": "sf_must_timestamp", "date": "sf_plain_ntz", "timestamp_ltz": "sf_plain_ntz"}
    names["variant"] = "sf_variant_timestamp"
    return call(names.get(str(kind), "sf_ntz"), value)


def as_ltz(kinds: Kinds, value: exp.Expr) -> exp.Expr:
    """TIMESTAMP_LTZ of any value."""
    kind = kinds.of(value)
    if kind == "timestamp_ltz":
        return value.copy()
    if kind in {"text", "variant"}:
        return call("sf_must_timestamp_ltz", as_text(kinds, value))
    return call("sf_plain_ltz" if kind in {"timestamp", "date"} else "sf_ltz", value)


def as_date(kinds: Kinds, value: exp.Expr) -> exp.Expr:
    kind = kinds.of(value)
    if kind == "date":
        return value.copy()
    if kind in {"text", "variant"}:
        return call("sf_must_date", as_text(kinds, value))
    return call("sf_plain_date" if kind in {"timestamp", "timestamp_ltz"} else "sf_date", value)


def as_boolean(kinds: Kinds, value: exp.Expr) -> exp.Expr:
    kind = kinds.of(value)
    if kind == "boolean":
        return value.copy()
    return call("sf_must_boolean", as_text(kinds, value)) if kind in {"text", "variant"} else call("sf_boolean", value)


def cast(kinds: Kinds, node: exp.Cast) -> exp.Expr:
    """`value::type` and CAST."""
    kind, value = node.to.this, node.this
    if kind in _TEXTS:
        text = as_text(kinds, value)
        length = node.to.expressions[0].this if node.to.expressions else None
        return call("sf_shorter", text, length) if length is not None and int(length.name) < MAX_LENGTH else text
    for kinds_of_target, convert in ((_NTZ, as_ntz), (_LTZ, as_ltz), ({exp.DType.DATE}, as_date)):
        if kind in kinds_of_target:
            return convert(kinds, value)
    if kind == exp.DType.BOOLEAN:
        return as_boolean(kinds, value)
    if kind in _VARIANTS:
        return value if kinds.of(value) == "variant" else call("to_json", value)
    return _number(kinds, node) if kind in _NUMBERS else node


def _number(kinds: Kinds, node: exp.Cast) -> exp.Expr:
    value = node.this
    kind = kinds.of(value)
    if kind in {"integer", "decimal", "real", "boolean"}:
        return node
    tried = exp.TryCast(this=as_text(kinds, value), to=node.to.copy(), requires_string=True)
    if kind == "variant":
        name = "REAL" if node.to.this in {exp.DType.DOUBLE, exp.DType.FLOAT} else "FIXED"
        return call("sf_variant", as_text(kinds, value), tried, exp.Literal.string(name))
    if kind == "text":
        return call("sf_must_number", value, tried)
    return call("sf_number", value, tried, node)


def try_cast(kinds: Kinds, node: exp.TryCast) -> exp.Expr:
    """TRY_CAST takes text only: an account refuses a VARIANT when it compiles."""
    kind, value = node.to.this, node.this
    if kinds.of(value) == "variant":
        names = {"TEXT": "VARCHAR(16777216)", "INT": "NUMBER(38,0)", "BIGINT": "NUMBER(38,0)"}
        target = names.get(kind.name, kind.name)
        message = f"TRY_CAST cannot be used with arguments of types VARIANT and {target}"
        raise SnowflakeError(1065, f"SQL compilation error:\n{message}", "22023")
    if kind in _NTZ:
        return call("sf_try_timestamp", value)
    if kind == exp.DType.DATE:
        return call("sf_try_date", as_text(kinds, value))
    if kind == exp.DType.BOOLEAN:
        return call("sf_text_boolean", as_text(kinds, value))
    return node


def to_boolean(kinds: Kinds, node: exp.ToBoolean) -> exp.Expr:
    if node.args.get("safe"):
        return call("sf_text_boolean", as_text(kinds, node.this))
    return as_boolean(kinds, node.this)


def to_date(kinds: Kinds, node: exp.TsOrDsToDate) -> exp.Expr:
    """TO_DATE and TRY_TO_DATE, with and without a format."""
    pattern = node.args.get("format")
    if pattern is not None:
        name = "try_strptime" if node.args.get("safe") else "strptime"
        return call("sf_plain_date", call(name, as_text(kinds, node.this), exp.Literal.string(pattern.name)))
    return call("sf_try_date", as_text(kinds, node.this)) if node.args.get("safe") else as_date(kinds, node.this)


def to_char(kinds: Kinds, node: exp.ToChar, constant: Callable[[exp.Expr], object]) -> exp.Expr:
    """TO_CHAR and TO_VARCHAR: of a time with a format, of anything without."""
    pattern = node.args.get("format")
    if pattern is None:
        return as_text(kinds, node.this)
    return call("strftime", node.this, exp.Literal.string(duckdb_format(str(constant(pattern)))))


_LETTERS = (
    ("YYYY", "%Y"), ("MMMM", "%B"), ("MON", "%b"), ("HH24", "%H"), ("HH12", "%I"), ("FF9", "%n"), ("FF6", "%f"),
    ("FF3", "%g"), ("TZHTZM", "%z"), ("TZH:TZM", "%z"), ("YY", "%y"), ("MM", "%m"), ("DD", "%d"), ("DY", "%a"),
    ("HH", "%H"), ("MI", "%M"), ("SS", "%S"), ("FF", "%n"), ("AM", "%p"), ("PM", "%p"),
)  # fmt: skip


def duckdb_format(text: str) -> str:
    """Snowflake's date format in the letters of strftime."""
    pieces, rest = [], text
    while rest:
        if rest[0] == '"' and '"' in rest[1:]:
            quoted, rest = rest[1:].split('"', 1)
            pieces.append(quoted)
            continue
        found = next(((word, code) for word, code in _LETTERS if rest.upper().startswith(word)), None)
        pieces.append(found[1] if found else rest[0])
        rest = rest[len(found[0]) if found else 1 :]
    return "".join(pieces)


def string_to_time(kinds: Kinds, node: exp.StrToTime) -> exp.Expr:
    """TO_TIMESTAMP_NTZ(text, format): sqlglot has already turned the format into the letters of strftime.

    FF9 and FF take 1 to 9 digits of fraction, TZH:TZM takes `+00:00` (page of date and time input formats).
    """
    name = "try_strptime" if node.args.get("safe") else "strptime"
    letters = node.args["format"].name.replace("%f_nine", "%n").replace("%:z", "%z")
    read = call(name, as_text(kinds, node.this), exp.Literal.string(letters))
    kind = exp.DType.TIMESTAMPTZ if "%z" in letters else exp.DType.TIMESTAMP
    return exp.Cast(this=read, to=exp.DataType(this=kind))  # %n reads nanoseconds, which no column has


def unix_to_time(kinds: Kinds, node: exp.UnixToTime) -> exp.Expr:
    """TO_TIMESTAMP_NTZ(number, scale)."""
    value, scale = node.this, node.args.get("scale")
    if scale is None:
        return as_ntz(kinds, value)
    number = exp.Cast(this=extracted_text(value) or value.copy(), to=exp.DataType.build("bigint"))
    return call("sf_epoch", number, scale)


def convert_timezone(kinds: Kinds, node: exp.ConvertTimezone) -> exp.Expr:
    """Two arguments: the wall clock of an instant; three: from one zone's wall clock to another's."""
    source, target, value = node.args.get("source_tz"), node.args["target_tz"], node.args["timestamp"]
    if source is None:
        return call("sf_zone", target, as_ltz(kinds, value))
    return call("sf_zone", target, call("timezone", source, as_ntz(kinds, value)))


_OF_DAYS = {"DAY", "WEEK", "WEEKISO", "MONTH", "QUARTER", "YEAR"}


def date_trunc(kinds: Kinds, node: exp.Expr) -> exp.Expr:
    """DATE_TRUNC of a date is a date."""
    kind = kinds.of(node.this)
    value = as_ntz(kinds, node.this) if kind in {"text", "variant"} else node.this
    truncated = call("date_trunc", exp.Literal.string(node.args["unit"].name.lower()), value)
    return call("sf_plain_date", truncated) if kind == "date" else truncated


def date_add(kinds: Kinds, node: exp.DateAdd) -> exp.Expr:
    """DATEADD of days and more to a date is a date."""
    unit = node.args.get("unit")
    if kinds.of(node.this) == "date" and unit is not None and unit.name.upper().removesuffix("S") in _OF_DAYS:
        return call("sf_plain_date", node)
    return node
