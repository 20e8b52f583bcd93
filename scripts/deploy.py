"""Deploys the DDL of `snowflake/`: shows what would run (`plan`), or runs it (`apply`).

schemachange does the applying: V scripts once, R scripts when their rendered text changed, A scripts always. What it
passes over in silence is asked here first: an edited V script, a V script older than one that ran, an unknown variable.
Its history is one table per folder, because it takes the highest version over a whole table.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import msgspec
import structlog
from schemachange.config.DeployConfig import DeployConfig
from schemachange.deploy import deploy
from schemachange.JinjaTemplateProcessor import JinjaTemplateProcessor
from schemachange.ScriptExecutionError import ScriptExecutionError
from schemachange.session.Script import Script, VersionedScript, get_all_scripts_recursively
from schemachange.session.SnowflakeSession import SnowflakeSession
from schemachange.sql_splitter import split_sql_statements
from schemachange.version import get_alphanum_key

from scripts.pipeline import warehouse
from scripts.pipeline.deployment import LANDING, obstacles, problems
from scripts.pipeline.entry import Result, as_command, log
from scripts.pipeline.errors import ConfigurationError
from scripts.pipeline.records import write_lines
from scripts.pipeline.settings import DeploySettings, load
from scripts.pipeline.warehouse import Warehouse

Scope = Literal["account", "database", "enterprise"]
Action = Literal["plan", "apply"]
FOLDERS = Path(__file__).resolve().parent.parent / "snowflake"


class Deployed(msgspec.Struct, frozen=True, kw_only=True):
    """A script that ran: `status` is Success or Failed, `seconds` as schemachange records them."""

    script: str
    status: str
    seconds: int


@dataclass(frozen=True)
class Change:
    """A script that would run, why, and its rendered text."""

    name: str
    why: str
    sql: str


@dataclass(frozen=True)
class Applied:
    """The newest row of the history for a script: its checksum, version and status."""

    checksum: str
    version: str
    status: str


def run(*, action: Action, scope: Scope, plan: Path, deployed: Path) -> Result:
    """Writes the SQL that would run to `plan`; `apply` runs it, writes a `Deployed` a line to `deployed`, and verifies.

    Returns counts (changes, ran, seconds). Raises ConfigurationError at the first script that cannot run, naming file
    and statement; what ran before it stays, and running again goes on from there.
    """
    start = time.monotonic()
    settings = load(DeploySettings)
    texts = render(scope, settings)
    history = f"{settings.snowflake_database}.OPS.CHANGE_HISTORY_{scope.upper()}"
    with warehouse.connect(settings, _role(scope, settings)) as session:
        applied = read_history(session, history)
        in_the_way = obstacles(session, settings) if scope == "database" else []
    changes = pending(texts, applied or {})
    first = [] if applied is not None else bootstrap(settings)
    plan.write_text(_plan_text(scope, in_the_way, first, changes), encoding="utf-8")
    ran: list[Deployed] = []
    if in_the_way and action == "apply":
        message = f"{settings.raw_schema}.{LANDING} is in use: {' '.join(in_the_way)} Then deploy again."
        raise ConfigurationError(message)
    if action == "apply":
        if first:
            with warehouse.connect(settings, settings.deploy_role) as session:
                for statement in first:
                    session.rows(statement)
        try:
            apply(scope, settings, history, ran)
        finally:
            write_lines(deployed, ran)
        verify(scope, settings, texts)
    else:
        write_lines(deployed, [])
    log.info("%s %s: %d changes, %d scripts ran", action, scope, len(changes), len(ran))
    return {"changes": len(changes), "ran": len(ran), "seconds": round(time.monotonic() - start, 3)}


def _role(scope: Scope, settings: DeploySettings) -> str:
    return settings.deploy_account_role if scope == "account" else settings.deploy_role


def bootstrap(settings: DeploySettings) -> list[str]:
    """What must be there before schemachange can keep a history. account/R__10 says what they look like."""
    return [
        f"create database if not exists {settings.snowflake_database}",
        f"create schema if not exists {settings.snowflake_database}.ops",
        f"create warehouse if not exists {settings.snowflake_warehouse} initially_suspended = true",
    ]


def verify(scope: Scope, settings: DeploySettings, texts: Mapping[Script, str]) -> None:
    """Raises ConfigurationError that lists what is not as the scripts say."""
    if scope != "database":
        return
    with warehouse.connect(settings, settings.deploy_role) as session:
        found = problems(session, settings, texts.values())
    if found:
        raise ConfigurationError(f"Deployed, but not as written: {' '.join(found)}")


def variables(scope: Scope, settings: DeploySettings) -> dict[str, str]:
    """Values of the names between braces in the DDL. Raises ConfigurationError for one that the scope needs."""
    values = {
        "database": settings.snowflake_database,
        "raw_schema": settings.raw_schema,
        "warehouse": settings.snowflake_warehouse,
        "deploy_role": settings.deploy_role,
        "account_role": settings.deploy_account_role,
        "bucket": settings.aws_bucket_name,
        "prefix": settings.aws_prefix,
        "silver_tasks": "on" if settings.silver_tasks else "off",
    }
    if scope == "account":
        if not settings.aws_role_arn or not settings.aws_external_id:
            message = "settings: scope account needs AWS_ROLE_ARN and AWS_EXTERNAL_ID (docs/aws/README.md, steps)."
            raise ConfigurationError(message)
        values |= {"aws_role_arn": settings.aws_role_arn, "aws_external_id": settings.aws_external_id}
    return values


def render(scope: Scope, settings: DeploySettings) -> dict[Script, str]:
    """The rendered text of each script of a folder, in the order in which schemachange runs them."""
    folder = FOLDERS / scope
    found = get_all_scripts_recursively(root_directory=folder)
    if not found:
        raise ConfigurationError(f"{folder} holds no script. Deploy from a complete checkout.")
    order = sorted(found, key=lambda name: ("vra".index(name[0]), get_alphanum_key(name)))
    jinja = JinjaTemplateProcessor(project_root=folder)
    texts = {}
    for script in (found[name] for name in order):
        try:
            texts[script] = jinja.render(jinja.relpath(script.file_path), variables(scope, settings))
        except (jinja2.TemplateError, ValueError) as error:
            message = f"{_path(script.file_path)}: {error}. Add the variable to scripts/deploy.py, or mend the file."
            raise ConfigurationError(message) from None
    return texts


def read_history(session: Warehouse, table: str) -> dict[str, Applied] | None:
    """The last Success of each script (else its last failure); None when there is no history yet."""
    database, schema, name = table.split(".")
    if not session.rows(f"show databases like '{database}'") or not session.rows(
        f"show tables like '{name}' in database {database}"
    ):
        return None
    rows = session.rows(
        f"select script, checksum, version, status from {database}.{schema}.{name}"  # noqa: S608 (our own names)
        " order by iff(status = 'Success', 1, 0), installed_on"
    )
    return {script: Applied(checksum, version, status) for script, checksum, version, status in rows}


def pending(texts: Mapping[Script, str], applied: Mapping[str, Applied]) -> list[Change]:
    """What would run, in order. Raises ConfigurationError for what schemachange would pass over in silence."""
    done = {name: entry for name, entry in applied.items() if entry.status == "Success"}
    versions = [get_alphanum_key(entry.version) for entry in done.values() if entry.version]
    changes = []
    for script, sql in texts.items():
        earlier = done.get(script.name)
        same = earlier is not None and earlier.checksum == hashlib.sha224(sql.encode()).hexdigest()
        if isinstance(script, VersionedScript):
            if same:
                continue
            if earlier:
                message = (
                    f"{_path(script.file_path)} has run and is not what it was then: a V script runs once. Restore "
                    "the file (and the settings it renders), and put the change into a new V script."
                )
                raise ConfigurationError(message)
            if versions and get_alphanum_key(script.version) <= max(versions):
                message = (
                    f"{_path(script.file_path)} is older than one that ran, and would never run. Give it a new version."
                )
                raise ConfigurationError(message)
        elif script.type == "R" and same:
            continue
        changes.append(Change(_path(script.file_path), _why(script, applied.get(script.name)), sql))
    return changes


def _why(script: Script, earlier: Applied | None) -> str:
    if earlier and earlier.status != "Success":
        return "failed before: runs whole again"
    return "always" if script.type == "A" else "changed" if earlier else "new"


def _path(file: Path) -> str:
    return file.relative_to(FOLDERS.parent).as_posix()


def _plan_text(scope: Scope, in_the_way: list[str], first: list[str], changes: list[Change]) -> str:
    lines = [f"-- Scope {scope}: {len(changes)} scripts would run.", *(f"-- First: {each}" for each in in_the_way), ""]
    if first:
        lines += ["-- before all scripts", *(f"{statement};" for statement in first), ""]
    for change in changes:
        lines += [f"-- {change.name} ({change.why})", f"{change.sql.rstrip()};", ""]
    return "\n".join(lines)


class _Session(SnowflakeSession):
    """schemachange's session, which also knows the statement that runs and keeps what has run."""

    statement = ""
    number = 0
    ran: list[Deployed]

    def execute_snowflake_query(self, query: str, logger: structlog.BoundLogger) -> list[object]:
        cursors: list[object] = []
        for self.number, self.statement in enumerate(split_sql_statements(query), start=1):
            cursors += super().execute_snowflake_query(self.statement, logger)
        return cursors

    def record_change_history(
        self,
        script: Any,  # noqa: ANN401 (a union of six classes there)
        checksum: str,
        execution_time: int,
        status: str,
        logger: structlog.BoundLogger,
    ) -> None:
        super().record_change_history(script, checksum, execution_time, status, logger)
        self.ran.append(Deployed(script=script.name, status=status, seconds=execution_time))
        log.info("%s: %s, %d s", _path(script.file_path), status, execution_time)


