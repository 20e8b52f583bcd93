"""A local Snowflake and a local S3 for tests: real processes, real protocols."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import snowflake.connector
from snowflake.connector import SnowflakeConnection

ROOT = Path(__file__).resolve().parents[3]
BUCKET = "conformance"
USER = "CONFORMANCE"


@dataclass
class Server:
    port: int
    s3_endpoint: str
    process: subprocess.Popen[str]

    def connect(self, database: str | None = None, **more: Any) -> SnowflakeConnection:
        given = {"account": "local", "user": USER, "password": "local", "login_timeout": 60, "network_timeout": 180}
        return snowflake.connector.connect(
            host="127.0.0.1", port=self.port, protocol="http", database=database, **(given | more)
        )

    def aws(self, service: str) -> Any:
        return boto3.client(
            service, endpoint_url=self.s3_endpoint, region_name="us-east-1",
            aws_access_key_id="local", aws_secret_access_key="local",
        )  # fmt: skip

    def post(self, path: str, body: bytes | dict[str, Any], token: str = "") -> dict[str, Any]:
        """One request as the connector makes it, without its retries."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            {"Authorization": f'Snowflake Token="{token}"', "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.loads(answer.read()))

    def login(self, database: str) -> str:
        """A session's token."""
        path = f"/session/v1/login-request?databaseName={database}&schemaName=PUBLIC"
        return str(self.post(path, {"data": {"LOGIN_NAME": USER}})["data"]["token"])

    def query(self, token: str, sql: str, request_id: str = "") -> dict[str, Any]:
        path = f"/queries/v1/query-request?requestId={request_id or uuid.uuid4()}"
        return self.post(path, {"sqlText": sql}, token)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)


@contextmanager
def _started(program: list[str], *arguments: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Ends with its standard input, as every local server does."""
    process = subprocess.Popen(
        [sys.executable, *program, "--port", "0", *arguments],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"LOCAL_SNOWFLAKE_TASK_SPEED": "60"},
    )  # fmt: skip
    assert process.stdout
    assert process.stdin
    try:
        yield json.loads(process.stdout.readline())["port"], process
    finally:
        process.stdin.close()
        process.wait(30)


@contextmanager
def s3_running(folder: Path) -> Iterator[str]:
    """The endpoint of a local S3 with the bucket."""
    with _started(["-m", "local.s3"], "--state", str(folder)) as (port, _):
        endpoint = f"http://127.0.0.1:{port}"
        server = Server(0, endpoint, _)
        if BUCKET not in [bucket["Name"] for bucket in server.aws("s3").list_buckets()["Buckets"]]:
            server.aws("s3").create_bucket(Bucket=BUCKET)
        yield endpoint


@contextmanager
def snowflake_running(folder: Path, s3_endpoint: str, *, before: str = "") -> Iterator[Server]:
    """A server on a state folder, with a storage integration that allows the bucket. before: Python run in it first."""
    start = "from local.snowflake.__main__ import main; main()"
    with _started(["-c", f"{before}\n{start}"], "--state", str(folder), "--s3-endpoint", s3_endpoint) as (
        port,
        process,
    ):
        server = Server(port, s3_endpoint, process)
        with server.connect() as connection:
            connection.cursor().execute(
                f"""create storage integration if not exists conformance_s3 type = external_stage
                storage_provider = 'S3' enabled = true storage_aws_role_arn = 'arn:aws:iam::000000000000:role/reader'
                storage_allowed_locations = ('s3://{BUCKET}/')"""
            )
        yield server
