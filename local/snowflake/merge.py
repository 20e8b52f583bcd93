"""MERGE as Snowflake reads it, in the form that DuckDB takes."""

from __future__ import annotations

from sqlglot import exp

from local.snowflake.catalog import Name
from local.snowflake.session import Session


def prepare_merge(session: Session, tree: exp.Merge, target: Name) -> tuple[exp.Merge, exp.Select | None]:
    """(the MERGE for DuckDB, a query that finds a target row with two source rows or None when that does no harm).

    SET and the column list of INSERT take bare names in DuckDB. VALUES without a qualifier are the source's, as in
    dbt's form `insert ("ID") values ("ID")`, which DuckDB calls ambiguous.
    """
    columns = {name for name, _ in session.columns(target)}
    source = exp.to_identifier(tree.args["using"].alias_or_name, quoted=_is_quoted(tree.args["using"]))
    risky: list[exp.Expr] = []
    for clause in tree.args["whens"].expressions:
        then = clause.args.get("then")
        if isinstance(then, exp.Update):
            for assignment in then.expressions:
                if isinstance(assignment.this, exp.Column):
                    assignment.set("this", exp.column(assignment.this.this.copy()))
        if isinstance(then, exp.Insert):
            _prepare_insert(then, source, columns)
        elif clause.args.get("matched"):
            condition = clause.args.get("condition")
            risky.append(condition.copy() if condition is not None else exp.true())
    return tree, _duplicates(tree, risky) if risky else None


def _prepare_insert(insert: exp.Insert, source: exp.Identifier, target_columns: set[str]) -> None:
    if isinstance(insert.this, exp.Tuple):
        names = [exp.column(c.this.copy()) if isinstance(c, exp.Column) else c for c in insert.this.expressions]
        insert.set("this", exp.Tuple(expressions=names))
    values = insert.expression
    if values is None:
        return
    for value in values.find_all(exp.Column):
        known = value.name in target_columns or value.name.upper() in target_columns
        if not value.table and known and isinstance(value.this, exp.Identifier):
            value.set("table", source.copy())


def _is_quoted(source: exp.Expr) -> bool:
    alias = source.args.get("alias")
    name = alias.this if alias is not None else source.this
    return isinstance(name, exp.Identifier) and bool(name.quoted)


def _duplicates(tree: exp.Merge, conditions: list[exp.Expr]) -> exp.Select:
    target = tree.this
    alias = target.args.get("alias")
    name = (alias.this if alias is not None else target.this).copy()
    row = exp.column(exp.to_identifier("rowid"), table=name)
    return (
        exp.select(row.copy())
        .from_(target.copy())
        .join(tree.args["using"].copy(), on=tree.args["on"].copy())
        .where(exp.or_(*conditions))
        .group_by(row.copy())
        .having("count(*) > 1")
        .limit(1)
    )
