"""Snowflake: the one place that connects and runs statements. Key pair, role, query tag, time limits, UTC.

Values are bound by the server (`?`), never pasted into a text; only names from our own settings and part keys, both
of a checked alphabet, are. Errors say code, state and query id: Snowflake's own text may quote a value of an event.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import snowflake.connector
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from snowflake.connector import errors as sf

from scripts.pipeline.errors import ConfigurationError, PermanentError, PipelineError, RetriableError
from scripts.pipeline.settings import SnowflakeSettings

LOGIN_SECONDS = 60
STATEMENT_SECONDS = 3600
# The connector's own limit is infinite, and it repeats 403 and 5xx until it is reached. It also cancels a statement
# that runs longer, so it lies this much above the statement's limit.
NETWORK_MORE = 60

NOT_FOUND = 2003  # "does not exist or not authorized": Snowflake does not tell which
# Texts of these name objects and roles only.
_CONFIGURATION = {
    NOT_FOUND: "deploy the DDL first (flow snowflake_deploy), or let the role see the object",
    2043: "the object does not exist or the role may not see it: deploy the DDL first (flow snowflake_deploy)",
    3001: "the role lacks a privilege: deploy the DDL (flow snowflake_deploy), or ask the owner",
    3167: "AWS does not let Snowflake take on AWS_ROLE_ARN: its trust policy must name STORAGE_AWS_IAM_USER_ARN of DESC"
    " INTEGRATION and AWS_EXTERNAL_ID (docs/aws/README.md, step 4)",
    3013: "the role is not granted to this user: deploy scope account, or ask an administrator",
    90105: "the database of SNOWFLAKE_DATABASE is not there, or the role may not see it: deploy the DDL first (flow"
    " snowflake_deploy)",
    90073: "the resource monitor has suspended the warehouse: raise its quota or wait for the next month",
}
REMOTE_FILE_GONE = 91016
KEY_UNREADABLE = (
    "settings: SNOWFLAKE_PRIVATE_KEY_FILE is no private key (PKCS#8, PEM), or SNOWFLAKE_PRIVATE_KEY_FILE_PWD does not"
    " fit it (docs/aws/README.md, key rotation)."
)
ROLE_REFUSED = {390186, 390189}
KEY_REFUSED = {390144, 394300, 394303, 394304, 394305, 394306}
CLOCK_REFUSED = {394301, 394302}  # the login's own times: over already, or not yet begun
NO_ACCOUNT = 290404  # HTTP 404
UNREACHED = 250001
KEY_OF_ANOTHER_KIND = 251008  # Ed25519 and the like
# 390…: a refused login, 390100 a wrong user, 390201 and others the account's own reasons; 394…: a key pair's.
_LOGIN_CODES = {*range(390000, 391000), *range(394300, 394400), NO_ACCOUNT}


def key_fingerprint(settings: SnowflakeSettings) -> str:
    """Of the key's public half, as DESC USER shows it (RSA_PUBLIC_KEY_FP)."""
    given = parameters(settings)
    password = given.get("private_key_file_pwd")
    try:
        content = Path(given["private_key_file"]).read_bytes()
        key = serialization.load_pem_private_key(content, password.encode() if password else None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(KEY_UNREADABLE) from None
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(serialization.Encoding.DER, form)
    return "SHA256:" + base64.b64encode(hashlib.sha256(public).digest()).decode()


def parameters(
    settings: SnowflakeSettings, role: str | None = None, seconds: int = STATEMENT_SECONDS
) -> dict[str, Any]:
    """Arguments of `snowflake.connector.connect`. `role`: instead of SNOWFLAKE_ROLE. `seconds`: for one statement."""
    password = settings.snowflake_private_key_file_pwd
    key_file = Path(os.path.expanduser(settings.snowflake_private_key_file))  # noqa: PTH111 (Path's raises for ~nobody)
    if not key_file.is_file():
        message = f"settings: SNOWFLAKE_PRIVATE_KEY_FILE: there is no file {key_file}. Mount the key there."
        raise ConfigurationError(message)
    given = {
        "host": settings.snowflake_host,
        "port": settings.snowflake_port,
        "protocol": settings.snowflake_protocol,
        "role": role or settings.snowflake_role,
        "private_key_file_pwd": password.get_secret_value() if password else None,
    }
    return {
        "account": settings.snowflake_account,
        "user": settings.snowflake_user,
        "private_key_file": str(key_file),
        "warehouse": settings.snowflake_warehouse,
        "database": settings.snowflake_database,
        "login_timeout": LOGIN_SECONDS,
        "network_timeout": seconds + NETWORK_MORE,
        "session_parameters": {
            "QUERY_TAG": settings.query_tag,
            "TIMEZONE": "UTC",
            "STATEMENT_TIMEOUT_IN_SECONDS": seconds,
            "ABORT_DETACHED_QUERY": True,  # a killed task leaves no statement running
        },
        **{name: value for name, value in given.items() if value is not None},
    }


class Warehouse:
    """One session. Not for several threads: they would share its transaction."""

    def __init__(self, connection: snowflake.connector.SnowflakeConnection) -> None:
        self._connection = connection

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Runs one statement with `?` bound to `values`; returns its rows."""
        with statement_errors(), self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return [tuple(row) for row in cursor.fetchall()]

    def dicts(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """As `rows`, each row by its columns' names in lower case (SHOW, DESC, COPY)."""
        with statement_errors(), self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            names = [column.name.lower() for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def insert(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Runs `insert … values (?, …)` for all rows as one statement."""
        if rows:
            with statement_errors(), self._connection.cursor() as cursor:
                cursor.executemany(statement, rows)


@contextmanager
def connect(
    settings: SnowflakeSettings, role: str | None = None, seconds: int = STATEMENT_SECONDS
) -> Iterator[Warehouse]:
    """Opens a session that is closed at the end. Raises ConfigurationError or RetriableError."""
    arguments = parameters(settings, role, seconds)
    with statement_errors():
        try:
            connection = snowflake.connector.connect(paramstyle="qmark", **arguments)
        except (TypeError, ValueError):  # of the library that reads the key
            raise ConfigurationError(KEY_UNREADABLE) from None
    try:
        yield Warehouse(connection)
    finally:
        connection.close()


@contextmanager
def statement_errors() -> Iterator[None]:
    """Turns the connector's errors into ours."""
    try:
        yield
    except sf.Error as error:
        raise _typed(error) from None


def _typed(error: sf.Error) -> PipelineError:
    code = error.errno or 0
    if advice := _CONFIGURATION.get(code):
        return ConfigurationError(f"Snowflake: {first_line(error)}: {advice}.")
    if code in _LOGIN_CODES or isinstance(error, sf.ForbiddenError):
        return ConfigurationError(f"Snowflake refuses the login ({code}): {_login_advice(code)}.")
    if code == REMOTE_FILE_GONE:
        advice = "Run amplitude_daily over its day with `force`"
        return PermanentError(f"Snowflake finds an object no more in the bucket. {advice}.")
    if code == KEY_OF_ANOTHER_KIND:
        advice = "make an RSA key (docs/aws/README.md, key rotation)"
        return ConfigurationError(f"settings: SNOWFLAKE_PRIVATE_KEY_FILE is of a kind that is not supported: {advice}.")
    if code == UNREACHED:
        advice = "check the network, SNOWFLAKE_ACCOUNT (ORGANIZATION-ACCOUNT) and the account's network policy"
        return RetriableError(f"Snowflake was not reached within {LOGIN_SECONDS} s: {advice}, then run again.")
    where = f"code {code}, state {error.sqlstate}, query {error.sfqid}"
    if isinstance(error, sf.ProgrammingError) and not isinstance(error, sf.IntegrityError):
        return PermanentError(f"Snowflake refused a statement: {where}. Look the query up in the query history.")
    message = f"Snowflake did not answer as it should: {type(error).__name__}, {where}. Replay the run later."
    return RetriableError(message)


def advice(text: str) -> str:
    """What to do about an error in the connector's own words (`003167 (42601): …`), as a sentence; "" when unknown."""
    found = re.search(r"\b(\d{6}) \(\w{5}\)", text)
    known = _CONFIGURATION.get(int(found[1])) if found else None
    return f" {known[0].upper()}{known[1:]}." if known else ""


def _login_advice(code: int) -> str:
    if code in ROLE_REFUSED:
        return "there is no such role, or the user does not have it: run snowflake_deploy, scope account, first"
    if code in KEY_REFUSED:
        return (
            "the key in SNOWFLAKE_PRIVATE_KEY_FILE is not the user's, or SNOWFLAKE_USER or SNOWFLAKE_ACCOUNT is another"
            " one: set the public key (docs/aws/README.md, step 5 and key rotation)"
        )
    if code in CLOCK_REFUSED:
        return "this machine's clock is off: set it (NTP), then start again"
    if code == NO_ACCOUNT:
        return "there is no such account: check SNOWFLAKE_ACCOUNT (ORGANIZATION-ACCOUNT)"
    return "check SNOWFLAKE_ACCOUNT, _USER and the key pair (docs/aws/README.md, key rotation)"


def first_line(error: sf.Error) -> str:
    """Snowflake's own words in one line; only for statements without data in them."""
    return " ".join((error.raw_msg or error.msg or "").split()).rstrip(".")
