"""The only reader of environment variables. Names and defaults: README, .env.example.

In Kestra a task gets plain settings from the worker's environment under their own names, and each secret that it
needs by `env:` from `secret()`. Outside Kestra `.env` in the current directory is read as well.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from scripts.pipeline.errors import ConfigurationError


def _given(value: object) -> object:
    """`unset` and empty text mean: not given (Kestra's secret() fails on a missing one, so every name is defined)."""
    if isinstance(value, str) and value.strip() in {"", "unset"}:
        return None
    return value


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


T = TypeVar("T")
Optional = Annotated[T | None, BeforeValidator(_given)]
Utc = Annotated[datetime, AfterValidator(_utc)]
Prefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._=-]*(/[A-Za-z0-9._=-]+)*$")]

# An unquoted Snowflake identifier: these names become part of statements, where values cannot be bound.
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_$]*$")]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True)

    # A rehearsal's "now" (tests, scenarios). Unset: the machine's clock.
    pipeline_now: Optional[Utc] = None

    def now(self) -> datetime:
        return self.pipeline_now or datetime.now(UTC)


class AmplitudeSettings(Settings):
    """What the Export API client needs."""

    amp_api_key: SecretStr
    amp_secret_key: SecretStr
    amp_project_id: int = Field(gt=0)
    amp_region: Literal["eu", "us"] = "eu"
    amp_base_url: Optional[str] = None


class PlanSettings(Settings):
    """What decides which hours a run works on."""

    amp_project_id: int = Field(gt=0)
    amp_start_date: Optional[date] = None
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

    alert_webhook_url: Optional[SecretStr] = None
    heartbeat_url: Optional[SecretStr] = None


class KeySettings(Settings):
    """What the names of S3 objects are made of."""

    amp_project_id: int = Field(gt=0)
    aws_prefix: Prefix = "python-import"


class BucketSettings(KeySettings):
    """The S3 bucket; credentials may also come from boto3's own chain (profile, role, AWS_ACCESS_KEY_ID)."""

    aws_access_key: Optional[SecretStr] = None
    aws_access_secret_key: Optional[SecretStr] = None
    aws_bucket_name: str = Field(min_length=3)
    aws_region: Optional[str] = None
    aws_kms_key_id: Optional[str] = None
    aws_endpoint_url_s3: Optional[str] = None
    s3_addressing_style: Literal["auto", "path", "virtual"] = "auto"
    s3_checksums: Literal["when_supported", "when_required"] = "when_supported"


class SnowflakeSettings(Settings):
    """The warehouse connection: key pair only. Host, port and protocol are for a local Snowflake."""

    snowflake_account: str
    snowflake_user: str
    snowflake_warehouse: Identifier
    snowflake_database: Identifier
    snowflake_private_key_file: Path
    snowflake_private_key_file_pwd: Optional[SecretStr] = None
    snowflake_role: Optional[Identifier] = None
    snowflake_host: Optional[str] = None
    snowflake_port: Optional[int] = None
    snowflake_protocol: Optional[Literal["https", "http"]] = None
    raw_schema: Identifier = "RAW"
    # Set by each flow task to its execution; marks our statements in Snowflake's query history.
    query_tag: str = "amplitude-pipeline"


class DeploySettings(SnowflakeSettings):
    """What the DDL needs beyond the connection. The two AWS values are required by scope `account` only."""

    deploy_role: Identifier = "SYSADMIN"
    deploy_account_role: Identifier = "ACCOUNTADMIN"
    aws_bucket_name: str = Field(min_length=3)
    aws_prefix: Prefix = "python-import"
    aws_role_arn: Optional[str] = None
    aws_external_id: Optional[str] = None
    silver_tasks: bool = True


class DbtSettings(Settings):
    """Read by dbt itself, from the environment (dbt/profiles.yml, dbt_project.yml)."""

    dbt_target: Literal["local", "dev", "prod"] = "prod"
    reporting_timezone: str = "UTC"


S = TypeVar("S", bound=Settings)


def groups() -> list[type[Settings]]:
    """Every group of settings above."""
    return [each for each in globals().values() if isinstance(each, type) and issubclass(each, Settings)]


def known_settings() -> dict[str, bool]:
    """Every setting's name in upper case, and whether it is a secret."""
    fields = {name: field for group in groups() for name, field in group.model_fields.items()}
    return {name.upper(): "SecretStr" in str(field.annotation) for name, field in fields.items()}


def problems(error: ValidationError) -> list[str]:
    """What is wrong with which setting, without its value."""
    return [
        f"{str(found['loc'][0]).upper()} {'is missing' if found['type'] == 'missing' else found['msg'].lower()}"
        for found in error.errors(include_input=False, include_url=False, include_context=False)
    ]


def load(kind: type[S]) -> S:
    """Reads one group of settings. Raises ConfigurationError that names every missing or malformed one, no values."""
    try:
        return kind()
    except ValidationError as error:
        message = f"settings: {'; '.join(problems(error))}. Set them in .env (see .env.example) and start again."
        raise ConfigurationError(message) from None