def apply(scope: Scope, settings: DeploySettings, history: str, ran: list[Deployed]) -> None:
    """Runs schemachange over one folder; `ran` gets each script as it ends."""
    # Its own log lines repeat every statement's error; ours say it once, with the statement.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    connection = warehouse.parameters(settings, _role(scope, settings))
    named = ("account", "user", "role", "warehouse", "database", "private_key_file", "private_key_file_pwd")
    config = DeployConfig.factory(
        config_file_path=FOLDERS / "unused.yml",
        root_folder=FOLDERS / scope,
        config_vars=variables(scope, settings),
        change_history_table=history,
        create_change_history_table=True,
        raise_exception_on_ignored_versioned_script=True,
    )
    with warehouse.statement_errors():
        session = _Session(
            schemachange_version="4.4.0",
            application="schemachange",
            logger=structlog.getLogger(),
            change_history_table=config.change_history_table,
            autocommit=True,  # each statement stands for itself: every script is safe to repeat
            session_parameters=connection.pop("session_parameters"),
            **{name: connection.pop(name) for name in named if name in connection},
            additional_snowflake_params=connection,
        )
        session.ran = ran
        try:
            deploy(config, session)
        except ScriptExecutionError as error:
            lines = (line.strip() for line in session.statement.splitlines())
            statement = " ".join(line for line in lines if line and not line.startswith("--"))
            message = (
                f"{_path(error.script_path)} statement {session.number} ({statement[:120].rstrip()}) failed: "
                f"{' '.join(error.error_message.split())}{warehouse.advice(error.error_message)}"
                " Mend it and deploy again; what ran before it stays."
            )
            raise ConfigurationError(message) from None
        finally:
            session.con.close()  # its own __del__ would do it, at some later time


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.deploy", description="Deploy the DDL of snowflake/.")
    parser.add_argument("action", choices=["plan", "apply"], help="plan writes the SQL that would run, and no more")
    parser.add_argument("--scope", choices=["database", "account", "enterprise"], default="database")
    parser.add_argument("--plan", type=Path, default=Path("plan.sql"), help="where the SQL goes")
    parser.add_argument("--deployed", type=Path, default=Path("deployed.jsonl"), help="where what ran goes")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
