"""Alerts to a real receiver on this machine: said once, closed once, its address in no text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scripts import notify
from scripts.pipeline import entry
from scripts.pipeline.errors import ConfigurationError, PipelineError, RetriableError
from tests.receiver import TOKEN, Receiver

NOW = datetime(2026, 11, 24, 4, tzinfo=UTC)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()
    monkeypatch.setenv("ALERT_WEBHOOK_URL", receiver.url)
    monkeypatch.setenv("PIPELINE_NOW", NOW.isoformat())
    yield receiver
    receiver.close()


def say(
    alerts: object = "", *, key: str = "amplitude_daily 2026-11-23", text: str = "it failed", severity: str = "error"
) -> dict[str, Any]:
    return notify.run(key=key, text=text, severity=severity, alerts=str(alerts))


def test_an_alert_is_one_text_as_chats_take_it(receiver: Receiver) -> None:
    assert say()["sent"] == 1
    assert receiver.bodies == [{"text": "[error] it failed"}]


def test_a_repeat_within_24_hours_is_dropped_and_another_key_is_not(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = say()
    assert say(first["alerts"])["sent"] == 0
    assert say(first["alerts"], key="pipeline_health")["sent"] == 1
    monkeypatch.setenv("PIPELINE_NOW", (NOW + timedelta(hours=23, minutes=59)).isoformat())
    assert say(first["alerts"])["sent"] == 0
    monkeypatch.setenv("PIPELINE_NOW", (NOW + timedelta(hours=24)).isoformat())
    assert say(first["alerts"])["sent"] == 1
    assert len(receiver.bodies) == 3


def test_resolved_closes_what_is_open_and_says_nothing_of_what_is_not(receiver: Receiver) -> None:
    opened = say()["alerts"]
    closed = say(opened, severity="resolved")
    assert (closed["sent"], closed["alerts"]) == (1, "{}")
    assert say(closed["alerts"], severity="resolved")["sent"] == 0
    assert say(closed["alerts"])["sent"] == 1  # and the next one is news again
    assert [body["text"].split("]")[0] for body in receiver.bodies] == ["[error", "[resolved", "[error"]


def test_resolved_closes_every_alert_of_its_kind(receiver: Receiver) -> None:
    opened = say(key="pipeline_health pipe")["alerts"]
    opened = say(opened, key="pipeline_health pipe tasks")["alerts"]
    opened = say(opened, key="pipeline_healthy")["alerts"]
    closed = say(opened, key="pipeline_health", severity="resolved")
    assert list(json.loads(closed["alerts"])) == ["pipeline_healthy"]
    assert len(receiver.bodies) == 4


def test_resolved_comes_also_when_the_cure_took_days(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = say()["alerts"]
    monkeypatch.setenv("PIPELINE_NOW", (NOW + timedelta(days=3)).isoformat())
    assert say(opened, severity="resolved")["sent"] == 1
    monkeypatch.setenv("PIPELINE_NOW", (NOW + timedelta(days=30)).isoformat())
    assert say(opened, key="other")["alerts"] == json.dumps({"other": "2026-12-24T04:00:00Z"}, separators=(",", ":"))


def test_one_message_closes_several_keys_and_names_them(receiver: Receiver) -> None:
    opened = say(say(key="amplitude_daily 2026-11-22")["alerts"], key="amplitude_daily 2026-11-21")["alerts"]
    keys = "amplitude_daily 2026-11-23; amplitude_daily 2026-11-22; "
    closed = say(opened, key=keys, severity="resolved")
    assert list(json.loads(closed["alerts"])) == ["amplitude_daily 2026-11-21"]
    assert receiver.bodies[-1] == {"text": "[resolved] it failed Over with it: amplitude_daily 2026-11-22."}


def test_a_range_that_is_complete_names_its_first_days_alert_too(receiver: Receiver) -> None:
    opened = say(say(key="amplitude_daily 2026-11-22")["alerts"], key="amplitude_daily 2026-11-23")["alerts"]
    keys = "amplitude_daily 2026-11-22..2026-11-23; amplitude_daily 2026-11-22; amplitude_daily 2026-11-23"
    text = "amplitude_daily 2026-11-22..2026-11-23 is complete."
    say(opened, key=keys, text=text, severity="resolved")
    over = "Over with it: amplitude_daily 2026-11-22, amplitude_daily 2026-11-23."
    assert receiver.bodies[-1] == {"text": f"[resolved] {text} {over}"}


@pytest.mark.parametrize("alerts", ["{", "[]", '{"a": "yesterday"}', "null"])
def test_an_unreadable_memory_keeps_no_alert_back(receiver: Receiver, alerts: str) -> None:
    assert say(alerts)["sent"] == 1


@pytest.mark.parametrize("ahead", [timedelta(days=2), timedelta(days=400)])
def test_an_alert_said_while_the_clock_was_ahead_is_not_kept_back_until_then(
    receiver: Receiver, ahead: timedelta
) -> None:
    key = "amplitude_daily 2026-11-23"
    again = say(json.dumps({key: (NOW + ahead).isoformat()}))
    assert (again["sent"], list(json.loads(again["alerts"]))) == (1, [key])
    assert say(again["alerts"])["sent"] == 0


def test_without_a_webhook_the_alert_stands_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALERT_WEBHOOK_URL", "unset")
    with caplog.at_level("WARNING", "pipeline"):
        assert say()["sent"] == 1
    assert "it failed" in caplog.text


def test_a_receiver_that_is_busy_is_asked_again(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.statuses = [503, 429]
    assert say()["sent"] == 1


@pytest.mark.parametrize("status", [301, 302, 403, 404, 410])
def test_an_alert_that_was_not_taken_is_an_error_without_the_address(receiver: Receiver, status: int) -> None:
    receiver.statuses = [status]
    with pytest.raises(ConfigurationError, match=f"{status}.*ALERT_WEBHOOK_URL") as caught:
        say()
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "kind"),
    [("http://127.0.0.1:1/{}", RetriableError), ("{}", ConfigurationError), ("ftp://example.test/{}", PipelineError)],
)
def test_a_receiver_that_is_not_there_is_an_error_without_the_address(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, url: str, kind: type[PipelineError]
) -> None:
    monkeypatch.setattr(notify, "BACKOFF", 0)
    monkeypatch.setenv("ALERT_WEBHOOK_URL", url.format(TOKEN))
    with pytest.raises(kind) as caught:
        say()
    assert TOKEN not in str(caught.value) + caplog.text  # urllib3 logs each try of its own, with the path
    assert caught.value.__suppress_context__ or caught.value.__context__ is None  # else a traceback would show it


def test_the_heartbeat_is_a_ping_where_one_is_wanted(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    assert notify.heartbeat() == {"pinged": 0}
    monkeypatch.setenv("HEARTBEAT_URL", receiver.url)
    assert notify.heartbeat() == {"pinged": 1}
    assert receiver.bodies == [None]


def test_a_task_tries_again_what_may_work_later_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "RETRY_SECONDS", 0)
    calls: list[str] = []

    def failing(error: type[PipelineError], good_at: int) -> dict[str, int]:
        calls.append(error.__name__)
        if len(calls) < good_at:
            raise error("no")
        return {"tries": len(calls)}

    assert entry.tried(failing, 3, {"error": RetriableError, "good_at": 3}) == {"tries": 3}
    calls.clear()
    with pytest.raises(RetriableError):
        entry.tried(failing, 3, {"error": RetriableError, "good_at": 9})
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(ConfigurationError):
        entry.tried(failing, 3, {"error": ConfigurationError, "good_at": 3})
    assert len(calls) == 1


def test_a_year_of_failed_days_is_no_storm_and_what_is_kept_stays_small(receiver: Receiver) -> None:
    alerts: object = ""
    for number in range(365):
        day = (NOW - timedelta(days=number)).date()
        alerts = say(alerts, key=f"amplitude_daily {day}..{day}")["alerts"]
        assert len(str(alerts)) < 8_000  # an output of a task
    assert len(receiver.bodies) == 51
    assert receiver.bodies[-1] == {"text": "[error] 50 alerts in a day; further ones stand in the runs of notify only."}
    again = say(alerts, key=f"amplitude_daily {NOW.date()}..{NOW.date()}", severity="resolved")
    assert again["sent"] == 1  # which makes room for one
    assert say(again["alerts"], key="pipeline_health")["sent"] == 1


def test_open_alerts_of_earlier_days_keep_todays_not_back(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    alerts: object = ""
    for day in range(5):
        monkeypatch.setenv("PIPELINE_NOW", (NOW + timedelta(days=day)).isoformat())
        for number in range(60):
            alerts = say(alerts, key=f"amplitude_daily {day}-{number:02}")["alerts"]
        assert len(str(alerts)) < 8_000
    assert len(receiver.bodies) == 5 * 51
    assert say(alerts, key="amplitude_daily 4-00", severity="resolved")["sent"] == 1
    assert say(alerts, key="amplitude_daily 0-00", severity="resolved")["sent"] == 0  # forgotten for newer ones
