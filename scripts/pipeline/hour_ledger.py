"""The hour ledger in S3: which hours were exported, how often, and what of that is loaded.

Per hour, below `<AWS_PREFIX>-ledger/project=<id>/date=…/hour=HH/`: versions `v0001.json` (never changed, each written
only if its name is free) and the markers `v0001.loaded.json`, `v0001.empty.json`, `rechecked_1d.json`,
`rechecked_7d.json`. A listing alone tells the state of every hour.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile
from typing import Literal

import msgspec

from scripts.pipeline import keys
from scripts.pipeline.errors import DamagedError, PermanentError
from scripts.pipeline.hours import HOUR, parse_hour, settled
from scripts.pipeline.object_store import ObjectStore
from scripts.pipeline.records import Version
from scripts.pipeline.settings import BucketSettings

State = Literal["young", "open", "empty", "uploaded", "loaded"]
RECHECK_DAYS = (1, 7)  # late data: an hour is exported again at these ages
LEARN_FROM_DAYS = 7  # a week holds each weekday's traffic

# Made at import: msgspec reads a type at its first use, and threads that do so at once end in a segmentation fault.
_VERSION = msgspec.json.Decoder(Version)
_FIRST_DAY = msgspec.json.Decoder(dict[str, date])
_NAME = re.compile(
    r"date=(?P<date>\d{4}-\d{2}-\d{2})/hour=(?P<hour>\d{2})/"
    r"(?:v(?P<version>(?!0000)\d{4})(?:\.(?P<mark>loaded|empty))?|rechecked_(?P<days>\d+)d)\.json"
)


@dataclass
class HourEntry:
    """What the names in the ledger say about one hour."""

    hour: str
    versions: set[int] = field(default_factory=set)
    loaded: set[int] = field(default_factory=set)  # versions
    empty: set[int] = field(default_factory=set)
    rechecked: set[int] = field(default_factory=set)  # of RECHECK_DAYS

    @property
    def version(self) -> int:
        """The newest; 0 = none."""
        return max(self.versions, default=0)

    @property
    def next_version(self) -> int:
        """A number that nothing speaks of: the marker of a version that somebody deleted is none of a later one's."""
        return max(self.versions | self.loaded | self.empty, default=0) + 1

    @property
    def unloaded(self) -> list[int]:
        """Versions with neither marker: each holds parts that Snowflake must be asked for."""
        return sorted(self.versions - self.loaded - self.empty)

    def state(self, now: datetime, latency_hours: int) -> State:
        if self.version == 0:
            return "open" if settled(parse_hour(self.hour), now, latency_hours) else "young"
        if self.unloaded:
            return "uploaded"
        return "loaded" if self.versions & self.loaded else "empty"  # a 404 after data takes no event back

    def recheck_due(self, now: datetime) -> int:
        """The re-check age (days) that the hour has reached since its last one; 0 = none."""
        reached = age_reached(self.hour, now) if self.version else 0
        return reached if reached > max(self.rechecked, default=0) else 0


def age_reached(hour: str, moment: datetime) -> int:
    """The largest of RECHECK_DAYS that has passed at `moment` since the end of the hour; 0 = none."""
    age = moment - parse_hour(hour) - HOUR
    return max((days for days in RECHECK_DAYS if age >= timedelta(days=days)), default=0)


