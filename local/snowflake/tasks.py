"""Tasks: definition, graphs, and the runner that starts them (triggered, scheduled, EXECUTE TASK)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from local.snowflake.catalog import Name, Properties
from local.snowflake.errors import SnowflakeError, already_exists, compilation, not_found, unsupported
from local.snowflake.lexer import Reader, Unexpected
from local.snowflake.privileges import forget_grants, need, need_create, need_owner
from local.snowflake.results import Result, status
from local.snowflake.session import Session

_OPTIONS = {
    "WAREHOUSE", "SCHEDULE", "COMMENT", "CONFIG", "ALLOW_OVERLAPPING_EXECUTION", "OVERLAP_POLICY",
    "USER_TASK_TIMEOUT_MS", "SUSPEND_TASK_AFTER_NUM_FAILURES", "TASK_AUTO_RETRY_ATTEMPTS",
    "USER_TASK_MANAGED_INITIAL_WAREHOUSE_SIZE", "USER_TASK_MINIMUM_TRIGGER_INTERVAL_IN_SECONDS",
    "TARGET_COMPLETION_INTERVAL", "SERVERLESS_TASK_MIN_STATEMENT_SIZE", "SERVERLESS_TASK_MAX_STATEMENT_SIZE",
    "TIMEZONE", "QUERY_TAG", "STATEMENT_TIMEOUT_IN_SECONDS", "LOCK_TIMEOUT",
}  # fmt: skip
_CONDITIONS = re.compile(r"SYSTEM\$(STREAM_HAS_DATA|GET_PREDECESSOR_RETURN_VALUE)", re.IGNORECASE)


def create(session: Session, reader: Reader, *, replace: bool, alter: bool) -> Result:
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    name = session.resolve(reader.name())
    task: Properties = {
        "text": reader.sql, "options": {}, "after": [], "when": None, "finalize": None, "state": "suspended",
        "owner": session.role, "database": session.database, "schema": session.schema, "last_run": 0.0, "failures": 0,
    }  # fmt: skip
    _read_definition(session, reader, task)
    there = session.catalog.get("TASK", name)
    if there and if_not_exists:
        return status(f"{name[2]} already exists, statement succeeded.")
    if there and not replace and not alter:
        raise already_exists(name[2])
    if "SCHEDULE" in task["options"]:
        if task["after"]:
            raise compilation(91090, f"Task {name[2]} cannot have both a SCHEDULE and a predecessor.", "42601")
        parse_schedule(str(task["options"]["SCHEDULE"]))
    if task["when"] and not _CONDITIONS.search(task["when"]):
        raise compilation(1420, f"invalid WHEN condition '{task['when']}' of a task.", "22023")
    triggered = task["when"] and not task["after"] and "SCHEDULE" not in task["options"]
    if triggered and not task["options"].keys() & {"WAREHOUSE", "TARGET_COMPLETION_INTERVAL"}:
        raise compilation(91092, "a serverless triggered task needs TARGET_COMPLETION_INTERVAL.", "42601")
    need_owner(session, "TASK", name) if there else need_create(session, "TASK", name)
    warehouse = task["options"].get("WAREHOUSE")
    if warehouse and session.catalog.get("WAREHOUSE", ("", "", str(warehouse).upper())) is None:
        raise not_found("Warehouse", str(warehouse).upper())
    if there and alter:
        _must_be_suspended(session, name)
        task |= {key: there[key] for key in ("created_on", "last_run")}
    elif there:
        forget_grants(session, "TASK", name)
    for predecessor in task["after"]:
        session.catalog.need("TASK", tuple(predecessor))
        _must_be_suspended(session, tuple(predecessor))
    session.catalog.put("TASK", name, task)
    return status(f"Task {name[2]} successfully created.")


def _read_definition(session: Session, reader: Reader, task: Properties) -> None:
    while not reader.at("AS"):
        if reader.take("AFTER"):
            task["after"] = [list(session.resolve(parts)) for parts in reader.names()]
        elif reader.take("FINALIZE", "="):
            task["finalize"] = list(session.resolve(reader.name()))
        elif reader.take("WHEN"):
            task["when"] = _condition(reader)
        elif reader.at("EXECUTE", "AS"):
            raise unsupported("CREATE TASK … EXECUTE AS USER")
        elif not reader.take(","):
            option = reader.next()
            if option.upper not in _OPTIONS:
                raise Unexpected(option)
            reader.need("=")
            task["options"][option.upper] = reader.value()
    reader.need("AS")
    task["body"] = reader.rest()
    if not task["body"]:
        raise Unexpected(None)


def _condition(reader: Reader) -> str:
    """The text up to AS outside brackets (a cast in it has its AS inside)."""
    start, depth = reader.peek(), 0
    while not (depth == 0 and reader.at("AS")):
        token = reader.next()
        depth += (token.text == "(") - (token.text == ")")
    end = reader.peek()
    if start is None or end is None:
        raise Unexpected(None)
    return reader.sql[start.start : end.start].strip()


def parse_schedule(text: str) -> float | tuple[list[str], str]:
    """Seconds between two runs, or (cron fields, zone)."""
    found = re.fullmatch(r"\s*(\d+)\s*(S|SECONDS?|M|MINUTES?|H|HOURS?)\s*", text, re.IGNORECASE)
    if found is not None:
        return int(found[1]) * {"S": 1.0, "M": 60.0, "H": 3600.0}[found[2][0].upper()]
    words = text.split()
    if len(words) == 8 and [word.upper() for word in words[:2]] == ["USING", "CRON"]:
        return words[2:7], words[7]
    raise compilation(91080, f"Invalid schedule '{text}' of a task.", "22023")


def cron_matches(fields: list[str], zone: str, now: datetime) -> bool:
    """Minute, hour, day of the month, month, day of the week (0 = Sunday) in the zone."""
    local = now.astimezone(ZoneInfo(zone))
    values = (local.minute, local.hour, local.day, local.month, local.isoweekday() % 7)
    return all(
        _field_matches(text, value, low) for text, value, low in zip(fields, values, (0, 0, 1, 1, 0), strict=True)
    )


def _field_matches(text: str, value: int, low: int) -> bool:
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, last = (low, 10**6) if span == "*" else [int(bound) for bound in (span.split("-") * 2)[:2]]
        if first <= value <= last and (value - first) % int(step or 1) == 0:
            return True
    return False


# ---- graphs
def root_of(session: Session, name: Name) -> tuple[Name, Properties]:
    task = session.catalog.need("TASK", name)
    while task["after"] or task["finalize"]:
        name = tuple(task["after"][0] if task["after"] else task["finalize"])
        task = session.catalog.need("TASK", name)
    return name, task


def _must_be_suspended(session: Session, name: Name) -> None:
    root, task = root_of(session, name)
    if task["state"] == "started":
        message = f"Unable to update graph with root task {'.'.join(root)} since that root task is not suspended."
        raise SnowflakeError(91421, message, "22000")


def children(session: Session, name: Name) -> Iterator[tuple[Name, Properties]]:
    for key, task in session.catalog.all("TASK"):
        if list(name) in task["after"]:
            yield key, task


def dependents(session: Session, name: Name, *, recursive: bool) -> list[tuple[Name, Properties]]:
    """The task itself, its children and, recursively, theirs; finalizers of a root too."""
    found: list[tuple[Name, Properties]] = []
    waiting = [(name, session.catalog.need("TASK", name))]
    while waiting:
        key, task = waiting.pop(0)
        if any(key == other for other, _ in found):
            continue
        found.append((key, task))
        if recursive or key == name:
            waiting += children(session, key)
            waiting += [(k, t) for k, t in session.catalog.all("TASK") if t["finalize"] == list(key)]
    return found


def enable_dependents(session: Session, name: Name) -> None:
    """SYSTEM$TASK_DEPENDENTS_ENABLE: children before their parents, as a person must."""
    for key, task in reversed(dependents(session, name, recursive=True)):
        task["state"] = "started"
        session.catalog.put("TASK", key, task)


def alter(session: Session, reader: Reader) -> Result:
    if_exists = reader.take("IF", "EXISTS")
    name = session.resolve(reader.name())
    task = session.catalog.get("TASK", name)
    if task is None:
        if if_exists:
            return status()
        raise not_found("Task", ".".join(name))
    need(session, "TASK", name, "OPERATE")
    if reader.take("RESUME"):
        _resume(session, name, task)
    elif reader.take("SUSPEND"):
        task["state"] = "suspended"
    else:
        _must_be_suspended(session, name)
        _modify(session, reader, task)
    reader.end()
    session.catalog.put("TASK", name, task)
    return status()


def _resume(session: Session, name: Name, task: Properties) -> None:
    root, _ = root_of(session, name)
    if root != name and task["state"] != "started":
        _must_be_suspended(session, name)
    if not task["after"] and not task["finalize"] and not task["options"].get("SCHEDULE") and not task["when"]:
        message = f"Task {name[2]} cannot be resumed: it has no schedule, no predecessor and no stream condition."
        raise SnowflakeError(91088, message, "22023")
    task["state"], task["failures"] = "started", 0


def _modify(session: Session, reader: Reader, task: Properties) -> None:
    if reader.take("MODIFY", "AS"):
        task["body"] = reader.rest()
    elif reader.take("MODIFY", "WHEN"):
        task["when"] = reader.rest()
    elif reader.take("REMOVE", "WHEN"):
        task["when"] = None
    elif reader.take("ADD", "AFTER"):
        task["after"] += [list(session.resolve(parts)) for parts in reader.names()]
    elif reader.take("REMOVE", "AFTER"):
        gone = [list(session.resolve(parts)) for parts in reader.names()]
        task["after"] = [one for one in task["after"] if one not in gone]
    elif reader.take("SET"):
        options = reader.options()
        for option in options.keys() - _OPTIONS:
            raise unsupported(f"ALTER TASK … SET {option}")
        task["options"] |= options
    elif reader.take("UNSET"):
        while not reader.done():
            if not reader.take(","):
                task["options"].pop(reader.identifier(), None)
    else:
        raise unsupported(f"ALTER TASK … {reader.peek_text()}")


def drop(session: Session, name: Name) -> None:
    session.catalog.need("TASK", name)
    session.catalog.drop("TASK", name)


def execute(session: Session, reader: Reader) -> Result:
    """EXECUTE TASK root: asynchronous, a suspended root too."""
    name = session.resolve(reader.name())
    task = session.catalog.need("TASK", name)
    need(session, "TASK", name, "OPERATE")
    if not reader.done():
        raise unsupported(f"EXECUTE TASK … {reader.rest()}")
    if task["after"] or task["finalize"]:
        raise SnowflakeError(91089, f"Cannot execute task {name[2]}: it is not a root task.", "22023")
    session.account.task_runner.start_now(name)
    return status(f"Task {name[2]} is scheduled to run immediately.")
