"""What each hop holds of the hours of some days: the ledger, the backup, S3, and Snowflake's three layers.

Sets are compared by count and uuid digest: the sum over distinct uuids of the lower half of their MD5, which Snowflake
computes as SUM(MD5_NUMBER_LOWER64(uuid)).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from scripts.pipeline import keys
from scripts.pipeline.backup_store import BackupStore
from scripts.pipeline.checkers import Checkers
from scripts.pipeline.entry import log
from scripts.pipeline.errors import DamagedError
from scripts.pipeline.exported import check_archive
from scripts.pipeline.hour_ledger import HourEntry, HourLedger, State
from scripts.pipeline.hours import Window, format_hour
from scripts.pipeline.landing import LOADED_SINCE, loaded_since
from scripts.pipeline.part_lines import banned
from scripts.pipeline.records import Part, Version
from scripts.pipeline.settings import BackupSettings, BucketSettings, load
from scripts.pipeline.warehouse import Warehouse

ROWS_PER_READ = 10_000

Figures = tuple[int, str]  # distinct uuids, digest


@dataclass
class HourHops:
    """One hour. `None`: that hop was not, or could not be, looked at."""

    hour: str
    state: State
    ledger: Figures = (0, "0")
    versions: list[Version] = field(default_factory=list)
    backup: Figures | None = None
    raw: Figures = (0, "0")
    silver: Figures | None = None
    dbt: Figures = (0, "0")
    lost: list[Part] = field(default_factory=list)  # gone from S3, and needed
    damaged: list[Part] = field(default_factory=list)  # of another size in S3
    gone: set[str] = field(default_factory=set)  # keys that are not in S3, of any version
    short: dict[str, int] = field(default_factory=dict)  # part → rows in RAW, when they are too few

    def count(self, rows: dict[str, int]) -> None:
        """Takes the distinct rows of each part in RAW. A part that lacks some must be in S3, whatever its version."""
        counted = {key: rows.get(key, 0) for key in self.parts}
        self.short = {key: count for key, count in counted.items() if count < self.parts[key].rows}
        known = {part.key for part in self.lost}
        self.lost += [self.parts[key] for key in self.short if key in self.gone and key not in known]

    @property
    def parts(self) -> dict[str, Part]:
        """By key: what S3 and RAW must hold. A version that Snowflake refused was replaced by another."""
        replaced = {number for version in self.versions for number in version.replaces}
        kept = (version for version in self.versions if version.version not in replaced)
        return {part.key: part for version in kept for part in version.manifest.parts if part.key}


def of_ledger(ledger: HourLedger, window: Window, now: datetime, latency_hours: int) -> dict[str, HourHops]:
    """Every hour of the window as the ledger has it; and which of its parts are lost."""
    first, last = window.start.date(), window.end.date()
    entries = ledger.entries(first, last)
    sizes = ledger.parts(first, last)
    hops: dict[str, HourHops] = {}
    for hour in map(format_hour, window.hours()):
        entry = entries.get(hour, HourEntry(hour))
        found = HourHops(hour, entry.state(now, latency_hours), versions=list(ledger.versions(entry)))
        if found.versions:
            found.ledger = (found.versions[-1].union_uuids, found.versions[-1].union_digest)
        parts = found.parts.values()
        newest = found.versions[-1].manifest.parts if found.versions else []
        # What an earlier version alone holds is needed for RAW only: `count` adds it.
        found.lost = [part for part in newest if part.key and part.key not in sizes]
        found.damaged = [part for part in parts if sizes.get(part.key, part.bytes) != part.bytes]
        found.gone = {part.key for part in parts if part.key not in sizes}
        hops[hour] = found
    return hops


def add_backup(hops: dict[str, HourHops], window: Window, bucket: BucketSettings) -> None:
    """Reads every archive of the backup that lies in the window; the newest export of an hour counts."""
    settings = load(BackupSettings)
    store = BackupStore(settings, bucket.amp_project_id)
    with tempfile.TemporaryDirectory(prefix="reconcile-", dir=settings.data_dir) as work:
        checkers = Checkers(bucket.aws_prefix, Path(work))
        try:
            for each, answer, archive in store.answers():
                if answer is None or each.start < window.start or each.end > window.end:
                    continue
                try:
                    found = answer.status == 200
                    hours = check_archive(checkers, archive, each, bucket.amp_project_id) if found else {}
                except (DamagedError, FileNotFoundError) as error:
                    log.error("%s: %s It is left out.", archive.name, error)
                    continue
                for hour in each.hours():
                    checked = hours.get(hour)
                    hops[format_hour(hour)].backup = (checked.uuids, checked.digest) if checked else (0, "0")
        finally:
            checkers.close()


def backup_agrees(hour: HourHops) -> bool:
    """Whether the newest backup is one of the exports that the ledger knows, lines taken out by hand aside."""
    if hour.backup is None or not hour.versions or banned(hour.versions):
        return True
    return any((each.manifest.uuids, each.manifest.digest) == hour.backup for each in hour.versions)


class Layers:
    """The statements over RAW, SILVER and INTERMEDIATE, of one range of days."""

    def __init__(self, session: Warehouse, database: str, raw_schema: str, bucket: BucketSettings) -> None:
        self._session = session
        self._database = database
        self._raw = f"{raw_schema}.amplitude_events_raw_python"
        self._prefix, self._project = bucket.aws_prefix, bucket.amp_project_id

    def _landed(self, window: Window, since: str) -> tuple[str, list[object]]:
        """The part of RAW that holds these days; `since` lets it prune."""
        first = keys.day_folder(self._prefix, self._project, window.start.date())
        beyond = keys.day_folder(self._prefix, self._project, window.end.date() + timedelta(days=1))
        where = f"from {self._raw} where {LOADED_SINCE} and source_file >= ? and source_file < ?"
        return where, [loaded_since(since), first, beyond]

    def has_events_of_dbt(self) -> bool:
        where = f"in schema {self._database}.INTERMEDIATE"
        return bool(self._session.rows(f"show tables like 'INT_AMPLITUDE__EVENTS' {where}"))

    def rows(self, window: Window, since: str) -> dict[str, int]:
        """Distinct rows of each part."""
        landed, values = self._landed(window, since)
        statement = f"select source_file, count(distinct source_row) {landed} group by source_file"
        return dict(self._session.rows(statement, *values))

    def figures(self, window: Window, since: str, *, silver: bool, dbt: bool) -> dict[str, list[Figures]]:
        """By hour: what RAW holds, and what of it SILVER and dbt hold (nothing where one is left out)."""
        landed, values = self._landed(window, since)
        folder = len(keys.hour_folder(self._prefix, self._project, window.start))
        layers = {"landed": True, "base1": silver, "events": dbt}
        sums = ", ".join(
            f"count({each}.uuid), sum(md5_number_lower64({each}.uuid))" if there else "0, 0"
            for each, there in layers.items()
        )
        joins = ""
        if silver:
            joins += ' left join (select "uuid" as uuid from silver.amplitude_events_base1) as base1'
            joins += " on landed.uuid = base1.uuid"
        if dbt:
            joins += " left join intermediate.int_amplitude__events as events on landed.uuid = events.uuid"
        statement = (
            f'with landed as (select distinct left(source_file, {folder}) as folder, json_data:"uuid"::varchar as uuid'  # noqa: S608
            f" {landed}) select folder, {sums} from landed{joins} group by folder"
        )
        return {
            keys.hour_of_key(f"{row[0]}any.json.gz"): [(int(row[at]), str(row[at + 1] or 0)) for at in (1, 3, 5)]
            for row in self._session.rows(statement, *values)
        }

    def missing_in_silver(self, window: Window, since: str) -> list[tuple[str, int]]:
        """(SOURCE_FILE, SOURCE_ROW) of the first landing row of events that SILVER lacks, at most ROWS_PER_READ + 1."""
        landed, values = self._landed(window, since)
        statement = (
            'select source_file, source_row from (select *, json_data:"uuid"::varchar as uuid'  # noqa: S608
            f" {landed}) as landed where uuid is not null and uuid not in"
            ' (select "uuid" from silver.amplitude_events_base1 where "uuid" is not null)'
            " qualify row_number() over (partition by uuid order by loaded_at, source_file, source_row) = 1"
            f" limit {ROWS_PER_READ + 1}"
        )
        return [(str(row[0]), int(row[1])) for row in self._session.rows(statement, *values)]

    def land_again(self, key: str, rows: Sequence[int]) -> None:
        """Copies landing rows of a part beside themselves: their stream then brings them to SILVER. A landing row may
        stand twice; everything downstream knows events by their uuid.
        """
        columns = "json_data, source_file, source_row, loaded_at"
        self._session.rows(
            f"insert into {self._raw} ({columns}) select {columns} from {self._raw}"  # noqa: S608
            f" where source_file = ? and source_row in ({', '.join('?' * len(rows))})"
            " qualify row_number() over (partition by source_row order by loaded_at) = 1",
            key,
            *rows,
        )


def earliest_upload(hops: dict[str, HourHops]) -> str:
    """When the first of all parts was uploaded; "" when there are none."""
    return min((part.uploaded_at for hour in hops.values() for part in hour.parts.values()), default="")
