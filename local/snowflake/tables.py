"""CREATE TABLE and CREATE VIEW, temporary ones too."""

from __future__ import annotations

from itertools import pairwise

from sqlglot import exp

from local.snowflake import access, lexer, privileges, streams, strictness
from local.snowflake.catalog import Name, quoted, text
from local.snowflake.errors import already_exists, compilation, not_found, unsupported
from local.snowflake.results import Result, status
from local.snowflake.rewrite import rewrite
from local.snowflake.session import Session
from local.snowflake.sql import target_table
from local.snowflake.translate import HIDDEN, parse

# Properties that change nothing here and are kept for nobody: they are accepted and forgotten.
IGNORED_PROPERTIES = {
    "CHANGE_TRACKING", "COPY_GRANTS", "DATA_RETENTION_TIME_IN_DAYS", "ENABLE_SCHEMA_EVOLUTION",
    "MAX_DATA_EXTENSION_TIME_IN_DAYS", "DEFAULT_DDL_COLLATION",
}  # fmt: skip


def create(session: Session, sql: str, kind: str, *, alter: bool) -> Result:
    """alter: CREATE OR ALTER; adds and drops columns of a table that is there, replaces a view."""
    sent, comments = _take_comments(sql, alter=alter)
    tree = parse(sent)
    if not isinstance(tree, exp.Create):
        raise unsupported(f"CREATE {kind}")
    table = target_table(tree)
    name = session.table_name(table)
    if name is None:
        raise unsupported(f"CREATE {kind} {table.sql()}")
    if tree.args.get("replace") and tree.args.get("exists"):
        raise compilation(1003, "options IF NOT EXISTS and OR REPLACE are incompatible.", "42601")
    session.commit_before_ddl()
    with session.account.ddl_lock(name):
        return _create(session, tree, name, sql, kind, comments, alter=alter)


def _create(
    session: Session, tree: exp.Create, name: Name, sql: str, kind: str, comments: dict[str, str], *, alter: bool
) -> Result:
    if not session.has_schema(name[0], name[1]):
        raise not_found("Schema", f"{name[0]}.{name[1]}")
    temporary = _is_temporary(tree)
    there = session.relation_kind(name)
    shadow = temporary and name not in session.temporary  # a temporary table may hide a permanent one
    if there and not shadow and (alter or tree.args.get("replace")):
        privileges.need_owner(session, there, name)
    elif not there and not temporary:
        privileges.need_create(session, kind, name)
    if there and not shadow:
        if alter and kind == "TABLE":
            return _alter_to(session, tree, name)
        if tree.args.get("exists"):
            return status(f"{name[2]} already exists, statement succeeded.")
        if not tree.args.get("replace") and not alter:
            raise already_exists(name[2])
    if isinstance(tree.args.get("clone"), exp.Clone):
        result = _clone(session, tree, name)
    elif kind == "VIEW":
        result = _create_view(session, tree, name, sql, temporary=temporary)
    else:
        result = _create_table(session, tree, name, temporary=temporary)
    comment(session, name, kind, comments)
    if not temporary:
        if not _copies_grants(sql):
            privileges.forget_grants(session, kind, name)
        access.grant_future(session, kind, name)
    return result


def _copies_grants(sql: str) -> bool:
    words = [token.upper for token in lexer.tokens(sql)]
    return ("COPY", "GRANTS") in pairwise(words)


def _create_table(session: Session, tree: exp.Create, name: Name, *, temporary: bool) -> Result:
    replace = bool(tree.args.get("replace"))
    query = tree.args.get("expression")
    keys = strictness.prepare_columns(tree)
    used = set()
    if query is not None:
        strictness.check(session, query, query.sql(dialect="snowflake"))
        strictness.name_columns(query)
        used = streams.read_by(session, query)
        _apply_column_list(tree)
    _keep_temporary(tree, temporary=temporary)
    place = ("temp", "main", ".".join(name)) if temporary else name
    with session.statement(lock=None if temporary else name) as transaction:
        transaction.consumed |= used
        if replace:
            _drop_there(session, name, temporary=temporary)
        rewritten = rewrite(session, tree)
        _set_name(target_table(rewritten), place)
        rewritten.set("replace", False)
        transaction.write(session.translator.sql(rewritten))
    if temporary:
        session.temporary[name] = place
    else:
        session.catalog.put("TABLE", name, {"owner": session.role, "keys": keys})
        if replace:
            streams.source_replaced(session, name)
            forget_loads(session, name)
    return status(f"Table {name[2]} successfully created.")


