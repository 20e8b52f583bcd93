"""External stages on S3: what a stage reference names, its file format, and its files as DuckDB relations."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlglot import exp

from local.snowflake import lexer, privileges
from local.snowflake.catalog import Name, text, utc_now
from local.snowflake.errors import SnowflakeError, not_found, unsupported
from local.snowflake.results import SHOW, Result, rows_result
from local.snowflake.session import Session
from local.snowflake.storage import StoredObject

MAX_LINE = 33_554_432  # bytes; twice what one JSON line of the product may have
_REFERENCE = re.compile(r'@((?:"[^"]+"|[\w$]+)(?:\.(?:"[^"]+"|[\w$]+)){0,2})(?:/(.*))?$')


@dataclass(frozen=True, slots=True)
class Location:
    """stage_prefix: the key prefix of the stage's URL; prefix: with the path of the reference after it."""

    stage: Name
    bucket: str
    stage_prefix: str
    prefix: str
    file_format: dict[str, lexer.Option]


def locate(session: Session, reference: str, file_format: lexer.Option | None = None) -> Location:
    """`@stage/path` or `'@stage/path'`. file_format: of the statement, which comes before the stage's own."""
    found = _REFERENCE.match(reference.strip("'"))
    if found is None:
        raise unsupported(f"stage reference {reference}")
    name = session.resolve(lexer.Reader(found[1]).name())
    stage = session.catalog.get("STAGE", name)
    if stage is None:
        raise not_found("Stage", ".".join(name))
    privileges.need(session, "STAGE", name, "USAGE", "READ")
    integration = stage.get("storage_integration")
    if integration:
        properties = session.catalog.need("INTEGRATION", ("", "", integration))
        options = properties["options"]
        if not options.get("ENABLED"):
            raise SnowflakeError(3129, f"Integration '{integration}' is not enabled.", "42501")
        if role := options.get("STORAGE_AWS_ROLE_ARN"):
            session.account.storage.take_on(str(role), properties["principal"], properties["external_id"])
    bucket, _, prefix = str(stage["url"]).split("://", 1)[1].partition("/")
    chosen = _file_format(session, file_format if file_format is not None else stage.get("file_format") or {}, name)
    return Location(name, bucket, prefix, prefix + (found[2] or ""), chosen)


def _file_format(session: Session, given: lexer.Option, stage: Name) -> dict[str, lexer.Option]:
    options = dict(given) if isinstance(given, dict) else {"FORMAT_NAME": given}
    name = options.pop("FORMAT_NAME", None)
    if name is not None:
        parts = lexer.Reader(str(name)).name()
        full = (*stage[: 3 - len(parts)], *parts)
        options = session.catalog.need("FILE FORMAT", (full[0], full[1], full[2]))["options"] | options
    options["TYPE"] = str(options.get("TYPE", "CSV")).upper()
    return options


def list_files(
    session: Session, location: Location, files: Sequence[str] | None, pattern: str | None, *, whole_path: bool = True
) -> Iterator[StoredObject]:
    """files: relative to the location. pattern: of the whole key, or of the part after the location (a pipe)."""
    storage = session.account.storage
    if files is not None:
        for file in files:
            yield storage.head(location.bucket, location.prefix + file)
        return
    expression = re.compile(pattern) if pattern else None
    for stored in storage.list(location.bucket, location.prefix):
        matched = stored.key if whole_path else stored.key.removeprefix(location.prefix)
        if stored.size and (expression is None or expression.fullmatch(matched)):
            yield stored


