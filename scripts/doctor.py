"""Looks at everything that a run needs, changes nothing, and says what is right, what is not, and what to do.

    python -m scripts.doctor        a table; exit code 1 when something failed

`ok`: as it should be. `warning`: works, or comes later in the set-up; read it once. `failed`: a run would end here.

The row `secrets` shows the first six digits of each secret's SHA-256, so that what a task sees can be compared with
what you have: printf %s 'YOUR VALUE' | sha256sum | cut -c 1-6 (on a Mac: shasum -a 256). Of the Snowflake key it shows
the public half's fingerprint, which `desc user` shows as RSA_PUBLIC_KEY_FP.

The last task of the flow `snowflake_deploy` (action apply): what comes later in docs/aws/README.md is a warning there.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import msgspec
from schemachange.sql_splitter import split_sql_statements

from scripts import deploy, health
from scripts.pipeline import checks, deployment, warehouse
from scripts.pipeline.checks import Finding, State
from scripts.pipeline.entry import Result, as_command, files_explained, log
from scripts.pipeline.errors import ConfigurationError, PermanentError, PipelineError
from scripts.pipeline.keys import day_folder
from scripts.pipeline.landing import Landing
from scripts.pipeline.settings import BackupSettings, DeploySettings, PlanSettings
from scripts.pipeline.settings import load as read_settings
from scripts.pipeline.warehouse import Warehouse

SCOPES = ("account", "database", "enterprise")
LOADER, TRANSFORMER = "AMPLITUDE_LOADER", "AMPLITUDE_TRANSFORMER"
PATIENCE = 60  # seconds, for one statement
REFUSED = (ConfigurationError, PermanentError)  # an answer; a Snowflake that gives none ends the whole look at it
NAMED = 3  # of many, how many are named
AWS = "docs/aws/README.md, step"
DEPLOY = "execute snowflake_deploy, action apply, scope database"


def run(*, deployed: str, output: Path) -> Result:
    """Writes `output` (Markdown). `deployed`: the scope that was just deployed, "" for none. Returns checks_failed,
    checks_warned and `text`, what failed.
    """
    findings = examine(deployed)
    output.write_text(as_markdown(findings), encoding="utf-8")
    for finding in findings:
        (log.info if finding.state == "ok" else log.warning)("%s", line(finding))
    count = Counter(finding.state for finding in findings)
    bad = [line(finding) for finding in findings if finding.state == "failed"]
    return {"checks_failed": count["failed"], "checks_warned": count["warning"], "text": "\n".join(bad)}


def examine(deployed: str) -> list[Finding]:
    """Every check, each to its end."""
    all_checks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("settings", checks.of_settings),
        ("secrets", checks.of_secrets),
        ("Amplitude", checks.of_amplitude),
        ("bucket", checks.of_bucket),
        ("clock", checks.of_clock),
        ("disk", of_disk),
        ("Snowflake", lambda: of_snowflake(deployed)),
        ("alerts", checks.of_alerts),
    )
    return [finding for name, check in all_checks for finding in _checked(name, check)]


def _checked(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        with files_explained():
            yield from check()
    except PipelineError as error:
        yield Finding(name, "failed", str(error), "docs/runbook.md, A run failed")
    except Exception as error:  # noqa: BLE001 (one that nobody foresaw must not take the other checks along)
        what = f"this check ended with {type(error).__name__}."  # its text may hold anything
        yield Finding(name, "failed", what, "docs/runbook.md, A run failed")


def line(finding: Finding) -> str:
    return f"{finding.state:7}  {finding.check}: {finding.what}{f' → {finding.todo}' if finding.todo else ''}"


def as_markdown(findings: Iterable[Finding]) -> str:
    cells = ([each.state, each.check, each.what, each.todo] for each in findings)
    rows = [f"| {' | '.join(cell.replace('|', '¦') for cell in row)} |" for row in cells]
    head = ["| state | what | in words | what to do |", "|---|---|---|---|"]
    return "\n".join(["# Doctor", "", *head, *rows, ""])


def of_disk() -> Iterator[Finding]:
    """Room for a full run, as pipeline_health looks at it, and the right to write."""
    backup = read_settings(BackupSettings)
    closed = [folder for folder in (backup.data_dir, backup.log_dir) if not _may_write(folder)]
    for folder in closed:
        what = f"{folder} is no folder that uid {os.getuid()} may write to."
        yield Finding("disk", "failed", what, "docs/runbook.md, The disk fills up")
    if not closed:
        for problem in health.of_disk(read_settings(PlanSettings).now()):
            yield Finding("disk", "warning", problem.what, "docs/runbook.md, The disk fills up")
            break
        else:
            yield Finding(
                "disk", "ok", f"{backup.data_dir} and {backup.log_dir} can be written, with room for a full run."
            )


def _may_write(folder: Path) -> bool:
    """It, or what it will be made in."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def of_snowflake(deployed: str) -> Iterator[Finding]:
    """One session that takes on the roles of the tasks one after another."""
    settings = read_settings(DeploySettings)
    with ExitStack() as opened:
        try:
            session = opened.enter_context(warehouse.connect(settings, seconds=PATIENCE))
        except PipelineError as error:
            yield Finding("Snowflake login", "failed", str(error), f"{AWS} 5, and key rotation")
            what = "integration, DDL, roles, stage and pipe were not looked at, for want of a login."
            yield Finding("Snowflake", "warning", what)
            return
        yield Finding("Snowflake login", "ok", f"{settings.snowflake_account} lets {settings.snowflake_user} in.")
        session.rows("use secondary roles none")  # a task has the rights of its own role, and no others
        principal = yield from _integration(session, settings)
        there = yield from _ddl(session, settings, deployed)
        yield from _roles(session, settings, there)
        if there:
            yield from _stage(session, settings)
            yield from _notification(session, settings)
        elif principal:
            what = f"of AWS_ROLE_ARN: must name {principal} and AWS_EXTERNAL_ID; tried once there is a stage."
            yield Finding("trust policy", "warning", what, f"{AWS} 4")


