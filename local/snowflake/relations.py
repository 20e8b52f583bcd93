"""FROM @stage and TABLE(function(…)): replaced by a relation that DuckDB knows."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from local.snowflake import copying, history
from local.snowflake.errors import SnowflakeError, unsupported
from local.snowflake.session import Session
from local.snowflake.translate import HIDDEN, parse_duckdb

# TABLE(INFORMATION_SCHEMA.f(…)): (session, database, arguments by name or position) -> DuckDB SQL
TableFunction = Callable[[Session, str | None, dict[str | int, object]], str]
_FUNCTIONS: dict[str, TableFunction] = {
    "COPY_HISTORY": history.copy_history,
    "QUERY_HISTORY": history.query_history,
    "QUERY_HISTORY_BY_SESSION": history.query_history_by_session,
    "TASK_DEPENDENTS": history.task_dependents,
    "TASK_HISTORY": history.task_history,
    "VALIDATE_PIPE_LOAD": history.validate_pipe_load,
}

_VIEWS = {"COLUMNS", "DATABASES", "SCHEMATA", "TABLES", "VIEWS"}


def replace(session: Session, tree: exp.Expr) -> exp.Expr:
    for node in list(tree.find_all(exp.TableFromRows)):
        relation = _table_function(session, node)
        if relation is not None:
            node.replace(relation)
    for table in list(tree.find_all(exp.Table)):
        if isinstance(table.this, exp.Var | exp.Literal) and table.name.startswith("@"):
            copying.replace_stage(session, tree, table)
        elif table.db.upper() == "INFORMATION_SCHEMA":
            _information_schema(table)
    return tree


def _information_schema(table: exp.Table) -> None:
    """fakesnow knows the views of _VIEWS, LOAD_HISTORY is ours."""
    name = table.name.upper()
    if name == "LOAD_HISTORY":
        table.set("db", exp.to_identifier(HIDDEN, quoted=True))
    elif name not in _VIEWS:
        raise unsupported(f"INFORMATION_SCHEMA.{name}")


def _table_function(session: Session, node: exp.TableFromRows) -> exp.Expr | None:
    call, database = node.this, session.database
    while isinstance(call, exp.Dot):
        left = call.this
        if isinstance(left, exp.Dot) and isinstance(left.this, exp.Identifier):
            database = left.this.name if left.this.quoted else left.this.name.upper()
        elif isinstance(left, exp.Identifier) and left.name.upper() != "INFORMATION_SCHEMA":
            database = left.name if left.quoted else left.name.upper()
        call = call.expression
    alias = node.args.get("alias") or exp.TableAlias(this=exp.to_identifier("_F"))
    if not isinstance(call, exp.Anonymous):
        return None
    name = call.name.upper()
    arguments = _arguments(session, call)
    if name == "RESULT_SCAN":
        return _result_scan(session, str(arguments.get(0, "")), alias)
    if name not in _FUNCTIONS:
        if name in {"FLATTEN", "SPLIT_TO_TABLE", "GENERATOR"}:
            return None
        raise unsupported(f"table function {name}")
    text = _FUNCTIONS[name](session, database, arguments)
    return exp.Subquery(this=parse_duckdb(text), alias=alias.copy())


def _arguments(session: Session, call: exp.Anonymous) -> dict[str | int, object]:
    from local.snowflake.functions import constant

    found: dict[str | int, object] = {}
    for index, argument in enumerate(call.expressions):
        if isinstance(argument, exp.Kwarg):
            found[argument.this.name.upper()] = constant(session, argument.expression)
        else:
            found[index] = constant(session, argument)
    return found


def _result_scan(session: Session, query_id: str, alias: exp.Expr) -> exp.Expr:
    result = session.results.get(query_id)
    if result is None:
        raise SnowflakeError(709, f"Statement {query_id} not found", "02000")
    name = f"result {session.account.next_number()}"
    session.transaction.duck.register(name, result.table)
    table = exp.Table(this=exp.to_identifier(name, quoted=True), alias=alias.copy())
    for part, value in (("db", "main"), ("catalog", "temp")):
        table.set(part, exp.to_identifier(value, quoted=True))
    return table