def _create_view(session: Session, tree: exp.Create, name: Name, sql: str, *, temporary: bool) -> Result:
    query = tree.args["expression"]
    strictness.check(session, query, query.sql(dialect="snowflake"))
    strictness.name_columns(query)
    streams.read_by(session, query)
    _keep_temporary(tree, temporary=temporary)
    place = ("temp", "main", "view " + ".".join(name)) if temporary else name
    read = {session.table_name(table) for table in query.find_all(exp.Table)}
    reads = sorted(one for one in read if one is not None and one != name)
    with session.statement() as transaction:
        if session.relation_kind(name) == "TABLE" and not temporary:
            raise already_exists(name[2])
        rewritten = rewrite(session, tree)
        _set_name(target_table(rewritten), place)
        rewritten.set("replace", True)
        transaction.write(session.translator.sql(rewritten))
    if temporary:
        session.temporary[name] = place
    else:
        session.catalog.put("VIEW", name, {"owner": session.role, "text": sql, "reads": reads})
    return status(f"View {name[2]} successfully created.")


def _apply_column_list(tree: exp.Create) -> None:
    """CREATE TABLE t (a int, b varchar) AS SELECT …: the query's columns get these names and types."""
    schema, query = tree.this, tree.args["expression"]
    if not isinstance(schema, exp.Schema):
        return
    select = query.unnest() if isinstance(query, exp.Subquery) else query
    inner = exp.TableAlias(
        this=exp.to_identifier("_q"), columns=[exp.to_identifier(f"C{i}") for i in range(len(schema.expressions))]
    )
    outer = []
    for index, definition in enumerate(schema.expressions):
        value: exp.Expr = exp.column(f"C{index}", table="_q")
        if isinstance(definition, exp.ColumnDef) and definition.kind is not None:
            value = exp.cast(value, definition.kind.copy())
        outer.append(
            exp.alias_(value, definition.this.copy() if isinstance(definition, exp.ColumnDef) else definition.copy())
        )
    tree.set("expression", exp.select(*outer).from_(exp.Subquery(this=select, alias=inner)))
    tree.set("this", schema.this)


def _set_name(table: exp.Table, place: Name) -> None:
    for part, value in zip(("catalog", "db", "this"), place, strict=True):
        table.set(part, exp.to_identifier(value, quoted=True))


def _is_temporary(tree: exp.Create) -> bool:
    properties = tree.args.get("properties")
    return properties is not None and properties.find(exp.TemporaryProperty) is not None


def _keep_temporary(tree: exp.Create, *, temporary: bool) -> None:
    """TRANSIENT, CLUSTER BY, COPY GRANTS and the like mean nothing to DuckDB."""
    tree.set("properties", exp.Properties(expressions=[exp.TemporaryProperty()]) if temporary else None)


def _drop_there(session: Session, name: Name, *, temporary: bool) -> None:
    if temporary and name not in session.temporary:
        return
    kind = session.relation_kind(name)
    if kind is not None:
        place = session.temporary.get(name, name)
        session.transaction.write(f"drop {kind} {quoted(*place)}")


def forget_loads(session: Session, name: Name) -> None:
    """COPY no longer remembers what it loaded into a replaced, dropped or truncated table (a pipe does)."""
    with session.statement() as transaction:
        transaction.write(
            f"""update {quoted(name[0], HIDDEN, "loads")} set remembered = false
                where schema_name = ? and table_name = ? and pipe is null""",
            [name[1], name[2]],
        )


