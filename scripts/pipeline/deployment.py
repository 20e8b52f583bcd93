"""What must be true before a deploy may run, and after it: asked of the account, told as a list of sentences.

Names and states come from SHOW, whose answers hold what the role may see. Nothing here changes anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from schemachange.sql_splitter import split_sql_statements

from scripts.pipeline.settings import DeploySettings
from scripts.pipeline.warehouse import Warehouse

PIPE = "AMPLITUDE_EVENTS_PIPE"
LANDING = "AMPLITUDE_EVENTS_RAW_PYTHON"
STREAM, BASE1_STREAM = "AMPLITUDE_EVENTS_STREAM", "AMPLITUDE_EVENTS_BASE1_STREAM"
ROOT_TASK = "AMPLITUDE_BASE_UPDATE_TASK"

_KINDS = "schema|table|view|stage|file format|pipe|stream|task|procedure"
_CREATED = re.compile(
    rf"create\s+(?:or\s+(?:replace|alter)\s+)?({_KINDS})\s+(?:if\s+not\s+exists\s+)?([\w.]+)", re.IGNORECASE
)
GRANTED = re.compile(
    r"grant\s+(?:(?P<privileges>[a-z, ]+)\s+on\s+(?P<kind>[a-z ]+?)|(?:database\s+)?role)\s+(?P<name>[\w.]+)"
    r"\s+to\s+(?P<grantee_kind>(?:database\s+)?role)\s+(?P<grantee>[\w.]+)",
    re.IGNORECASE,
)


def obstacles(session: Warehouse, settings: DeploySettings) -> list[str]:
    """What stands in the way of taking over an account that has the first design's objects, each with its remedy."""
    database, schema = settings.snowflake_database.upper(), settings.raw_schema.upper()
    if not session.rows(f"show databases like '{database}'"):
        return []
    if not session.rows(f"show tables like '{LANDING}' in database {database}"):
        return []
    found = []
    for pipe in session.dicts("show pipes in account"):
        if _target(pipe) != (database, schema, LANDING):
            continue
        name = f"{pipe['database_name']}.{pipe['schema_name']}.{pipe['name']}"
        ours = name == f"{database}.{schema}.{PIPE}"
        if ours and "metadata$filename" not in pipe["definition"].lower():
            found.append(f"{name} is of another make: `alter pipe {name} set pipe_execution_paused = true`, drop it.")
        elif not ours and pipe_state(session, name) == "RUNNING":
            found.append(f"{name} also loads into it: `alter pipe {name} set pipe_execution_paused = true`.")
    for task in session.dicts(f"show tasks like '{ROOT_TASK}' in database {database}"):
        if task["schema_name"] == schema and task["state"].lower() == "started":
            name = f"{database}.{schema}.{ROOT_TASK}"
            found.append(f"{name} of the first design runs: `alter task {name} suspend`.")
    for stream in session.dicts(f"show streams like '{STREAM}' in database {database}"):
        if stream["schema_name"] == schema and stream["mode"].upper() != "APPEND_ONLY":
            name = f"{database}.{schema}.{STREAM}"
            found.append(f"{name} is not append-only: `drop stream {name}`; the new one starts with all rows.")
    return found


def _target(pipe: dict[str, str]) -> tuple[str, ...]:
    """Full name of the table that a pipe loads."""
    match = re.search(r"copy\s+into\s+([\w.$\"]+)", pipe["definition"] or "", re.IGNORECASE)
    parts = match[1].replace('"', "").upper().split(".") if match else []
    return (*(pipe["database_name"], pipe["schema_name"], "")[: 3 - len(parts)], *parts)


def pipe_state(session: Warehouse, name: str) -> str:
    """RUNNING, PAUSED, STOPPED_… or STALLED_…."""
    return str(json.loads(session.rows(f"select system$pipe_status('{name}')")[0][0])["executionState"])


