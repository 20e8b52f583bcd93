"""Profile `demo`: the stand-ins for Amplitude, S3 and Snowflake in one container, and a first run.

demo.py serve                        serves until SIGTERM; its settings take the place of `.env`
demo.py run --url http://kestra:8080 deploys the DDL and runs the newest settled day; exit code 0 when all is green
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import shutil
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kestra_api import Kestra, KestraError
from loader import PASSWORD, USER

from scripts.pipeline import env_file
from scripts.pipeline.project import NAMESPACE

DEMO_FILE = Path(os.environ[env_file.DEMO_SETTINGS])  # on a tmpfs that is gone when the stand-ins are
STATE = Path("/demo")
HOST = "demo"  # this container's name in the compose network
LATENCY = timedelta(hours=2)  # a day is settled when its last hour is
RUN_SECONDS = 3600
GREEN = {"SUCCESS", "WARNING"}


def serve() -> int:
    from local.stack import Stack  # late: `run` has no stand-ins

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Stack(STATE, host=HOST) as stack:
        key = DEMO_FILE.parent / "snowflake_key.p8"
        shutil.copy(stack.settings["SNOWFLAKE_PRIVATE_KEY_FILE"], key)
        folders = {name: f"{os.environ[name]}/demo" for name in ("DATA_DIR", "LOG_DIR")}
        given = stack.settings | server_settings() | folders | {"SNOWFLAKE_PRIVATE_KEY_FILE": str(key)}
        part = DEMO_FILE.with_suffix(".part")
        part.write_text("".join(f"{name}={value}\n" for name, value in given.items()), encoding="utf-8")
        part.replace(DEMO_FILE)
        print(f"demo: stand-ins serve: {json.dumps(stack.endpoints)}", flush=True)
        stop.wait()
        DEMO_FILE.unlink()
    return 0


def server_settings() -> dict[str, str]:
    """The demo's own login and passwords, made up once: no default that somebody might put into production."""
    file = STATE / "server.json"
    if not file.exists():
        made = {
            "KESTRA_ADMIN_USER": "demo@example.com",
            "KESTRA_ADMIN_PASSWORD": f"Demo1-{secrets.token_urlsafe(9)}",
            "KESTRA_ENCRYPTION_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "POSTGRES_PASSWORD": secrets.token_hex(24),
        }
        part = file.with_suffix(".part")  # a full disk must not leave half a login for all later starts
        part.touch(mode=0o600)
        part.write_text(json.dumps(made), encoding="utf-8")
        part.replace(file)
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    return found


def run(url: str) -> int:
    given, _ = env_file.read()
    kestra = Kestra(url, given[USER], given[PASSWORD])
    login = (
        f"user {given[USER]}, password:\n  docker compose exec demo python -c "
        '\'import json; print(json.load(open("/demo/server.json"))["KESTRA_ADMIN_PASSWORD"])\''
    )
    day = (datetime.now(UTC) - LATENCY).date() - timedelta(days=1)
    for flow, inputs in (
        ("snowflake_deploy", {"action": "apply", "scope": "account"}),
        ("snowflake_deploy", {"action": "apply", "scope": "database"}),
        ("amplitude_daily", {"start_date": day.isoformat()}),
    ):
        execution = kestra.run(NAMESPACE, flow, inputs)
        state = ""
        for state in kestra.states(execution, RUN_SECONDS):
            print(f"demo: {flow} {' '.join(inputs.values())}: {state}", flush=True)
        if state not in GREEN:
            page = f"http://localhost:8080/ui/main/executions/{NAMESPACE}/{flow}/{execution}"
            print(f"demo: not green: see {page}, {login}", file=sys.stderr, flush=True)
            return 1
    print(f"demo: green. Kestra UI: http://localhost:8080, {login}", flush=True)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve")
    commands.add_parser("run").add_argument("--url", required=True, help="of Kestra")
    options = parser.parse_args(argv)
    try:
        return serve() if options.command == "serve" else run(options.url)
    except KestraError as error:
        print(f"demo: {error}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
