"""Queries and DML: checks on Snowflake's own tree, our rewrites, fakesnow's, then DuckDB."""

from __future__ import annotations

from sqlglot import exp

from local.snowflake import privileges, results, streams, strictness
from local.snowflake.catalog import Name, quoted
from local.snowflake.errors import SnowflakeError, not_found, unsupported
from local.snowflake.merge import prepare_merge
from local.snowflake.results import Result, counts
from local.snowflake.rewrite import rewrite
from local.snowflake.session import Session
from local.snowflake.translate import parse

DML = (exp.Insert, exp.Update, exp.Delete, exp.Merge)


def run(session: Session, text: str) -> Result:
    tree = parse(text)
    if isinstance(tree, DML):
        return _dml(session, tree, text)
    if isinstance(tree, exp.Query):
        return select(session, tree, text)
    raise unsupported(f"statement {type(tree).__name__.upper()}: {' '.join(text.split()[:4])}")


def select(session: Session, tree: exp.Query, text: str) -> Result:
    strictness.check(session, tree, text)
    strictness.name_columns(tree)
    if streams.read_by(session, tree):
        session.transaction.pinned = bool(session.transaction.number)
    return session.query(session.translator.sql(rewrite(session, tree)))


def describe(session: Session, text: str) -> Result:
    """The columns of a query, without running it."""
    tree = parse(text)
    if not isinstance(tree, exp.Query):
        return results.status()
    strictness.check(session, tree, text)
    strictness.name_columns(tree)
    return session.query(f"select * from ({session.translator.sql(rewrite(session, tree))}) limit 0")


def target_table(tree: exp.Expr) -> exp.Table:
    """The table that a statement writes or makes."""
    target = tree.this
    if isinstance(target, exp.Schema):
        target = target.this
    if isinstance(tree, exp.Delete) and tree.args.get("tables"):
        target = tree.args["tables"][0]
    if not isinstance(target, exp.Table):
        raise unsupported(f"{type(tree).__name__.upper()} of {type(target).__name__}")
    return target


def _dml(session: Session, tree: exp.Expr, text: str) -> Result:
    table = target_table(tree)
    name = session.table_name(table)
    if name is None:
        raise unsupported(f"{type(tree).__name__.upper()} of {table.sql()}")
    strictness.check(session, tree, text, target=table)
    if session.relation_kind(name) != "TABLE":
        raise not_found("Table", table.sql(dialect="snowflake").split(" AS ")[0].upper(), "42S02")
    for privilege in _changes(tree):
        privileges.need(session, "TABLE", name, privilege)
    used = streams.read_by(session, tree, target=table)
    tracked = streams.on_table(session, name)
    with session.statement(lock=None if isinstance(tree, exp.Insert) else name) as transaction:
        transaction.consumed |= used
        transaction.pinned = transaction.pinned or bool(used)
        if isinstance(tree, exp.Merge):
            return _merge(session, tree, name, tracked)
        tree = rewrite(session, tree)
        if isinstance(tree, exp.Insert):
            return _insert(session, tree, name, tracked)
        streams.refuse_change(tracked, type(tree).__name__.upper())
        count = transaction.write(session.translator.sql(tree)).fetchall()[0][0]
        if isinstance(tree, exp.Update):
            columns = {"number_of_rows_updated": count, "number_of_multi-joined_rows_updated": 0}
            return counts(results.UPDATE, **columns)
        return counts(results.DELETE, number_of_rows_deleted=count)


def _changes(tree: exp.Expr) -> set[str]:
    """The privileges that a DML statement needs on its table."""
    if not isinstance(tree, exp.Merge):
        return {type(tree).__name__.upper()}
    thens = [clause.args.get("then") for clause in tree.args["whens"].expressions]
    return {type(then).__name__.upper() if isinstance(then, exp.Insert | exp.Update) else "DELETE" for then in thens}


def _insert(session: Session, tree: exp.Insert, name: Name, tracked: streams.Tracked) -> Result:
    place = session.temporary.get(name, name)
    transaction = session.transaction
    if tree.args.get("overwrite"):
        streams.refuse_change(tracked, "INSERT OVERWRITE")
        tree.set("overwrite", None)
        sql = session.translator.sql(tree)
        transaction.write(f"delete from {quoted(*place)}")
    else:
        sql = session.translator.sql(tree)
    mark = streams.mark(session, name) if tracked else 0
    count = transaction.write(sql).fetchall()[0][0]
    streams.capture(session, name, tracked, mark)
    return counts(results.INSERT, number_of_rows_inserted=count)


def _merge(session: Session, tree: exp.Merge, name: Name, tracked: streams.Tracked) -> Result:
    clauses = tree.args["whens"].expressions
    kinds = {"insert": False, "update": False, "delete": False}
    for clause in clauses:
        then = clause.args.get("then")
        kinds["insert" if isinstance(then, exp.Insert) else "update" if isinstance(then, exp.Update) else "delete"] = (
            True
        )
    if kinds["update"] or kinds["delete"]:
        streams.refuse_change(tracked, "MERGE with UPDATE or DELETE")
    merged, duplicates = prepare_merge(session, tree, name)
    transaction = session.transaction
    if duplicates and session.parameter("ERROR_ON_NONDETERMINISTIC_MERGE"):
        found = transaction.duck.execute(session.translator.sql(rewrite(session, duplicates))).fetchone()
        if found is not None:
            raise SnowflakeError(
                100090, f"Duplicate row detected during DML action\nRow Values: {list(found)}", "42P18"
            )
    sql = session.translator.sql(rewrite(session, merged)) + " returning merge_action"
    mark = streams.mark(session, name) if tracked else 0
    cursor = transaction.write(sql)
    done = {"INSERT": 0, "UPDATE": 0, "DELETE": 0}
    while batch := cursor.fetchmany(100_000):
        for (action,) in batch:
            done[action] += 1
    streams.capture(session, name, tracked, mark)
    names = {"insert": "inserted", "update": "updated", "delete": "deleted"}
    return counts(
        results.MERGE,
        **{f"number_of_rows_{word}": done[kind.upper()] for kind, word in names.items() if kinds[kind]},
    )
