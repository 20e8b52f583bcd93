"""COPY INTO a table: which files, how they are read, what is remembered of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import duckdb
from sqlglot import exp

from local.snowflake import lexer, privileges, stages, streams
from local.snowflake.catalog import Name, quoted, utc_now
from local.snowflake.errors import SnowflakeError, compilation, convert, invalid_identifier, not_found, unsupported
from local.snowflake.results import COPY, Result, rows_result, status
from local.snowflake.session import Session
from local.snowflake.storage import StoredObject
from local.snowflake.translate import HIDDEN, parse

_OPTIONS = {
    "FILES", "PATTERN", "FILE_FORMAT", "ON_ERROR", "PURGE", "MATCH_BY_COLUMN_NAME", "ENFORCE_LENGTH", "FORCE",
    "LOAD_UNCERTAIN_FILES", "VALIDATION_MODE", "SIZE_LIMIT", "RETURN_FAILED_ONLY", "TRUNCATECOLUMNS",
    "INCLUDE_METADATA", "LOAD_MODE",
}  # fmt: skip
_NOT_HERE = {"SIZE_LIMIT", "RETURN_FAILED_ONLY", "TRUNCATECOLUMNS", "LOAD_MODE"}
_RESULT: list[str | tuple[str, str]] = [
    "file", "status", ("rows_parsed", "fixed"), ("rows_loaded", "fixed"), ("error_limit", "fixed"),
    ("errors_seen", "fixed"), "first_error", ("first_error_line", "fixed"), ("first_error_character", "fixed"),
    "first_error_column_name",
]  # fmt: skip
_SIMPLE = "COPY statement only supports simple SELECT from stage statements for import."


@dataclass(slots=True)
class Copy:
    """A COPY INTO as written: columns and select may be left out."""

    table: Name
    stage: str
    options: dict[str, lexer.Option]
    columns: list[str] | None = None
    select: exp.Select | None = None

    @property
    def on_error(self) -> str:
        return str(self.options.get("ON_ERROR", "") or "").upper()


@dataclass(slots=True)
class Rejection:
    """The first record of a file that did not load."""

    line: int
    message: str
    character: int = 1
    column: str | None = None
    code: int = 100069
    state: str = "22P02"


@dataclass(slots=True)
class Loaded:
    """What became of one file. status: LOADED, PARTIALLY_LOADED or LOAD_FAILED."""

    status: str
    parsed: int = 0
    loaded: int = 0
    errors: int = 0
    first: Rejection | None = None


@dataclass(slots=True)
class Plan:
    """names: the target columns; expressions: DuckDB SQL over a source file, one per column."""

    table: Name
    names: list[str]
    expressions: list[str]
    on_error: str
    tracked: streams.Tracked = field(default_factory=list)

    def insert(self, source: str) -> str:
        columns = ", ".join(quoted(name) for name in self.names)
        return f"insert into {quoted(*self.table)} ({columns}) select {', '.join(self.expressions)} from {source}"


def copy(session: Session, reader: lexer.Reader) -> Result:
    """COPY INTO <table>; unloading is not supported."""
    statement = parse_copy(session, reader)
    if "VALIDATION_MODE" in statement.options:
        if statement.select is not None:
            raise compilation(2095, "VALIDATION_MODE is not supported with COPY transformations.", "0A000")
        raise unsupported("VALIDATION_MODE")
    return load(session, statement, on_error=statement.on_error or "ABORT_STATEMENT")


def list_stage(session: Session, reader: lexer.Reader) -> Result:
    return stages.list_stage(session, reader)


def replace_stage(session: Session, tree: exp.Expr, table: exp.Table) -> None:
    stages.replace_stage(session, tree, table)


def parse_copy(session: Session, reader: lexer.Reader) -> Copy:
    reader.need("COPY", "INTO")
    first = reader.peek()
    if first is not None and first.kind == "stage":
        raise unsupported("COPY INTO a location (unload)")
    table = session.resolve(reader.name())
    columns = None
    if reader.at("("):
        columns = [lexer.Reader(part).identifier() for part in lexer.split_arguments(reader.parenthesis())]
    reader.need("FROM")
    select = None
    if reader.at("("):
        text = reader.parenthesis()
        found = [token for token in lexer.tokens(text) if token.kind == "stage"]
        if len(found) != 1:
            raise compilation(2094, _SIMPLE, "0A000")
        stage = found[0].text
        parsed = parse(text)
        if not isinstance(parsed, exp.Select):
            raise compilation(2094, _SIMPLE, "0A000")
        select = parsed
    else:
        token = reader.next()
        if token.kind not in {"stage", "string"}:
            raise lexer.Unexpected(token)
        stage = str(token.value)
        if not stage.startswith("@"):
            raise unsupported("COPY INTO from a URL")
    options = reader.options()
    for name in options:
        if name not in _OPTIONS:
            raise lexer.Unexpected(next(token for token in reader.tokens if token.upper == name))
        if name in _NOT_HERE:
            raise unsupported(f"COPY option {name}")
    statement = Copy(table, stage, options, columns, select)
    if not re.fullmatch(r"|CONTINUE|SKIP_FILE(_\d+%?)?|ABORT_STATEMENT", statement.on_error):
        raise compilation(1008, f"invalid value [{statement.on_error}] for parameter 'ON_ERROR'", "22023")
    return statement


def plan_of(session: Session, statement: Copy, on_error: str) -> Plan:
    """Check a COPY against its table; raises what the account would at compilation."""
    types = dict(session.columns(statement.table))
    if session.relation_kind(statement.table) != "TABLE":
        raise not_found("Table", ".".join(statement.table), "42S02")
    given = statement.columns or list(types)
    for name in given:
        if name not in types:
            raise invalid_identifier(name)
    matching = str(statement.options.get("MATCH_BY_COLUMN_NAME", "NONE")).upper()
    if statement.select is not None:
        values, variants = _selected(session, statement.select)
        names = given if statement.columns else given[: len(values)]
        if len(names) != len(values):
            message = f"Insert value list does not match column list expecting {len(names)} but got {len(values)}"
            raise compilation(2057, message, "42601")
    elif matching != "NONE":
        names, values, variants = _matched(statement, types, matching)
    elif len(given) == 1:
        names, values, variants = given, ['"_C1"'], [True]
    else:
        message = "JSON file format can produce one and only one column of type variant, object, or array."
        hint = "Load data into separate columns using the MATCH_BY_COLUMN_NAME copy option or copy with transformation."
        raise compilation(2019, f"{message} {hint}", "0A000")
    expressions = [
        value
        if types[name] == "JSON"
        else f"cast({f'({value}) ->> ' + chr(39) + '$' + chr(39) if is_variant else value} as {types[name]})"
        for name, value, is_variant in zip(names, values, variants, strict=True)
    ]
    return Plan(statement.table, names, expressions, on_error, streams.on_table(session, statement.table))


def _selected(session: Session, select: exp.Select) -> tuple[list[str], list[bool]]:
    """(DuckDB SQL of each expression, whether it is a VARIANT)."""
    from local.snowflake.rewrite import rewrite

    clauses = ("where", "group", "order", "limit", "joins", "distinct", "having", "qualify", "laterals")
    if any(select.args.get(clause) for clause in clauses) or select.find(exp.AggFunc, exp.Window):
        raise compilation(2094, _SIMPLE, "0A000")
    tree = select.copy()
    table = tree.args["from_"].this
    alias = table.args.get("alias")
    table.replace(exp.Table(this=exp.to_identifier("_SOURCE"), alias=alias))
    stages.positional_columns(tree)
    done = session.translator.to_duckdb(rewrite(session, tree))
    values, variants = [], []
    for expression in done.expressions:
        value = expression.this if isinstance(expression, exp.Alias) else expression
        for column in value.find_all(exp.Column):
            column.set("table", None)
        inner = value.this if isinstance(value, exp.Paren) else value
        variants.append(isinstance(inner, exp.JSONExtract) or inner.sql(dialect="duckdb") == '"_C1"')
        values.append(value.sql(dialect="duckdb"))
    return values, variants


def _matched(statement: Copy, types: dict[str, str], matching: str) -> tuple[list[str], list[str], list[bool]]:
    """MATCH_BY_COLUMN_NAME: top-level keys go to the columns of their name."""
    metadata = statement.options.get("INCLUDE_METADATA") or {}
    if matching not in {"CASE_SENSITIVE", "CASE_INSENSITIVE"} or not isinstance(metadata, dict):
        raise compilation(1008, f"invalid value [{matching}] for parameter 'MATCH_BY_COLUMN_NAME'", "22023")
    names, values, variants = [], [], []
    for name in types:
        names.append(name)
        if name in metadata:
            values.append(quoted(str(metadata[name]).upper()))
            variants.append(False)
            continue
        key = "'" + name.replace("'", "''") + "'"
        if matching == "CASE_INSENSITIVE":
            key = f"(list_filter(json_keys(_C1), lambda k: upper(k) = upper({key})))[1]"
        values.append(f"""json_extract(_C1, '$."' || replace({key}, '"', '\\"') || '"')""")
        variants.append(True)
    return names, values, variants


def load(
    session: Session,
    statement: Copy,
    *,
    on_error: str,
    pipe: str | None = None,
    stored: list[StoredObject] | None = None,
) -> Result:
    """One transaction: rows, load memory and stream capture. stored: the files that a pipe was told of."""
    location = stages.locate(session, statement.stage, statement.options.get("FILE_FORMAT"))
    if stages.is_text_lines(location.file_format):
        raise unsupported("COPY of text lines")
    plan = plan_of(session, statement, on_error)
    privileges.need(session, "TABLE", statement.table, "INSERT")
    files, pattern = statement.options.get("FILES"), statement.options.get("PATTERN")
    chosen = [str(f) for f in files] if isinstance(files, list) else None
    if stored is None:
        stored = list(stages.list_files(session, location, chosen, str(pattern) if pattern else None))
    rows: list[tuple[object, ...]] = []
    with session.statement(lock=statement.table, purpose="load"):
        seen = {} if statement.options.get("FORCE") else _remembered(session, statement.table, pipe)
        for file in stored:
            if file.url in seen and (pipe or seen[file.url] == file.etag):
                if chosen is not None and pipe is None:
                    rows.append((file.url, "LOAD_SKIPPED", 0, 0, None, 1, "File was loaded before.", None, None, None))
                continue
            done = _load_file(session, file, plan)
            limit = 1 if on_error.startswith(("ABORT", "SKIP")) else done.parsed
            first = done.first
            rows.append(
                (file.url, done.status, done.parsed, done.loaded, limit, done.errors, first and first.message,
                 first and first.line, first and first.character, first and first.column)
            )  # fmt: skip
            _remember(session, statement.table, file, done, limit, pipe, location)
    if statement.options.get("PURGE"):
        for file in stored:
            session.account.storage.s3.delete_object(Bucket=file.bucket, Key=file.key)
    if not rows:
        return status("Copy executed with 0 files processed.", COPY)
    result = rows_result(_RESULT, rows, COPY)
    result.rowcount = sum(int(str(row[3])) for row in rows)
    return result


def _remembered(session: Session, table: Name, pipe: str | None) -> dict[str, str]:
    """URL and ETag of the files that are not loaded again: by name for a pipe (14 days), else 64 days."""
    loads = quoted(table[0], HIDDEN, "loads")
    if pipe:
        sql = f"select file, etag from {loads} where pipe = ? and remembered and load_time > now() - interval 14 day"
        found = session.transaction.duck.execute(sql, [pipe]).fetchall()
    else:
        sql = f"""select file, etag from {loads} where schema_name = ? and table_name = ? and pipe is null
                  and remembered and status in ('LOADED', 'PARTIALLY_LOADED')
                  and load_time > now() - interval 64 day"""
        found = session.transaction.duck.execute(sql, list(table[1:])).fetchall()
    return dict(found)


def _remember(
    session: Session,
    table: Name,
    file: StoredObject,
    done: Loaded,
    limit: int,
    pipe: str | None,
    where: stages.Location,
) -> None:
    now, first = utc_now(), done.first
    session.transaction.write(
        f"insert into {quoted(table[0], HIDDEN, 'loads')} values ({', '.join('?' * 20)})",
        [
            table[1], table[2], file.url, file.etag, file.size, file.modified, now, done.status, done.loaded,
            done.parsed, first and first.message, first and first.line, first and first.character,
            first and first.column, done.errors, limit, pipe, ".".join(where.stage), True, now,
        ],
    )  # fmt: skip


def _load_file(session: Session, file: StoredObject, plan: Plan) -> Loaded:
    source = stages.SourceFile(session, file, utc_now())
    session.transaction.files.append(source.path)
    if source.damage:
        if plan.on_error == "ABORT_STATEMENT":
            raise SnowflakeError(100078, source.damage, "22000")
        return Loaded("LOAD_FAILED", errors=1, first=Rejection(1, source.damage, 0))
    written = session.transaction.written
    try:
        mark = streams.mark(session, plan.table)
        count = _insert(session, plan, source.records())
        if not _has_repeated_key(session, plan, mark):
            return Loaded("LOADED", count, count)
    except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException):
        pass
    session.transaction.restore(written)
    return _load_good_records(session, file, plan, source)


def _has_repeated_key(session: Session, plan: Plan, after: int) -> bool:
    """Whether a row inserted after the mark repeats a key. Events share a few lists of keys: each is read once."""
    for name, expression in zip(plan.names, plan.expressions, strict=True):
        if expression == '"_C1"':
            sql = f"""with lists as materialized (
                    select distinct array_to_string(json_keys({quoted(name)}), chr(1)) as keys
                    from {quoted(*plan.table)} where rowid > {after}
                )
                select 1 from lists
                where len(string_split(keys, chr(1))) <> list_unique(string_split(keys, chr(1))) limit 1"""
            return session.transaction.duck.execute(sql).fetchone() is not None
    return False


def _insert(session: Session, plan: Plan, source: str) -> int:
    mark = streams.mark(session, plan.table) if plan.tracked else 0
    count = int(session.transaction.write(plan.insert(source)).fetchall()[0][0])
    streams.capture(session, plan.table, plan.tracked, mark)
    return count


def _load_good_records(session: Session, file: StoredObject, plan: Plan, source: stages.SourceFile) -> Loaded:
    """The slow way, when a record is bad: find which, then do as ON_ERROR says."""
    cursor = session.account.cursor()
    cursor.execute(f"use {quoted(session.database or 'memory', session.schema or 'main')}")
    total = cursor.execute(f"select count(*) from {source.lines()}").fetchall()[0][0]
    broken = cursor.execute(
        f"""select row_number, if(json_valid(line), 'duplicate object attribute: ', '') || line[:80], length(line)
        from {source.lines()} where not json_valid(line) or sf_repeats(line) order by 1"""
    ).fetchall()
    bad = [Rejection(int(number), f"Error parsing JSON: {text}", length) for number, text, length in broken]
    bad += _conversion_errors(cursor, source, plan, 1, max(total, 1))
    bad.sort(key=lambda rejection: rejection.line)
    first = bad[0] if bad else None
    if first is not None and plan.on_error == "ABORT_STATEMENT":
        hint = (
            "If you would like to continue loading when an error is encountered, use other values such as 'SKIP_FILE' "
            "or 'CONTINUE' for the ON_ERROR option."
        )
        where = f"File '{file.key}', line {first.line}, character {first.character}"
        raise SnowflakeError(first.code, f"{first.message}\n  {where}\n  Row {first.line}\n  {hint}", first.state)
    if first is not None and plan.on_error.startswith("SKIP_FILE"):
        found = re.match(r"SKIP_FILE_(\d+)(%?)", plan.on_error)
        limit = 1.0 if not found else total * int(found[1]) / 100 if found[2] else float(found[1])
        if len(bad) >= limit:
            return Loaded("LOAD_FAILED", total, 0, len(bad), first)
    count = _insert(session, plan, source.good_records([rejection.line for rejection in bad]))
    outcome = "LOADED" if not bad else "PARTIALLY_LOADED" if count else "LOAD_FAILED"
    return Loaded(outcome, total, count, len(bad), first)


def _conversion_errors(
    cursor: duckdb.DuckDBPyConnection, source: stages.SourceFile, plan: Plan, low: int, high: int
) -> list[Rejection]:
    """Records that are JSON but do not convert, by halving the range of row numbers."""
    values = ", ".join(plan.expressions)
    where = f'where "METADATA$FILE_ROW_NUMBER" between {low} and {high}'
    try:
        cursor.execute(
            f"create or replace temporary table tried as select {values} from {source.good_records()} {where}"
        )
    except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException) as error:
        if low == high:
            known = convert(error)
            return [Rejection(low, known.message, 1, None, known.code, known.state)]
        middle = (low + high) // 2
        return _conversion_errors(cursor, source, plan, low, middle) + _conversion_errors(
            cursor, source, plan, middle + 1, high
        )
    return []
