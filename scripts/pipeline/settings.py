"""What each part of the pipeline needs to know. Names and defaults: README, .env.example.

In Kestra a task gets plain settings from the worker's environment under their own names, and each secret that it
needs by `env:` from `secret()`. Outside Kestra `.env` in the current directory is read as well (env_file.py).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from scripts.pipeline import env_file
from scripts.pipeline.errors import ConfigurationError


def shape(pattern: str, expected: str) -> AfterValidator:
    """A text, or a secret, that matches as a whole; else the message says what is expected."""

    def check(value: str | SecretStr) -> str | SecretStr:
        if not re.fullmatch(pattern, value if isinstance(value, str) else value.get_secret_value()):
            message = f"must be {expected}"
            raise ValueError(message)
        return value

    return AfterValidator(check)


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _day(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("must be a day, YYYY-MM-DD, without a time")
    return value


def _zone(value: str) -> str:
    names = available_timezones()
    if names and value not in names:  # none: a machine without the database of zones
        raise ValueError("must be a name of the time zone database, such as Europe/London")
    return value


Utc = Annotated[datetime, AfterValidator(_utc)]
Day = Annotated[date, BeforeValidator(_day)]
Zone = Annotated[str, AfterValidator(_zone)]
Prefix = Annotated[
    str, shape(r"[A-Za-z0-9][A-Za-z0-9._=-]*(/[A-Za-z0-9._=-]+)*", "letters, digits and . _ = - with / inside only")
]
_URL = shape(r"https?://[^\s/?#]+([/?]\S*)?", "an address that begins with https:// (or http://)")
Url = Annotated[str, _URL]
SecretUrl = Annotated[SecretStr, _URL]
HostOrUrl = Annotated[
    str, shape(r"(https?://|(?!.*://))[^\s/?#]+(/\S*)?", "a host, or an address with https:// (or http://)")
]
Host = Annotated[str, shape(r"[A-Za-z0-9.-]+", "a host's name, without https:// and /")]
Bucket = Annotated[
    str, shape(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket's name alone: 3 to 63 of a-z 0-9 . - (S3's rule)")
]
Account = Annotated[
    str,
    shape(r"(?!.*snowflakecomputing)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", "ORGANIZATION-ACCOUNT, and no address"),
]

# An unquoted Snowflake identifier: these names become part of statements, where values cannot be bound.
Identifier = Annotated[
    str, shape(r"[A-Za-z_][A-Za-z0-9_$]*", "an unquoted Snowflake name: letters, digits, _ and $, no digit first")
]


class Settings(BaseModel):
    # Built at the first use: a task uses few of the groups below, and all take a tenth of its start.
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, defer_build=True)

    # A rehearsal's "now" (tests, scenarios). Unset: the machine's clock.
    pipeline_now: Utc | None = None

    def now(self) -> datetime:
        return self.pipeline_now or datetime.now(UTC)


class AmplitudeSettings(Settings):
    """What the Export API client needs."""

    amp_api_key: SecretStr
    amp_secret_key: SecretStr
    amp_project_id: int = Field(gt=0)
    amp_region: Literal["eu", "us"] = "eu"
    amp_base_url: HostOrUrl | None = None


class PlanSettings(Settings):
    """What decides which hours a run works on."""

    amp_project_id: int = Field(gt=0)
    amp_start_date: Day | None = None
    export_latency_hours: int = Field(2, ge=1, le=48)
    max_hours_per_run: int = Field(744, ge=1)
    max_bytes_per_run: int = Field(2_000_000_000, ge=1)


class BackupSettings(Settings):
    """The local backup and the log files. Both folders are volumes in compose."""

    data_dir: Path = Path("data")
    log_dir: Path = Path("logs")
    backup_keep_days: int = Field(30, ge=0)
    backup_readable_json: bool = True


class AlertSettings(Settings):
    """Where alerts go, and the dead man's switch. Both addresses are keys to what is behind them."""

    alert_webhook_url: SecretUrl | None = None
    heartbeat_url: SecretUrl | None = None


class KeySettings(Settings):
    """What the names of S3 objects are made of."""

    amp_project_id: int = Field(gt=0)
    aws_prefix: Prefix = "python-import"


