"""A local Snowflake in its own process, reached by the real connector, and a database to deploy to."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from scripts import deploy

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class LocalSnowflake:
    port: int
    key_file: Path
    _process: subprocess.Popen[bytes]

    def settings(self, database: str = "AMPLITUDE") -> dict[str, str]:
        """Environment of the tasks."""
        return {
            "SNOWFLAKE_ACCOUNT": "local",
            "SNOWFLAKE_USER": "AMPLITUDE_PIPELINE",
            "SNOWFLAKE_WAREHOUSE": "AMPLITUDE_WH",
            "SNOWFLAKE_DATABASE": database,
            "SNOWFLAKE_PRIVATE_KEY_FILE": str(self.key_file),
            "SNOWFLAKE_HOST": "127.0.0.1",
            "SNOWFLAKE_PORT": str(self.port),
            "SNOWFLAKE_PROTOCOL": "http",
            "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/amplitude-snowflake",
            "AWS_EXTERNAL_ID": "amplitude_pipeline_1",
        }

    @contextmanager
    def session(
        self, database: str | None = None, role: str = "ACCOUNTADMIN", **parameters: Any
    ) -> Iterator[snowflake.connector.SnowflakeConnection]:
        connection = snowflake.connector.connect(
            account="local",
            user="AMPLITUDE_PIPELINE",
            private_key_file=str(self.key_file),
            host="127.0.0.1",
            port=self.port,
            protocol="http",
            warehouse="AMPLITUDE_WH",
            database=database,
            role=role,
            session_parameters=parameters,
        )
        try:
            yield connection
        finally:
            connection.close()

    def rows(self, database: str, statement: str, role: str = "ACCOUNTADMIN", **parameters: Any) -> list[tuple]:
        with self.session(database, role, **parameters) as connection, connection.cursor() as cursor:
            return [tuple(row) for row in cursor.execute(statement).fetchall()]

    def script(self, database: str, text: str, role: str = "ACCOUNTADMIN") -> None:
        """Statements parted by `;` and a line break."""
        with self.session(database, role) as connection, connection.cursor() as cursor:
            for statement in filter(None, (each.strip().rstrip(";") for each in text.split(";\n"))):
                cursor.execute(statement)


@contextmanager
def serving(folder: Path, s3_url: str) -> Iterator[LocalSnowflake]:
    """The server stops at the end of its stdin, however this process ends."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    key_file = folder / "key.p8"
    form = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    process = subprocess.Popen(
        [sys.executable, "-m", "local.snowflake", f"--state={folder / 'state'}", f"--s3-endpoint={s3_url}"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield LocalSnowflake(json.loads(process.stdout.readline())["port"], key_file, process)
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


def run_deploy(folder: Path, scope: str, action: str = "apply") -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    """Counts, text of the plan, and what ran, of one deploy with the settings of the environment."""
    plan, deployed = folder / "plan.sql", folder / "deployed.jsonl"
    counts = dict(deploy.run(action=action, scope=scope, plan=plan, deployed=deployed))
    return counts, plan.read_text(), [json.loads(line) for line in deployed.read_text().splitlines()]
