"""Snowflake Scripting: a block as a tree. SQL and expressions stay text, with their place."""

from __future__ import annotations

from dataclasses import dataclass, field

from local.snowflake import lexer
from local.snowflake.lexer import Reader, Unexpected

Position = tuple[int, int]
_ENDS = {"END", "EXCEPTION", "ELSE", "ELSEIF", "WHEN", "UNTIL"}


@dataclass(slots=True)
class Node:
    position: Position


@dataclass(slots=True)
class Sql(Node):
    text: str


@dataclass(slots=True)
class Variable(Node):
    """DECLARE or LET of a variable or RESULTSET."""

    name: str
    type: str
    value: str | None


@dataclass(slots=True)
class Cursor(Node):
    name: str
    query: str


@dataclass(slots=True)
class Declared(Node):
    """DECLARE of an exception."""

    name: str
    number: int
    message: str


@dataclass(slots=True)
class Assign(Node):
    name: str
    value: str


@dataclass(slots=True)
class If(Node):
    """branches: condition and statements; the last may have the condition TRUE."""

    branches: list[tuple[str, list[Node]]]


@dataclass(slots=True)
class ForRange(Node):
    name: str
    low: str
    high: str
    reverse: bool
    body: list[Node]


@dataclass(slots=True)
class ForEach(Node):
    name: str
    source: str
    body: list[Node]


@dataclass(slots=True)
class While(Node):
    """test_first: WHILE; else REPEAT … UNTIL the condition holds."""

    condition: str
    body: list[Node]
    test_first: bool = True


@dataclass(slots=True)
class Return(Node):
    value: str


@dataclass(slots=True)
class Raise(Node):
    name: str | None


@dataclass(slots=True)
class Leave(Node):
    """BREAK (again False) or CONTINUE."""

    again: bool


@dataclass(slots=True)
class Nothing(Node):
    """NULL; and CLOSE of a cursor, which needs none here."""


@dataclass(slots=True)
class Open(Node):
    name: str
    using: str


@dataclass(slots=True)
class Fetch(Node):
    name: str
    into: list[str]


@dataclass(slots=True)
class Block(Node):
    declarations: list[Node] = field(default_factory=list)
    body: list[Node] = field(default_factory=list)
    handlers: list[tuple[list[str], list[Node]]] = field(default_factory=list)


