"""Tasks: definition, graphs, and the runner that starts them (triggered, scheduled, EXECUTE TASK)."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from queue import Empty, SimpleQueue
from zoneinfo import ZoneInfo

from local.snowflake.account import Account
from local.snowflake.catalog import Name, Properties, utc_now
from local.snowflake.errors import SnowflakeError, already_exists, compilation, convert, not_found, unsupported
from local.snowflake.lexer import Reader, Unexpected
from local.snowflake.results import Result, status
from local.snowflake.session import Session
from local.snowflake.translate import GLOBAL, HIDDEN

# A triggered task runs at most every 30 s in an account (USER_TASK_MINIMUM_TRIGGER_INTERVAL_IN_SECONDS); here the wait
# is divided by this, so that a person and a test see it run.
SPEED = float(os.environ.get("LOCAL_SNOWFLAKE_TASK_SPEED", "15"))
_OPTIONS = {
    "WAREHOUSE", "SCHEDULE", "COMMENT", "CONFIG", "ALLOW_OVERLAPPING_EXECUTION", "OVERLAP_POLICY",
    "USER_TASK_TIMEOUT_MS", "SUSPEND_TASK_AFTER_NUM_FAILURES", "TASK_AUTO_RETRY_ATTEMPTS",
    "USER_TASK_MANAGED_INITIAL_WAREHOUSE_SIZE", "USER_TASK_MINIMUM_TRIGGER_INTERVAL_IN_SECONDS",
    "TARGET_COMPLETION_INTERVAL", "SERVERLESS_TASK_MIN_STATEMENT_SIZE", "SERVERLESS_TASK_MAX_STATEMENT_SIZE",
    "TIMEZONE", "QUERY_TAG", "STATEMENT_TIMEOUT_IN_SECONDS", "LOCK_TIMEOUT",
}  # fmt: skip
_PARAMETERS = ("TIMEZONE", "QUERY_TAG", "STATEMENT_TIMEOUT_IN_SECONDS", "LOCK_TIMEOUT")
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
    if "WAREHOUSE" not in task["options"] and task["when"] and not task["after"] and "SCHEDULE" not in task["options"]:
        if "TARGET_COMPLETION_INTERVAL" not in task["options"]:
            message = "a serverless triggered task needs TARGET_COMPLETION_INTERVAL."
            raise compilation(91092, message, "42601")
    warehouse = task["options"].get("WAREHOUSE")
    if warehouse and session.catalog.get("WAREHOUSE", ("", "", str(warehouse).upper())) is None:
        raise not_found("Warehouse", str(warehouse).upper())
    if there and alter:
        _must_be_suspended(session, name)
        task |= {key: there[key] for key in ("created_on", "last_run")}
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
    if not reader.done():
        raise unsupported(f"EXECUTE TASK … {reader.rest()}")
    if task["after"] or task["finalize"]:
        raise SnowflakeError(91089, f"Cannot execute task {name[2]}: it is not a root task.", "22023")
    session.account.task_runner.start_now(name)
    return status(f"Task {name[2]} is scheduled to run immediately.")


class TaskRunner(threading.Thread):
    """Starts graphs one after another; each task in a session of its own with the owner's role."""

    def __init__(self, account: Account, every: float = 0.5) -> None:
        super().__init__(daemon=True, name="tasks")
        self._account, self._every = account, every
        self._asked: SimpleQueue[Name] = SimpleQueue()
        self._next: dict[Name, float] = {}  # when a schedule is due, or the minute that cron last matched
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._running: Session | None = None

    def start_now(self, name: Name) -> None:
        self._asked.put(name)
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        if self._running is not None:
            self._running.cancelled.set()
            self._running.transaction.duck.interrupt()
        self.join(30)

    def run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._every)
            self._wake.clear()
            while not self._stopping.is_set():
                try:
                    self._graph(self._asked.get_nowait(), "EXECUTE TASK")
                except Empty:
                    break
            for name, task in self._account.catalog.all("TASK"):
                if self._stopping.is_set():
                    return
                why = self._due(name, task)
                if why:
                    self._graph(name, why)

    def _due(self, name: Name, task: Properties) -> str | None:
        """SCHEDULE or TRIGGER when a root must start now."""
        if task["after"] or task["finalize"] or task["state"] != "started":
            self._next.pop(name, None)
            return None
        now = time.time()
        schedule = task["options"].get("SCHEDULE")
        if schedule is None:
            least = float(task["options"].get("USER_TASK_MINIMUM_TRIGGER_INTERVAL_IN_SECONDS", 30)) / SPEED
            return "TRIGGER" if now - task["last_run"] >= least and self._condition_holds(name, task) else None
        every = parse_schedule(str(schedule))
        if isinstance(every, tuple):
            minute = now // 60
            if self._next.get(name) == minute or not cron_matches(*every, utc_now()):
                return None
            self._next[name] = minute
            return "SCHEDULE"
        due = self._next.setdefault(name, now + every)
        if now < due:
            return None
        self._next[name] = now + every
        return "SCHEDULE"

    def _session(self, name: Name, task: Properties) -> Session:
        warehouse = str(task["options"].get("WAREHOUSE") or "").upper() or None
        session = self._account.login("SYSTEM", name[0], name[1], str(task["owner"]), warehouse)
        for parameter in _PARAMETERS:
            if parameter in task["options"]:
                session.set_parameter(parameter, task["options"][parameter])
        return session

    def _condition_holds(self, name: Name, task: Properties) -> bool:
        session = self._session(name, task)
        try:
            return session.execute(f"select {task['when']}").scalar() is True
        except SnowflakeError:
            return False  # a stale or dropped stream: nothing to run for
        finally:
            self._account.logout(session)

    def _graph(self, root: Name, why: str) -> None:
        """One run of a graph: a child when all its predecessors succeeded or are suspended."""
        catalog = self._account.catalog
        task = catalog.get("TASK", root)
        if task is None:
            return
        task["last_run"] = time.time()
        catalog.put("TASK", root, task)
        group, scheduled = self._account.next_number(), utc_now()
        outcome: dict[Name, tuple[str, str | None]] = {}
        waiting = [root]
        while waiting:
            name = waiting.pop(0)
            task = catalog.get("TASK", name)
            if task is None or name in outcome or self._stopping.is_set():
                continue
            before = [outcome.get(tuple(one)) for one in task["after"]]
            if name != root and any(one is None or one[0] not in {"SUCCEEDED", "SUSPENDED"} for one in before):
                continue
            if name != root and task["state"] != "started":
                outcome[name] = ("SUSPENDED", None)
            else:
                value = next((one[1] for one in before if one), None)
                outcome[name] = self._one(name, task, why, (group, root, scheduled), value)
            waiting += [key for key, other in catalog.all("TASK") if list(name) in other["after"]]
        if outcome.get(root, ("SKIPPED", None))[0] != "SKIPPED":
            for name, task in list(catalog.all("TASK")):
                if task["finalize"] == list(root) and task["state"] == "started":
                    self._one(name, task, why, (group, root, scheduled), None)
        if any(state == "FAILED" for state, _ in outcome.values()):
            self._count_failure(root)

    def _count_failure(self, root: Name) -> None:
        """After SUSPEND_TASK_AFTER_NUM_FAILURES failed runs in a row the graph is suspended."""
        task = self._account.catalog.need("TASK", root)
        task["failures"] += 1
        limit = int(task["options"].get("SUSPEND_TASK_AFTER_NUM_FAILURES", 10))
        if limit and task["failures"] >= limit:
            task["state"] = "suspended"
        self._account.catalog.put("TASK", root, task)

    def _one(
        self, name: Name, task: Properties, why: str, run: tuple[int, Name, datetime], value: str | None
    ) -> tuple[str, str | None]:
        """(state, return value) of one task; a history row is written before it starts and completed after."""
        group, root, scheduled = run
        number = self._account.next_number()
        history = f"{GLOBAL}.{HIDDEN}.task_history"
        cursor = self._account.cursor()
        cursor.execute(
            f"insert into {history} values ({', '.join('?' * 18)})",
            [number, name[2], name[0], name[1], task["body"], task["when"], "EXECUTING", None, None, scheduled,
             utc_now(), None, None, None, group, ".".join(root), 1, why],
        )  # fmt: skip
        state, error, result, query_id = "SUCCEEDED", None, None, None
        session = self._running = self._session(name, task)
        session.predecessor_value = value
        try:
            if task["when"] and why != "TRIGGER" and session.execute(f"select {task['when']}").scalar() is not True:
                state = "SKIPPED"
                error = SnowflakeError(40003, "Conditional expression for task evaluated to false.")
            else:
                query_id = session.execute(task["body"]).query_id
                result = session.return_value
        except Exception as failure:  # noqa: BLE001 - it belongs in the history, whatever it is
            state, error = "FAILED", convert(failure)
        finally:
            self._running = None
            self._account.logout(session)
        code = f"00{error.code}" if state == "SKIPPED" and error else error.code_text if error else None
        cursor.execute(
            f"""update {history} set state = ?, error_code = ?, error_message = ?, completed_time = ?,
                return_value = ?, query_id = ? where run_id = ?""",
            [state, code, error and error.message, utc_now(), result, query_id, number],
        )
        cursor.close()
        return state, result
