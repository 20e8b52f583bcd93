"""python -m local.snowflake --port 0 --state DIR --s3-endpoint URL: serve until SIGTERM, SIGINT or the end of stdin."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sys
import threading
import warnings
from pathlib import Path
from typing import NoReturn

import uvicorn
from fakesnow.transforms.stage import LOCAL_BUCKET_PATH

from local.snowflake import dispatch
from local.snowflake.account import Account
from local.snowflake.pipes import PipeWorker
from local.snowflake.storage import Storage
from local.snowflake.task_runner import TaskRunner
from local.snowflake.wire import Wire

STOP_SECONDS = 8.0


def main(argv: list[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m local.snowflake", description="A local Snowflake.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one (default)")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on")
    parser.add_argument("--state", type=Path, required=True, metavar="DIR", help="where the databases are kept")
    parser.add_argument("--s3-endpoint", metavar="URL", default=os.environ.get("AWS_ENDPOINT_URL_S3"))
    arguments = parser.parse_args(argv)
    shutil.rmtree(LOCAL_BUCKET_PATH, ignore_errors=True)  # fakesnow makes it when imported; stages here are S3's
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
    storage = Storage(arguments.s3_endpoint, arguments.state / "scratch")
    account = Account(arguments.state, storage, dispatch.run)
    account.pipe_worker = PipeWorker(account)
    account.task_runner = TaskRunner(account)
    account.pipe_worker.start()
    account.task_runner.start()
    wire = Wire(account)
    listener = socket.create_server((arguments.host, arguments.port))
    # Else each answer waits 40 ms for the client's delayed ACK: asyncio sets it for sockets of its own making only.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server = uvicorn.Server(uvicorn.Config(wire.application(), log_level="warning", timeout_graceful_shutdown=2))

    def stop(*_: object) -> None:
        server.should_exit = True

    def stop_at_end_of_stdin() -> None:
        while sys.stdin.buffer.read(65536):
            continue
        stop()

    threading.Thread(target=stop_at_end_of_stdin, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    print(json.dumps({"ready": True, "port": listener.getsockname()[1]}), flush=True)
    server.run(sockets=[listener])
    stopping = threading.Thread(target=_stop, args=(account, wire), daemon=True)
    stopping.start()
    stopping.join(STOP_SECONDS)
    os._exit(0)  # what still runs is rolled back at the next start, like after a crash


def _stop(account: Account, wire: Wire) -> None:
    """Cancel what runs, then close the files."""
    wire.close()
    account.pipe_worker.stop()
    account.task_runner.stop()
    account.close()


if __name__ == "__main__":
    main()
