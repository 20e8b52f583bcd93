"""What a deploy must never do by itself, for a person on call: rebuild streams, replace the pipe, take everything down.

Each command is safe to repeat, and says at its end what is left to do.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable

from schemachange.JinjaTemplateProcessor import JinjaTemplateProcessor
from schemachange.sql_splitter import split_sql_statements

from scripts import deploy
from scripts.pipeline import warehouse
from scripts.pipeline.deployment import BASE1_STREAM, GRANTED, PIPE, ROOT_TASK, STREAM, code
from scripts.pipeline.entry import Result, as_command, log
from scripts.pipeline.errors import ConfigurationError, RetriableError
from scripts.pipeline.settings import DeploySettings, load
from scripts.pipeline.warehouse import Warehouse

DRAIN_SECONDS = 600
POLL_SECONDS = 5
# Which procedure reads a stream; in their order.
READERS = {STREAM: "AMPLITUDE_BASE_UPDATE", BASE1_STREAM: "AMPLITUDE_NORMALISED_UPDATE"}


def rebuild_streams(*, every: bool = False) -> Result:
    """Makes stale or missing streams again (`every`: all). SILVER reads their tables anew, and stores each row once."""
    settings = load(DeploySettings)
    statements = _statements(settings)
    texts = {name: text for text in _created(statements, "stream") for name in re.findall(r"exists\s+(\S+)", text)[:1]}
    rebuilt = 0
    with warehouse.connect(settings, settings.deploy_role) as session:
        there = {
            f"{row['schema_name']}.{row['name']}": str(row["stale"]).lower() == "true"
            for row in session.dicts(f"show streams in database {settings.snowflake_database}")
        }
        session.rows(f"alter task if exists silver.{ROOT_TASK} suspend")
        for name, text in texts.items():
            if every or there.get(name.upper(), True):
                # Before the new stream: a crash between the two costs a read of the table, not rows.
                session.rows(
                    "insert into ops.silver_audit (procedure_name, started_at, finished_at, status)"
                    " select ?, sysdate(), sysdate(), 'new stream'",
                    READERS[name.upper().split(".")[-1]],
                )
                session.rows(f"drop stream if exists {name}")
                session.rows(text)
                _grant_again(session, statements, name)
                log.info("%s is new: the next run of its procedure reads the whole table.", name)
                rebuilt += 1
        if settings.silver_tasks:
            for procedure in READERS.values() if rebuilt else ():  # a new stream has no row that triggers a task
                session.rows(f"call silver.{procedure}()")
            session.rows(f"select system$task_dependents_enable('{settings.snowflake_database}.SILVER.{ROOT_TASK}')")
    return {"rebuilt": rebuilt}


def replace_pipe() -> Result:
    """Gives the pipe the text of the newest script that creates it, without losing or doubling a part.

    Drained and paused first; after it never a REFRESH over loaded files, because the new pipe remembers none of them.
    What S3 announced in between is copied by the next load.
    """
    settings = load(DeploySettings)
    name = f"{settings.snowflake_database}.{settings.raw_schema}.{PIPE}"
    statements = _statements(settings)
    text = _created(statements, "pipe")[-1]
    with warehouse.connect(settings, settings.deploy_role) as session:
        channel = _pause_empty(session, name).get("notificationChannelName")
        session.rows(re.sub(r"create\s+pipe\s+if\s+not\s+exists", "create or replace pipe", text, flags=re.IGNORECASE))
        _grant_again(session, statements, f"{settings.raw_schema}.{PIPE}")
        session.rows(f"alter pipe {name} set pipe_execution_paused = true")
        now = _status(session, name).get("notificationChannelName")
        if now != channel:
            message = f"{name} listens to {now}, S3 notifies {channel}: change the bucket's notification, resume it."
            raise ConfigurationError(message)
        session.rows(f"alter pipe {name} set pipe_execution_paused = false")
    log.info("%s has its new text. The next load copies what came meanwhile; do not REFRESH.", name)
    return {"replaced": 1}


def _pause_empty(session: Warehouse, name: str) -> dict[str, object]:
    """Pauses the pipe at a moment when it has no file to load: paused it loads none, and is still told of more."""
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        if not _status(session, name).get("pendingFileCount"):
            session.rows(f"alter pipe {name} set pipe_execution_paused = true")
            status = _status(session, name)
            if not status.get("pendingFileCount"):
                return status
        session.rows(f"alter pipe {name} set pipe_execution_paused = false")
        time.sleep(POLL_SECONDS)
    raise RetriableError(f"{name} always had files to load for {DRAIN_SECONDS} s. Run this again when less arrives.")


def _status(session: Warehouse, name: str) -> dict[str, object]:
    return dict(json.loads(session.rows(f"select system$pipe_status('{name}')")[0][0]))


def teardown(*, confirm: str, account: bool = False) -> Result:
    """Drops the database (and with `account` what the account folder made). `confirm`: its name, typed again."""
    settings = load(DeploySettings)
    if confirm != settings.snowflake_database:
        raise ConfigurationError(f"teardown drops {settings.snowflake_database}: confirm with that name.")
    folder = deploy.FOLDERS / "teardown"
    jinja = JinjaTemplateProcessor(project_root=folder)
    values = deploy.variables("database", settings)
    count = 0
    role = settings.deploy_account_role if account else settings.deploy_role
    with warehouse.connect(settings, role) as session:
        there = session.rows(f"show databases like '{settings.snowflake_database}'")
        for file in sorted(folder.glob("*.sql"))[0 if there else 2 : None if account else 2]:
            for statement in split_sql_statements(jinja.render(file.name, values)):
                session.rows(statement)
                count += 1
            log.info("%s is done.", file.name)
    log.info("The bucket, its notification and the AWS role are still there: docs/aws/README.md, taking down.")
    return {"statements": count}


def _statements(settings: DeploySettings) -> list[str]:
    """Those of the database folder, in their order."""
    texts = deploy.render("database", settings).values()
    return [statement for text in texts for statement in split_sql_statements(text)]


def _created(statements: list[str], kind: str) -> list[str]:
    """Those that create objects of a kind."""
    pattern = re.compile(rf"(?:\s*--.*\n)*\s*create\s+{kind}\s+if\s+not\s+exists\b", re.IGNORECASE)
    return list(filter(pattern.match, statements))


def _grant_again(session: Warehouse, statements: list[str], name: str) -> None:
    """Runs the grants on an object that was made anew: the old one has taken its own along."""
    for statement in statements:
        grant = GRANTED.match(code(statement))
        if grant and grant["name"].upper() == name.upper():
            session.rows(statement)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.maintain", description="Rare work on the warehouse.")
    commands = parser.add_subparsers(dest="command", required=True)
    streams = commands.add_parser("rebuild-streams", help="make stale streams again, without loss or double")
    streams.add_argument("--every", action="store_true", help="also those that are not stale")
    commands.add_parser("replace-pipe", help="give the pipe the text of the newest script")
    down = commands.add_parser("teardown", help="drop the database")
    down.add_argument("--confirm", required=True, metavar="DATABASE", help="its name, typed again")
    down.add_argument("--account", action="store_true", help="also warehouse, roles, user and integration")
    arguments = vars(parser.parse_args(argv))
    run: dict[str, Callable[..., Result]] = {
        "rebuild-streams": rebuild_streams,
        "replace-pipe": replace_pipe,
        "teardown": teardown,
    }
    return as_command(run[arguments.pop("command")], **arguments)


if __name__ == "__main__":
    sys.exit(main())
