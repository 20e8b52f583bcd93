"""What Snowflake refuses, ignores or names differently, and DuckDB would let pass."""

from __future__ import annotations

from sqlglot import exp

from local.snowflake import privileges
from local.snowflake.casts import MAX_LENGTH, call
from local.snowflake.errors import compilation, invalid_identifier, not_found
from local.snowflake.session import Session

_OF_AN_ORDER = (
    *(exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile),
    *(exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue),
)
FLATTEN_COLUMNS = {"SEQ", "KEY", "PATH", "INDEX", "VALUE", "THIS"}


def identifier(node: exp.Identifier) -> str:
    """The name as Snowflake keeps it."""
    return str(node.this) if node.quoted else str(node.this).upper()


def check(session: Session, tree: exp.Expr, sql: str, target: exp.Table | None = None) -> None:
    """Refuse tables that do not exist by exact name or may not be read, and columns that exist in another case only.

    target: the table that the statement writes, whose rights are another matter.
    """
    by_table: dict[int, set[str]] = {}
    known = _relations(session, tree, target, by_table)
    if known is not None:
        _columns(tree, known, sql)
    _qualify(tree, by_table)
    _windows(tree)


def _windows(tree: exp.Expr) -> None:
    """Numbers and neighbours of rows in no order: DuckDB takes whatever order it finds them in."""
    for window in tree.find_all(exp.Window):
        function = window.this.this if isinstance(window.this, exp.IgnoreNulls | exp.RespectNulls) else window.this
        if isinstance(function, _OF_AN_ORDER) and not window.args.get("order"):
            name = function.sql_name()
            raise compilation(2303, f"Window function type [{name}] requires ORDER BY in window specification", "0A000")


def _relations(
    session: Session, tree: exp.Expr, target: exp.Table | None, by_table: dict[int, set[str]]
) -> set[str] | None:
    """The columns of all tables in the statement; None when one of them is not ours to know. by_table: to be filled."""
    common = {identifier(cte.args["alias"].this) for cte in tree.find_all(exp.CTE)}
    columns: set[str] | None = set()
    for table in tree.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier):
            columns = None
            continue
        if not table.args.get("db") and identifier(table.this) in common:
            continue
        name = session.table_name(table)
        if name is None or name[1] == "INFORMATION_SCHEMA":
            columns = None
            continue
        found = session.columns(name)
        if not found:
            _missing(session, table, name)
        if table is not target:
            kind = "STREAM" if session.catalog.get("STREAM", name) else session.relation_kind(name) or "TABLE"
            privileges.need(session, kind, name, "SELECT", written=_written(table))
        by_table[id(table)] = {column for column, _ in found}
        if columns is not None:
            columns |= by_table[id(table)]
    return columns


def _missing(session: Session, table: exp.Table, name: tuple[str, str, str]) -> None:
    if not session.account.has_database(name[0]):
        raise not_found("Database", name[0])
    if not session.has_schema(name[0], name[1]):
        raise not_found("Schema", f"{name[0]}.{name[1]}")
    written = _written(table)
    kind = "Table" if isinstance(table.parent, exp.Insert | exp.Update | exp.Delete | exp.Merge) else "Object"
    raise not_found(kind, written, "42S02")


def _written(table: exp.Table) -> str:
    parts = [table.args.get("catalog"), table.args.get("db"), table.this]
    return ".".join(identifier(part) for part in parts if part is not None)


def _columns(tree: exp.Expr, known: set[str], sql: str) -> None:
    have = known | FLATTEN_COLUMNS
    for node in tree.find_all(exp.Alias, exp.TableAlias, exp.CTE, exp.PivotAlias, exp.ColumnDef):
        name = node.args.get("alias") if isinstance(node, exp.Alias | exp.CTE | exp.PivotAlias) else node.this
        if isinstance(name, exp.Identifier):
            have.add(identifier(name))
        have |= {identifier(column) for column in node.args.get("columns") or [] if isinstance(column, exp.Identifier)}
    by_lower = {name.lower() for name in have}
    for column in tree.find_all(exp.Column):
        if not isinstance(column.this, exp.Identifier):
            continue
        name = identifier(column.this)
        if name not in have and name.lower() in by_lower:
            raise invalid_identifier(name, sql, column.this.meta.get("start"))


