"""The HTTP side of the stand-in: `GET /api/2/export` and the control endpoints beside it.

What the export endpoint answers follows Amplitude's documentation and what its users reported:
200 a ZIP, 400 malformed parameters or a window too large (no body), 401 no credentials, 403 a wrong pair (JSON body),
404 no data (no body). A window names whole UTC hours of `server_upload_time`, both ends inclusive, at most 365 days.
An hour can be exported two hours after its end; before that it has no data.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

from local.amplitude import faults, hours
from local.amplitude.faults import Fault
from local.amplitude.project import Due, Project, window
from local.amplitude.store import Source

CHUNK = 256 * 1024
WRONG_PAIR = {
    "error": {
        "http_code": 403,
        "type": "unspecified",
        "message": "Unspecified Error",
        "metadata": {"details": "Invalid API/Secret Key combination"},
    }
}
Query = dict[str, list[str]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each small answer waits 40 ms
    server: Server
    entry: dict[str, Any]  # of the request log

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        """Requests are in the request log."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The Date header, by the project's clock."""
        now = self.server.project.now() if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
        return format_datetime(now, usegmt=True)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        project = self.server.project
        if address.path == "/api/2/export":
            self._export(query)
        else:
            self._control(
                {
                    "/_truth": lambda: {
                        "hours": {hours.name(hour): project.store.truth(hour) for hour in window(query)}
                    },
                    "/_requests": lambda: {"requests": project.requests()},
                    "/_faults": lambda: {"faults": project.programme.described()},
                }.get(address.path)
            )

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        project = self.server.project
        self._control(
            {
                "/_faults": lambda: project.programme.add(content),
                "/_late": lambda: _add_late(project, json.loads(content)),
                "/_clock": lambda: project.set_clock(clock(json.loads(content)["now"])),
            }.get(self.path)
        )

    def do_DELETE(self) -> None:
        project = self.server.project
        self._control({"/_requests": project.forget_requests, "/_faults": project.programme.clear}.get(self.path))

    def _control(self, action: Callable[[], object] | None) -> None:
        self.entry = {}
        if action is None:
            self._answer(HTTPStatus.NOT_FOUND)
            return
        try:
            answer = action()
        except (ValueError, KeyError, TypeError) as error:
            self._json(HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"})
        else:
            self._json(HTTPStatus.OK, answer or {})

    def _export(self, query: Query) -> None:
        """Answers an export request and logs it, also when the client went away."""
        project, began = self.server.project, time.monotonic()
        asked = {key: query.get(key, [""])[0] for key in ("start", "end")}
        self.entry = {"at": project.now().isoformat(), **asked, "status": 0, "bytes": 0, "faults": []}
        with project.under_way() as count:
            try:
                self._exported(query, count)
            except (BrokenPipeError, ConnectionResetError):
                self.entry["gone"] = True
                self.close_connection = True
            finally:
                project.log(self.entry | {"seconds": round(time.monotonic() - began, 3)})

    def _exported(self, query: Query, under_way: int) -> None:
        project = self.server.project
        refusal = project.refusal(self.headers.get("Authorization"))
        if refusal is HTTPStatus.FORBIDDEN:
            return self._json(refusal, WRONG_PAIR)
        if refusal:
            return self._answer(refusal)
        try:
            asked = window(query)
        except ValueError:
            return self._answer(HTTPStatus.BAD_REQUEST)
        due = project.programme.due(asked)
        self.entry["faults"] = [fault.do for fault, _ in due]
        if self._answer_fault(due, under_way):
            return None
        with tempfile.TemporaryFile() as body:
            served = project.archive(asked, due, body)
            size = body.tell()
            limits = [fault.bytes for fault, _ in due if fault.do == "too_large"]
            if served and limits and size > min(limits):
                return self._answer(HTTPStatus.BAD_REQUEST)
            self.entry["lines"] = served
            project.exported(asked)  # before the last byte: whoever has it may ask again at once
            if not served:
                self._answer(HTTPStatus.NOT_FOUND)
            elif not self._body_fault(due, body, size):
                self._stream(body, size, "chunked")  # nobody documents a Content-Length
        return None

    def _answer_fault(self, due: Due, under_way: int) -> bool:
        """Answers, or waits, as an answer fault wants; True when the request is answered."""
        for fault, _ in faults.of(faults.Answer, due):
            if fault.do == "delay":
                time.sleep(fault.seconds)
            elif fault.do == "rate_limit" and under_way > fault.concurrent:
                self._answer(HTTPStatus.TOO_MANY_REQUESTS, headers=self._retry_after(fault))
                return True
            elif fault.do == "status":
                body = {"": b"", "json": _error_body(fault.status, fault.text), "html": _html(fault.text)}[fault.body]
                self._answer(fault.status, body, _kind(fault.body), self._retry_after(fault))
                return True
        return False

    def _body_fault(self, due: Due, body: IO[bytes], size: int) -> bool:
        """Sends the archive as the first body fault wants; False when there is none."""
        for fault, _ in faults.of(faults.Body, due):
            part = int(size * fault.share)
            match fault.do:
                case "empty":
                    self._answer(HTTPStatus.OK, kind="application/zip")
                case "html":
                    self._answer(HTTPStatus.OK, _html(fault.text), "text/html")
                case "error_body":
                    self._answer(HTTPStatus.OK, _error_body(403, fault.text), "application/zip")
                case "truncate":
                    self._stream(body, part, "chunked")
                case "content_length":
                    self._stream(body, size, "header")
                case "drip":
                    self._stream(body, size, "chunked", pause=1 / fault.bytes_per_second)
                case "cut":
                    self._stream(body, part, fault.length, declared=size)
            return True
        return False

    def _stream(self, body: IO[bytes], size: int, length: str, declared: int | None = None, pause: float = 0) -> None:
        """Sends the first `size` bytes. `declared`: of a longer body that is then cut. `pause`: seconds per byte."""
        body.seek(0)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/zip")
        if length == "header":
            self.send_header("Content-Length", str(declared or size))
        elif length == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        if length == "none" or declared:
            self.send_header("Connection", "close")
        self.end_headers()
        self.entry["status"] = HTTPStatus.OK
        step = max(1, round(0.05 / pause)) if pause else CHUNK
        while chunk := body.read(min(step, size - self.entry["bytes"])):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if length == "chunked" else chunk)
            self.entry["bytes"] += len(chunk)
            time.sleep(pause * len(chunk))
        if length == "chunked" and not declared:
            self.wfile.write(b"0\r\n\r\n")

    def _retry_after(self, fault: Fault) -> dict[str, str]:
        if fault.retry_after is None:
            return {}
        if fault.retry_form == "seconds":
            return {"Retry-After": str(fault.retry_after)}
        until = self.server.project.now() + timedelta(seconds=fault.retry_after)
        return {"Retry-After": format_datetime(until, usegmt=True)}

    def _json(self, status: int, content: object) -> None:
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _answer(
        self, status: int, body: bytes = b"", kind: str = "text/plain", headers: dict[str, str] | None = None
    ) -> None:
        self.entry |= {"status": int(status), "bytes": len(body)}
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in ({"Content-Type": kind} if body else {}).items() | (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Serves one project; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, project: Project, port: int = 0, host: str = "127.0.0.1") -> None:
        self.project = project
        super().__init__((host, port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running(
    source: Source, state: Path, pair: tuple[str, str] = ("key", "secret"), now: datetime | None = None
) -> Iterator[Server]:
    """The stand-in inside this process, for tests; `project` of what it yields is the control side."""
    server = Server(Project(source, state, pair, now))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _add_late(project: Project, order: dict[str, Any]) -> None:
    project.store.add_late(hours.named(order["hour"]), int(order["events"]))


def clock(text: str | None) -> datetime | None:
    if text is None:
        return None
    now = datetime.fromisoformat(text)
    return now.replace(tzinfo=UTC) if now.tzinfo is None else now.astimezone(UTC)


def _error_body(status: int, text: str) -> bytes:
    """As Amplitude words a refusal; `text`, if any, stands in for its details."""
    details = {"details": text} if text else WRONG_PAIR["error"]["metadata"]
    return json.dumps({"error": WRONG_PAIR["error"] | {"http_code": status, "metadata": details}}).encode()


def _html(text: str) -> bytes:
    return f"<!DOCTYPE html><html><title>Log in</title><body>{text}</body></html>".encode()


def _kind(body: str) -> str:
    return {"json": "application/json", "html": "text/html"}.get(body, "text/plain")
