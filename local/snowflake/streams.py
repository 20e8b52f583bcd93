"""Append-only streams: a hidden queue table beside the source table, and a view with the stream's name over it.

Rows enter the queue in the transaction of the DML on the source. A committed DML that reads the stream deletes what
it could see, in its own transaction: rollback, two streams, and no lost row come from DuckDB's transactions.
"""

from __future__ import annotations

from sqlglot import exp

from local.snowflake.catalog import Name, Properties, quoted, text
from local.snowflake.errors import SnowflakeError, already_exists, not_found, unsupported
from local.snowflake.lexer import Reader
from local.snowflake.privileges import forget_grants, need, need_create
from local.snowflake.results import Result, status
from local.snowflake.session import Session
from local.snowflake.translate import HIDDEN

Tracked = list[tuple[Name, Properties]]
FIRST_LOCAL_ROW = 36_028_797_018_960_000  # DuckDB: rows of the open transaction carry rowids from here on


def on_table(session: Session, table: Name) -> Tracked:
    """The streams that record this table's changes."""
    return [
        (name, properties)
        for name, properties in session.catalog.all("STREAM")
        if tuple(properties["source"]) == table and not properties["stale"]
    ]


def _queue(properties: Properties) -> str:
    return quoted(properties["source"][0], HIDDEN, properties["queue"])


def create(session: Session, reader: Reader, *, replace: bool, alter: bool) -> Result:
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    name = session.resolve(reader.name())
    copies_grants = reader.take("COPY", "GRANTS")
    reader.need("ON")
    if not reader.take("TABLE"):
        raise unsupported(f"CREATE STREAM … ON {reader.peek_text()}")
    source = session.resolve(reader.name())
    if reader.at("AT") or reader.at("BEFORE"):
        raise unsupported("CREATE STREAM … AT or BEFORE (time travel)")
    options = reader.options()
    if options.get("SHOW_INITIAL_ROWS"):  # where its offset lies after the first read, no page says
        raise unsupported("CREATE STREAM … SHOW_INITIAL_ROWS")
    there = session.catalog.get("STREAM", name)
    if there and alter:
        there["comment"] = str(options.get("COMMENT", ""))
        session.catalog.put("STREAM", name, there)
        return status()
    if there and if_not_exists:
        return status(f"{name[2]} already exists, statement succeeded.")
    if session.relation_kind(name) and not (there and replace):
        raise already_exists(name[2])
    if session.relation_kind(source) != "TABLE":
        raise not_found("Table", ".".join(source), "42S02")
    need_create(session, "STREAM", name)
    need(session, "TABLE", source, "SELECT")
    if source[0] != name[0]:
        raise unsupported("a stream in another database than its table")
    if there:
        drop(session, name)
        if not copies_grants:
            forget_grants(session, "STREAM", name)
    properties: Properties = {
        "source": list(source),
        "append_only": bool(options.get("APPEND_ONLY", False)),
        "queue": f"stream_{session.account.next_number()}",
        "stale": False,
        "comment": str(options.get("COMMENT", "")),
        "owner": session.role,
    }
    queue = _queue(properties)
    row_id = f"md5({text(properties['queue'])} || rowid::varchar)"
    with session.statement() as transaction:
        transaction.write(
            f'create table {queue} as select *, 0::bigint as "TRANSACTION_NUMBER" from {quoted(*source)} limit 0'
        )
        transaction.write(
            f"""create or replace view {quoted(*name)} as
                select * exclude ("TRANSACTION_NUMBER"), 'INSERT' as "METADATA$ACTION", false as "METADATA$ISUPDATE",
                       {row_id} as "METADATA$ROW_ID"
                from {queue} where "TRANSACTION_NUMBER" is distinct from getvariable('transaction_number')"""
        )
    session.catalog.put("STREAM", name, properties)
    return status(f"Stream {name[2]} successfully created.")


