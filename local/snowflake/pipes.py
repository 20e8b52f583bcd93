"""Pipes: definition, REFRESH, PAUSE, status, and the worker that loads what they are told of.

Auto-ingest: in an account S3 notifies the pipe's queue. Here the worker lists the pipe's folder: an object that came
after the pipe was created is seen by itself, also across a restart of the local S3, which keeps no notifications.
"""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timedelta

from local.snowflake import lexer, stages
from local.snowflake.account import Account
from local.snowflake.catalog import Name, Properties, quoted, utc_now
from local.snowflake.copying import Copy, load, parse_copy, plan_of
from local.snowflake.errors import SnowflakeError, already_exists, compilation, convert, not_found, unsupported
from local.snowflake.lexer import Reader, Unexpected
from local.snowflake.privileges import forget_grants, need, need_create
from local.snowflake.results import Result, rows_result, status
from local.snowflake.session import Session
from local.snowflake.storage import StoredObject
from local.snowflake.translate import HIDDEN

CHANNEL = "arn:aws:sqs:us-east-1:000000000000:local-snowflake-snowpipe"
REFUSED_OPTIONS = ("FILES", "FORCE", "PURGE", "VALIDATION_MODE")
REFRESHED_DAYS = 7


def create(session: Session, reader: Reader, *, replace: bool, alter: bool) -> Result:
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    name = session.resolve(reader.name())
    options = reader.options(stop=("AS",))
    for option in options.keys() - {"AUTO_INGEST", "COMMENT"}:
        raise unsupported(f"CREATE PIPE … {option}")
    reader.need("AS")
    definition = reader.rest()
    there = session.catalog.get("PIPE", name)
    if there and if_not_exists:
        return status(f"{name[2]} already exists, statement succeeded.")
    if there and alter:
        if there["definition"] != definition:
            raise compilation(2211, "CREATE OR ALTER PIPE cannot change the COPY statement of a pipe.", "42601")
        there["comment"] = str(options.get("COMMENT", ""))
        session.catalog.put("PIPE", name, there)
        return status()
    if there and not replace:
        raise already_exists(name[2])
    need_create(session, "PIPE", name)
    statement = _check(session, definition)
    if there:
        _forget(session, name)
        forget_grants(session, "PIPE", name)
    properties: Properties = {
        "text": reader.sql,
        "definition": definition,
        "auto_ingest": bool(options.get("AUTO_INGEST", False)),
        "notification_channel": CHANNEL if options.get("AUTO_INGEST") else None,
        "comment": str(options.get("COMMENT", "")),
        "owner": session.role,
        "paused": False,
        "pattern": statement.options.get("PATTERN"),
        "transforms": statement.select is not None,
        "database": session.database,
        "schema": session.schema,
        "table": list(statement.table),
        "created_on": utc_now().isoformat(),
    }
    session.catalog.put("PIPE", name, properties)
    return status(f"Pipe {name[2]} successfully created.")


def _check(session: Session, definition: str) -> Copy:
    """A pipe's COPY is checked when the pipe is created."""
    reader = Reader(definition)
    statement = parse_copy(session, reader)
    for option in REFUSED_OPTIONS:
        if option in statement.options:
            raise compilation(2098, f"COPY option {option} is not supported in a pipe definition.", "0A000")
    if statement.on_error == "ABORT_STATEMENT":
        raise compilation(2098, "ON_ERROR = ABORT_STATEMENT is not supported in a pipe definition.", "0A000")
    stages.locate(session, statement.stage, statement.options.get("FILE_FORMAT"))
    plan_of(session, statement, "SKIP_FILE")
    return statement


