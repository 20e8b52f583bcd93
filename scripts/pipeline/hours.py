"""Pure arithmetic of UTC hours, the unit of work. An hour is an aware UTC datetime at minute 0.

The hour is that of Amplitude's `server_upload_time`, which is what the Export API selects on. All ends are inclusive,
as in the API: a day is T00..T23. An hour is written `YYYY-MM-DDTHH`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from scripts.pipeline.errors import PermanentError

HOUR = timedelta(hours=1)
MAX_DAYS = 365  # the API's longest query
HOURS_PER_REQUEST = 24
# The API answers 400 above 4 GB, after it has done the work; a request is planned to stay well below.
BYTES_PER_REQUEST = 1_000_000_000


@dataclass(frozen=True, order=True)
class Window:
    """Consecutive hours, both ends inclusive."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start != floor(self.start) or self.end != floor(self.end):
            raise PermanentError(f"window {self.start.isoformat()}..{self.end.isoformat()}: ends must be whole hours.")
        if self.end < self.start:
            raise PermanentError(f"window {self}: its end lies before its start. Give the earlier hour first.")

    def __len__(self) -> int:
        return (self.end - self.start) // HOUR + 1

    def __str__(self) -> str:
        """`YYYY-MM-DDTHH` or `YYYY-MM-DDTHH..YYYY-MM-DDTHH`."""
        first, last = format_hour(self.start), format_hour(self.end)
        return first if first == last else f"{first}..{last}"

    def hours(self) -> list[datetime]:
        return [self.start + index * HOUR for index in range(len(self))]

    def halves(self) -> tuple[Window, Window]:
        """Two windows that together hold each hour once. Raises PermanentError for a single hour."""
        if len(self) == 1:
            raise PermanentError(f"window {self}: one hour cannot be split.")
        middle = self.start + (len(self) // 2) * HOUR
        return Window(self.start, middle - HOUR), Window(middle, self.end)


def floor(moment: datetime) -> datetime:
    """The hour that an aware moment lies in."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def format_hour(hour: datetime) -> str:
    return hour.astimezone(UTC).strftime("%Y-%m-%dT%H")


def parse_hour(text: str) -> datetime:
    """Reads `YYYY-MM-DDTHH`. Raises PermanentError for anything else."""
    try:
        hour = datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError:
        hour = None
    if hour is None or format_hour(hour) != text:  # strptime also takes `T3`
        raise PermanentError(f"{text!r} is not an hour: write YYYY-MM-DDTHH, UTC.")
    return hour


def settled(hour: datetime, now: datetime, latency_hours: int) -> bool:
    """Whether the API can be expected to have all of the hour: its end lies at least the export latency back."""
    return now >= hour + HOUR + timedelta(hours=latency_hours)


def day_window(day: date) -> Window:
    start = datetime.combine(day, time(), UTC)
    return Window(start, start + 23 * HOUR)


def days_window(first: date, last: date, now: datetime) -> Window:
    """All hours of the UTC days first..last. Raises PermanentError for a reversed, future or over-long range."""
    shown = f"range {first.isoformat()}..{last.isoformat()}"
    if last < first:
        raise PermanentError(f"{shown}: start_date lies after end_date. Swap them.")
    if last > now.astimezone(UTC).date():
        raise PermanentError(f"{shown} ends in the future (UTC). Ask for days that have begun.")
    if (last - first).days >= MAX_DAYS:
        raise PermanentError(f"{shown} is longer than {MAX_DAYS} days. Run it in pieces.")
    return Window(day_window(first).start, day_window(last).end)


def recent_window(moment: datetime) -> Window:
    """The 24 whole hours before a moment."""
    end = floor(moment) - HOUR
    return Window(end - 23 * HOUR, end)


def plan_windows(
    hours: Iterable[datetime],
    sizes: Mapping[datetime, int] | None = None,
    longest: int = HOURS_PER_REQUEST,
    largest: int = BYTES_PER_REQUEST,
) -> list[Window]:
    """Groups hours into the windows to ask for, in time order: each hour in one, and no hour that was not given.

    A window lies in one UTC day, has at most `longest` hours, and, by `sizes` (expected compressed bytes of an hour;
    0 when unknown), at most `largest` bytes unless it is a single hour.
    """
    expected = sizes or {}
    windows: list[Window] = []
    total = 0
    for hour in sorted(set(hours)):
        size = expected.get(hour, 0)
        last = windows[-1] if windows else None
        next_to = last is not None and hour - last.end == HOUR and hour.date() == last.end.date()
        if last and next_to and len(last) < longest and total + size <= largest:
            windows[-1] = Window(last.start, hour)
            total += size
        else:
            windows.append(Window(hour, hour))
            total = size
    return windows
