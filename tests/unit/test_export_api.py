"""The client's waits and words, over real HTTP."""

import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from scripts.pipeline.errors import ConfigurationError, PermanentError, RetriableError, TooLargeError
from scripts.pipeline.export_api import HOSTS, Answer, ExportClient, Patience
from scripts.pipeline.hours import Window
from scripts.pipeline.settings import AmplitudeSettings
from tests.exports import API_KEY, DAY, NOW, PROJECT, SECRET_KEY, a_day, bench

HOUR = Window(datetime(2026, 9, 24, 3, tzinfo=UTC), datetime(2026, 9, 24, 3, tzinfo=UTC))
WAITS = Patience(connect=2, read=2, whole=10, tries=4, backoff=4, longest_wait=30)


def settings(url, **more):
    return AmplitudeSettings(
        amp_api_key=API_KEY, amp_secret_key=SECRET_KEY, amp_project_id=PROJECT, amp_base_url=url, **more
    )


@pytest.fixture
def server(tmp_path, monkeypatch):
    with bench(a_day(), tmp_path, monkeypatch) as running:
        yield running


class Caller:
    """A client whose sleeps are written down instead of slept."""

    def __init__(self, url, target, patience=WAITS, **more):
        self.slept = []
        self.client = ExportClient(settings(url, **more), lambda size: None, patience, sleep=self.slept.append)
        self.target = target

    def ask(self, window=HOUR) -> Answer:
        return self.client.export(window, self.target, lambda answer: answer)


@pytest.fixture
def caller(server, tmp_path):
    return Caller(server.server.url, tmp_path / "download")


def test_the_facts_of_an_answer(caller):
    answer = caller.ask()
    assert (answer.status, answer.window_start, answer.window_end) == (200, f"{DAY}T03", f"{DAY}T03")
    assert answer.bytes == caller.target.stat().st_size
    assert answer.server_time == "2026-09-25T03:30:00.000Z"
    assert answer.headers["Content-Type"] == "application/zip"


def test_retry_after_in_seconds_is_honoured(server, caller):
    server.program({"do": "status", "status": 429, "retry_after": 17, "attempts": [1]})
    assert caller.ask().status == 200
    assert caller.slept == [17]


def test_retry_after_as_a_date_is_honoured_by_the_servers_clock(server, caller):
    server.program({"do": "status", "status": 503, "retry_after": 21, "retry_form": "date", "attempts": [1]})
    caller.ask()
    assert caller.slept == [21]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_capped(server, caller, form):
    server.program({"do": "status", "status": 503, "retry_after": 86_400, "retry_form": form, "attempts": [1]})
    caller.ask()
    assert caller.slept == [WAITS.longest_wait]


@pytest.mark.parametrize("after", ["0", "Mon, 01 Jan 2001 00:00:00 GMT", "Mon, 01 Jan 99999999999 00:00:00 GMT"])
def test_a_retry_after_that_is_no_time_to_wait_is_not_an_order_to_hammer(tmp_path, after):
    busy = f"HTTP/1.1 429 Slow\r\nRetry-After: {after}\r\nContent-Length: 0\r\n\r\n".encode()
    with answering(*[busy] * 4) as url:
        caller = Caller(url, tmp_path / "download")
        with pytest.raises(RetriableError, match="answered 429"):
            caller.ask()
    assert [2 <= caller.slept[0] <= 4, 4 <= caller.slept[1] <= 8, 8 <= caller.slept[2] <= 16] == [True] * 3


