"""Databases and schemas, ALTER, DROP and TRUNCATE of tables and views, COMMENT."""

from __future__ import annotations

from sqlglot import exp

from local.snowflake import lexer, privileges, streams
from local.snowflake.catalog import Name, quoted
from local.snowflake.errors import already_exists, compilation, not_found, unsupported
from local.snowflake.lexer import Reader, Unexpected
from local.snowflake.results import Result, status
from local.snowflake.session import Session
from local.snowflake.tables import IGNORED_PROPERTIES, forget_loads
from local.snowflake.tables import comment as set_comments
from local.snowflake.translate import HIDDEN, parse

CONTAINER_PROPERTIES = {
    "COMMENT",
    "DATA_RETENTION_TIME_IN_DAYS",
    "MAX_DATA_EXTENSION_TIME_IN_DAYS",
    "DEFAULT_DDL_COLLATION",
}


def create_container(session: Session, reader: Reader, kind: str, *, replace: bool) -> Result:
    """CREATE DATABASE or SCHEMA: it becomes current; a database has a schema PUBLIC."""
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    names = reader.name()
    if reader.at("CLONE"):
        raise unsupported(f"CREATE {kind} … CLONE")
    managed = reader.take("WITH", "MANAGED", "ACCESS")
    options = _container_options(reader)
    if kind == "SCHEMA" and len(names) == 1 and session.database is None:
        session.resolve(names)
    database = names[0] if kind == "DATABASE" or len(names) == 2 else session.database or ""
    schema = None if kind == "DATABASE" else names[-1]
    there = session.account.has_database(database) if schema is None else session.has_schema(database, schema)
    if there and if_not_exists:
        return status(f"{names[-1]} already exists, statement succeeded.")
    if there and not replace:
        raise already_exists(names[-1])
    if schema is None:
        if there:
            session.account.drop_database(database)
        session.account.create_database(database)
    else:
        if not session.account.has_database(database):
            raise not_found("Database", database)
        privileges.need_create_schema(session, database)
        if there:
            _drop_schema(session, database, schema)
        with session.statement() as transaction:
            transaction.write(f"create schema {quoted(database, schema)}")
    key: Name = (database, schema or "", "")
    properties = {"owner": session.role, "comment": str(options.get("COMMENT", "")), "managed": managed}
    session.catalog.put(kind, key, properties)
    session.use(database, schema)
    return status(f"{kind.capitalize()} {names[-1]} successfully created.")


def _container_options(reader: Reader) -> dict[str, lexer.Option]:
    options = reader.options()
    for name in options.keys() - CONTAINER_PROPERTIES:
        raise unsupported(f"property {name} of a database or schema")
    return options


def alter_container(session: Session, reader: Reader) -> Result:
    kind = "DATABASE" if reader.tokens[1].upper == "DATABASE" else "SCHEMA"
    if_exists = reader.take("IF", "EXISTS")
    names = reader.name()
    if kind == "SCHEMA" and len(names) == 1:
        names = [session.database or "", *names]
    key: Name = (names[0], names[1] if kind == "SCHEMA" else "", "")
    there = session.has_schema(*key[:2]) if kind == "SCHEMA" else session.account.has_database(key[0])
    if not there:
        if if_exists:
            return status()
        raise not_found(kind.capitalize(), ".".join(names))
    properties = session.catalog.get(kind, key) or {"owner": session.role}
    if reader.take("SET"):
        options = _container_options(reader)
        if "COMMENT" in options:
            properties["comment"] = str(options["COMMENT"])
    elif reader.take("UNSET"):
        reader.rest()
    else:
        raise unsupported(f"ALTER {kind} {reader.peek_text()}")
    session.catalog.put(kind, key, properties)
    return status()


