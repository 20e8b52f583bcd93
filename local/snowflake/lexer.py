"""Tokens of Snowflake SQL: enough to cut statements, read `KEY = VALUE` options and leave bodies verbatim."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_TOKENS = re.compile(
    r"""
  (?P<blank>\s+|--[^\n]*|//[^\n]*|/\*.*?\*/)
 |(?P<dollar>\$\$.*?\$\$)
 |(?P<string>'(?:[^'\\]|''|\\.)*')
 |(?P<quoted>"(?:[^"]|"")*")
 |(?P<stage>@[~%]?(?:[\w$.]|"[^"]*")*(?:/[^\s;,()]*)?)
 |(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
 |(?P<word>[A-Za-z_][\w$]*|\$\w+)
 |(?P<operator>::|:=|=>|->|\|\||<>|!=|<=|>=|.)
""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f"}

Option = str | int | float | bool | list["Option"] | dict[str, "Option"]


@dataclass(frozen=True, slots=True)
class Token:
    """kind: word, quoted, string, dollar, number, stage or operator; start and end: offsets in the statement."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        return self.text.upper()

    @property
    def value(self) -> str | int | float:
        """The literal's value; for a name its text."""
        if self.kind == "string":
            return _unescape(self.text[1:-1])
        if self.kind == "dollar":
            return self.text[2:-2]
        if self.kind == "quoted":
            return self.text[1:-1].replace('""', '"')
        if self.kind == "number":
            return float(self.text) if re.search(r"[.eE]", self.text) else int(self.text)
        return self.text


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text.replace("''", "'"), flags=re.DOTALL)


@lru_cache(200)
def tokens(sql: str) -> tuple[Token, ...]:
    """All tokens but blanks and comments. Kept, because each of a statement's readers asks for them."""
    return tuple(
        Token(str(found.lastgroup), found[0], found.start(), found.end())
        for found in _TOKENS.finditer(sql)
        if found.lastgroup != "blank"
    )


def head(sql: str, count: int = 1) -> str:
    """The first words in upper case."""
    return " ".join(token.upper for token in tokens(sql[:2000])[:count])


def split(sql: str) -> list[str]:
    """Cut at each `;`. Bodies arrive in `$$`, so a `;` inside one is part of a token."""
    parts, start = [], 0
    for token in tokens(sql):
        if token.text == ";":
            parts.append(sql[start : token.start])
            start = token.end
    parts.append(sql[start:])
    return [part.strip() for part in parts if tokens(part)]


def literal(value: object) -> str:
    """A Python value as a Snowflake literal, typed by a cast where text alone would lose the type."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    kind = type(value).__name__
    if kind in {"int", "float", "Decimal"}:
        return str(value)
    text = "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"
    if kind == "datetime":
        return f"{text}::timestamp_{'ntz' if getattr(value, 'tzinfo', None) is None else 'ltz'}"
    return f"{text}::{kind}" if kind in {"date", "time"} else text


def position(sql: str, offset: int) -> tuple[int, int]:
    """Line from 1 and column from 0 of an offset, as Snowflake's messages count."""
    return sql.count("\n", 0, offset) + 1, offset - sql.rfind("\n", 0, offset) - 1


class Unexpected(Exception):  # noqa: N818 - it is a place in a text; errors.py makes the error of it
    """The statement does not read as expected at `offset` (None: at its end)."""

    def __init__(self, token: Token | None) -> None:
        super().__init__(token.text if token else "<EOF>")
        self.token = token


class Reader:
    """A cursor over the tokens of one statement with the few verbs that the handlers need."""

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.tokens = tokens(sql)
        self.at_token = 0

    def peek(self, ahead: int = 0) -> Token | None:
        index = self.at_token + ahead
        return self.tokens[index] if index < len(self.tokens) else None

    def peek_text(self, ahead: int = 0) -> str:
        """The token's text in upper case, empty at the end."""
        token = self.peek(ahead)
        return token.upper if token else ""

    def next(self) -> Token:
        token = self.peek()
        if token is None:
            raise Unexpected(None)
        self.at_token += 1
        return token

    def at(self, *words: str) -> bool:
        return all(self.peek_text(ahead) == word for ahead, word in enumerate(words))

    def take(self, *words: str) -> bool:
        if self.at(*words):
            self.at_token += len(words)
            return True
        return False

    def need(self, *words: str) -> None:
        for word in words:
            if not self.take(word):
                raise Unexpected(self.peek())

    def done(self) -> bool:
        return self.at_token >= len(self.tokens)

    def end(self) -> None:
        """Refuse words that nobody read."""
        if not self.done():
            raise Unexpected(self.peek())

    def rest(self) -> str:
        token = self.peek()
        self.at_token = len(self.tokens)
        return self.sql[token.start :].strip() if token else ""

    def identifier(self) -> str:
        """One name, in upper case unless quoted."""
        token = self.next()
        if token.kind == "quoted":
            return str(token.value)
        if token.kind == "word":
            return token.upper
        raise Unexpected(token)

    def name(self) -> list[str]:
        """A name of one to three parts."""
        parts = [self.identifier()]
        while self.take("."):
            parts.append(self.identifier())
        return parts

    def names(self) -> list[list[str]]:
        """Names with commas between them."""
        found = [self.name()]
        while self.take(","):
            found.append(self.name())
        return found

    def parenthesis(self) -> str:
        """The text inside the balanced parenthesis that begins here."""
        opening = self.next()
        if opening.text != "(":
            raise Unexpected(opening)
        depth = 1
        while True:
            token = self.next()
            depth += (token.text == "(") - (token.text == ")")
            if depth == 0:
                return self.sql[opening.end : token.start]

    def text(self) -> str:
        """A string literal's value."""
        token = self.next()
        if token.kind not in {"string", "dollar"}:
            raise Unexpected(token)
        return str(token.value)

    def value(self) -> Option:
        """The value of an option: literal, name (dotted too), list or nested options."""
        if self.at("("):
            return parse_parenthesis(self.parenthesis())
        token = self.next()
        if token.kind in {"string", "number", "dollar"}:
            return token.value
        if token.text == "-":
            number = self.next().value
            if isinstance(number, str):
                raise Unexpected(token)
            return -number
        if token.kind not in {"word", "quoted"}:
            raise Unexpected(token)
        text = token.text
        while self.take("."):
            text += "." + self.next().text
        return {"TRUE": True, "FALSE": False}.get(text.upper(), text)

    def options(self, stop: tuple[str, ...] = ()) -> dict[str, Option]:
        """`KEY = VALUE …` up to a stop word or the end, keys in upper case."""
        found: dict[str, Option] = {}
        while not self.done() and self.peek_text() not in stop:
            if self.take(","):
                continue
            key = self.next()
            if key.kind not in {"word", "quoted"} or not self.take("="):
                raise Unexpected(key)
            found[key.upper] = self.value()
        return found


def parse_parenthesis(text: str) -> list[Option] | dict[str, Option]:
    """`a = 1 b = 'x'` as options, `'a', 'b'` as a list."""
    reader = Reader(text)
    if reader.peek_text(1) == "=":
        return reader.options()
    found: list[Option] = []
    while not reader.done():
        if not reader.take(","):
            found.append(reader.value())
    return found


def split_arguments(text: str) -> list[str]:
    """Cut at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for token in tokens(text):
        depth += (token.text in {"(", "["}) - (token.text in {")", "]"})
        if depth == 0 and token.text == ",":
            parts.append(text[start : token.start])
            start = token.end
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]
