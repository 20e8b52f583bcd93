"""`python -m local`: the pipeline on a laptop, with no account and no Docker."""

from __future__ import annotations

import signal

# Until main() listens: Ctrl-C while the imports below run (a second) ends without their traceback.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import contextlib
import errno
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import snowflake.connector

from local import demo, progress, session, sql, stack
from local.engine import open_alerts, stored
from local.java import FREE_SPACE, ensure_engine

RUNS = stack.STATE / "runs"
DOWN = "down: `python -m local up` starts it; `run` and `demo` start what they need"
Command = Callable[[argparse.Namespace], int]


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        return int(options.do(options))
    except (*session.FAILURES, OSError) as error:
        full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
        text = f"the disk is full ({error}). {FREE_SPACE}" if full else str(error)
        sys.stderr.write(f"{text}\n")
        if getattr(options, "json", False):
            print(json.dumps({"error": text}))
        return 1
    except KeyboardInterrupt:
        beside = options.do in {do_run, do_again, demo.main} and session.running()
        sys.stderr.write("the run goes on: `status` names it, `kill` ends it\n" if beside else "stopped\n")
        return 130


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, do: Command, text: str, *, started: bool = False, as_json: bool = False
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(do=do)
        if started:
            added.add_argument("--archives", type=Path, help="serve real events: a .jsonl, .json.gz, .zip or a folder")
            added.add_argument("--plugins", type=Path, help="folder of Kestra plugin jars instead of the stand-ins")
        if as_json:
            added.add_argument("--json", action="store_true", help="print one JSON object as the last line")
        return added

    command("up", up, "start the stack, schedules included, and leave it running", started=True)
    command("down", down, "stop what `up` started")
    command("status", status, "what runs, and where; alerts that are open", as_json=True)
    run = command("run", do_run, "run a flow to its end", started=True, as_json=True)
    run.add_argument("flow")
    run.add_argument("--input", action="append", default=[], metavar="K=V", type=_pair)
    run.add_argument("--label", action="append", default=[], metavar="K=V", type=_pair)
    for name, text in (
        ("restart", "run the failed tasks of a failed run again, under its id"),
        ("replay", "run a run again under a new id"),
        ("kill", "stop a run with its children and processes"),
    ):
        again = command(name, do_again, text, started=True, as_json=True)
        again.set_defaults(what=name)
        again.add_argument("execution")
        if name == "replay":
            again.add_argument("--task", help="from this task on, while its input files exist")
    backfill = command("backfill", do_backfill, "have a schedule run its past ticks, in order; needs `up`")
    backfill.add_argument("flow")
    backfill.add_argument("--trigger", default="daily", help="id of the schedule (%(default)s)")
    backfill.add_argument(
        "--start", required=True, type=_moment, help="first tick or earlier, as 2026-11-02 or with a time"
    )
    backfill.add_argument("--end", type=_end, help="last tick or later; a day means all of it (default: now)")
    backfill.add_argument("--input", action="append", default=[], metavar="K=V", type=_pair)
    backfill.add_argument("--label", action="append", default=[], metavar="K=V", type=_pair)
    query = command(
        "sql",
        do_sql,
        "run one statement on the stack's Snowflake (--json: also what a cell is too narrow for)",
        as_json=True,
    )
    query.add_argument("statement", type=_statement)
    script = command(
        "script", do_script, "run a command of scripts/ on this stack, as `script ledger --from 2026-11-01`"
    )
    script.add_argument("name", help="ledger, backup, health, reconcile, maintain, …")
    script.add_argument("arguments", nargs=argparse.REMAINDER)
    logs = command("logs", do_logs, "task logs of a run (default: the newest)")
    logs.add_argument("execution", nargs="?")
    demonstration = command(
        "demo", demo.main, "deploy, run a day, and show what happened at every hop", started=True, as_json=True
    )
    demonstration.add_argument("--days", type=_days, default=1, help="how many days, up to the newest settled one")
    command("clean", clean, "remove all state of the stack (.local/)")
    command("serve", serve, "what `up` leaves running", started=True)
    return parser


def _statement(text: str) -> str:
    if not text.strip(" ;\n"):
        message = "an empty statement"
        raise argparse.ArgumentTypeError(message)
    return text


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 31:
        message = f"{text!r}: a number from 1 to 31"
        raise argparse.ArgumentTypeError(message)
    return int(text)


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r}: write YYYY-MM-DD or YYYY-MM-DDTHH:MM"
        raise argparse.ArgumentTypeError(message) from None
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).isoformat()


def _end(text: str) -> str:
    """A day's end is its last second: all ranges of days here include both."""
    return _moment(f"{text}T23:59:59" if len(text) == len("2026-11-02") else text)


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        message = f"{text!r}: write it as name=value"
        raise argparse.ArgumentTypeError(message)
    return name, value


def up(options: argparse.Namespace) -> int:
    if session.running():
        print("already up; see `python -m local status`")
        return 0
    ensure_engine()
    stack.STATE.mkdir(parents=True, exist_ok=True)
    arguments = [f"--{name}={value.resolve()}" for name in ("archives", "plugins") if (value := getattr(options, name))]
    log = stack.STATE / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "local", "serve", *arguments],
            cwd=stack.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        started = session.wait_up(process, 120)
    except KeyboardInterrupt:  # which it does not get: it would come up all the same
        process.terminate()
        process.wait()
        raise
    if not started:
        process.terminate()
        message = (
            f"the stack did not start: {log.read_text(errors='replace').strip()[-2000:] or 'no word in two minutes'}"
        )
        raise stack.StackError(message)
    print("up: schedules run; `python -m local status`, `run FLOW`, `down`")
    return 0


