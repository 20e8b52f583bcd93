"""The laptop stack: stand-ins for S3, Amplitude and Snowflake, and the settings that point the flows at them.

A stand-in gives way to the real thing when its variable is set in the environment or in `.env`: AMP_BASE_URL,
AWS_ENDPOINT_URL_S3, SNOWFLAKE_HOST. State lies in `.local/`; every server stops when this process ends.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import ValidationError

from local import private_file
from scripts.pipeline.env_file import read_file
from scripts.pipeline.settings import groups, known_settings, problems

ROOT = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("LOCAL_STATE") or ROOT / ".local").resolve()

# Made up for the stand-ins; a value of the user's own wins.
LAPTOP = {
    "AMP_API_KEY": "local-key",
    "AMP_SECRET_KEY": "local-secret",
    "AMP_PROJECT_ID": "100001",
    "AWS_ACCESS_KEY": "local",
    "AWS_ACCESS_SECRET_KEY": "local",
    "AWS_BUCKET_NAME": "amplitude-local",
    "AWS_REGION": "us-east-1",
    "SNOWFLAKE_ACCOUNT": "local",
    "SNOWFLAKE_USER": "AMPLITUDE_PIPELINE",
    "SNOWFLAKE_WAREHOUSE": "AMPLITUDE_WH",
    "SNOWFLAKE_DATABASE": "AMPLITUDE",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/snowflake-reads-amplitude",
    "AWS_EXTERNAL_ID": "amplitude-local",
    "DBT_TARGET": "local",
}
# What a stand-in gives way to, and the setting whose presence means that somebody expects it to.
GIVES_WAY = {
    "Amplitude": ("AMP_BASE_URL", "AMP_API_KEY"),
    "S3": ("AWS_ENDPOINT_URL_S3", "AWS_BUCKET_NAME"),
    "Snowflake": ("SNOWFLAKE_HOST", "SNOWFLAKE_ACCOUNT"),
}
PORTS = {"s3": 9000, "amplitude": 9001, "snowflake": 9002}  # where others reach them; on a laptop any that is free
# What a process needs from the shell; the rest of it stays out of the tasks' sight.
FROM_SHELL = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "HTTPS_PROXY",
    "NO_PROXY",
)


BUSY = "another command runs the local stack here (`demo`, `run`, `sql` or the like): wait for it to end"


class StackError(Exception):
    """The stack cannot start or go on; the message says why and what to do."""


def read_settings() -> dict[str, str]:
    """Made-up values, then `.env`, then the environment: the last one that is given wins. StackError: a bad one."""
    known = known_settings()
    given: dict[str, str] = dict(LAPTOP)
    own, wrong = read_file(ROOT / ".env")
    for source in (own, os.environ):
        given |= {name: value for name, value in source.items() if name in known and value and value != "unset"}
    for group in groups():
        try:
            group(**{name.lower(): value for name, value in given.items()})
        except ValidationError as error:  # what is missing, the stand-ins bring
            wrong += [each for each in problems(error) if not each.endswith(" is missing")]
    if wrong:
        raise StackError(f"In .env or the environment: {'; '.join(dict.fromkeys(wrong))}")
    return given


class Server:
    """One stand-in in a process of its own: `python -m local.<name>`; it stops when its stdin ends."""

    def __init__(self, name: str, state: Path, *arguments: str, environment: Mapping[str, str]) -> None:
        self.name = name
        (state / name).mkdir(parents=True, exist_ok=True)
        self.log = state / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"local.{name}", "--state", str(state / name), *arguments],
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only us: we stop it in order
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> int:
        """The port that it serves on."""
        line = _pipe(self._process.stdout).readline()
        if not line:
            code = self._process.wait()
            raise StackError(
                f"the local {self.name} did not start: {self._last_words() or f'code {code}'} ({self.log})"
            )
        return int(json.loads(line)["port"])

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = lines[-1] if lines else ""
        if "Address already in use" in said or "is in use by another program" in said:
            port = PORTS[self.name]
            return f"port {port} is in use on this machine: stop what serves on it (`lsof -i :{port}` shows it)"
        return said

    def stop(self) -> None:
        _pipe(self._process.stdin).close()
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        _pipe(self._process.stdout).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        message = "a stand-in was started without a pipe"
        raise RuntimeError(message)
    return stream


class Stack:
    """The stand-ins and the settings; `with Stack(...) as stack` starts and stops them. One at a time per checkout.

    `host` is another name of this machine, by which others reach the stand-ins; they then serve on all addresses, each
    on the same port after a restart: what was started with these settings goes on.
    """

    def __init__(self, state: Path = STATE, archives: Path | None = None, host: str = "127.0.0.1") -> None:
        self.state = state
        self._host = host
        self.settings = read_settings() | {"DATA_DIR": str(state / "data"), "LOG_DIR": str(state / "logs")}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self._archives = archives
        self._servers: list[Server] = []
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.state.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self.state)
        if not self._lock:
            raise StackError(BUSY)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        for server in reversed(self._servers):
            server.stop()
        self._servers.clear()
        if self._lock:
            self._lock.close()
            self._lock = None

    def check(self) -> None:
        """Raises StackError when a stand-in ended by itself."""
        for server in self._servers:
            if not server.alive:
                message = f"the local {server.name} ended by itself: see {server.log}"
                raise StackError(message)

    def _start(self) -> None:
        for name, (switch, own) in GIVES_WAY.items():
            if switch not in self.settings and self.settings[own] != LAPTOP[own]:
                sys.stderr.write(f"{name}: this is the stand-in. {own} is set, but only {switch} leads to your own.\n")
        amplitude = None if "AMP_BASE_URL" in self.settings else self._server("amplitude", *self._amplitude_options())
        own_bucket = "AWS_ENDPOINT_URL_S3" not in self.settings
        if own_bucket:
            endpoint = f"http://{self._host}:{self._server('s3').wait_ready()}"
            self.settings |= {"AWS_ENDPOINT_URL_S3": endpoint, "S3_ADDRESSING_STYLE": "path"}
        self.endpoints["s3"] = {"endpoint": self.settings["AWS_ENDPOINT_URL_S3"]}
        snowflake = None
        if "SNOWFLAKE_HOST" not in self.settings:
            snowflake = self._server("snowflake", "--s3-endpoint", self.endpoints["s3"]["endpoint"])
        if own_bucket:
            self._make_bucket()
        if amplitude:
            self.settings["AMP_BASE_URL"] = f"http://{self._host}:{amplitude.wait_ready()}"
        if snowflake:
            where = {"HOST": self._host, "PORT": str(snowflake.wait_ready()), "PROTOCOL": "http"}
            self.settings |= {f"SNOWFLAKE_{name}": value for name, value in where.items()}
        self.settings.setdefault("SNOWFLAKE_PRIVATE_KEY_FILE", str(self._private_key()))
        self.endpoints["amplitude"] = {"url": self.settings["AMP_BASE_URL"]}
        self.endpoints["snowflake"] = {
            "host": self.settings["SNOWFLAKE_HOST"],
            "port": int(self.settings.get("SNOWFLAKE_PORT", "443")),
            "protocol": self.settings.get("SNOWFLAKE_PROTOCOL", "https"),
        }

    def _server(self, name: str, *arguments: str) -> Server:
        environment = shell() | {key: value for key, value in self.settings.items() if key.startswith("AMP_")}
        serve_on = [] if self._host == "127.0.0.1" else ["--host", "0.0.0.0", "--port", str(PORTS[name])]
        server = Server(name, self.state, *serve_on, *arguments, environment=environment)
        self._servers.append(server)
        return server

    def _amplitude_options(self) -> list[str]:
        options = ["--project", self.settings["AMP_PROJECT_ID"]]
        return [*options, "--archives", str(self._archives)] if self._archives else options

    def _make_bucket(self) -> None:
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoints["s3"]["endpoint"],
            aws_access_key_id="local",
            aws_secret_access_key="local",
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        try:
            client.create_bucket(Bucket=self.settings["AWS_BUCKET_NAME"])
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    def _private_key(self) -> Path:
        """A key pair for the local Snowflake, so that the same way in is used as on an account."""
        file = self.state / "snowflake_key.p8"
        if not file.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            text = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            private_file.write(file, text)
        return file

    def kestra_environment(self) -> dict[str, str]:
        """What compose's entrypoint would set: SECRET_* in base64 (`unset` when not given), the rest under its name."""
        environment = shell() | {"VIRTUAL_ENV": sys.prefix}
        environment["PATH"] = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{environment['PATH']}"
        for name, secret in known_settings().items():
            if secret:
                value = self.settings.get(name, "unset").encode()
                environment[f"SECRET_{name}"] = base64.b64encode(value).decode()
            elif name in self.settings:
                environment |= {name: self.settings[name], f"ENV_{name}": self.settings[name]}
        return environment


def lock(state: Path) -> IO[str] | None:
    """The right to run the stack of this state, held until the file is closed; None while another process has it."""
    file = (state / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def busy(state: Path) -> bool:
    """Whether some command runs the stack of this state now."""
    if not state.exists():
        return False
    held = lock(state)
    if held:
        held.close()
    return held is None


def shell() -> dict[str, str]:
    return {name: os.environ[name] for name in FROM_SHELL if name in os.environ}


def clean(state: Path) -> None:
    """Removes all state of the laptop stack. Raises StackError while a command runs it."""
    if not state.exists():
        return
    held = lock(state)
    if not held:
        raise StackError(BUSY)
    with held:
        shutil.rmtree(state)
