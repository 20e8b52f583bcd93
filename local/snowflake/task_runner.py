"""Runs tasks: triggered by a stream, by schedule, by EXECUTE TASK; each graph from its root."""

from __future__ import annotations

import logging
import os
import threading
import time
from datetime import datetime
from queue import SimpleQueue

from local.snowflake.account import Account
from local.snowflake.catalog import Name, Properties, utc_now
from local.snowflake.errors import SnowflakeError, convert
from local.snowflake.session import Session
from local.snowflake.tasks import cron_matches, parse_schedule
from local.snowflake.translate import GLOBAL, HIDDEN

# A triggered task runs at most every 30 s in an account (USER_TASK_MINIMUM_TRIGGER_INTERVAL_IN_SECONDS); here the wait
# is divided by this, so that a person and a test see it run.
SPEED = float(os.environ.get("LOCAL_SNOWFLAKE_TASK_SPEED", "15"))
_log = logging.getLogger(__name__)
_PARAMETERS = ("TIMEZONE", "QUERY_TAG", "STATEMENT_TIMEOUT_IN_SECONDS", "LOCK_TIMEOUT")


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
            while not self._asked.empty() and not self._stopping.is_set():
                self._serve(self._asked.get_nowait(), "EXECUTE TASK")
            for name, _ in self._account.catalog.all("TASK"):
                if self._stopping.is_set():
                    return
                self._serve(name)

    def _serve(self, name: Name, why: str | None = None) -> None:
        """Run the graph of this root if it is time (or why is given)."""
        task = self._account.catalog.get("TASK", name)
        if task is None:
            return
        try:
            why = why or self._due(name, task)
            if why:
                self._graph(name, why)
        except Exception as error:  # noqa: BLE001 - a database dropped meanwhile must not stop the other tasks
            _log.warning("task %s: %s", ".".join(name), error)

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
        session.secondary_roles = False
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
        if catalog.change("TASK", root, last_run=time.time()) is None:
            return
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
        task = self._account.catalog.get("TASK", root)
        if task is None:
            return
        failures = task["failures"] + 1
        limit = int(task["options"].get("SUSPEND_TASK_AFTER_NUM_FAILURES", 10))
        state = "suspended" if limit and failures >= limit else task["state"]
        self._account.catalog.change("TASK", root, failures=failures, state=state)

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