class SourceFile:
    """One object on local disk, as DuckDB relations with _C1, _LINE and the METADATA$ columns."""

    def __init__(self, session: Session, stored: StoredObject, scan: datetime) -> None:
        self.stored, self._scan = stored, scan
        self.path: Path = session.account.storage.download(stored)
        with self.path.open("rb") as file:
            self._gzip = file.read(2) == b"\x1f\x8b"
        self.damage = self._check_gzip() if self._gzip else None

    def _check_gzip(self) -> str | None:
        """Read it through once: DuckDB finds a cut file only inside the load, which breaks the transaction."""
        try:
            with gzip.open(self.path) as stream:
                while stream.read(1 << 22):
                    pass
        except (EOFError, OSError, zlib.error) as error:
            return f"Error reading compressed file: {error}"
        return None

    @property
    def _compression(self) -> str:
        return "gzip" if self._gzip else "none"

    def _metadata(self) -> str:
        stored = self.stored
        return f"""{text(stored.key)} as "METADATA$FILENAME", {text(stored.etag)} as "METADATA$FILE_CONTENT_KEY",
            timestamp '{stored.modified:%Y-%m-%d %H:%M:%S}' as "METADATA$FILE_LAST_MODIFIED",
            timestamptz '{self._scan.isoformat()}' as "METADATA$START_SCAN_TIME" """

    def records(self) -> str:
        """All JSON records; a damaged one raises."""
        return f"""(select json as "_C1", row_number() over () as "METADATA$FILE_ROW_NUMBER", {self._metadata()}
            from read_ndjson_objects({text(str(self.path))}, compression = '{self._compression}',
                                     maximum_object_size = {MAX_LINE}))"""

    def lines(self) -> str:
        """(row_number, line) of every line that is not blank, whatever is in it."""
        return f"""(select row_number() over () as row_number, line
            from read_csv({text(str(self.path))}, header = false, columns = {{'line': 'VARCHAR'}}, delim = E'\\x01',
            quote = '', escape = '', auto_detect = false, compression = '{self._compression}',
            max_line_size = {MAX_LINE}, strict_mode = false)
            where trim(line) <> '')"""

    def text_records(self) -> str:
        """Every line as text, as a CSV format without any delimiter reads it."""
        return f"""(select line as "_C1", row_number as "METADATA$FILE_ROW_NUMBER", {self._metadata()}
            from {self.lines()})"""

    def good_records(self, without: Sequence[int] = ()) -> str:
        """The records that are JSON, less the row numbers given."""
        left_out = f"and row_number not in ({', '.join(map(str, without))})" if without else ""
        return f"""(select line::json as "_C1", row_number as "METADATA$FILE_ROW_NUMBER", {self._metadata()}
            from {self.lines()} where json_valid(line) and not sf_repeats(line) {left_out})"""


def list_stage(session: Session, reader: lexer.Reader) -> Result:
    """LIST @stage[/path] [PATTERN = '…']."""
    reader.next()
    token = reader.next()
    if token.kind not in {"stage", "string"}:
        raise lexer.Unexpected(token)
    location = locate(session, str(token.value))
    pattern = reader.options().get("PATTERN")
    found = list_files(session, location, None, str(pattern) if pattern else None)
    rows = [(f.url, f.size, f.etag, f.modified.strftime("%a, %d %b %Y %H:%M:%S GMT")) for f in found]
    return rows_result(["name", ("size", "fixed"), "md5", "last_modified"], rows, SHOW)


def replace_stage(session: Session, tree: exp.Expr, table: exp.Table) -> None:
    """FROM @stage (FILE_FORMAT => …, PATTERN => …): the files become a table of one session."""
    written = table.sql(dialect="snowflake")
    file_format = re.search(r"FILE_FORMAT\s*=>\s*('[^']*'|[\w.\"]+)", written, re.IGNORECASE)
    pattern = re.search(r"PATTERN\s*=>\s*'([^']*)'", written, re.IGNORECASE)
    location = locate(session, str(table.this.this), file_format[1].strip("'") if file_format else None)
    scan = utc_now()
    files = [SourceFile(session, f, scan) for f in list_files(session, location, None, pattern and pattern[1])]
    try:
        as_text = is_text_lines(location.file_format)
        parts = [f"select * from {file.text_records() if as_text else file.records()}" for file in files]
        sql = (
            " union all ".join(parts)
            or """select null::json as "_C1", null::varchar as "METADATA$FILENAME",
            null::bigint as "METADATA$FILE_ROW_NUMBER", null::varchar as "METADATA$FILE_CONTENT_KEY" where false"""
        )
        place = f"stage {session.account.next_number()}"
        session.transaction.duck.execute(f'create temporary table "{place}" as {sql}')
    finally:
        for file in files:
            file.path.unlink(missing_ok=True)
    positional_columns(tree)
    table.replace(
        exp.Table(
            this=exp.to_identifier(place, quoted=True),
            db=exp.to_identifier("main", quoted=True),
            catalog=exp.to_identifier("temp", quoted=True),
            alias=table.args.get("alias") or exp.TableAlias(this=exp.to_identifier("_STAGE")),
        )
    )


def positional_columns(tree: exp.Expr) -> None:
    """`$1` and `t.$1` name the columns of a file: _C1."""
    for parameter in list(tree.find_all(exp.Parameter)):
        if isinstance(parameter.this, exp.Literal):
            name = exp.to_identifier(f"_C{parameter.this.this}", quoted=True)
            parameter.replace(name if isinstance(parameter.parent, exp.Column) else exp.column(name))


def is_text_lines(file_format: dict[str, lexer.Option]) -> bool:
    """A CSV format that reads whole lines; JSON otherwise, nothing else is supported."""
    if file_format["TYPE"] == "JSON":
        if file_format.get("STRIP_OUTER_ARRAY"):
            raise unsupported("file format with STRIP_OUTER_ARRAY")
        return False
    delimiter = str(file_format.get("FIELD_DELIMITER", ",")).upper()
    if file_format["TYPE"] == "CSV" and delimiter == "NONE":
        return True
    raise unsupported(f"file format of TYPE {file_format['TYPE']} (CSV with FIELD_DELIMITER = NONE reads lines)")
