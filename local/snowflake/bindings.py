"""Values that a client binds, from the strings of the wire."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rows(bindings: dict[str, dict[str, Any]]) -> list[list[object]]:
    """One list of values per row: an array binding has many rows."""
    if not bindings:
        return []
    ordered = [bindings[key] for key in sorted(bindings, key=int)]
    if not any(isinstance(binding["value"], list) for binding in ordered):
        return [[_value(binding["type"], binding["value"]) for binding in ordered]]
    columns = [[_value(binding["type"], value) for value in binding["value"]] for binding in ordered]
    return [list(row) for row in zip(*columns, strict=True)]


def _value(kind: str, value: str | None) -> object:
    if value is None:
        return None
    if kind == "FIXED":
        return int(value)
    if kind == "REAL":
        return float(value)
    if kind == "BOOLEAN":
        return value.lower() == "true"
    if kind == "BINARY":
        return bytes.fromhex(value)
    if kind == "DATE":
        return date(1970, 1, 1) + timedelta(milliseconds=int(value))
    if kind == "TIME":
        return _time(int(value))
    if kind == "TIMESTAMP_NTZ":
        return (EPOCH + timedelta(microseconds=int(value) // 1000)).replace(tzinfo=None)
    if kind in {"TIMESTAMP_LTZ", "TIMESTAMP_TZ"}:
        nanoseconds, _, minutes = value.partition(" ")
        zone = timezone(timedelta(minutes=int(minutes) - 1440)) if minutes else UTC
        return (EPOCH + timedelta(microseconds=int(nanoseconds) // 1000)).astimezone(zone)
    return value


def _time(nanoseconds: int) -> time:
    return (EPOCH + timedelta(microseconds=nanoseconds // 1000)).time()
