"""PIVOT: the values of IN (ANY) are read first; the columns are named by the quoted values, as in an account."""

from __future__ import annotations

from sqlglot import exp

from local.snowflake.errors import compilation, unsupported
from local.snowflake.session import Session


def expand(session: Session, tree: exp.Expr) -> exp.Expr:
    for node in list(tree.find_all(exp.Pivot)):
        for field in node.args.get("fields") or []:
            if not isinstance(field, exp.In) or not field.expressions:
                continue
            if isinstance(field.expressions[0], exp.PivotAny):
                if session.call_depth:  # sql-reference/constructs/pivot: not in stored procedures and functions
                    raise compilation(2, "Unsupported feature 'dynamic PIVOT in a stored procedure'.", "0A000")
                field.set("expressions", [_named(value) for value in _values(session, node, field)])
            elif all(isinstance(value, exp.Literal) and value.is_string for value in field.expressions):
                field.set("expressions", [_named(value.this) for value in field.expressions])
        if node.args.get("default_on_null"):
            raise unsupported("PIVOT … DEFAULT ON NULL")
    return tree


def _named(value: str) -> exp.Expr:
    alias = exp.to_identifier("'" + value.replace("'", "''") + "'", quoted=True)
    return exp.PivotAlias(this=exp.Literal.string(value), alias=alias)


def _values(session: Session, node: exp.Pivot, field: exp.In) -> list[str]:
    from local.snowflake.rewrite import rewrite

    if node.parent is None:
        raise unsupported("PIVOT without a table")
    source = node.parent.copy()
    source.set("pivots", None)
    query = exp.select(field.this.copy()).distinct().from_(source)
    around = node.find_ancestor(exp.Select)
    while around is not None:
        if (common := around.args.get("with_")) is not None:
            query.set("with_", common.copy())
            break
        around = around.find_ancestor(exp.Select)
    rows = session.query(session.translator.sql(rewrite(session, query))).rows()
    values = sorted(str(value) for (value,) in rows if value is not None)
    if not values:
        raise unsupported("PIVOT … IN (ANY) over no values")
    return values
