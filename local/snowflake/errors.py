"""The only place that makes codes: every failure becomes (code, SQL state, message).

A client gets them as HTTP 200 with `success: false`; an HTTP 500 would be sent again until its network_timeout.
"""

from __future__ import annotations

import logging
import re

import duckdb
import sqlglot
import sqlglot.errors
from snowflake.connector.errors import Error as ConnectorError
from sqlglot.dialects.snowflake import Snowflake

from local.snowflake import lexer

_log = logging.getLogger(__name__)


class SnowflakeError(Exception):
    """code as in the documentation (2003 for 002003), state: the five-character SQL state."""

    def __init__(self, code: int, message: str, state: str = "42000") -> None:
        super().__init__(message)
        self.code, self.message, self.state = code, message, state
        self.exception_name = ""  # in a procedure: STATEMENT_ERROR, EXPRESSION_ERROR or a declared name
        self.position: tuple[int, int] | None = None  # in a procedure: line and column of the failing statement

    @property
    def code_text(self) -> str:
        return f"{self.code:06d}" if self.code >= 0 else str(self.code)


def compilation(code: int, message: str, state: str = "42000") -> SnowflakeError:
    return SnowflakeError(code, f"SQL compilation error:\n{message}", state)


def not_found(kind: str, name: str, state: str = "02000") -> SnowflakeError:
    return compilation(2003, f"{kind} '{name}' does not exist or not authorized.", state)


def already_exists(name: str) -> SnowflakeError:
    return compilation(2002, f"Object '{name}' already exists.", "42710")


def no_such_session_object() -> SnowflakeError:
    """USE of something that is not there."""
    return compilation(2043, "Object does not exist, or operation cannot be performed.", "02000")


def syntax(sql: str, token: lexer.Token | None) -> SnowflakeError:
    line, column = lexer.position(sql, token.start if token else len(sql))
    text = token.text if token else "<EOF>"
    return compilation(1003, f"syntax error line {line} at position {column} unexpected '{text}'.", "42000")


def invalid_identifier(name: str, sql: str = "", offset: int | None = None) -> SnowflakeError:
    """offset: of the name in sql; searched for when not known."""
    if offset is None:
        found = [t.start for t in lexer.tokens(sql) if str(t.value).upper() == name.split(".")[-1].upper()]
        offset = found[0] if found else 0
    line, column = lexer.position(sql, offset)
    return compilation(904, f"error line {line} at position {column}\ninvalid identifier '{name}'", "42000")


def unsupported(what: str) -> SnowflakeError:
    """A gap of this stand-in; its own mark, so that nobody reads it as Snowflake's refusal."""
    return SnowflakeError(2, f"not supported locally: {what}", "0A000")


def convert(error: BaseException, sql: str = "") -> SnowflakeError:
    """Any exception of a handler, of sqlglot, fakesnow or DuckDB as Snowflake's error."""
    if isinstance(error, SnowflakeError):
        return error
    if isinstance(error, lexer.Unexpected):
        return syntax(sql, error.token)
    if isinstance(error, sqlglot.errors.SqlglotError):
        return _syntax_of_sqlglot(error, sql)
    if isinstance(error, ConnectorError):
        if isinstance(error.__cause__, duckdb.Error):
            return convert(error.__cause__, sql)
        if error.errno == 9999:
            return unsupported(str(error.msg))
        return SnowflakeError(error.errno or 1003, str(error.msg), error.sqlstate or "42000")
    if isinstance(error, duckdb.Error):
        return _of_duckdb(error, sql)
    _log.error("a statement failed inside the local Snowflake", exc_info=error)
    return SnowflakeError(603, f"SQL execution internal error: {type(error).__name__}: {error}", "XX000")


def _syntax_of_sqlglot(error: sqlglot.errors.SqlglotError, sql: str) -> SnowflakeError:
    details = getattr(error, "errors", None) or [{}]
    line, column, text = details[0].get("line") or 1, details[0].get("col") or 0, details[0].get("highlight") or ""
    first = lexer.tokens(sql)[:1]
    if not text and first:
        text, column = first[0].text, first[0].start
    elif text:
        column = max(column - len(text), 0)
    return compilation(1003, f"syntax error line {line} at position {column} unexpected '{text}'.", "42000")


def _of_duckdb(error: duckdb.Error, sql: str) -> SnowflakeError:
    text = str(error).split("\n\nLINE ")[0].strip()
    first = text.split("\n")[0]
    ours = text.rsplit("SNOWFLAKE", 1)
    if len(ours) == 2 and (found := re.match(r"(\d+)\|(\w+)\|(.*)", ours[1], re.DOTALL)) is not None:
        message = found[3].strip().removesuffix(")" if isinstance(error, duckdb.ConstraintException) else "")
        return SnowflakeError(int(found[1]), message, found[2])  # raised by one of our macros
    if isinstance(error, duckdb.CatalogException):
        return _of_catalog(text, first, sql)
    if isinstance(error, duckdb.BinderException):
        return _of_binder(text, first, sql)
    if isinstance(error, duckdb.ConstraintException):
        return SnowflakeError(100072, "NULL result in a non-nullable column", "22000")
    if isinstance(error, duckdb.InterruptException):
        return SnowflakeError(604, "SQL execution canceled", "57014")
    if isinstance(error, duckdb.ParserException):
        return syntax(sql, next(iter(lexer.tokens(sql)), None))
    if isinstance(error, duckdb.NotImplementedException):
        return unsupported(first)
    return _of_values(text, first)


