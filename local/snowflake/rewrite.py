"""Our rewrites of a Snowflake tree, before fakesnow's: temporary tables, relations, paths, functions."""

from __future__ import annotations

from sqlglot import exp

from local.snowflake import functions, paths, pivot, relations
from local.snowflake.errors import SnowflakeError
from local.snowflake.session import Session


def rewrite(session: Session, tree: exp.Expr) -> exp.Expr:
    """The same statement in words that fakesnow and DuckDB understand alike. The tree given is used up."""
    _temporary_names(session, tree)
    tree = relations.replace(session, tree)
    tree = pivot.expand(session, tree)
    tree = paths.normalise(tree)
    return paths.read_once(functions.replace(session, tree))


def _temporary_names(session: Session, tree: exp.Expr) -> None:
    """A session's temporary tables live in DuckDB's temp catalog under their full name."""
    if not session.temporary:
        return
    common = {cte.alias_or_name.upper() for cte in tree.find_all(exp.CTE)}
    for table in list(tree.find_all(exp.Table)):
        if not table.args.get("db") and table.name.upper() in common:
            continue
        try:
            name = session.table_name(table)
        except SnowflakeError:
            continue
        if name is None or name not in session.temporary:
            continue
        written = isinstance(table.parent, exp.Insert | exp.Schema | exp.Create)
        if not table.args.get("alias") and not written:
            table.set("alias", exp.TableAlias(this=table.this.copy()))
        for part, value in zip(("catalog", "db", "this"), session.temporary[name], strict=True):
            table.set(part, exp.to_identifier(value, quoted=True))