def drop_container(session: Session, reader: Reader, kind: str) -> Result:
    if_exists = reader.take("IF", "EXISTS")
    names = reader.name()
    if not reader.take("CASCADE") and reader.take("RESTRICT"):
        raise unsupported(f"DROP {kind} … RESTRICT")
    reader.end()
    database = names[0] if kind == "DATABASE" or len(names) == 2 else session.database or ""
    there = session.account.has_database(database) if kind == "DATABASE" else session.has_schema(database, names[-1])
    if not there:
        if if_exists:
            return status(f"Drop statement executed successfully ({names[-1]} already dropped).")
        raise not_found(kind.capitalize(), ".".join(names) if kind == "DATABASE" else f"{database}.{names[-1]}")
    if kind == "DATABASE":
        session.account.drop_database(database)
    else:
        _drop_schema(session, database, names[-1])
    return status(f"{names[-1]} successfully dropped.")


def _drop_schema(session: Session, database: str, schema: str) -> None:
    with session.statement() as transaction:
        transaction.write(f"drop schema {quoted(database, schema)} cascade")
        for memory, of_schema in (("loads", "schema_name"), ("pipe_files", "split_part(pipe, '.', 2)")):
            transaction.write(f"delete from {quoted(database, HIDDEN, memory)} where {of_schema} = ?", [schema])
    session.catalog.drop_container(database, schema)
    session.account.drops += 1


def drop_relation(session: Session, reader: Reader, kind: str) -> Result:
    if_exists = reader.take("IF", "EXISTS")
    names = reader.name()
    if not reader.take("CASCADE"):
        reader.take("RESTRICT")
    reader.end()
    with session.account.ddl_lock(session.resolve(names)):
        return _drop_relation(session, session.resolve(names), kind, if_exists=if_exists)


def _drop_relation(session: Session, name: Name, kind: str, *, if_exists: bool) -> Result:
    there = session.relation_kind(name)
    if there is None:
        if if_exists:
            return status(f"Drop statement executed successfully ({name[2]} already dropped).")
        raise not_found(kind.capitalize(), ".".join(name), "42S02")
    if there != kind:
        message = f"Object found is of type '{there}', not specified type '{kind}'."
        raise compilation(2203, message, "42601")
    place = session.temporary.get(name, name)
    privileges.need_owner(session, kind, name)
    with session.statement(lock=name) as transaction:
        transaction.write(f"drop {kind} {quoted(*place)}")
    if name in session.temporary:
        del session.temporary[name]
    else:
        if kind == "TABLE":
            streams.source_replaced(session, name)
            forget_loads(session, name)
        privileges.forget_grants(session, kind, name)
        session.catalog.drop(kind, name)
    return status(f"{name[2]} successfully dropped.")


def truncate(session: Session, reader: Reader) -> Result:
    """DML in Snowflake: part of the transaction. COPY forgets what it loaded."""
    reader.need("TRUNCATE")
    reader.take("TABLE")
    if_exists = reader.take("IF", "EXISTS")
    name = session.resolve(reader.name())
    reader.end()
    if session.relation_kind(name) != "TABLE":
        if if_exists:
            return status()
        raise not_found("Table", ".".join(name), "42S02")
    streams.refuse_change(streams.on_table(session, name), "TRUNCATE")
    privileges.need(session, "TABLE", name, "TRUNCATE")
    with session.statement(lock=name) as transaction:
        transaction.write(f"delete from {quoted(*session.temporary.get(name, name))}")
        forget_loads(session, name)
    return status()


def alter_table(session: Session, reader: Reader) -> Result:
    """ALTER TABLE or VIEW: columns, rename, swap, comments, ignored properties."""
    kind = "VIEW" if reader.tokens[1].upper == "VIEW" else "TABLE"
    if_exists = reader.take("IF", "EXISTS")
    name = session.resolve(reader.name())
    with session.account.ddl_lock(name):
        return _alter_table(session, reader, name, kind, if_exists=if_exists)


