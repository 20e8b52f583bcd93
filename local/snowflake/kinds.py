"""The kind of an expression, as far as the text of a statement and the tables in it tell."""

from __future__ import annotations

import re

from sqlglot import exp

from local.snowflake.errors import SnowflakeError
from local.snowflake.session import Session

_OF_DUCKDB = {
    "BIGINT": "integer", "INTEGER": "integer", "HUGEINT": "integer", "DOUBLE": "real", "FLOAT": "real",
    "VARCHAR": "text", "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMP": "timestamp", "JSON": "variant",
    "TIMESTAMP WITH TIME ZONE": "timestamp_ltz",
}  # fmt: skip
_OF_FUNCTION = {
    "SF_NTZ": "timestamp", "SF_PLAIN_NTZ": "timestamp", "SF_MUST_TIMESTAMP": "timestamp",
    "SF_VARIANT_TIMESTAMP": "timestamp", "SF_TRY_TIMESTAMP": "timestamp", "SF_EPOCH": "timestamp",
    "SF_ZONE": "timestamp", "STRPTIME": "timestamp", "TRY_STRPTIME": "timestamp",
    "SF_LTZ": "timestamp_ltz", "SF_PLAIN_LTZ": "timestamp_ltz", "SF_MUST_TIMESTAMP_LTZ": "timestamp_ltz",
    "SF_DATE": "date", "SF_PLAIN_DATE": "date", "SF_MUST_DATE": "date", "SF_TRY_DATE": "date",
    "SF_BOOLEAN": "boolean", "SF_MUST_BOOLEAN": "boolean", "SF_TEXT_BOOLEAN": "boolean",
    "SF_TEXT": "text", "SF_NTZ_TEXT": "text", "SF_LTZ_TEXT": "text", "SF_VARIANT_TEXT": "text", "SF_SHORTER": "text",
    "STRFTIME": "text",
    "SF_PARSE_JSON": "variant", "SF_TRY_PARSE_JSON": "variant", "TO_JSON": "variant",
    "SF_HASH": "integer", "SF_MD5_LOWER": "integer", "SF_MD5_UPPER": "integer",
}  # fmt: skip
_OF_TYPE = {
    "INT": "integer", "BIGINT": "integer", "SMALLINT": "integer", "DECIMAL": "decimal", "DOUBLE": "real",
    "FLOAT": "real", "VARCHAR": "text", "TEXT": "text", "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMP": "timestamp",
    "TIMESTAMPNTZ": "timestamp", "TIMESTAMPLTZ": "timestamp_ltz", "TIMESTAMPTZ": "timestamp_ltz", "VARIANT": "variant",
    "OBJECT": "variant", "ARRAY": "variant",
}  # fmt: skip


_TEXTS = (exp.DPipe, exp.Concat, exp.Lower, exp.Upper, exp.Trim, exp.Substring, exp.SplitPart, exp.Replace)
_OF_FLATTEN = {"VALUE": "variant", "THIS": "variant", "KEY": "text", "PATH": "text", "INDEX": "integer"}