class BucketSettings(KeySettings):
    """The S3 bucket; credentials may also come from boto3's own chain (profile, role, AWS_ACCESS_KEY_ID)."""

    aws_access_key: SecretStr | None = None
    aws_access_secret_key: SecretStr | None = None
    aws_bucket_name: Bucket
    aws_region: str | None = None
    aws_kms_key_id: str | None = None
    aws_endpoint_url_s3: Url | None = None
    s3_addressing_style: Literal["auto", "path", "virtual"] = "auto"
    s3_checksums: Literal["when_supported", "when_required"] = "when_supported"

    @model_validator(mode="after")
    def _both_keys_or_none(self) -> Self:
        if bool(self.aws_access_key) != bool(self.aws_access_secret_key):
            raise ValueError("AWS_ACCESS_KEY and AWS_ACCESS_SECRET_KEY: give both, or none")
        return self


class SnowflakeSettings(Settings):
    """The warehouse connection: key pair only. Host, port and protocol are for a local Snowflake."""

    snowflake_account: Account
    snowflake_user: str
    snowflake_warehouse: Identifier
    snowflake_database: Identifier
    snowflake_private_key_file: Path
    snowflake_private_key_file_pwd: SecretStr | None = None
    snowflake_role: Identifier | None = None
    snowflake_host: Host | None = None
    snowflake_port: int | None = Field(None, ge=1, le=65535)
    snowflake_protocol: Literal["https", "http"] | None = None
    raw_schema: Identifier = "RAW"
    # Set by each flow task to its execution; marks our statements in Snowflake's query history.
    query_tag: str = "amplitude-pipeline"


class DeploySettings(SnowflakeSettings):
    """What the DDL needs beyond the connection. The two AWS values are required by scope `account` only."""

    deploy_role: Identifier = "SYSADMIN"
    deploy_account_role: Identifier = "ACCOUNTADMIN"
    aws_bucket_name: Bucket
    aws_prefix: Prefix = "python-import"
    aws_role_arn: str | None = None
    aws_external_id: str | None = None
    silver_tasks: bool = True


class DbtSettings(Settings):
    """Read by dbt itself, from the environment (dbt/profiles.yml, dbt_project.yml)."""

    dbt_target: Literal["local", "dev", "prod"] = "prod"
    reporting_timezone: Zone = "UTC"


S = TypeVar("S", bound=Settings)


def groups() -> list[type[Settings]]:
    """Every group of settings above."""
    return [each for each in globals().values() if isinstance(each, type) and issubclass(each, Settings)]


# Set by flow tasks, tests and rehearsals, never by a person.
NOT_FOR_PEOPLE = {"PIPELINE_NOW", "SNOWFLAKE_ROLE", "QUERY_TAG"}


def known_settings() -> dict[str, bool]:
    """Every setting's name in upper case, and whether it is a secret."""
    fields = {name: field for group in groups() for name, field in group.model_fields.items()}
    return {name.upper(): "SecretStr" in str(field.annotation) for name, field in fields.items()}


def problems(error: ValidationError) -> list[str]:
    """What is wrong with which setting, without its value."""
    return [
        " ".join([*(str(name).upper() for name in found["loc"][:1]), _words(found["type"], found["msg"])])
        for found in error.errors(include_input=False, include_url=False, include_context=False)
    ]


def _words(kind: str, message: str) -> str:
    if kind == "missing":
        return "is missing"
    ours = message.removeprefix("Value error, ")
    return ours if ours != message else message[0].lower() + message[1:]


def read(kind: type[S]) -> tuple[S | None, list[str]]:
    """One group of settings, and what is wrong with it or with `.env`, without values. None: it cannot be made."""
    given, wrong = env_file.read()
    try:
        return kind(**{name: given[name.upper()] for name in kind.model_fields if name.upper() in given}), wrong
    except ValidationError as error:
        return None, wrong + problems(error)


def load(kind: type[S]) -> S:
    """Reads one group of settings. Raises ConfigurationError that names every missing or malformed one, no values."""
    settings, wrong = read(kind)
    if settings is None or wrong:
        message = f"settings: {'; '.join(wrong)}. Set them in .env (see .env.example) and start again."
        raise ConfigurationError(message)
    return settings