def parse_block(text: str) -> Block:
    """[DECLARE …] BEGIN … [EXCEPTION …] END, nothing after it."""
    parser = _Parser(text)
    block = parser.block()
    parser.reader.end()
    return block


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.reader = Reader(text)

    def position(self) -> Position:
        token = self.reader.peek()
        return lexer.position(self.text, token.start if token else len(self.text))

    def until(self, *words: str) -> str:
        """The text up to one of the words, outside brackets and CASE … END; the word is left to read."""
        reader, depth, cases = self.reader, 0, 0
        first = reader.peek()
        if first is None:
            raise Unexpected(None)
        while (token := reader.peek()) is not None:
            depth += (token.text in {"(", "["}) - (token.text in {")", "]"})
            if token.upper == "CASE":
                cases += 1
            elif token.upper == "END" and cases:
                cases -= 1
                reader.next()
                continue
            if depth == 0 and cases == 0 and token.upper in words:
                return self.text[first.start : token.start].strip()
            reader.next()
        if ";" in words:
            return self.text[first.start :].strip()
        raise Unexpected(None)

    def statement_text(self) -> str:
        text = self.until(";")
        self.reader.take(";")
        return text

    def block(self) -> Block:
        reader = self.reader
        declarations = []
        if reader.take("DECLARE"):
            while not reader.at("BEGIN"):
                declarations.append(self.declaration())
        block = Block(self.position(), declarations)
        reader.need("BEGIN")
        block.body = self.statements()
        if reader.take("EXCEPTION"):
            while reader.take("WHEN"):
                names = [reader.identifier()]
                while reader.take("OR"):
                    names.append(reader.identifier())
                if not reader.take("EXIT"):
                    reader.take("CONTINUE")
                reader.need("THEN")
                block.handlers.append((names, self.statements()))
        reader.need("END")
        reader.take(";")
        return block

    def declaration(self) -> Node:
        """name [type] [:= | DEFAULT value]; · name CURSOR FOR query; · name EXCEPTION [(number, 'text')];"""
        reader, position = self.reader, self.position()
        name = reader.identifier()
        node: Node
        if reader.take("CURSOR", "FOR"):
            node = Cursor(position, name, self.until(";"))
        elif reader.take("EXCEPTION"):
            number, message = -20000, ""
            if reader.at("("):
                given = lexer.parse_parenthesis(reader.parenthesis())
                if not isinstance(given, list) or len(given) != 2:
                    raise Unexpected(reader.peek())
                number, message = int(str(given[0])), str(given[1])
            node = Declared(position, name, number, message)
        else:
            kind = "" if reader.peek_text() in {":=", "DEFAULT", ";"} else self.until(":=", "DEFAULT", ";")
            value = None
            if reader.take(":=") or reader.take("DEFAULT"):
                value = self.until(";")
            node = Variable(position, name, kind.upper(), value)
        reader.need(";")
        return node

    def statements(self) -> list[Node]:
        found = []
        while not self.reader.done() and self.reader.peek_text() not in _ENDS:
            found.append(self.statement())
        return found

    def statement(self) -> Node:
        reader, position = self.reader, self.position()
        word = reader.peek_text()
        if word == "DECLARE" or (word == "BEGIN" and reader.peek_text(1) not in {"TRANSACTION", "WORK", "NAME", ";"}):
            return self.block()
        compound = _COMPOUND.get(word)
        if compound:
            reader.next()
            return compound(self, position)
        if reader.peek_text(1) == ":=":
            name = reader.identifier()
            reader.next()
            return Assign(position, name, self.statement_text())
        return Sql(position, self.statement_text())

    def let(self, position: Position) -> Node:
        del position
        return self.declaration()

    def if_(self, position: Position) -> Node:
        branches = [self.branch()]
        while self.reader.take("ELSEIF"):
            branches.append(self.branch())
        if self.reader.take("ELSE"):
            branches.append(("TRUE", self.statements()))
        self.reader.need("END", "IF", ";")
        return If(position, branches)

    def branch(self) -> tuple[str, list[Node]]:
        condition = self.until("THEN")
        self.reader.need("THEN")
        return condition, self.statements()

    def case(self, position: Position) -> Node:
        reader = self.reader
        subject = None if reader.at("WHEN") else self.until("WHEN")
        branches = []
        while reader.take("WHEN"):
            condition, body = self.branch()
            branches.append((f"({subject}) = ({condition})" if subject else condition, body))
        if reader.take("ELSE"):
            branches.append(("TRUE", self.statements()))
        reader.need("END")
        reader.take("CASE")
        reader.need(";")
        return If(position, branches)

    def for_(self, position: Position) -> Node:
        reader = self.reader
        name = reader.identifier()
        reader.need("IN")
        reverse = reader.take("REVERSE")
        first = self.until("DO", "TO")
        if reader.take("TO"):
            last = self.until("DO")
            reader.need("DO")
            body = self.statements()
            reader.need("END", "FOR", ";")
            return ForRange(position, name, first, last, reverse, body)
        reader.need("DO")
        body = self.statements()
        reader.need("END", "FOR", ";")
        return ForEach(position, name, first, body)

    def while_(self, position: Position) -> Node:
        condition = self.until("DO", "LOOP")
        word = self.reader.next().upper
        body = self.statements()
        self.reader.need("END", "WHILE" if word == "DO" else "LOOP", ";")
        return While(position, condition, body)

    def loop(self, position: Position) -> Node:
        body = self.statements()
        self.reader.need("END", "LOOP", ";")
        return While(position, "TRUE", body)

    def repeat(self, position: Position) -> Node:
        body = self.statements()
        self.reader.need("UNTIL")
        condition = self.until("END")
        self.reader.need("END", "REPEAT", ";")
        return While(position, condition, body, test_first=False)

    def return_(self, position: Position) -> Node:
        if self.reader.take(";"):
            return Return(position, "NULL")
        return Return(position, self.statement_text())

    def raise_(self, position: Position) -> Node:
        name = None if self.reader.at(";") else self.reader.identifier()
        self.reader.need(";")
        return Raise(position, name)

    def leave(self, position: Position) -> Node:
        word = self.reader.tokens[self.reader.at_token - 1].upper
        self.reader.need(";")
        return Leave(position, again=word in {"CONTINUE", "ITERATE"})

    def nothing(self, position: Position) -> Node:
        self.statement_text()
        return Nothing(position)

    def open(self, position: Position) -> Node:
        name = self.reader.identifier()
        using = self.reader.parenthesis() if self.reader.take("USING") else ""
        self.reader.need(";")
        return Open(position, name, using)

    def fetch(self, position: Position) -> Node:
        name = self.reader.identifier()
        self.reader.need("INTO")
        into = [self.reader.identifier()]
        while self.reader.take(","):
            into.append(self.reader.identifier())
        self.reader.need(";")
        return Fetch(position, name, into)


_COMPOUND = {
    "BREAK": _Parser.leave,
    "CASE": _Parser.case,
    "CLOSE": _Parser.nothing,
    "CONTINUE": _Parser.leave,
    "EXIT": _Parser.leave,
    "FETCH": _Parser.fetch,
    "FOR": _Parser.for_,
    "IF": _Parser.if_,
    "ITERATE": _Parser.leave,
    "LET": _Parser.let,
    "LOOP": _Parser.loop,
    "NULL": _Parser.nothing,
    "OPEN": _Parser.open,
    "RAISE": _Parser.raise_,
    "REPEAT": _Parser.repeat,
    "RETURN": _Parser.return_,
    "WHILE": _Parser.while_,
}
