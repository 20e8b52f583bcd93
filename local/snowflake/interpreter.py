"""Runs a block of Snowflake Scripting in a session. Only `:name` and INTO are touched in its SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from local.snowflake import lexer, scripting
from local.snowflake.errors import SnowflakeError, compilation, convert, invalid_identifier
from local.snowflake.lexer import Reader, Token
from local.snowflake.results import Result
from local.snowflake.session import Session

_OF_LAST_STATEMENT = {"SQLROWCOUNT", "SQLFOUND", "SQLNOTFOUND", "SQLID", "ACTIVITY_COUNT"}
_OF_ERROR = {"SQLERRM", "SQLCODE", "SQLSTATE"}


class Returned(Exception):  # noqa: N818 - control flow
    """RETURN; value may be a whole Result for a table."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


class _Left(Exception):  # noqa: N818 - control flow
    def __init__(self, *, again: bool) -> None:
        super().__init__()
        self.again = again


def run_block(session: Session, block: scripting.Block, variables: dict[str, object]) -> object:
    """What RETURN gave, None without one. Raises SnowflakeError, wrapped as an uncaught exception."""
    frame = Frame(session, variables)
    try:
        frame.block(block)
    except Returned as returned:
        return returned.value
    except SnowflakeError as error:
        raise _uncaught(error) from error
    return None


def execute_text(session: Session, text: str, binds: list[object]) -> Result:
    """EXECUTE IMMEDIATE of a text, and a task's body: one statement or one block."""
    return session.execute(text, binds)


def _uncaught(error: SnowflakeError) -> SnowflakeError:
    if error.message.startswith("Uncaught exception"):
        return error
    line, column = error.position or (0, 0)
    kind = error.exception_name or "STATEMENT_ERROR"
    text = f"Uncaught exception of type '{kind}' on line {line} at position {column} : {error.message}"
    wrapped = SnowflakeError(error.code, text, error.state)
    wrapped.exception_name, wrapped.position = kind, error.position
    return wrapped