@pytest.mark.parametrize("date", ["Mon, 01 Jan 99999999999 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 -2300", "now"])
def test_a_date_that_is_none_is_no_fact(tmp_path, date):
    with answering(f"HTTP/1.1 404 None\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode()) as url:
        assert Caller(url, tmp_path / "download").ask().server_time == ""


@pytest.mark.parametrize("url", ["http://[::1", "http://host:99999"])
def test_an_address_that_is_none_is_a_wrong_setting(url):
    with pytest.raises(ConfigurationError, match="AMP_BASE_URL is not an address"):
        ExportClient(settings(url), print)


def test_waits_double_with_jitter_and_end(server, caller):
    server.program({"do": "status", "status": 503})
    with pytest.raises(
        RetriableError, match=r"2026-09-24T03: project 100011471 at 127\.0\.0\.1 answered 503\. Tried 4 times"
    ):
        caller.ask()
    assert [2 <= caller.slept[0] <= 4, 4 <= caller.slept[1] <= 8, 8 <= caller.slept[2] <= 16] == [True] * 3
    assert len(caller.slept) == 3
    assert caller.client.counts == {"requests": 4, "requests_repeated": 3}


def test_b05_a_single_hour_that_times_out_is_tried_again_and_then_names_the_way_out(server, caller):
    server.program({"do": "status", "status": 504})
    with pytest.raises(RetriableError, match=r"504.*Amplitude's own S3 export"):
        caller.ask()
    with pytest.raises(TooLargeError):
        caller.ask(Window(HOUR.start, HOUR.start.replace(hour=4)))


def test_an_undocumented_refusal_is_not_repeated(server, caller):
    server.program({"do": "status", "status": 410})
    with pytest.raises(PermanentError, match="answered 410"):
        caller.ask()
    assert caller.slept == []


def test_a_server_that_is_not_there_is_named_by_host(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    caller = Caller(f"http://someone:pass-word@127.0.0.1:{port}", tmp_path / "download")
    with pytest.raises(RetriableError, match=r"at 127\.0\.0\.1: the connection failed") as raised:
        caller.ask()
    assert "pass-word" not in str(raised.value)
    assert len(caller.slept) == 3


def test_a_server_that_says_nothing_meets_the_read_timeout(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        patience = Patience(connect=1, read=0.2, whole=10, tries=2, backoff=0.01)
        caller = Caller(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path / "download", patience)
        with pytest.raises(RetriableError, match="Timeout"):
            caller.ask()


@contextmanager
def answering(*answers: bytes):
    """A server that sends these bytes, one answer a connection, and hangs up."""

    def serve():
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:  # nobody asked as often
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_b11_a_declared_length_that_is_not_reached_is_a_cut(tmp_path):
    """Content-Length 10000 with 14 bytes."""
    patience = Patience(connect=1, read=2, whole=10, tries=2, backoff=0.01)
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nPK not enough."
    with answering(cut, cut) as url, pytest.raises(RetriableError, match="IncompleteRead"):
        Caller(url, tmp_path / "download", patience).ask()


def test_a_redirect_is_not_followed_with_the_keys(tmp_path):
    away = b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    with answering(away, page) as url, pytest.raises(ConfigurationError, match="AMP_REGION or AMP_BASE_URL"):
        Caller(url, tmp_path / "download").ask()


def test_a_slow_window_of_several_hours_is_split_and_a_slow_hour_is_not(server, tmp_path):
    clock = iter(range(0, 10**6, 100)).__next__
    patience = Patience(connect=2, read=2, whole=50, tries=1)
    client = ExportClient(settings(server.server.url), lambda size: None, patience, clock=clock)
    with pytest.raises(TooLargeError, match="after 50 s"):
        client.export(Window(HOUR.start, HOUR.start.replace(hour=4)), tmp_path / "d", lambda answer: answer)
    with pytest.raises(RetriableError, match="after 50 s"):
        client.export(HOUR, tmp_path / "d", lambda answer: answer)


def test_regions_are_the_documented_hosts():
    assert HOSTS == {"eu": "https://analytics.eu.amplitude.com", "us": "https://amplitude.com"}
    assert ExportClient(settings(None, amp_region="us"), print).base == "https://amplitude.com"
    assert ExportClient(settings(None), print).base == "https://analytics.eu.amplitude.com"
    assert ExportClient(settings("proxy.example.test/"), print).base == "https://proxy.example.test"


def test_keys_may_hold_any_character(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.exports.SECRET_KEY", "pä:ss$wörd")
    with bench(a_day(), tmp_path, monkeypatch) as server:
        odd = settings(server.server.url).model_copy(
            update={"amp_secret_key": type(settings("x").amp_secret_key)("pä:ss$wörd")}
        )
        client = ExportClient(odd, lambda size: None, WAITS)
        assert client.export(HOUR, tmp_path / "download", lambda answer: answer).status == 200


def test_the_servers_date_is_read_as_utc(caller):
    assert format_datetime(NOW, usegmt=True) == "Fri, 25 Sep 2026 03:30:00 GMT"
    assert caller.ask().headers["Date"] == "Fri, 25 Sep 2026 03:30:00 GMT"