class HourLedger:
    """The ledger of one project. Safe to use from several threads."""

    def __init__(self, settings: BucketSettings, store: ObjectStore | None = None) -> None:
        self.store = store or ObjectStore(settings)
        self._parts = settings.aws_prefix
        self._prefix = keys.ledger_prefix(settings.aws_prefix)
        self._project = settings.amp_project_id

    def _root(self) -> str:
        return f"{self._prefix}/project={self._project}/"

    def _key(self, hour: str, name: str) -> str:
        return keys.hour_folder(self._prefix, self._project, parse_hour(hour)) + name

    def entry(self, hour: str) -> HourEntry:
        """One hour, as it is now."""
        return self._collect(self._key(hour, "")).get(hour, HourEntry(hour))

    def entries(self, first: date | None = None, last: date | None = None) -> dict[str, HourEntry]:
        """Hours that the ledger has something of, in time order, of the UTC days first..last (inclusive)."""
        start_after = keys.day_folder(self._prefix, self._project, first) if first else ""
        return self._collect(self._root(), start_after, last.isoformat() if last else "9999")

    def _collect(self, prefix: str, start_after: str = "", last: str = "9999") -> dict[str, HourEntry]:
        found: dict[str, HourEntry] = {}
        for key, _ in self.store.keys(prefix, start_after):
            match = _NAME.fullmatch(key.removeprefix(self._root()))
            if match is None:
                continue
            if match["date"] > last:
                break
            hour = f"{match['date']}T{match['hour']}"
            if hour not in found:
                try:
                    parse_hour(hour)
                except PermanentError:
                    continue  # somebody's object below a day that no calendar has
            entry = found.setdefault(hour, HourEntry(hour))
            if match["days"]:
                entry.rechecked.add(int(match["days"]))
            elif match["mark"]:
                (entry.loaded if match["mark"] == "loaded" else entry.empty).add(int(match["version"]))
            else:
                entry.versions.add(int(match["version"]))
        return found

    def parts(self, first: date, last: date) -> dict[str, int]:
        """Keys and sizes (bytes) of the parts that lie in S3 of the UTC days first..last (inclusive)."""
        start = keys.day_folder(self._parts, self._project, first)
        beyond = keys.day_folder(self._parts, self._project, last + timedelta(days=1))
        listed = self.store.keys(f"{self._parts}/project={self._project}/", start)
        return dict(takewhile(lambda item: item[0] < beyond, listed))

    def read(self, hour: str, version: int) -> Version:
        """One version. Raises DamagedError when it is not there or of another shape."""
        key = self._key(hour, f"v{version:04}.json")
        try:
            return _VERSION.decode(self.store.read(key))
        except msgspec.MsgspecError as error:
            message = (
                f"{key} is not a version of the ledger: {error}. Delete all objects of that hour's ledger, then run "
                "amplitude_daily over its day with `force`: parts and rows that are there are taken as they are."
            )
            raise DamagedError(message) from None

    def versions(self, entry: HourEntry) -> Iterator[Version]:
        """All versions of an hour, oldest first."""
        return (self.read(entry.hour, number) for number in sorted(entry.versions))

    def publish(self, version: Version) -> bool:
        """Writes a version. False: its number is taken, so read the hour again and decide anew."""
        return self.store.create(self._key(version.hour, f"v{version.version:04}.json"), msgspec.json.encode(version))

    def mark_loaded(self, hour: str, version: int, rows: int) -> None:
        """By `load`, once every part of the version is in the landing table with all its rows."""
        self._mark(hour, f"v{version:04}.loaded.json", rows=rows)

    def mark_replaced(self, hour: str, version: int, by: int) -> None:
        """By `ledger quarantine`: Snowflake refused the version, and `by` has its good events."""
        self._mark(hour, f"v{version:04}.loaded.json", rows=0, replaced_by=by)

    def is_replaced(self, hour: str, version: int) -> bool:
        """Whether the marker of a loaded version is that of `mark_replaced`."""
        return b'"replaced_by"' in self.store.read(self._key(hour, f"v{version:04}.loaded.json"))

    def mark_empty(self, hour: str, version: int) -> None:
        """By `upload`, for a version without a part to load: nothing is left to do."""
        self._mark(hour, f"v{version:04}.empty.json")

    def mark_rechecked(self, hour: str, exported_at: datetime) -> None:
        """By `upload`, after the version: an export at that age counts as the re-check it has reached."""
        if days := age_reached(hour, exported_at):
            self._mark(hour, f"rechecked_{days}d.json")

    def _mark(self, hour: str, name: str, **facts: int) -> None:
        """A marker that is there already stays as it is."""
        marked_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self.store.create(self._key(hour, name), msgspec.json.encode({"marked_at": marked_at, **facts}))

    def first_day(self, asked: date | None = None) -> date | None:
        """The first day that a schedule asked for. The first `asked` ever given is kept; None: none was."""
        key = self._root() + "first_day.json"
        if asked:
            self.store.create(key, msgspec.json.encode({"first_day": asked}))
        elif self.store.head(key) is None:
            return None
        try:
            return _FIRST_DAY.decode(self.store.read(key))["first_day"]
        except (msgspec.MsgspecError, KeyError):
            message = f"{key} is damaged. Delete it, and set AMP_START_DATE to the first day that is yours."
            raise DamagedError(message) from None

    def expected_bytes(self) -> dict[str, int]:
        """The largest hour among the newest days in S3 by hour of the day (`HH`), in bytes of its parts."""
        largest: dict[str, int] = {}
        for folder in self.store.folders(f"{self._parts}/project={self._project}/")[-LEARN_FROM_DAYS:]:
            sizes: dict[str, int] = {}
            for key, size in self.store.keys(folder):
                hour = key.removeprefix(folder)[5:7]  # hour=HH/…
                sizes[hour] = sizes.get(hour, 0) + size
            largest = {hour: max(largest.get(hour, 0), sizes.get(hour, 0)) for hour in largest | sizes}
        return largest
