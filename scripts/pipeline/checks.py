"""What doctor asks of settings, Amplitude, bucket, clock and alerts. Nothing is written, nothing is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import requests
import urllib3
from pydantic import SecretStr

from scripts.pipeline import env_file, settings
from scripts.pipeline.errors import ConfigurationError, DamagedError, PipelineError, RetriableError, TooLargeError
from scripts.pipeline.export_api import ExportClient, Patience, http_date
from scripts.pipeline.hours import Window
from scripts.pipeline.keys import ledger_prefix, quarantine_prefix
from scripts.pipeline.object_store import ObjectStore
from scripts.pipeline.settings import AlertSettings, AmplitudeSettings, BucketSettings, PlanSettings, SnowflakeSettings
from scripts.pipeline.settings import load as read_settings
from scripts.pipeline.warehouse import key_fingerprint

ONCE = Patience(connect=10, read=120, tries=1)
DRIFT, TOO_FAR = timedelta(minutes=1), timedelta(minutes=15)  # S3 refuses requests that are more than 15 minutes off
DIGITS = 6  # of a secret's hash: enough to tell two values apart, too few to find one by
State = Literal["ok", "warning", "failed"]


class Finding(msgspec.Struct, frozen=True):
    """`check`: what was looked at; `todo`: where the remedy stands, or what it is."""

    check: str
    state: State
    what: str
    todo: str = ""


def of_settings() -> Iterator[Finding]:
    """All that are missing or malformed, at once."""
    wrong = [problem for group in settings.groups() for problem in settings.read(group)[1]]
    for problem in dict.fromkeys(wrong):
        yield Finding("settings", "failed", f"{problem}.", ".env.example")
    if not wrong:
        yield Finding("settings", "ok", "all that are needed are there, and well-formed.")


def of_secrets() -> Iterator[Finding]:
    given, _ = env_file.read()
    secret = [name for name, is_secret in settings.known_settings().items() if is_secret and name in given]
    shown = [f"{name} {hashlib.sha256(given[name].encode()).hexdigest()[:DIGITS]}" for name in secret]
    yield Finding("secrets", "ok", f"{', '.join(shown) or 'none is set'}.")
    yield Finding("Snowflake key", "ok", f"its public half is {key_fingerprint(read_settings(SnowflakeSettings))}.")


def of_amplitude() -> Iterator[Finding]:
    """One request, for an hour in which most sites have visitors; its answer is not read to its end."""
    amplitude = read_settings(AmplitudeSettings)
    now = read_settings(PlanSettings).now()
    noon = (now - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    hour = Window(noon, noon)
    try:
        project = _client(amplitude).project_of(hour)
    except TooLargeError:
        yield Finding("Amplitude", "ok", f"takes the keys; hour {hour} is too large to look into.")
        return
    except ConfigurationError as error:
        what = _other_region(amplitude, hour) or str(error)
        yield Finding("Amplitude", "failed", what, "docs/runbook.md, A run failed")
        return
    if project is None:
        what = f"takes the keys; no event in hour {hour}, so AMP_PROJECT_ID could not be compared."
        yield Finding("Amplitude", "ok", what)
    elif project != amplitude.amp_project_id:
        what = f"the keys are those of project {project}, AMP_PROJECT_ID is {amplitude.amp_project_id}."
        yield Finding("Amplitude", "failed", what, "docs/runbook.md, A run failed")
    else:
        yield Finding("Amplitude", "ok", f"takes the keys, and they open project {project}.")


def _client(amplitude: AmplitudeSettings) -> ExportClient:
    return ExportClient(amplitude, room=lambda _size: None, patience=ONCE)


def _other_region(amplitude: AmplitudeSettings, hour: Window) -> str:
    """Words for keys that the other region takes; "" when it does not. A host of one's own has no other region."""
    if amplitude.amp_base_url:
        return ""
    other: Literal["eu", "us"] = "us" if amplitude.amp_region == "eu" else "eu"
    try:
        _client(amplitude.model_copy(update={"amp_region": other})).project_of(hour)
    except (ConfigurationError, RetriableError, DamagedError):
        return ""
    except PipelineError:
        pass  # an answer about the hour, not about the keys
    return f"the keys are refused by region {amplitude.amp_region} and taken by {other}: set AMP_REGION={other}."


def of_bucket() -> Iterator[Finding]:
    """The rights of docs/aws/uploader-policy.json at each of the three prefixes. Nothing is written."""
    bucket = read_settings(BucketSettings)
    store = ObjectStore(bucket, ONCE.tries)
    rights, read = 0, 0
    for prefix in (bucket.aws_prefix, ledger_prefix(bucket.aws_prefix), quarantine_prefix(bucket.aws_prefix)):
        folder = f"{prefix}/project={bucket.amp_project_id}/"
        key = ""
        for look in (
            lambda: next((key for key, _ in store.keys(folder)), ""),  # noqa: B023 (called at once)
            lambda: store.check_write(f"{folder}doctor"),  # noqa: B023
            lambda: _first_byte(store, key),  # noqa: B023
        ):
            try:
                key = look() or key
                rights += 1
            except PipelineError as error:
                yield Finding("bucket", "failed", str(error), "docs/aws/README.md, step 2")
                if "access denied" not in str(error):  # no bucket, no key, no network: the same eight times more
                    return
        read += bool(key)
    if rights == 9:
        note = "" if read else " (nothing is there to read yet)"
        kms = " The KMS key is first used by the first upload." if bucket.aws_kms_key_id and not read else ""
        yield Finding("bucket", "ok", f"s3://{store.bucket}: lists, writes and reads at the three prefixes{note}.{kms}")


def _first_byte(store: ObjectStore, key: str) -> str:
    if key:
        with store.reading(key) as body:
            body.read(1)
    return key


def of_clock() -> Iterator[Finding]:
    """This machine's clock against the Date of the servers that refuse one that is off."""
    plan = read_settings(PlanSettings)
    if plan.pipeline_now:
        yield Finding("clock", "ok", "PIPELINE_NOW is set: a rehearsal's time.")
        return
    hosts = {"Amplitude": _client(read_settings(AmplitudeSettings)).base}
    hosts["S3"] = ObjectStore(read_settings(BucketSettings)).endpoint
    for name, url in hosts.items():
        try:
            answer = requests.head(url, timeout=10, allow_redirects=False)
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:  # the latter: a malformed host
            yield Finding("clock", "warning", f"{name} was not reached to compare ({type(error).__name__}).")
            continue
        theirs = http_date(answer.headers.get("Date"))
        off = abs(datetime.now(UTC) - theirs) if theirs else timedelta()
        state: State = "failed" if off > TOO_FAR else "warning" if off > DRIFT else "ok"
        what = f"{off.total_seconds():.0f} s off {name}'s." if theirs else f"{name} does not tell the time."
        yield Finding("clock", state, what, "" if state == "ok" else "set this machine's clock (NTP)")


def of_alerts() -> Iterator[Finding]:
    """Whether somebody would hear; nothing is sent."""
    alerts = read_settings(AlertSettings)
    for name, value, without in (
        ("ALERT_WEBHOOK_URL", alerts.alert_webhook_url, "alerts are lines in the runs of `notify` only."),
        ("HEARTBEAT_URL", alerts.heartbeat_url, "nobody notices when the server itself is down."),
    ):
        yield _alert(name, value, without)


def _alert(name: str, value: SecretStr | None, without: str) -> Finding:
    if value:
        return Finding("alerts", "ok", f"{name} is set (nothing was sent).")
    return Finding("alerts", "warning", f"{name} is not set: {without}", "docs/runbook.md, An alert came")
