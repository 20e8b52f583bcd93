"""Pure names of S3 objects: `<prefix>/project=<id>/date=YYYY-MM-DD/hour=HH/<name>`.

Every name is made of `[A-Za-z0-9._=-]`: other characters are cut, escaped or refused by Kestra's storage, by S3 event
notifications, or by tools between them. Amplitude's `#` before the part number becomes `_`.
"""

from __future__ import annotations

import re
from datetime import date, datetime

from scripts.pipeline.errors import DamagedError
from scripts.pipeline.hours import format_hour, parse_hour

_PART = re.compile(
    r"^(?P<prefix>.+)/project=(?P<project>\d+)/date=(?P<date>[\d-]{10})/hour=(?P<hour>\d{2})/[^/]+\.json\.gz$"
)


def day_folder(prefix: str, project: int, day: date) -> str:
    """Ends with `/`. Works for each of the three prefixes (parts, ledger, quarantine)."""
    return f"{prefix}/project={project}/date={day.isoformat()}/"


def hour_folder(prefix: str, project: int, hour: datetime) -> str:
    """Ends with `/`."""
    return f"{day_folder(prefix, project, hour.date())}hour={hour:%H}/"


def ledger_prefix(prefix: str) -> str:
    """Beside the parts, never below: the pipe loads all that lies below the parts prefix."""
    return f"{prefix}-ledger"


def quarantine_prefix(prefix: str) -> str:
    return f"{prefix}-quarantine"


def part_key(prefix: str, project: int, hour: datetime, number: int, sha256: str) -> str:
    """Key of part `number` of an hour. `sha256` (hex) makes it content-addressed: of the object's bytes, or of the
    uncompressed bytes of a cleaned member (gzip's output may differ between versions).
    """
    name = f"{project}_{hour.date().isoformat()}_{hour.hour}_{number}.{sha256[:12]}.json.gz"
    return hour_folder(prefix, project, hour) + name


def hour_of_key(key: str) -> str:
    """`YYYY-MM-DDTHH` of a part's or quarantined original's key. Raises DamagedError for another name."""
    found = _PART.match(key)
    if found is None:
        raise DamagedError(f"{key!r} is not the key of a part. Parts are named by this pipeline only.")
    return format_hour(parse_hour(f"{found['date']}T{found['hour']}"))