def _integration(session: Warehouse, settings: DeploySettings) -> Generator[Finding, None, str]:
    """Returns the principal that the trust policy must name; "" when it could not be looked at."""
    name = f"{settings.snowflake_database}_S3".upper()
    try:
        session.rows(f"use role {settings.deploy_role}")
        shown = {row["property"]: str(row["property_value"]) for row in session.dicts(f"desc integration {name}")}
    except REFUSED as error:
        yield Finding("integration", "failed", f"{settings.deploy_role} cannot look at {name}: {error}", f"{AWS} 4")
        return ""
    if not shown["STORAGE_PROVIDER"].startswith("S3"):
        what = f"{name} is of {shown['STORAGE_PROVIDER']}, not of S3: rename or drop it, then deploy."
        yield Finding("integration", "failed", what, f"{AWS} 4: deploy scope account")
        return ""
    place = f"s3://{settings.aws_bucket_name}/{settings.aws_prefix}/"
    differs = {
        "AWS_ROLE_ARN": settings.aws_role_arn not in {None, shown["STORAGE_AWS_ROLE_ARN"]},
        "AWS_EXTERNAL_ID": settings.aws_external_id not in {None, shown["STORAGE_AWS_EXTERNAL_ID"]},
        "AWS_BUCKET_NAME or AWS_PREFIX": place not in shown["STORAGE_ALLOWED_LOCATIONS"].split(","),
    }
    wrong = [setting for setting, differing in differs.items() if differing]
    if shown["ENABLED"].lower() != "true":
        yield Finding("integration", "failed", f"{name} is not enabled.", f"{AWS} 4")
    elif wrong:
        yield Finding("integration", "failed", f"{name} has another {', another '.join(wrong)} than .env.", f"{AWS} 4")
    else:
        yield Finding("integration", "ok", f"{name} has the role, external id and location of .env.")
    return shown["STORAGE_AWS_IAM_USER_ARN"]


def _ddl(session: Warehouse, settings: DeploySettings, deployed: str) -> Generator[Finding, None, bool]:
    """Returns whether scope `database` has ever been deployed."""
    try:
        session.rows(f"use role {settings.deploy_role}")
        history = deploy.read_history(session, f"{settings.snowflake_database}.OPS.CHANGE_HISTORY_DATABASE")
        if history is None:
            state: State = "warning" if deployed == "account" else "failed"
            yield Finding(
                "DDL",
                state,
                f"scope database is not deployed, as far as {settings.deploy_role} sees.",
                f"{AWS} 5: {DEPLOY}",
            )
            return False
        texts = deploy.render("database", settings)
        changed = [change.name for change in deploy.pending(texts, history) if change.why != "always"]
        statements = [each for text in texts.values() for each in split_sql_statements(text)]
        lacking = deployment.missing(session, settings, statements)
        still = [] if lacking else deployment.stopped(session, settings, statements)
    except REFUSED as error:
        yield Finding("DDL", "failed", str(error), f"{AWS} 5: {DEPLOY}")
        return False
    if changed:
        yield Finding("DDL", "failed", f"not deployed as it is here: {_some(changed)}.", DEPLOY)
    if lacking:
        yield Finding("DDL", "failed", _some(lacking), DEPLOY)
    if not changed and not lacking:
        yield Finding("DDL", "ok", f"{len(texts)} scripts are deployed as they are here.")
    if not lacking:
        state = "failed" if still else "ok"
        yield Finding(
            "pipe, streams, tasks",
            state,
            _some(still) or "as the scripts say.",
            "docs/runbook.md, Pipe" if still else "",
        )
    return True


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return f"{' '.join(texts[:NAMED])}{more}"