def serve(options: argparse.Namespace) -> int:
    session.serve(options.archives, options.plugins)
    return 0


def down(_: argparse.Namespace) -> int:
    if remote := session.running():
        for run in progress.at_work(RUNS):
            print(f"ends {run['flow']} {run['execution']}, which is at work: after `up`, `replay` it")
        list(remote.do("stop", {}))
        if not session.wait_down(60):
            message = "the stack does not stop: see .local/serve.log"
            raise stack.StackError(message)
    print("down")
    return 0


def status(options: argparse.Namespace) -> int:
    remote = session.running()
    found = next(remote.do("status", {})) if remote else {"endpoints": {}}
    alerts = open_alerts(stack.STATE / "kestra")
    if options.json:
        print(json.dumps({"up": remote is not None, "alerts": alerts, **found["endpoints"]}))
    else:
        print("up" if remote else stack.BUSY if stack.busy(stack.STATE) else DOWN)
        for name, where in found["endpoints"].items():
            print(f"{name:10} {' '.join(f'{key}={value}' for key, value in where.items())}")
        for run in progress.at_work(RUNS) if remote else ():
            print(f"{'run':10} {run['flow']} {run['execution']} {run['state']}")
        for key, since in alerts.items():
            print(f"{'alert':10} {key}, since {since[:16]}Z")
        if not alerts:
            print("no alert is open")
    return 0


def _result(options: argparse.Namespace, last: progress.Event) -> int:
    if options.json:
        print(json.dumps({key: last.get(key) for key in ("execution", "flow", "state", "seconds", "outputs")}))
    else:
        for name, value in (last.get("outputs") or {}).items():
            if str(value).startswith("kestra:///"):
                print(f"{name:10} {stored(stack.STATE / 'kestra', value)}")
    return 0 if last["state"] in progress.GREEN else 1


def do_run(options: argparse.Namespace) -> int:
    arguments = {"flow": options.flow, "inputs": dict(options.input), "labels": dict(options.label)}
    with session.reach(options.archives, options.plugins) as there:
        return _result(options, progress.follow(there.do("run", arguments)))


def do_again(options: argparse.Namespace) -> int:
    arguments = {"execution": options.execution}
    with session.reach(options.archives, options.plugins) as there:
        if options.what == "kill":
            list(there.do("kill", arguments))
            print(json.dumps(arguments) if options.json else f"killed: {options.execution}")
            return 0
        if options.what == "replay":
            arguments["task"] = options.task
        return _result(options, progress.follow(there.do(options.what, arguments)))


def do_backfill(options: argparse.Namespace) -> int:
    remote = session.running()
    if not remote:
        raise stack.StackError("a backfill needs the schedules: `python -m local up` first")
    arguments = {name: getattr(options, name) for name in ("flow", "trigger", "start", "end")}
    start = datetime.fromisoformat(options.start)
    if start > datetime.now(UTC):
        raise stack.StackError(f"--start {start:%Y-%m-%d %H:%M} lies in the future: a backfill runs past ticks")
    if options.end and datetime.fromisoformat(options.end) < start:
        raise stack.StackError(f"--start {start:%Y-%m-%d %H:%M} lies after --end: swap them")
    list(remote.do("backfill", arguments | {"inputs": dict(options.input), "labels": dict(options.label)}))
    print("begun; its runs come one after another: `python -m local logs`, `python -m local script ledger`")
    return 0


def do_script(options: argparse.Namespace) -> int:
    """The settings are those that the flows get; their secrets too."""
    if not (stack.ROOT / "scripts" / f"{options.name}.py").is_file():
        raise stack.StackError(f"there is no scripts/{options.name}.py")
    command = [sys.executable, "-m", f"scripts.{options.name}", *options.arguments]
    if {"-h", "--help"} & set(options.arguments):
        return subprocess.run(command, cwd=stack.ROOT, check=False).returncode
    remote = session.running()
    with contextlib.ExitStack() as opened:
        there = session.settings_of(remote) if remote else opened.enter_context(stack.Stack()).settings
        return subprocess.run(command, cwd=stack.ROOT, env=stack.shell() | there, check=False).returncode


def do_sql(options: argparse.Namespace) -> int:
    remote = session.running()
    with contextlib.ExitStack() as opened:
        settings = session.settings_of(remote) if remote else opened.enter_context(stack.Stack()).settings
        try:
            names, rows = sql.query(settings, options.statement)
        except snowflake.connector.Error as error:
            raise stack.StackError(str(error.msg or error).strip()) from None
    if options.json:
        print(json.dumps({"columns": names, "rows": rows}, default=str))
    else:
        print(sql.table(names, rows, width=240))
    return 0


def do_logs(options: argparse.Namespace) -> int:
    if not progress.show_logs(RUNS, options.execution):
        message = f"no run {options.execution or 'yet'} in {RUNS}"
        raise stack.StackError(message)
    return 0


def clean(_: argparse.Namespace) -> int:
    if session.running():
        message = "the stack is up: `python -m local down` first"
        raise stack.StackError(message)
    stack.clean(stack.STATE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