class Kinds:
    """integer, decimal, real, text, boolean, date, timestamp, timestamp_ltz, variant; None when not known.

    Names are looked up over the whole statement: a name that means two kinds of things is not known.
    """

    def __init__(self, session: Session, tree: exp.Expr) -> None:
        self._columns: dict[str, str | None] = {}
        self._scales: dict[str, int] = {}
        flattened = (node.args.get("alias") for node in tree.find_all(exp.Lateral, exp.TableFromRows))
        self._flattened = {alias.name.upper() for alias in flattened if alias}
        common = {cte.alias.upper() for cte in tree.find_all(exp.CTE)}
        for table in tree.find_all(exp.Table):
            if not table.args.get("db") and table.name.upper() in common:
                continue
            for column, duckdb_type in _columns(session, table):
                decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", duckdb_type)
                kind = (
                    "integer"
                    if decimal and decimal[2] == "0"
                    else "decimal"
                    if decimal
                    else _OF_DUCKDB.get(duckdb_type)
                )
                self._add(column.upper(), kind)
                if decimal:
                    self._scales[column.upper()] = int(decimal[2])
        for alias in reversed(list(tree.find_all(exp.Alias))):
            name = alias.alias.upper()
            source = alias.this
            if not (isinstance(source, exp.Column) and source.name.upper() == name):
                self._add(name, self.of(source))

    def _add(self, name: str, kind: str | None) -> None:
        self._columns[name] = kind if self._columns.get(name, kind) == kind else None

    def of(self, node: exp.Expr) -> str | None:
        if isinstance(node, exp.Paren | exp.Neg | exp.Max | exp.Min | exp.AnyValue | exp.Sum | exp.Window):
            return self.of(node.this)
        if isinstance(node, exp.Literal):
            return "text" if node.is_string else "decimal" if "." in node.this else "integer"
        if isinstance(node, exp.Column):
            if node.table.upper() in self._flattened:
                return _OF_FLATTEN.get(node.name.upper())
            return self._columns.get(node.name.upper())
        if isinstance(node, exp.JSONExtractScalar):
            return "text"
        if isinstance(node, exp.JSONExtract | exp.ParseJSON | exp.ToVariant):
            return "variant"
        if isinstance(node, exp.Cast):
            kind = _OF_TYPE.get(node.to.this.name)
            return "integer" if kind == "decimal" and self.scale(node) == 0 else kind
        if isinstance(node, exp.Anonymous):
            return self._of_function(node)
        if isinstance(node, _TEXTS):
            return "text"
        if isinstance(node, exp.CurrentTimestamp):
            return "timestamp" if node.args.get("sysdate") else "timestamp_ltz"
        if isinstance(node, exp.Count | exp.RowNumber | exp.Length | exp.DateDiff | exp.CountIf | exp.MD5NumberLower64):
            return "integer"
        if isinstance(node, exp.Add | exp.Sub | exp.Mul):
            kinds = {self.of(node.this), self.of(node.expression)}
            return "integer" if kinds == {"integer"} else "decimal" if kinds <= {"integer", "decimal"} else None
        if isinstance(node, exp.Coalesce):
            kinds = {self.of(one) for one in [node.this, *node.expressions]}
            return kinds.pop() if len(kinds) == 1 else None
        return "boolean" if isinstance(node, exp.Boolean | exp.Predicate) else None

    def _of_function(self, node: exp.Anonymous) -> str | None:
        name = node.name.upper()
        if name in {"SF_VARIANT", "SF_MUST_NUMBER", "SF_NUMBER", "DATE_TRUNC"}:  # as the second argument
            return self.of(node.expressions[1])
        return _OF_FUNCTION.get(name)

    def scale(self, node: exp.Expr) -> int | None:
        """Digits after the point of an exact number; None for anything else."""
        if isinstance(node, exp.Paren | exp.Neg | exp.Sum | exp.Max | exp.Min):
            return self.scale(node.this)
        if isinstance(node, exp.Literal):
            return None if node.is_string else len(node.this.partition(".")[2])
        if isinstance(node, exp.Cast):
            exact = node.to.this.name in {"INT", "BIGINT", "SMALLINT", "DECIMAL"}
            digits = int(node.to.expressions[1].this.name) if len(node.to.expressions) == 2 else 0
            return digits if exact else None
        if isinstance(node, exp.Column) and self.of(node) in {"integer", "decimal"}:
            return self._scales.get(node.name.upper(), 0)
        return 0 if self.of(node) == "integer" else None


def _columns(session: Session, table: exp.Table) -> list[tuple[str, str]]:
    if not isinstance(table.this, exp.Identifier):
        return []
    try:
        name = session.table_name(table)
    except SnowflakeError:
        return []
    if name is None:
        return []
    if name[0] == "temp":
        sql = "select column_name, data_type from duckdb_columns() where database_name = 'temp' and table_name = ?"
        return session.transaction.duck.execute(sql, [name[2]]).fetchall()
    return session.columns(name)