def alter(session: Session, reader: Reader) -> Result:
    if_exists = reader.take("IF", "EXISTS")
    name = session.resolve(reader.name())
    properties = session.catalog.get("PIPE", name)
    if properties is None:
        if if_exists:
            return status()
        raise not_found("Pipe", ".".join(name))
    need(session, "PIPE", name, "OPERATE")
    if reader.take("REFRESH"):
        return _refresh(session, name, properties, reader.options())
    if reader.take("UNSET", "COMMENT"):
        options: dict[str, lexer.Option] = {"COMMENT": ""}
    else:
        reader.need("SET")
        options = reader.options()
    for option, value in options.items():
        if option == "PIPE_EXECUTION_PAUSED":
            properties["paused"] = bool(value)
        elif option == "COMMENT":
            properties["comment"] = str(value)
        else:
            raise unsupported(f"ALTER PIPE … SET {option}")
    session.catalog.put("PIPE", name, properties)
    return status()


def drop(session: Session, name: Name) -> None:
    _forget(session, name)
    session.catalog.drop("PIPE", name)


def _forget(session: Session, name: Name) -> None:
    """A pipe that is dropped or replaced loses its memory and its queue."""
    with session.statement() as transaction:
        loads, queue = (quoted(name[0], HIDDEN, table) for table in ("loads", "pipe_files"))
        transaction.write(f"update {loads} set remembered = false where pipe = ?", [".".join(name)])
        transaction.write(f"delete from {queue} where pipe = ?", [".".join(name)])
    session.account.pipe_worker.forget(name)


def _location(session: Session, properties: Properties) -> stages.Location:
    statement = parse_copy(session, Reader(properties["definition"]))
    return stages.locate(session, statement.stage, statement.options.get("FILE_FORMAT"))


def _refresh(session: Session, name: Name, properties: Properties, options: dict[str, lexer.Option]) -> Result:
    """Queue the files of the last 7 days that neither this pipe nor COPY has loaded; answer at once."""
    for option in options.keys() - {"PREFIX", "MODIFIED_AFTER"}:
        raise Unexpected(Reader(option).peek())
    after = utc_now() - timedelta(days=REFRESHED_DAYS)
    if "MODIFIED_AFTER" in options:
        given = datetime.fromisoformat(str(options["MODIFIED_AFTER"]))
        after = max(after, given if given.tzinfo else given.astimezone())
    pattern = properties["pattern"]
    location = _location(session, properties)
    prefix = location.prefix + str(options.get("PREFIX", ""))
    known = _known(session, name, properties) | _queued(session, name)
    found: list[StoredObject] = [
        stored
        for stored in stages.list_files(session, location, None, pattern, whole_path=False)
        if stored.key.startswith(prefix) and stored.modified >= after and known.isdisjoint((stored.url, stored.key))
    ]
    _queue(session, name, [stored.key for stored in found])
    rows = [(stored.key.removeprefix(location.stage_prefix), "SENT") for stored in found]
    return rows_result(["File", "Status"], rows, 0x6000)


def _known(session: Session, name: Name, properties: Properties) -> set[str]:
    """URLs in the pipe's memory, whatever became of them, and those that COPY loaded into the table."""
    sql = f"""select file from {quoted(name[0], HIDDEN, "loads")} where remembered and (pipe = ?
        or (pipe is null and schema_name = ? and table_name = ? and status <> 'LOAD_FAILED'))"""
    return {url for (url,) in session.meta.execute(sql, [".".join(name), *properties["table"][1:]]).fetchall()}


def _queued(session: Session, name: Name) -> set[str]:
    sql = f"select key from {quoted(name[0], HIDDEN, 'pipe_files')} where pipe = ?"
    return {key for (key,) in session.meta.execute(sql, [".".join(name)]).fetchall()}


def _queue(session: Session, name: Name, keys: list[str]) -> None:
    if not keys:
        return
    with session.statement() as transaction:
        for key in keys:
            transaction.write(
                f"insert into {quoted(name[0], HIDDEN, 'pipe_files')} values (?, ?, ?)",
                [".".join(name), key, utc_now()],
            )
    session.account.pipe_worker.wake()