class Frame:
    """The variables of one block's run."""

    def __init__(self, session: Session, variables: dict[str, object]) -> None:
        self.session = session
        self.variables = dict(variables)
        self.cursors: dict[str, str] = {}  # name -> query, or the name of a RESULTSET
        self.opened: dict[str, Iterator[dict[str, object]]] = {}
        self.exceptions: dict[str, tuple[int, str]] = {}
        self.error: SnowflakeError | None = None
        self.last: Result | None = None
        self.last_was_dml = False

    # ---- values
    def value_of(self, name: str, offset: int = 0) -> object:
        if name in _OF_LAST_STATEMENT:
            count = self.last.rowcount if self.last and self.last_was_dml else None
            found = {
                "SQLROWCOUNT": count,
                "ACTIVITY_COUNT": self.last.rowcount if self.last else None,
                "SQLFOUND": None if count is None else count > 0,
                "SQLNOTFOUND": None if count is None else count == 0,
                "SQLID": self.last.query_id if self.last else None,
            }
            return found[name]
        if name in _OF_ERROR and self.error is not None:
            return {"SQLERRM": self.error.message, "SQLCODE": self.error.code, "SQLSTATE": self.error.state}[name]
        if name not in self.variables:
            raise invalid_identifier(name, offset=offset)
        return self.variables[name]

    def substitute(self, text: str, *, bare: bool) -> str:
        """`:name` becomes a literal; in an expression (bare) a name alone does too. A path `v:x` is left alone."""
        found = lexer.tokens(text)
        pieces, last, index = [], 0, 0
        while index < len(found):
            token = found[index]
            before = found[index - 1] if index else None
            after = found[index + 1] if index + 1 < len(found) else None
            used = 0
            if token.text == ":" and after and after.start == token.end and _starts_variable(token, before, after):
                used = 1
            elif not (bare and self._is_variable(token, before, after)):
                index += 1
                continue
            name_at = index + used
            value, end_at = self._read(found, name_at)
            pieces += [text[last : token.start], lexer.literal(value)]
            last, index = found[end_at].end, end_at + 1
        return "".join(pieces) + text[last:]

    def _is_variable(self, token: Token, before: Token | None, after: Token | None) -> bool:
        if token.kind != "word" or (before and before.text in {".", ":"}) or (after and after.text in {"(", "=>"}):
            return False
        name = token.upper
        return name in self.variables or name in _OF_LAST_STATEMENT or (name in _OF_ERROR and self.error is not None)

    def _read(self, found: Sequence[Token], at: int) -> tuple[object, int]:
        """(the value of the name at this token, the token where it ends): `r.column` of a row is one name."""
        token = found[at]
        name = str(token.value) if token.kind == "quoted" else token.upper
        value = self.value_of(name, token.start)
        if isinstance(value, dict) and at + 2 < len(found) and found[at + 1].text == ".":
            field = found[at + 2]
            key = str(field.value) if field.kind == "quoted" else field.upper
            if key not in value:
                raise invalid_identifier(f"{name}.{key}", offset=token.start)
            return value[key], at + 2
        return value, at

    def evaluate(self, expression: str) -> object:
        """A value; a query in brackets gives a Result."""
        inner = _in_brackets(expression)
        if inner is not None:
            return self.run(inner)
        text = self.substitute(expression, bare=True)
        found = lexer.tokens(text)
        if len(found) == 1 and found[0].kind in {"string", "dollar", "number"}:
            return found[0].value
        if len(found) == 1 and found[0].upper in {"TRUE", "FALSE", "NULL"}:
            return {"TRUE": True, "FALSE": False, "NULL": None}[found[0].upper]
        return self.session.execute(f"select {text}").scalar()

    def test(self, condition: str) -> bool:
        return self.evaluate(condition) in (True, 1, "true")

    def run(self, text: str) -> Result:
        """One SQL statement of the block; EXECUTE IMMEDIATE of a variable too."""
        reader = Reader(text)
        if reader.take("EXECUTE", "IMMEDIATE"):
            token = reader.peek()
            if token is not None and (token.text == ":" or (token.kind == "word" and token.upper in self.variables)):
                reader.take(":")
                statement = str(self.value_of(reader.identifier()))
            else:
                statement = reader.text()
            binds: list[object] = []
            if reader.take("USING"):
                binds = [self.value_of(name.strip().upper()) for name in reader.parenthesis().split(",")]
            reader.end()
            return execute_text(self.session, statement, binds)
        return self.session.execute(self.substitute(text, bare=False))

    # ---- statements
    def block(self, node: scripting.Block) -> None:
        try:
            for statement in [*node.declarations, *node.body]:
                self.statement(statement)
        except SnowflakeError as error:
            for names, statements in node.handlers:
                if "OTHER" in names or error.exception_name in names:
                    outer, self.error = self.error, error
                    try:
                        self.statements(statements)
                    finally:
                        self.error = outer
                    return
            raise

    def statements(self, nodes: list[scripting.Node]) -> None:
        for node in nodes:
            self.statement(node)

    def statement(self, node: scripting.Node) -> None:
        if self.session.cancelled.is_set():
            raise SnowflakeError(604, "SQL execution canceled", "57014")
        try:
            self.one(node)
        except (Returned, _Left):
            raise
        except Exception as error:
            known = convert(error)
            if not known.exception_name:
                expression = isinstance(node, scripting.Assign | scripting.If | scripting.Return | scripting.Variable)
                known.exception_name = "EXPRESSION_ERROR" if expression and known.code >= 100000 else "STATEMENT_ERROR"
            if known.position is None:
                known.position = node.position
            if known is error:
                raise
            raise known from error

    def one(self, node: scripting.Node) -> None:
        match node:
            case scripting.Sql():
                self.sql(node)
            case scripting.Variable():
                self.variable(node)
            case scripting.Cursor():
                self.cursor(node)
            case scripting.Declared():
                self.exception(node)
            case scripting.Assign():
                self.assign(node)
            case scripting.If():
                self.if_(node)
            case scripting.ForRange():
                self.for_range(node)
            case scripting.ForEach():
                self.for_each(node)
            case scripting.While():
                self.while_(node)
            case scripting.Return():
                self.return_(node)
            case scripting.Raise():
                self.raise_(node)
            case scripting.Leave():
                self.leave(node)
            case scripting.Open():
                self.open(node)
            case scripting.Fetch():
                self.fetch(node)
            case scripting.Block():
                self.block(node)

    def variable(self, node: scripting.Variable) -> None:
        self.variables[node.name] = None
        if node.value is not None:
            self.variables[node.name] = self.evaluate(node.value)

    def cursor(self, node: scripting.Cursor) -> None:
        self.cursors[node.name] = node.query

    def exception(self, node: scripting.Declared) -> None:
        self.exceptions[node.name] = (node.number, node.message)

    def assign(self, node: scripting.Assign) -> None:
        if node.name not in self.variables:
            raise invalid_identifier(node.name)
        self.variables[node.name] = self.evaluate(node.value)

    def if_(self, node: scripting.If) -> None:
        for condition, body in node.branches:
            if self.test(condition):
                self.statements(body)
                return

    def _round(self, body: list[scripting.Node]) -> bool:
        """One turn of a loop; False when it is left."""
        try:
            self.statements(body)
        except _Left as left:
            return left.again
        return True

    def for_range(self, node: scripting.ForRange) -> None:
        low, high = (int(str(self.evaluate(bound))) for bound in (node.low, node.high))
        numbers = range(low, high + 1)
        for number in reversed(numbers) if node.reverse else numbers:
            self.variables[node.name] = number
            if not self._round(node.body):
                return

    def for_each(self, node: scripting.ForEach) -> None:
        for row in self.rows(node.source.strip().upper()):
            self.variables[node.name] = row
            if not self._round(node.body):
                return

    def rows(self, name: str) -> Iterator[dict[str, object]]:
        """The rows of a cursor or RESULTSET."""
        source = self.cursors.get(name)
        if source is not None and source.upper() in self.variables:
            name, source = source.upper(), None
        result = self.run(source) if source is not None else self.value_of(name)
        if not isinstance(result, Result):
            raise compilation(904, f"'{name}' is no cursor and no RESULTSET.", "42000")
        names = [column.name for column in result.columns]
        return (dict(zip(names, row, strict=True)) for row in result.rows())

    def while_(self, node: scripting.While) -> None:
        while not node.test_first or self.test(node.condition):
            if not self._round(node.body):
                return
            if not node.test_first and self.test(node.condition):
                return

    def return_(self, node: scripting.Return) -> None:
        table = re.fullmatch(r"TABLE\s*\((.*)\)", node.value, re.IGNORECASE | re.DOTALL)
        if table is None:
            raise Returned(self.evaluate(node.value))
        name = table[1].strip().upper()
        if name in self.variables:
            raise Returned(self.variables[name])
        raise Returned(self.run(self.cursors.get(name, table[1].strip())))

    def raise_(self, node: scripting.Raise) -> None:
        if node.name is None:
            if self.error is None:
                raise compilation(1003, "RAISE without a name stands outside of an exception handler.", "42000")
            raise self.error
        if node.name not in self.exceptions:
            raise invalid_identifier(node.name)
        number, message = self.exceptions[node.name]
        error = SnowflakeError(number, message, "P0001")
        error.exception_name, error.position = node.name, node.position
        raise error

    def leave(self, node: scripting.Leave) -> None:
        raise _Left(again=node.again)

    def open(self, node: scripting.Open) -> None:
        query = self.cursors.get(node.name)
        if query is None:
            raise invalid_identifier(node.name)
        if node.using:
            binds = [self.evaluate(part) for part in lexer.split_arguments(node.using)]
            result = self.session.execute(self.substitute(query, bare=False), binds)
            names = [column.name for column in result.columns]
            self.opened[node.name] = (dict(zip(names, row, strict=True)) for row in result.rows())
        else:
            self.opened[node.name] = self.rows(node.name)

    def fetch(self, node: scripting.Fetch) -> None:
        if node.name not in self.opened:
            raise compilation(90246, f"Cursor '{node.name}' is not open.", "P0000")
        row = next(self.opened[node.name], None)
        values = list(row.values()) if row is not None else [None] * len(node.into)
        self.variables.update(zip(node.into, values, strict=True))

    def sql(self, node: scripting.Sql) -> None:
        text, into = _cut_into(node.text)
        self.last = self.run(text)
        self.last_was_dml = self.last.dml
        if into:
            rows = self.last.rows()
            if len(rows) != 1:
                message = f"A SELECT INTO statement expects exactly 1 returned row, but got {len(rows)}."
                raise SnowflakeError(90247, message, "P0000")
            for name in into:
                if name not in self.variables:
                    raise invalid_identifier(name)
            self.variables.update(zip(into, rows[0], strict=True))


