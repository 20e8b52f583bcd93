"""`python -m local.amplitude`: Amplitude's Export API on 127.0.0.1, with generated or real events."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from local.amplitude.archives import Archives
from local.amplitude.generator import EVENTS_PER_DAY, PROJECT, SEED, Traffic
from local.amplitude.project import Project
from local.amplitude.server import Server, clock
from local.amplitude.store import Source

NOTES = """
GET /api/2/export?start=YYYYMMDDTHH&end=YYYYMMDDTHH with Basic auth, as https://amplitude.com/docs/apis/analytics/export.
The key pair is AMP_API_KEY and AMP_SECRET_KEY of this process (default: local-api-key, local-secret-key).
Control, without auth (times YYYYMMDDTHH in queries, hours YYYY-MM-DDTHH in JSON):
  GET /_truth?start=..&end=..          per hour: events, parts, event_types, uuids (late ones included)
  GET, DELETE /_requests               the log of export requests: window, status, bytes, lines, faults, seconds
  GET, POST, DELETE /_faults           the fault programme; its kinds: pydoc local.amplitude.faults
  POST /_late {"hour": H, "events": N} data that arrives late, now
  POST /_clock {"now": TIME or null}   freezes the clock (Date header, settled hours), as PIPELINE_NOW does at the start
Prints {"ready": true, "port": N}; stops at SIGTERM, SIGINT and end of stdin.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m local.amplitude", description=(__doc__ or "").strip(), epilog=NOTES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=0, help="0: a free port")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on")
    parser.add_argument("--state", type=Path, required=True, help="folder of generated hours and the request log")
    parser.add_argument("--archives", type=Path, help="serve these events (.jsonl, .json.gz, .zip; file or folder)")
    parser.add_argument("--project", type=int, default=int(os.environ.get("AMP_PROJECT_ID") or PROJECT),
                        help=f"its id; default AMP_PROJECT_ID, else {PROJECT}")  # fmt: skip
    parser.add_argument("--seed", type=int, default=SEED, help="of the generated traffic")
    parser.add_argument(
        "--faults", type=Path, metavar="FILE", help="a fault programme (JSON), instead of the one in the state"
    )
    parser.add_argument("--events-per-day", type=int, default=EVENTS_PER_DAY, metavar="N", help="about so many")
    options = parser.parse_args()
    pair = (os.environ.get("AMP_API_KEY") or "local-api-key", os.environ.get("AMP_SECRET_KEY") or "local-secret-key")
    now = os.environ.get("PIPELINE_NOW", "").replace("unset", "")
    try:
        source: Source = Traffic(options.seed, options.project, options.events_per_day)
        if options.archives:
            source = Archives(options.archives, options.project)
        project = Project(source, options.state, pair, clock(now or None))
        if options.faults:
            project.programme.clear()
            project.programme.add(options.faults.read_bytes())
    except (OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    serve(Server(project, options.port, options.host))


def serve(server: Server) -> None:
    """Serves until SIGTERM, SIGINT or the end of stdin (a parent that dies, however it dies, closes it)."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def parent_ended() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=parent_ended, daemon=True).start()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    print(json.dumps({"ready": True, "port": server.server_port}), flush=True)
    stop.wait()
    server.shutdown()
    thread.join()


if __name__ == "__main__":
    main()