def _alter_table(session: Session, reader: Reader, name: Name, kind: str, *, if_exists: bool) -> Result:
    there = session.relation_kind(name)
    if there is None:
        if if_exists:
            return status()
        raise not_found(kind.capitalize(), ".".join(name), "42S02")
    privileges.need_owner(session, there, name)
    place = session.temporary.get(name, name)
    if reader.take("ADD"):
        _add_columns(session, reader, name)
    elif reader.take("DROP"):
        if not reader.at("CLUSTERING"):
            reader.take("COLUMN")
            if_column = reader.take("IF", "EXISTS")
            with session.statement(lock=name) as transaction:
                for column in reader.names():
                    check = "if exists " if if_column else ""
                    transaction.write(f"alter table {quoted(*place)} drop column {check}{quoted(column[0])}")
            reader.end()
    elif reader.take("RENAME", "COLUMN"):
        old = reader.identifier()
        reader.need("TO")
        with session.statement(lock=name) as transaction:
            transaction.write(
                f"alter table {quoted(*place)} rename column {quoted(old)} to {quoted(reader.identifier())}"
            )
    elif reader.take("RENAME", "TO"):
        _rename(session, name, session.resolve(reader.name()), kind)
    elif reader.take("SWAP", "WITH"):
        _swap(session, name, session.resolve(reader.name()))
    elif reader.take("SET") or reader.take("UNSET"):
        _set_properties(session, reader, name, kind)
    elif reader.take("ALTER") or reader.take("MODIFY"):
        _alter_columns(session, reader, name, kind)
    elif reader.take("CLUSTER", "BY"):
        reader.parenthesis()
    else:
        raise unsupported(f"ALTER {kind} … {reader.peek_text()} {reader.peek_text(1)}".rstrip())
    return status()


def _add_columns(session: Session, reader: Reader, name: Name) -> None:
    if reader.at("ROW") or reader.at("SEARCH") or reader.at("CONSTRAINT") or reader.at("PRIMARY"):
        if reader.at("CONSTRAINT") or reader.at("PRIMARY"):
            reader.rest()  # keys are not enforced
            return
        raise unsupported(f"ALTER TABLE … ADD {reader.peek_text()}")
    reader.take("COLUMN")
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    tree = parse(f"create table t ({reader.rest()})")
    have = {column for column, _ in session.columns(name)}
    comments = {}
    place = session.temporary.get(name, name)
    with session.statement(lock=name) as transaction:
        for original, definition in zip(
            tree.this.expressions, session.translator.to_duckdb(tree.copy()).this.expressions, strict=True
        ):
            if not isinstance(original, exp.ColumnDef) or original.kind is None:
                raise Unexpected(None)
            column = original.this.this if original.this.quoted else original.this.this.upper()
            if column in have:
                if if_not_exists:
                    continue
                raise compilation(1430, f"column '{column}' already exists", "42601")
            default = original.find(exp.DefaultColumnConstraint)
            tail = f" default {session.translator.sql(default.this.copy())}" if default is not None else ""
            kind = definition.kind.sql(dialect="duckdb")
            transaction.write(f"alter table {quoted(*place)} add column {quoted(column)} {kind}{tail}")
            streams.add_column(session, name, column, kind)
            note = original.find(exp.CommentColumnConstraint)
            if note is not None:
                comments[column] = note.this.this
    set_comments(session, name, "TABLE", comments)


def _rename(session: Session, name: Name, to: Name, kind: str) -> None:
    if to[:2] != name[:2]:
        raise unsupported(f"ALTER {kind} … RENAME into another schema")
    if session.relation_kind(to):
        raise already_exists(to[2])
    with session.statement(lock=name) as transaction:
        transaction.write(f"alter {kind} {quoted(*name)} rename to {quoted(to[2])}")
    session.catalog.put(kind, to, session.catalog.get(kind, name) or {"owner": session.role, "keys": []})
    session.catalog.drop(kind, name)
    streams.source_renamed(session, name, to)


