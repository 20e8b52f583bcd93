"""One login: current names, role, parameters, variables, temporary tables, transactions. Statements enter here."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
from sqlglot import exp

from local.snowflake import lexer
from local.snowflake.catalog import Catalog, Name, quoted, text, utc_now
from local.snowflake.errors import SnowflakeError, compilation, convert, no_such_session_object, unsupported
from local.snowflake.results import Column, Result, column_of_duckdb
from local.snowflake.transactions import Transaction
from local.snowflake.translate import Translator

if TYPE_CHECKING:
    from local.snowflake.account import Account

DEFAULT_PARAMETERS: dict[str, lexer.Option] = {
    "AUTOCOMMIT": True,
    "ERROR_ON_NONDETERMINISTIC_MERGE": True,
    "LOCK_TIMEOUT": 43200,
    "MULTI_STATEMENT_COUNT": 1,
    "QUERY_TAG": "",
    "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
    "STATEMENT_TIMEOUT_IN_SECONDS": 172800,
    "TIMESTAMP_TYPE_MAPPING": "TIMESTAMP_NTZ",
    "TIMEZONE": "America/Los_Angeles",
    "TRANSACTION_ABORT_ON_ERROR": False,
}


@dataclass(slots=True)
class Query:
    """One line of the query history."""

    query_id: str
    text: str
    database: str | None
    schema: str | None
    session_id: int
    user: str
    role: str
    warehouse: str | None
    query_tag: str
    start: datetime
    end: datetime
    rows: int | None = None
    error: SnowflakeError | None = None


class Session:
    def __init__(self, account: Account, user: str) -> None:
        self.account, self.user, self.id = account, user, account.next_number()
        self.lock = threading.RLock()  # one statement at a time
        self.role = "PUBLIC"
        self.secondary_roles = True  # USE SECONDARY ROLES ALL, an account's default
        self.warehouse: str | None = None
        self.database: str | None = None
        self.schema: str | None = None
        self.parameters: dict[str, lexer.Option] = {}
        self.variables: dict[str, object] = {}  # SET name = …
        self.temporary: dict[Name, Name] = {}  # a temporary table or view and its place in DuckDB
        self.results: OrderedDict[str, Result] = OrderedDict()  # the last ones, for RESULT_SCAN
        self.last: Result | None = None
        self.call_depth = 0
        self.owner_rights = False  # inside a procedure that runs with its owner's rights
        self.return_value: str | None = None  # SYSTEM$SET_RETURN_VALUE
        self.predecessor_value: str | None = None  # SYSTEM$GET_PREDECESSOR_RETURN_VALUE
        self.cancelled = threading.Event()
        self.meta = account.cursor()  # reads the catalog outside any transaction
        self._looked_up: dict[tuple[str, Name], list[Any]] = {}  # what it said during this statement
        self._drops_seen = account.drops
        self._scopes = [Transaction(account.cursor(), account.locks, self.id, self.cancelled)]
        self._translators = [Translator(self._scopes[0].duck)]
        self.set_parameter("TIMEZONE", DEFAULT_PARAMETERS["TIMEZONE"])
        self.parameters.clear()

    # ---- shortcuts
    @property
    def catalog(self) -> Catalog:
        return self.account.catalog

    @property
    def transaction(self) -> Transaction:
        """The innermost scope."""
        return self._scopes[-1]

    @property
    def translator(self) -> Translator:
        return self._translators[-1]

    def parameter(self, name: str) -> lexer.Option:
        return self.parameters.get(name, DEFAULT_PARAMETERS.get(name, ""))

    def set_parameter(self, name: str, value: lexer.Option) -> None:
        """TIMEZONE acts on DuckDB at once; an unknown zone is Snowflake's error."""
        if name == "TIMEZONE":
            try:
                for scope in self._scopes:
                    scope.duck.execute(f"set TimeZone = {text(str(value))}")
            except duckdb.Error:
                raise compilation(1008, f"invalid value [{value}] for parameter 'TIMEZONE'", "22023") from None
        self.parameters[name] = value

    def unset_parameter(self, name: str) -> None:
        if name in DEFAULT_PARAMETERS:
            self.set_parameter(name, DEFAULT_PARAMETERS[name])
        self.parameters.pop(name, None)

    # ---- current names
    def use(self, database: str | None, schema: str | None = None) -> None:
        """Make a database, and a schema of it (PUBLIC if it is there and none is named), current."""
        if database is not None and not self.account.has_database(database):
            raise no_such_session_object()
        if schema is not None and not self.has_schema(database or "", schema):
            raise no_such_session_object()
        if database is not None and schema is None and self.has_schema(database, "PUBLIC"):
            schema = "PUBLIC"
        self.database, self.schema = database, schema
        for scope, translator in zip(self._scopes, self._translators, strict=True):
            scope.duck.execute(f"use {quoted(database or 'memory', schema or 'main')}")
            translator.use(database, schema)
        self.meta.execute(f"use {quoted(database or 'memory', schema or 'main')}")

    def use_role(self, role: str) -> None:
        self.role = role

    def has_schema(self, database: str, schema: str) -> bool:
        sql = "select 1 from duckdb_schemas() where database_name = ? and schema_name = ?"
        return self.meta.execute(sql, [database, schema]).fetchone() is not None

    def resolve(self, parts: Sequence[str]) -> Name:
        """The full name of an object, with the current database and schema for what is left out."""
        if len(parts) < 3 and not self.database:
            hint = "Call 'USE DATABASE', or use a qualified name."
            message = f"Cannot perform operation. This session does not have a current database. {hint}"
            raise SnowflakeError(90105, message, "22000")
        if len(parts) < 2 and not self.schema:
            hint = "Call 'USE SCHEMA', or use a qualified name."
            message = f"Cannot perform operation. This session does not have a current schema. {hint}"
            raise SnowflakeError(90106, message, "22000")
        database, schema, name = [self.database or "", self.schema or ""][: 3 - len(parts)] + list(parts)
        return database, schema, name

    def table_name(self, table: exp.Table) -> Name | None:
        """The full name of a table in a statement, None for a stage, a function or VALUES."""
        parts = [table.args.get("catalog"), table.args.get("db"), table.this]
        names = [part for part in parts if part is not None]
        if not all(isinstance(part, exp.Identifier) for part in names):
            return None
        return self.resolve([part.this if part.quoted else part.this.upper() for part in names])

    def relation_kind(self, name: Name) -> str | None:
        """TABLE, VIEW or None, by exact name. A temporary table hides a permanent one."""
        if name in self.temporary:
            return "VIEW" if self.temporary[name][2].startswith("view ") else "TABLE"
        for kind in ("table", "view"):
            sql = f"select 1 from duckdb_{kind}s() where database_name = ? and schema_name = ? and {kind}_name = ?"
            if self._look_up(sql, name):
                return kind.upper()
        return None

    def columns(self, name: Name) -> list[tuple[str, str]]:
        """(name, DuckDB type) of a table's or view's columns, empty if there is none of that exact name."""
        sql = """select column_name, data_type from duckdb_columns()
                 where database_name = ? and schema_name = ? and table_name = ? order by column_index"""
        if name in self.temporary:
            return self.transaction.duck.execute(sql, list(self.temporary[name])).fetchall()
        return self._look_up(sql, name)

    def _look_up(self, sql: str, name: Name) -> list[Any]:
        """Once per statement: each look goes through the whole catalog, and the rewrites ask over and over."""
        if (sql, name) not in self._looked_up:
            self._looked_up[sql, name] = self.meta.execute(sql, list(name)).fetchall()
        return self._looked_up[sql, name]

    # ---- statements
    def execute(self, sql: str, binds: Sequence[object] = ()) -> Result:
        """Run one statement. binds: values for `?` or `:1`. Raises SnowflakeError, nothing else."""
        start = utc_now()
        result, failure = None, None
        try:
            with self.lock:
                self._looked_up.clear()
                self._leave_dropped()
                sent = inline_binds(sql, binds) if binds else sql
                sent = self._inline_names(sent)
                result = self.account.run(self, sent)
                self._leave_dropped()
                self._remember(result)
                return result
        except RecursionError:
            failure = SnowflakeError(1003, "SQL compilation error:\nstatement is nested too deeply.", "42000")
            raise failure from None
        except Exception as error:
            failure = convert(error, sql)
            raise failure from error
        finally:
            self.account.queries.append(
                Query(
                    query_id=result.query_id if result else "",
                    text=sql,
                    database=self.database,
                    schema=self.schema,
                    session_id=self.id,
                    user=self.user,
                    role=self.role,
                    warehouse=self.warehouse,
                    query_tag=str(self.parameter("QUERY_TAG")),
                    start=start,
                    end=utc_now(),
                    rows=result.rowcount if result else None,
                    error=failure,
                )
            )

    def _leave_dropped(self) -> None:
        """Another session may have dropped the current database or schema; only its own thread may touch a cursor."""
        if self._drops_seen == self.account.drops:
            return
        self._drops_seen = self.account.drops
        there = self.database is not None and self.account.has_database(self.database)
        keep = there and self.schema is not None and self.has_schema(self.database or "", self.schema)
        self.use(self.database if there else None, self.schema if keep else None)

    def _remember(self, result: Result) -> None:
        self.last = result
        self.results[result.query_id] = result
        while len(self.results) > 20:
            self.results.popitem(last=False)

    def query(self, sql: str) -> Result:
        """Run DuckDB SQL that only reads."""
        with self.transaction.reading():
            cursor = self.transaction.read(sql)
            described = [(str(entry[0]), str(entry[1])) for entry in cursor.description or []]
            table = cursor.to_arrow_table()
        if table is None:
            raise unsupported("a query without a result")
        columns: list[Column] = [column_of_duckdb(name, kind) for name, kind in described]
        return Result(table, columns, rowcount=table.num_rows)

    @contextmanager
    def statement(self, lock: Name | None = None, purpose: str = "table") -> Iterator[Transaction]:
        """The transaction of one writing statement. lock: the table that no other may change at the same time."""
        key = f"{purpose} {'.'.join(lock)}" if lock and lock not in self.temporary else None
        try:
            with self.transaction.statement(self.account.next_number(), key):
                self._looked_up.clear()  # another may have changed it while this one waited for the lock
                yield self.transaction
        finally:
            self._looked_up.clear()

    def begin(self) -> None:
        """BEGIN: a second one is ignored; in a procedure it opens a scope beside the caller's transaction."""
        current = self.transaction
        if current.number:
            if current.depth == self.call_depth:
                return
            current = self._push_scope()
        current.begin(self.account.next_number(), explicit=True, depth=self.call_depth)

    def end_transaction(self, *, commit: bool) -> None:
        current = self.transaction
        if current.number and current.depth != self.call_depth:
            message = "Modifying a transaction that has started at a different scope is not allowed."
            raise SnowflakeError(90231, f"Stored procedure execution error: {message}", "25000")
        current.commit() if commit else current.rollback()
        self._pop_scopes()

    def commit_before_ddl(self) -> None:
        """DDL commits the open transaction and is its own."""
        self.end_transaction(commit=True)

    def leave_procedure(self) -> bool:
        """Undo what the procedure at this depth began and did not end; True if there was such a thing."""
        current = self.transaction
        left = bool(current.number) and current.explicit and current.depth == self.call_depth and self.call_depth > 0
        if left:
            current.rollback()
            self._pop_scopes()
        return left

    def _push_scope(self) -> Transaction:
        scope = Transaction(self.account.cursor(), self.account.locks, self.account.next_number(), self.cancelled)
        scope.duck.execute(f"set TimeZone = {text(str(self.parameter('TIMEZONE')))}")
        self._scopes.append(scope)
        self._translators.append(Translator(scope.duck))
        self.use(self.database, self.schema)
        return scope

    def _pop_scopes(self) -> None:
        while len(self._scopes) > 1 and not self._scopes[-1].number:
            self._scopes.pop().duck.close()
            self._translators.pop()

    def close(self) -> None:
        """Log out: roll back, drop temporary tables."""
        for scope in self._scopes:
            scope.rollback()
            scope.duck.close()
        self.meta.close()

    def _inline_names(self, sql: str) -> str:
        """`$name` becomes its value and IDENTIFIER('x') the name x; never inside a string, a quoted name or a body."""
        found = lexer.tokens(sql) if "$" in sql or "identifier" in sql.lower() else []
        pieces, last = [], 0
        for index, token in enumerate(found):
            if token.upper == "IDENTIFIER" and [t.kind for t in found[index + 1 : index + 4]][1:2] == ["string"]:
                pieces += [sql[last : token.start], str(found[index + 2].value)]
                last = found[index + 3].end
            elif token.kind == "word" and token.text[0] == "$" and not token.text[1:].isdigit():
                pieces += [sql[last : token.start], lexer.literal(self.variable(token.upper[1:]))]
                last = token.end
        return "".join(pieces) + sql[last:]

    def variable(self, name: str) -> object:
        """The value of a session variable."""
        if self.owner_rights:
            message = f"Use of session variable '${name}' is not allowed in owners rights stored procedure"
            raise SnowflakeError(90234, f"Stored procedure execution error: {message}", "P0000")
        if name not in self.variables:
            raise compilation(2211, f"error line 1 at position 0\nSession variable '${name}' does not exist", "02000")
        return self.variables[name]


def inline_binds(sql: str, binds: Sequence[object]) -> str:
    """`?` and `:1` outside quotes become literals, so that every handler reads plain text."""
    found = lexer.tokens(sql)
    pieces, last, used = [], 0, 0
    for index, token in enumerate(found):
        after = found[index + 1] if index + 1 < len(found) else None
        if token.text == "?":
            if used >= len(binds):
                raise compilation(2049, f"error line 1 at position {token.start}\nBind variable ? not set.", "42601")
            pieces += [sql[last : token.start], lexer.literal(binds[used])]
            last, used = token.end, used + 1
        elif token.text == ":" and after and after.kind == "number" and after.start == token.end:
            if index and found[index - 1].end == token.start and found[index - 1].text not in {"(", ",", "="}:
                continue  # a path
            pieces += [sql[last : token.start], lexer.literal(binds[int(after.text) - 1])]
            last = after.end
    return "".join(pieces) + sql[last:]
