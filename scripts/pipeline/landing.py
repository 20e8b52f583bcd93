"""The landing table: what it holds of each part, and the three ways in: pipe, REFRESH, COPY.

Pipe and COPY keep separate memories of what they loaded, so one part can be loaded twice. That is harmless: everything
downstream counts distinct (SOURCE_FILE, SOURCE_ROW). Statements and limits: facts of Snowflake's pages CREATE PIPE,
ALTER PIPE, COPY INTO, COPY_HISTORY, SYSTEM$PIPE_STATUS.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from scripts.pipeline.hours import parse_hour
from scripts.pipeline.records import UploadedLine, UploadedPart
from scripts.pipeline.warehouse import Warehouse

FILES_PER_COPY = 1000  # Snowflake's limit for FILES = (…)
KEYS_PER_QUERY = 500
# LOADED_AT is Snowflake's clock, the upload time is ours: the window that lets the landing table prune has slack.
CLOCK_SLACK = timedelta(days=1)

# Bound to `loaded_since`: seconds, so that no text format of the account matters.
LOADED_SINCE = "loaded_at >= to_timestamp_ltz(?)"

T = TypeVar("T")


@dataclass
class PartState:
    """What Snowflake says about one part."""

    part: UploadedPart
    distinct: int = 0  # SOURCE_ROW
    stored: int = 0  # rows; more than distinct: loaded twice
    pipe_status: str = ""  # of COPY_HISTORY; "": the pipe has not dealt with it in the last 7 days
    loaded_by: str = "earlier"
    problem: str = ""
    bad_lines: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.distinct == self.part.rows


@dataclass(frozen=True)
class Pipe:
    """SYSTEM$PIPE_STATUS. `pending`: files in its queue. `notified`: S3 has ever told it of a file."""

    state: str
    pending: int
    notified: bool


@dataclass(frozen=True)
class Landing:
    """The landing table of one environment, and the statements over it."""

    session: Warehouse
    database: str
    schema: str
    prefix: str

    def count(self, states: Mapping[str, PartState]) -> None:
        """Reads rows and distinct rows of each part."""
        for batch in batches(list(states), KEYS_PER_QUERY):
            first = min(states[key].part.uploaded_at for key in batch)
            rows = self.session.rows(
                "select source_file, count(distinct source_row), count(*)"  # noqa: S608 (our own names)
                f" from {self.schema}.amplitude_events_raw_python"
                f" where {LOADED_SINCE}"
                f" and source_file in ({', '.join('?' * len(batch))}) group by source_file",
                loaded_since(first),
                *batch,
            )
            for key, distinct, stored in rows:
                states[key].distinct, states[key].stored = distinct, stored

    def pipe(self) -> Pipe | None:
        """None: there is no pipe, or the role may not see it."""
        if not self.session.rows(f"show pipes like 'AMPLITUDE_EVENTS_PIPE' in schema {self.database}.{self.schema}"):
            return None
        name = f"{self.database}.{self.schema}.AMPLITUDE_EVENTS_PIPE"
        status = json.loads(self.session.rows(f"select system$pipe_status('{name}')")[0][0])
        return Pipe(
            status["executionState"], int(status.get("pendingFileCount", 0)), "lastForwardedMessageTimestamp" in status
        )

    def read_history(self, states: Mapping[str, PartState]) -> None:
        """Reads what the pipe did with young parts. Joined on the last name: FILE_NAME's base is not documented."""
        rows = self.session.rows(
            f"select file_name, status from table({self.database}.information_schema.copy_history("  # noqa: S608
            f"table_name => '{self.database}.{self.schema}.AMPLITUDE_EVENTS_RAW_PYTHON',"
            " start_time => dateadd('day', -7, current_timestamp()))) where pipe_name is not null"
        )
        status = {name.rsplit("/", 1)[-1]: text.lower() for name, text in rows}
        for key, state in states.items():
            state.pipe_status = status.get(key.rsplit("/", 1)[-1], "")

    def refresh(self, folder: str) -> None:
        """Tells the pipe of the files below a folder (ends with `/`) that came in the last 7 days."""
        prefix = self._path(folder)
        self.session.rows(f"alter pipe {self.schema}.amplitude_events_pipe refresh prefix = '{prefix}'")

    def copy(self, keys: Sequence[str], *, force: bool = False) -> None:
        """COPY of the parts. A part with a bad line is skipped whole. `force`: only for parts without a row."""
        relative = ", ".join(f"'{self._path(key)}'" for key in keys)
        self.session.rows(
            f"copy into {self.schema}.amplitude_events_raw_python (json_data, source_file, source_row, loaded_at)"  # noqa: S608
            " from (select $1, metadata$filename, metadata$file_row_number, metadata$start_scan_time"
            f" from @{self.schema}.amplitude_events_stage) files = ({relative})"
            f" file_format = (format_name = '{self.schema}.amplitude_json') on_error = skip_file"
            f"{' force = true' if force else ''}"
        )

    def bad_lines(self, key: str) -> list[int]:
        """Lines of a part that Snowflake does not take for JSON, by reading it as text. Their content stays there."""
        rows = self.session.rows(
            f"select metadata$file_row_number from '@{self.schema}.amplitude_events_stage/{self._path(key)}'"  # noqa: S608
            f" (file_format => '{self.schema}.amplitude_text_lines') where try_parse_json($1) is null order by 1"
        )
        return [row[0] for row in rows]

    def _path(self, key: str) -> str:
        """Relative to the stage's URL."""
        return key.removeprefix(f"{self.prefix}/")

    def record(self, lines: Iterable[UploadedLine], states: Mapping[str, PartState]) -> None:
        """Writes OPS.LOAD_AUDIT and OPS.REJECTED_ROWS."""
        now = datetime.now(UTC).replace(tzinfo=None)
        audit: list[tuple[object, ...]] = []
        for line in lines:
            hour = parse_hour(line.hour).replace(tzinfo=None)
            for state in (states[part.key] for part in line.parts):
                counts = (state.part.rows, state.distinct, state.stored)
                audit.append((state.part.key, hour, line.version, *counts, state.loaded_by, state.problem or None, now))
        for batch in batches(audit, FILES_PER_COPY):
            self.session.insert("insert into ops.load_audit values (?, ?, ?, ?, ?, ?, ?, ?, ?)", batch)
        rejected = [
            (key, number, "not readable as JSON", now) for key, state in states.items() for number in state.bad_lines
        ]
        for batch in batches(rejected, FILES_PER_COPY):
            self.session.insert("insert into ops.rejected_rows values (?, ?, ?, ?)", batch)


def loaded_since(uploaded_at: str) -> int:
    """The earliest LOADED_AT (seconds since 1970) of what was uploaded then or later."""
    return int((datetime.fromisoformat(uploaded_at) - CLOCK_SLACK).timestamp())


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