def _clone(session: Session, tree: exp.Create, name: Name) -> Result:
    clone = tree.args["clone"]
    if clone.args.get("at_before") or not isinstance(clone.this, exp.Table):
        raise unsupported("CLONE of anything but a table as it is now")
    source = session.table_name(clone.this)
    if source is None or session.relation_kind(source) != "TABLE":
        raise not_found("Object", clone.this.sql().upper(), "42S02")
    with session.statement(lock=name) as transaction:
        if tree.args.get("replace"):
            _drop_there(session, name, temporary=False)
        transaction.write(
            f"create table {quoted(*name)} as select * from {quoted(*session.temporary.get(source, source))}"
        )
    session.catalog.put("TABLE", name, {"owner": session.role, "keys": []})
    return status(f"Table {name[2]} successfully created.")


def _alter_to(session: Session, tree: exp.Create, name: Name) -> Result:
    """CREATE OR ALTER TABLE: add and drop columns; a change of a type is refused."""
    if not isinstance(tree.this, exp.Schema) or tree.args.get("expression") is not None:
        raise unsupported("CREATE OR ALTER TABLE … AS")
    strictness.prepare_columns(tree)
    have = dict(session.columns(name))
    want = {d.this.this if d.this.quoted else d.this.this.upper(): d for d in tree.this.expressions}
    types = session.translator.to_duckdb(tree.copy()).this.expressions
    with session.statement(lock=name) as transaction:
        for column, definition in zip(want, types, strict=True):
            wanted = definition.kind.sql(dialect="duckdb")
            if column not in have:
                transaction.write(f"alter table {quoted(*name)} add column {quoted(column)} {wanted}")
            elif [have[column]] != [
                str(one[1]) for one in transaction.duck.execute(f"select null::{wanted}").description
            ]:
                raise unsupported(f"CREATE OR ALTER TABLE that changes the type of {column}")
        for column in have.keys() - want.keys():
            transaction.write(f"alter table {quoted(*name)} drop column {quoted(column)}")
    return status(f"{name[2]} successfully altered.")


def _take_comments(sql: str, *, alter: bool) -> tuple[str, dict[str, str]]:
    """Cut COMMENT clauses out of CREATE TABLE or VIEW: (the rest, comment by column; the table's own under "")."""
    found, pieces, last = {}, [], 0
    depth, column, expects_column = 0, "", False
    tokens = lexer.tokens(sql)
    for index, token in enumerate(tokens):
        if alter and token.upper == "ALTER" and tokens[index - 1].upper == "OR":
            pieces.append(sql[last : tokens[index - 1].start])
            last = token.end
        depth += (token.text == "(") - (token.text == ")")
        if depth == 0 and token.upper == "AS":
            break
        if depth == 1 and token.text in {"(", ","}:
            expects_column = True
        elif expects_column:
            column, expects_column = str(token.value) if token.kind == "quoted" else token.upper, False
        if token.upper != "COMMENT" or token.kind != "word" or depth > 1:
            continue
        value = tokens[index + 1] if index + 1 < len(tokens) else None
        if value is not None and value.text == "=":
            value = tokens[index + 2] if index + 2 < len(tokens) else None
        if value is None or value.kind not in {"string", "dollar"}:
            continue
        found[column if depth == 1 else ""] = str(value.value)
        pieces.append(sql[last : token.start])
        last = value.end
    return "".join(pieces) + sql[last:], found


def comment(session: Session, name: Name, kind: str, comments: dict[str, str]) -> None:
    """Set the comments of a relation ("") and of its columns."""
    place = session.temporary.get(name, name)
    known = {column for column, _ in session.columns(name)}
    with session.statement() as transaction:
        for column, value in comments.items():
            if not column:
                transaction.write(f"comment on {kind} {quoted(*place)} is {text(value)}")
            elif column in known:
                transaction.write(f"comment on column {quoted(*place, column)} is {text(value)}")
            else:
                raise compilation(904, f"invalid identifier '{column}'", "42000")