def problems(session: Warehouse, settings: DeploySettings, texts: Iterable[str]) -> list[str]:
    """What is not as the scripts of scope `database` (rendered `texts`) say."""
    statements = [statement for text in texts for statement in split_sql_statements(text)]
    return missing(session, settings, statements) or stopped(session, settings, statements)


def missing(session: Warehouse, settings: DeploySettings, statements: list[str]) -> list[str]:
    """Objects and grants that the statements make and that are not there."""
    created = _created(statements, settings.snowflake_database)
    return [*_missing_objects(session, settings, created), *_missing_grants(session, statements)]


def stopped(session: Warehouse, settings: DeploySettings, statements: list[str]) -> list[str]:
    """Of the pipe, streams and tasks that the statements make, those that do not run."""
    created = _created(statements, settings.snowflake_database)
    found = []
    database, schema = settings.snowflake_database, settings.raw_schema
    if "pipe" in created:
        state = pipe_state(session, f"{database}.{schema}.{PIPE}")
        if state != "RUNNING":
            found.append(f"{PIPE} is {state}: see docs/runbook.md, pipe.")
    found += [
        f"{stream['name']} is stale: rebuild it (docs/runbook.md, stale stream)."
        for stream in session.dicts(f"show streams in database {database}")
        if str(stream["stale"]).lower() == "true"
    ]
    if "task" in created:
        shown = session.dicts(f"show tasks in schema {database}.silver")
        tasks = {task["name"]: task["state"].lower() for task in shown}
        if settings.silver_tasks:
            found += [f"{name} is {state}: deploy again." for name, state in tasks.items() if state != "started"]
        elif tasks[ROOT_TASK] == "started":
            found.append(f"{ROOT_TASK} is started, and SILVER_TASKS is off: deploy again.")
    return found


def _created(statements: list[str], database: str) -> dict[str, set[str]]:
    """Kind → names of what the statements create."""
    wanted: dict[str, set[str]] = {}
    for statement in statements:
        if created := _CREATED.match(code(statement)):
            wanted.setdefault(created[1].lower(), set()).add(_short(created[2], database))
    return wanted


def _missing_objects(session: Warehouse, settings: DeploySettings, wanted: dict[str, set[str]]) -> list[str]:
    database = settings.snowflake_database
    found = []
    for kind, names in wanted.items():
        there = set()
        for row in session.dicts(f"show {kind}s in database {database}"):
            schema = f"{row['schema_name']}." if row.get("schema_name") else ""
            there.add(f"{schema}{row['name']}")
        found += [f"{kind} {name} is missing." for name in sorted(names - there)]
    return found


def _missing_grants(session: Warehouse, statements: list[str]) -> list[str]:
    """Single objects only: ALL and FUTURE are ways of granting."""
    wanted: dict[str, set[tuple[str, str]]] = {}
    for statement in statements:
        grant = GRANTED.match(code(statement))
        if grant is None or re.match(r"(all|future)\b", grant["kind"] or "", re.IGNORECASE):
            continue
        privileges = grant["privileges"] or "usage"
        entries = {(privilege.strip().upper(), _last(grant["name"])) for privilege in privileges.split(",")}
        wanted.setdefault(f"{grant['grantee_kind']} {grant['grantee']}", set()).update(entries)
    found = []
    for grantee, entries in wanted.items():
        rows = session.dicts(f"show grants to {grantee}")
        there = {(row["privilege"].upper(), _last(row["name"])) for row in rows}
        found += [f"{grantee} lacks {privilege} on {name}." for privilege, name in sorted(entries - there)]
    return found


def code(statement: str) -> str:
    """Without the comments before it."""
    return re.sub(r"^\s*--.*\n", "", statement, flags=re.MULTILINE).strip()


def _short(name: str, database: str) -> str:
    """Upper case, without the database."""
    upper = name.upper()
    return upper.removeprefix(f"{database.upper()}.")


def _last(name: str) -> str:
    """SHOW GRANTS qualifies names, and signs procedures."""
    return name.upper().split("(")[0].rsplit(".", 1)[-1].strip('"')