def _of_catalog(text: str, first: str, sql: str) -> SnowflakeError:
    if (found := re.search(r"Table with name \"?([^\"\s!]+)\"? does not exist", text)) is not None:
        return not_found("Object", found[1], "42S02")
    if (found := re.search(r"[Ff]unction with name \"?([^\"\s!]+)\"? does not exist", text)) is not None:
        name = found[1].upper()
        if name in Snowflake.Parser.FUNCTIONS:  # an account may have it
            return unsupported(f"function {name}")
        return compilation(2140, f"Unknown function {name}", "42601")
    if (found := re.search(r"Schema with name \"?([^\"\s!]+)\"? does not exist", text)) is not None:
        return not_found("Schema", found[1])
    if (found := re.search(r"with name \"?([^\"\s]+)\"? already exists", text)) is not None:
        return already_exists(found[1])
    if (found := re.search(r"[Cc]olumn with name \"?([^\"\s]+)\"? does not exist", text)) is not None:
        return invalid_identifier(found[1], sql)
    return compilation(2003, first, "02000")


def _of_binder(text: str, first: str, sql: str) -> SnowflakeError:
    missing = (
        r'Referenced column "([^"]+)" (?:was )?not found|column named "([^"]+)"'
        r'|does not have a column with name "([^"]+)"'
    )
    if (found := re.search(missing, text)) is not None:
        return invalid_identifier(found[1] or found[2] or found[3], sql)
    if (found := re.search(r'Referenced table "([^"]+)" not found', text)) is not None:
        return invalid_identifier(found[1], sql)
    if (found := re.search(r'Ambiguous reference to column name "([^"]+)"', text)) is not None:
        return compilation(2028, f"ambiguous column name '{found[1]}'", "42601")
    if "must appear in the GROUP BY" in text:
        found = re.search(r'column "([^"]+)"', text)
        name = _with_table(found[1] if found else "?", sql)
        place = invalid_identifier(name, sql).message.split("\n")[1]
        return compilation(
            1104, f"{place}\n'{name}' in select clause is neither an aggregate nor in the group by clause.", "42601"
        )
    if (found := re.search(r"has (\d+) columns but (\d+) values", text)) is not None:
        return compilation(
            2057, f"Insert value list does not match column list expecting {found[1]} but got {found[2]}", "42601"
        )
    return compilation(1003, first, "42601")


def _with_table(column: str, sql: str) -> str:
    """The column with the name of the table it must come from, when the statement reads only one."""
    tree = sqlglot.parse_one(sql, read="snowflake")
    tables = list(tree.find_all(sqlglot.exp.Table))
    return f"{tables[0].alias_or_name.upper()}.{column}" if len(tables) == 1 else column


def _of_values(text: str, first: str) -> SnowflakeError:
    """Errors of values while a statement runs."""
    out_of_range = r'(?:Could not cast value (\S+)|Casting value "(\S+)") to (?:type )?DECIMAL\((\d+),(\d+)\)'
    if (found := re.search(out_of_range, text)) is not None:
        size = next(size for digits, size in ((2, 1), (4, 2), (9, 4), (18, 8), (38, 16)) if int(found[3]) <= digits)
        kind = f"FIXED[SB{size}]({found[3]},{found[4]})"
        message = f"Number out of representable range: type {kind}, value {found[1] or found[2]}"
        return SnowflakeError(100046, message, "22003")
    if "is out of range" in text:
        return SnowflakeError(100046, f"Number out of representable range: {first}", "22003")
    if (found := re.search(r'Could not parse string "(.*?)" according to format specifier "(.*?)"', text)) is not None:
        return SnowflakeError(100096, f"Can't parse '{found[1]}' as timestamp with format '{found[2]}'", "22007")
    quoted = re.search(r"""(?:string|value|field|timestamp|date)[^'"]*['"](.*?)['"]""", text, re.DOTALL | re.IGNORECASE)
    value = quoted[1] if quoted else "?"
    if re.search(r"to (U?INT|DECIMAL|DOUBLE|FLOAT|HUGEINT|BIGINT)", text):
        return SnowflakeError(100038, f"Numeric value '{value}' is not recognized", "22018")
    if re.search("timestamp", text, re.IGNORECASE):
        return SnowflakeError(100035, f"Timestamp '{value}' is not recognized", "22007")
    if re.search(r"\bdate\b", text, re.IGNORECASE):
        return SnowflakeError(100040, f"Date '{value}' is not recognized", "22007")
    if re.search("bool", text, re.IGNORECASE):
        return SnowflakeError(100037, f"Boolean value '{value}' is not recognized", "22018")
    if re.search("malformed json|json", text, re.IGNORECASE):
        return SnowflakeError(100069, f"Error parsing JSON: {first}", "22P02")
    if re.search("out of range|overflow", text, re.IGNORECASE):
        return SnowflakeError(100046, f"Number out of representable range: {first}", "22003")
    return SnowflakeError(100038, first, "22018")