def status_text(session: Session, name: Name) -> str:
    """SYSTEM$PIPE_STATUS: JSON."""
    properties = session.catalog.need("PIPE", name)
    need(session, "PIPE", name, "MONITOR", "OPERATE")
    worker = session.account.pipe_worker
    failure = worker.failures.get(name)
    state = "PAUSED" if properties["paused"] else "STALLED_EXECUTION_ERROR" if failure else "RUNNING"
    found: dict[str, object] = {"executionState": state, "pendingFileCount": len(_queued(session, name))}
    sql = f"select max_by(file, load_time), max(load_time) from {quoted(name[0], HIDDEN, 'loads')} where pipe = ?"
    file, last = session.meta.execute(sql, [".".join(name)]).fetchall()[0]
    if properties["auto_ingest"]:
        found |= {"notificationChannelName": properties["notification_channel"], "numOutstandingMessagesOnChannel": 0}
    if forwarded := properties.get("forwarded"):
        found |= {"lastReceivedMessageTimestamp": forwarded, "lastForwardedMessageTimestamp": forwarded}
    if last is not None:
        found |= {"lastIngestedTimestamp": last.isoformat(), "lastIngestedFilePath": file.split("/", 3)[3]}
    if failure:
        found["error"] = failure
    return json.dumps(found)


class PipeWorker(threading.Thread):
    """Watches the folders of auto-ingest pipes and loads what is queued: one file, one transaction."""

    def __init__(self, account: Account, every: float = 1.0) -> None:
        super().__init__(daemon=True, name="pipes")
        self._account, self._every = account, every
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._seen: dict[Name, set[str]] = {}  # keys that a pipe was told of
        self.failures: dict[Name, str] = {}

    def wake(self) -> None:
        self._wake.set()

    def forget(self, name: Name) -> None:
        self._seen.pop(name, None)
        self.failures.pop(name, None)

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        self.join(30)

    def run(self) -> None:
        pause = self._every
        while not self._stopping.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            start = time.monotonic()
            for name, properties in self._account.catalog.all("PIPE"):
                if self._stopping.is_set():
                    return
                self._serve(name, properties)
            pause = max(self._every, 4 * (time.monotonic() - start))  # a big folder is listed less often

    def _serve(self, name: Name, properties: Properties) -> None:
        session = None
        try:
            session = self._account.login("SNOWPIPE", properties["database"], properties["schema"], properties["owner"])
            session.secondary_roles = False
            if properties["auto_ingest"]:
                self._watch(session, name, properties)
            if not properties["paused"]:
                self._load_queued(session, name, properties)
            self.failures.pop(name, None)
        except Exception as error:  # noqa: BLE001 - one pipe's failure is shown by its status and must not stop the others
            self.failures[name] = convert(error).message
        finally:
            if session is not None:
                self._account.logout(session)

    def _watch(self, session: Session, name: Name, properties: Properties) -> None:
        seen = self._seen.get(name)
        location = _location(session, properties)
        if seen is None:
            start = f"s3://{location.bucket}/"
            seen = {url.removeprefix(start) for url in _known(session, name, properties)} | _queued(session, name)
            self._seen[name] = seen
        since = datetime.fromisoformat(properties["created_on"]).replace(microsecond=0)
        new = [
            stored.key
            for stored in stages.list_files(session, location, None, properties["pattern"], whole_path=False)
            if stored.key not in seen and stored.modified >= since
        ]
        _queue(session, name, new)
        seen.update(new)
        if new:
            session.catalog.change("PIPE", name, forwarded=utc_now().isoformat())

    def _load_queued(self, session: Session, name: Name, properties: Properties) -> None:
        statement = parse_copy(session, Reader(properties["definition"]))
        location = stages.locate(session, statement.stage, statement.options.get("FILE_FORMAT"))
        for key in sorted(_queued(session, name)):
            if self._stopping.is_set() or session.catalog.get("PIPE", name) is None:
                return
            with session.statement(lock=statement.table, purpose="load") as transaction:
                try:
                    stored = [session.account.storage.head(location.bucket, key)]
                except SnowflakeError:
                    stored = []  # removed since
                load(session, statement, on_error=statement.on_error or "SKIP_FILE", pipe=".".join(name), stored=stored)
                queue = quoted(name[0], HIDDEN, "pipe_files")
                transaction.write(f"delete from {queue} where pipe = ? and key = ?", [".".join(name), key])
