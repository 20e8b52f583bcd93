"""From Snowflake's SQL to DuckDB's: the only module that touches fakesnow (private names: its version is pinned)."""
# ruff: noqa: SLF001

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import cache

import duckdb
import sqlglot
from fakesnow import info_schema, macros
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.transforms import show
from sqlglot import exp

from local.snowflake.errors import unsupported

HIDDEN = "_fs_information_schema"  # the schema that fakesnow hides from every listing; our tables live there too
GLOBAL = "_fs_global"  # the account's own database
logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of every statement that it leaves unparsed


def parse(sql: str) -> exp.Expr:
    """One statement of Snowflake's SQL. What sqlglot does not understand is refused, never passed on."""
    tree = sqlglot.parse_one(sql, read="snowflake")
    if isinstance(tree, exp.Command):
        raise unsupported(f"statement {' '.join(sql.split()[:4])} …")
    if tree.find(exp.HistoricalData):
        raise unsupported("AT and BEFORE (time travel)")
    return tree


def parse_duckdb(sql: str) -> exp.Expr:
    return sqlglot.parse_one(sql, read="duckdb")


@cache
def _reserved() -> frozenset[str]:
    """Words that DuckDB does not take as a bare name though Snowflake does."""
    kinds = "('reserved', 'type_function', 'column_name')"
    rows = duckdb.execute(f"select upper(keyword_name) from duckdb_keywords() where keyword_category in {kinds}")
    return frozenset(name for (name,) in rows.fetchall())


KEPT = 2000  # statements
END = object()
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")  # how a variable of a procedure is written out
_translated: dict[tuple[object, ...], str] = {}


class Translator:
    """fakesnow's rewrites for one session; database and schema are the current ones."""

    def __init__(self, duck: duckdb.DuckDBPyConnection) -> None:
        self._connection = FakeSnowflakeConnection(duck, {}, None, None, create_database=False, create_schema=False)
        self._cursor = FakeSnowflakeCursor(self._connection, duck)

    def use(self, database: str | None, schema: str | None) -> None:
        self._connection.database, self._connection._schema = database, schema
        self._connection.database_set, self._connection.schema_set = database is not None, schema is not None

    def to_duckdb(self, tree: exp.Expr) -> exp.Expr:
        done = self._cursor._transform(tree, None)
        for name in done.find_all(exp.Identifier):
            if not name.quoted and isinstance(name.this, str) and name.this.upper() in _reserved():
                name.set("quoted", True)
        return done

    def sql(self, tree: exp.Expr) -> str:
        """fakesnow walks a tree 80 times: a procedure's MERGE costs a second of CPU, so what was done once is kept."""
        if isinstance(tree, exp.Create):  # CREATE TABLE (…) AS SELECT *: fakesnow asks DuckDB for the columns
            return _text(self.to_duckdb(tree))
        moments: list[str] = []
        key = (self._connection.database, self._connection._schema, *_parts(tree, moments))
        done = _translated.get(key)
        if done is None:
            done = _text(self.to_duckdb(tree))
            for number, moment in enumerate(moments):
                done = done.replace(moment, f"\0{number}\0")
            _translated[key] = done
            if len(_translated) > KEPT:
                _translated.pop(next(iter(_translated)), None)
        for number, moment in enumerate(moments):
            done = done.replace(f"\0{number}\0", moment)
        return done


def _text(tree: exp.Expr) -> str:
    """DuckDB's SQL. What it has no words for is refused; sqlglot would leave it out with a warning."""
    try:
        return tree.sql(dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.UnsupportedError as error:
        raise unsupported(str(error)) from error


def _parts(value: object, moments: list[str]) -> Iterator[object]:
    """All that a tree says, in order, but for the times of variables: trees with the same parts translate alike."""
    if isinstance(value, exp.Expr):
        yield type(value)
        for name, part in value.args.items():
            if part is not None:
                yield name
                yield from _parts(part, moments)
        yield END
    elif isinstance(value, list):
        for part in value:
            yield from _parts(part, moments)
        yield END
    elif isinstance(value, str) and MOMENT.fullmatch(value):
        if value not in moments:
            moments.append(value)
        yield moments.index(value)
    else:
        yield repr(value)


def account_ddl() -> str:
    """What fakesnow keeps once for all databases."""
    return info_schema.fs_global_creation_sql() + ";" + show.fs_global_creation_sql()


def database_ddl(database: str) -> str:
    """What fakesnow keeps in each database: information schema and macros."""
    text = info_schema.per_db_creation_sql(database) + macros.creation_sql(database)
    return re.sub(rf"(?<!['\"\w]){re.escape(database)}\.", f'"{database}".', text)