def _roles(session: Warehouse, settings: DeploySettings, with_warehouse: bool) -> Iterator[Finding]:
    """Those that tasks run as. What they may do with which object is a matter of the DDL, above."""
    good = []
    for role in (LOADER, TRANSFORMER, settings.deploy_role):
        try:
            session.rows(f"use role {role}")
        except REFUSED:
            what = (
                f"{settings.snowflake_user} cannot take the role {role}: it is not there, or not granted to that user."
            )
            yield Finding("role", "failed", what, f"{AWS} 4: deploy scope account")
            continue
        try:
            if with_warehouse:
                session.rows(f"use warehouse {settings.snowflake_warehouse}")
            good.append(role)
        except REFUSED:
            what = f"{role} lacks USAGE on warehouse {settings.snowflake_warehouse}, or it is not there."
            yield Finding("role", "failed", what, DEPLOY)
    if good:
        yield Finding("role", "ok", f"{settings.snowflake_user} can take {', '.join(good)}.")


def _stage(session: Warehouse, settings: DeploySettings) -> Iterator[Finding]:
    """Lists one day, as the loader's role."""
    plan = read_settings(PlanSettings)
    day = (plan.now() - timedelta(days=1)).date()
    folder = day_folder(settings.aws_prefix, plan.amp_project_id, day).removeprefix(f"{settings.aws_prefix}/")
    stage = f"{settings.snowflake_database}.{settings.raw_schema}.AMPLITUDE_EVENTS_STAGE"
    try:
        session.rows(f"use role {LOADER}")
        found = session.rows(f"list @{stage}/{folder}")
    except REFUSED as error:
        todo = f"{AWS} 4 (trust policy)" if "trust policy" in str(error) else f"{AWS} 3 (snowflake-role-policy.json)"
        yield Finding("stage", "failed", f"{LOADER} cannot list {stage}: {error}", todo)
    else:
        yield Finding("stage", "ok", f"Snowflake lists the prefix: {len(found)} objects of {day}.")


def _notification(session: Warehouse, settings: DeploySettings) -> Iterator[Finding]:
    """Parts load without one: the load task then asks the pipe itself, later and at more cost."""
    schema = f"{settings.snowflake_database}.{settings.raw_schema}"
    try:
        session.rows(f"use role {LOADER}")
        shown = session.dicts(f"show pipes like '{deployment.PIPE}' in schema {schema}")
        pipe = Landing(session, settings.snowflake_database, settings.raw_schema, settings.aws_prefix).pipe()
    except REFUSED as error:
        yield Finding("notification", "failed", str(error), DEPLOY)
        return
    if pipe is None:
        yield Finding("notification", "failed", f"{LOADER} does not see {deployment.PIPE}.", DEPLOY)
    elif pipe.notified:
        yield Finding("notification", "ok", "S3 tells the pipe of new parts.")
    else:
        channel = shown[0]["notification_channel"]
        what = (
            f"none has ever reached the pipe. Before the first upload none can; the bucket must send them to {channel}."
        )
        yield Finding("notification", "warning", what, f"{AWS} 6")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--deployed", choices=SCOPES, default="", help="scope just deployed: later steps are warnings")
    parser.add_argument("--json", action="store_true", help="a list of objects (check, state, what, todo) instead")
    arguments = parser.parse_args(argv)
    findings: list[Finding] = []

    def show() -> None:
        findings.extend(examine(arguments.deployed))
        text = msgspec.json.encode(findings).decode() if arguments.json else "\n".join(map(line, findings))
        sys.stdout.write(f"{text}\n")

    return as_command(show) or int(any(finding.state == "failed" for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
