"""Sends one alert to the team's chat, or writes it to the log when there is no webhook; and the dead man's switch.

An alert has a key. The same key is not sent again for 24 hours; `resolved` closes it and those that begin with it and a
space (of several keys, parted by `;`, each). What is open stands in Kestra's KV store, written there by the flow:
`alerts`, a JSON object of key and the time when it was last said.

    python -m scripts.notify --key test --text "Is anybody there?" --severity warning
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import requests
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from scripts.pipeline.entry import as_command, log
from scripts.pipeline.errors import ConfigurationError, PipelineError, RetriableError
from scripts.pipeline.settings import AlertSettings, load

REPEAT = timedelta(hours=24)
# So many alerts in that time say enough: a backfill of a year by a refused key would send 365.
MAX_SENT = 50
MORE = "more"
# What nothing closes is forgotten: `alerts` must stay small.
KEPT = timedelta(days=30)
MAX_OPEN = 100
NEVER = datetime.min.replace(tzinfo=UTC)
SEVERITIES = ("error", "warning", "resolved")
TIMEOUT = (10, 30)  # seconds to connect, to read
BACKOFF = 1  # seconds; doubles with each try
logging.getLogger("urllib3").setLevel(logging.ERROR)  # of each try it would log the address's path, which is the key


def run(*, key: str, text: str, severity: str, alerts: str) -> dict[str, int | str]:
    """Sends `text` unless `key` was sent in the last 24 hours, or nothing of it is open when it is `resolved`.

    `alerts`: what is open, as the last call returned it. Returns `sent` (0 or 1) and `alerts`.
    Raises ConfigurationError or RetriableError when the webhook does not take it; then nothing counts as sent.
    """
    settings = load(AlertSettings)
    now = settings.now()
    opened = still_open(alerts, now)
    sent = [each for each, time in opened.items() if each != MORE and abs(now - time) < REPEAT]
    if severity != "resolved" and key not in sent and len(sent) >= MAX_SENT:
        log.warning("not sent by itself, %d alerts were sent in %s: %s", len(sent), REPEAT, text)
        key, text = MORE, f"{MAX_SENT} alerts in a day; further ones stand in the runs of notify only."
    closing = [each for each in opened if is_of(each, key)] if severity == "resolved" else []
    send = (
        bool(closing) if severity == "resolved" else abs(now - opened.get(key, NEVER)) >= REPEAT
    )  # a clock may have been ahead
    if send:
        # A day is not named by a range that begins with it.
        others = [each for each in closing if each not in text or f"{each}.." in text]
        message = f"[{severity}] {text}" + (f" Over with it: {', '.join(others)}." if others else "")
        if settings.alert_webhook_url:
            post(settings.alert_webhook_url, {"text": message})
            log.info("sent: %s", message)
        else:
            log.warning("ALERT_WEBHOOK_URL is not set, so this is all that is said: %s", message)
    else:
        log.info("not sent, %s: %s", "no such alert is open" if severity == "resolved" else "said already", key)
    for each in closing:
        del opened[each]
    if send and not closing:
        opened[key] = now
    return {"sent": int(send), "alerts": msgspec.json.encode(opened).decode()}


def is_of(alert: str, keys: str) -> bool:
    """Whether it is one of these keys, or begins with one and a space."""
    parted = filter(None, map(str.strip, keys.split(";")))
    return any(alert == key or alert.startswith(f"{key} ") for key in parted)


def still_open(alerts: str, now: datetime) -> dict[str, datetime]:
    """Key and time of each alert that is open. What cannot be read is no reason to keep an alert back."""
    try:
        opened = msgspec.json.decode(alerts or "{}", type=dict[str, datetime])
    except msgspec.MsgspecError:
        log.warning("The KV value `alerts` is not readable and is made anew: an alert may be repeated.")
        return {}
    recent = {key: time.astimezone(UTC) for key, time in opened.items() if abs(now - time.astimezone(UTC)) < KEPT}
    if MORE in recent and now - recent[MORE] >= REPEAT:
        del recent[MORE]  # nothing closes it
    return dict(sorted(recent.items(), key=lambda item: item[1])[-MAX_OPEN:])


def heartbeat() -> dict[str, int]:
    """Pings HEARTBEAT_URL, if it is set: whoever watches it speaks up when no ping comes. Returns `pinged` (0 or 1)."""
    url = load(AlertSettings).heartbeat_url
    if url:
        post(url, None)
    log.info("heartbeat: %s", "pinged" if url else "HEARTBEAT_URL is not set")
    return {"pinged": int(url is not None)}


def post(url: SecretStr, body: Mapping[str, Any] | None) -> None:
    """POSTs JSON, three tries more while the other side is not able. Errors never show the address, it is a key."""
    retry = Retry(
        3,
        backoff_factor=BACKOFF,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        redirect=0,
        respect_retry_after_header=False,  # an hour of it would outlast the task, and the alert would be lost
    )
    with requests.Session() as session:
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        try:
            answer = session.post(url.get_secret_value(), json=body, timeout=TIMEOUT, allow_redirects=False)
        except requests.RequestException as error:
            raise _unreached(error) from None
    if not answer.ok or answer.is_redirect:
        message = f"the webhook answered {answer.status_code}: check ALERT_WEBHOOK_URL and HEARTBEAT_URL in .env."
        raise ConfigurationError(message)


def _unreached(error: requests.RequestException) -> PipelineError:
    if isinstance(error, ValueError):  # requests: no scheme, another scheme, no host
        return ConfigurationError("ALERT_WEBHOOK_URL or HEARTBEAT_URL is not an address: correct it in .env.")
    return RetriableError(f"the webhook was not reached ({type(error).__name__}). Replay this run to send it again.")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.notify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--key", required=True, help="what the alert is about; one alert a day for each")
    parser.add_argument("--text", required=True, help="what is said")
    parser.add_argument("--severity", choices=SEVERITIES, default="error", help="%(default)s")
    return as_command(run, **vars(parser.parse_args(argv)), alerts="")


if __name__ == "__main__":
    raise SystemExit(main())