def alter(session: Session, reader: Reader) -> Result:
    """ALTER STREAM … SET COMMENT; properties of change tracking are accepted."""
    if_exists = reader.take("IF", "EXISTS")
    name = session.resolve(reader.name())
    properties = session.catalog.get("STREAM", name)
    if properties is None:
        if if_exists:
            return status()
        raise not_found("Stream", ".".join(name))
    reader.need("SET")
    options = reader.options()
    for option in options.keys() - {"COMMENT"}:
        raise unsupported(f"ALTER STREAM … SET {option}")
    properties["comment"] = str(options["COMMENT"])
    session.catalog.put("STREAM", name, properties)
    return status()


def drop(session: Session, name: Name) -> None:
    properties = session.catalog.need("STREAM", name)
    with session.statement() as transaction:
        transaction.write(f"drop view if exists {quoted(*name)}")
        transaction.write(f"drop table if exists {_queue(properties)}")
    session.catalog.drop("STREAM", name)


def has_data(session: Session, name: Name) -> bool:
    """Whether a read now would find a row."""
    properties = session.catalog.need("STREAM", name)
    number = session.transaction.number
    sql = f'select 1 from {_queue(properties)} where "TRANSACTION_NUMBER" <> {number or -2} limit 1'
    cursor = session.transaction.duck if number else session.meta
    return cursor.execute(sql).fetchone() is not None


def mark(session: Session, table: Name) -> int:
    """Where the rows that the next statement inserts begin."""
    first = FIRST_LOCAL_ROW
    sql = f"select coalesce(max(rowid), {first - 1}) from {quoted(*table)} where rowid >= {first}"
    return int(session.transaction.duck.execute(sql).fetchall()[0][0])


def capture(session: Session, table: Name, tracked: Tracked, after: int) -> None:
    """Queue the rows that this transaction inserted after mark(): inside DuckDB, nothing through Python."""
    transaction = session.transaction
    for _, properties in tracked:
        transaction.write(
            f"""insert into {_queue(properties)} by name select *, {transaction.number} as "TRANSACTION_NUMBER"
                from {quoted(*table)} where rowid > {after}"""
        )


def refuse_change(tracked: Tracked, what: str) -> None:
    """A standard stream would have to record deleted and changed rows: not done. Append-only ones ignore them."""
    if any(not properties["append_only"] for _, properties in tracked):
        raise unsupported(f"{what} of a table with a standard stream (use APPEND_ONLY = TRUE)")


def read_by(session: Session, tree: exp.Expr, target: exp.Table | None = None) -> set[str]:
    """The queues of the streams that a statement reads, directly or through views."""
    found: set[str] = set()
    for table in tree.find_all(exp.Table):
        if table is target or not isinstance(table.this, exp.Identifier):
            continue
        if not (table.args.get("db") or session.schema) or not (table.args.get("catalog") or session.database):
            continue
        name = session.table_name(table)
        if name is not None:
            found |= _of_relation(session, name)
    return found


def _of_relation(session: Session, name: Name) -> set[str]:
    properties = session.catalog.get("STREAM", name)
    if properties is not None:
        if properties["stale"]:
            table = ".".join(properties["source"])
            raise SnowflakeError(91901, f"Base table '{table}' dropped, cannot read from stream '{name[2]}'.", "01000")
        return {_queue(properties)}
    view = session.catalog.get("VIEW", name)
    found: set[str] = set()
    for relation in (view or {}).get("reads", []):
        found |= _of_relation(session, tuple(relation))
    return found


def source_replaced(session: Session, table: Name) -> None:
    """DROP or CREATE OR REPLACE of the table makes its streams stale."""
    for name, properties in on_table(session, table):
        properties["stale"] = True
        session.catalog.put("STREAM", name, properties)


def source_renamed(session: Session, table: Name, to: Name) -> None:
    for name, properties in on_table(session, table):
        properties["source"] = list(to)
        session.catalog.put("STREAM", name, properties)


def add_column(session: Session, table: Name, column: str, kind: str) -> None:
    """A column added to the table is in its streams too, NULL for the rows already queued."""
    for _, properties in on_table(session, table):
        session.transaction.write(f"alter table {_queue(properties)} add column {quoted(column)} {kind}")