def _swap(session: Session, one: Name, two: Name) -> None:
    if one[:2] != two[:2]:
        raise unsupported("ALTER TABLE … SWAP WITH a table of another schema")
    if session.relation_kind(two) != "TABLE":
        raise not_found("Table", ".".join(two), "42S02")
    if streams.on_table(session, one) or streams.on_table(session, two):
        raise unsupported("ALTER TABLE … SWAP WITH on a table with a stream")
    between = f"{one[2]} {session.account.next_number()}"
    with session.statement(lock=one) as transaction:
        transaction.write(f"alter table {quoted(*one)} rename to {quoted(between)}")
        transaction.write(f"alter table {quoted(*two)} rename to {quoted(one[2])}")
        transaction.write(f"alter table {quoted(one[0], one[1], between)} rename to {quoted(two[2])}")


def _set_properties(session: Session, reader: Reader, name: Name, kind: str) -> None:
    if reader.at("TAG") or reader.at("MASKING") or reader.at("AGGREGATION"):
        raise unsupported(f"ALTER {kind} … SET {reader.peek_text()}")
    unset = reader.tokens[reader.at_token - 1].upper == "UNSET"
    if unset:
        words = [token.upper for token in reader.tokens[reader.at_token :] if token.text != ","]
        options: dict[str, lexer.Option] = dict.fromkeys(words, "")
        reader.rest()
    else:
        options = reader.options()
    for option, value in options.items():
        if option == "COMMENT":
            set_comments(session, name, kind, {"": str(value)})
        elif option not in IGNORED_PROPERTIES | {"SECURE"}:
            raise unsupported(f"ALTER {kind} … SET {option}")


def _alter_columns(session: Session, reader: Reader, name: Name, kind: str) -> None:
    """[COLUMN] c COMMENT 'x' | [SET DATA] TYPE t | SET NOT NULL | DROP NOT NULL | DROP DEFAULT, …"""
    place = session.temporary.get(name, name)
    text = reader.parenthesis() if reader.at("(") else reader.rest()
    comments = {}
    for part in lexer.split_arguments(text):
        action = Reader(part)
        action.take("COLUMN")
        column = action.identifier()
        if action.take("COMMENT"):
            comments[column] = action.text()
            continue
        if action.at("SET", "MASKING") or action.at("UNSET", "MASKING"):
            raise unsupported("masking policies")
        action.take("SET")
        with session.statement(lock=name) as transaction:
            if action.take("DATA", "TYPE") or action.take("TYPE"):
                definition = parse(f"create table t (c {action.rest()})")
                kind_there = session.translator.to_duckdb(definition).this.expressions[0].kind.sql(dialect="duckdb")
                transaction.write(f"alter table {quoted(*place)} alter column {quoted(column)} type {kind_there}")
            elif action.at("NOT", "NULL") or action.at("DROP", "NOT", "NULL") or action.at("DROP", "DEFAULT"):
                what = action.rest() if action.at("DROP") else f"set {action.rest()}"
                transaction.write(f"alter table {quoted(*place)} alter column {quoted(column)} {what}")
            else:
                raise unsupported(f"ALTER {kind} … ALTER COLUMN {action.peek_text()}")
    set_comments(session, name, kind, comments)


def comment(session: Session, reader: Reader) -> Result:
    """COMMENT [IF EXISTS] ON kind name IS 'text'."""
    from local.snowflake import objects

    reader.need("COMMENT")
    if_exists = reader.take("IF", "EXISTS")
    reader.need("ON")
    session.commit_before_ddl()
    if reader.take("COLUMN"):
        names = reader.name()
        name = session.resolve(names[:-1])
        reader.need("IS")
        with session.account.ddl_lock(name):
            set_comments(session, name, session.relation_kind(name) or "TABLE", {names[-1]: reader.text()})
        return status()
    kind = objects.read_kind(reader)
    names = reader.name()
    reader.need("IS")
    value = reader.text()
    if kind in {"TABLE", "VIEW"}:
        name = session.resolve(names)
        if session.relation_kind(name) is None:
            if if_exists:
                return status()
            raise not_found(kind.capitalize(), ".".join(name), "42S02")
        with session.account.ddl_lock(name):
            set_comments(session, name, kind, {"": value})
        return status()
    return objects.set_comment(session, kind, names, value, if_exists=if_exists)