def _qualify(tree: exp.Expr, by_table: dict[int, set[str]]) -> None:
    """`"id"` beside a table with ID is the column of the table that has it in this case; to DuckDB it is ambiguous."""
    for select in tree.find_all(exp.Select):
        first = [select.args["from_"].this] if select.args.get("from_") else []
        tables = [one for one in first + [join.this for join in select.args.get("joins") or []] if id(one) in by_table]
        if len({name for one in tables for name in by_table[id(one)]}) == len(
            {name.lower() for one in tables for name in by_table[id(one)]}
        ):
            continue
        for column in select.find_all(exp.Column):
            if column.table or column.parent_select is not select or not isinstance(column.this, exp.Identifier):
                continue
            holding = [one for one in tables if identifier(column.this) in by_table[id(one)]]
            if len(holding) == 1:
                alias = holding[0].args.get("alias")
                column.set("table", (alias.this if alias else holding[0].this).copy())


def name_columns(tree: exp.Expr) -> None:
    """An account names an unaliased column by its text in upper case."""
    select = tree
    while isinstance(select, exp.SetOperation | exp.Subquery):
        select = select.this
    if not isinstance(select, exp.Select):
        return
    named = []
    for column in select.expressions:
        plain = isinstance(column, exp.Alias | exp.Star | exp.Column | exp.Aliases) or column.find(exp.Star) is column
        if plain or (isinstance(column, exp.Dot) and column.is_star):
            named.append(column)
        else:
            text = column.sql(dialect="snowflake").upper()
            named.append(exp.alias_(column, exp.to_identifier(text, quoted=True)))
    select.set("expressions", named)


def prepare_columns(tree: exp.Create) -> list[list[str]]:
    """Keys are recorded, not enforced (a primary key's columns are NOT NULL); VARCHAR(n) checks the length.

    Returns the key columns of each key.
    """
    schema = tree.this
    if not isinstance(schema, exp.Schema):
        return []
    keys: list[list[str]] = []
    primary: set[str] = set()
    definitions: list[exp.Expr] = []
    for entry in schema.expressions:
        if isinstance(entry, exp.ColumnDef):
            definitions.append(entry)
            continue
        key = entry if isinstance(entry, exp.PrimaryKey) else entry.find(exp.PrimaryKey)
        if key is not None:
            names = [identifier(name) for name in key.find_all(exp.Identifier)]
            primary |= set(names)
            keys.append(names)
        elif isinstance(entry, exp.Identifier):
            definitions.append(entry)
    for definition in definitions:
        if isinstance(definition, exp.ColumnDef):
            _prepare_column(definition, primary, keys, checks=tree.args.get("expression") is None)
    schema.set("expressions", definitions)
    return keys


def _prepare_column(definition: exp.ColumnDef, primary: set[str], keys: list[list[str]], *, checks: bool) -> None:
    name = identifier(definition.this)
    kept = []
    for constraint in definition.args.get("constraints") or []:
        kind = constraint.kind
        if isinstance(kind, exp.PrimaryKeyColumnConstraint):
            primary.add(name)
            keys.append([name])
        elif not isinstance(kind, exp.UniqueColumnConstraint | exp.Reference | exp.CommentColumnConstraint):
            kept.append(constraint)
    if name in primary and not any(isinstance(kept_one.kind, exp.NotNullColumnConstraint) for kept_one in kept):
        kept.append(exp.ColumnConstraint(kind=exp.NotNullColumnConstraint()))
    type_ = definition.kind
    texts = (exp.DType.VARCHAR, exp.DType.TEXT, exp.DType.CHAR, exp.DType.NVARCHAR)
    if checks and type_ is not None and type_.this in texts and type_.expressions:
        length = int(type_.expressions[0].this.name)
        if length < MAX_LENGTH:
            kept.append(exp.ColumnConstraint(kind=exp.CheckColumnConstraint(this=_not_longer(definition.this, length))))
    definition.set("constraints", kept)


def _not_longer(name: exp.Identifier, length: int) -> exp.Expr:
    """A check that fails with the account's own message (describe.py reads the length back from it)."""
    column = exp.column(name.copy())
    texts = [
        exp.Literal.string(part) for part in ("SNOWFLAKE100078|22000|String '", "' is too long and would be truncated")
    ]
    message = exp.DPipe(this=exp.DPipe(this=texts[0], expression=column.copy()), expression=texts[1])
    too_long = exp.GT(this=call("length", column), expression=exp.Literal.number(length))
    return exp.Case(ifs=[exp.If(this=too_long, true=call("error", message))], default=exp.true())