def _starts_variable(colon: Token, before: Token | None, after: Token) -> bool:
    if after.kind not in {"word", "quoted"}:
        return False
    if before is None or before.end < colon.start:
        return before is None or before.text not in {")", "]"}
    return before.kind == "operator" and before.text not in {")", "]"}


def _in_brackets(expression: str) -> str | None:
    """The query of `(select …)`, `(execute immediate …)` and the like; None for a plain expression."""
    reader = Reader(expression)
    if not reader.at("("):
        return expression if lexer.head(expression) == "SELECT" else None
    inner = reader.parenthesis()
    first = lexer.head(inner)
    if reader.done() and first in {"SELECT", "WITH", "EXECUTE", "SHOW", "CALL", "DESC", "DESCRIBE", "LIST", "INSERT"}:
        return inner
    return None


def _cut_into(text: str) -> tuple[str, list[str]]:
    """`select a, b into :x, :y from t` as (the select without INTO, the names)."""
    found = lexer.tokens(text)
    if not found or found[0].upper not in {"SELECT", "WITH"}:
        return text, []
    depth = 0
    for index, token in enumerate(found):
        depth += (token.text == "(") - (token.text == ")")
        if depth or token.upper != "INTO":
            continue
        names, at = [], index + 1
        while at < len(found):
            at += found[at].text == ":"
            names.append(found[at].upper)
            if at + 1 < len(found) and found[at + 1].text == ",":
                at += 2
                continue
            break
        return text[: token.start] + text[found[at].end :], names
    return text, []
