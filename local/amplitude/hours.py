"""Hours in UTC as the stand-in writes and reads them; on purpose not the pipeline's own reading of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

HOUR = timedelta(hours=1)
_ASKED = re.compile(r"\d{8}T\d{2}", re.ASCII)


def asked(text: str) -> datetime:
    """The hour of a request's `start` or `end`, `YYYYMMDDTHH`. Raises ValueError on anything else."""
    if not _ASKED.fullmatch(text):
        raise ValueError(f"{text!r} is not YYYYMMDDTHH")
    return datetime.strptime(text, "%Y%m%dT%H").replace(tzinfo=UTC)


def named(text: str) -> datetime:
    """The hour of a name `YYYY-MM-DDTHH`. Raises ValueError on anything else."""
    return datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC)


def name(hour: datetime) -> str:
    return hour.strftime("%Y-%m-%dT%H")


def between(start: datetime, end: datetime) -> list[datetime]:
    """The hours from `start` to `end`, both inclusive."""
    return [start + HOUR * number for number in range(int((end - start) / HOUR) + 1)]
