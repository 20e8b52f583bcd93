"""The HTTP side of the stand-in: `GET /api/2/export` and the control endpoints beside it.

What the export endpoint answers follows Amplitude's documentation and what its users reported:
200 a ZIP, 400 malformed parameters or a window too large (no body), 401 no credentials, 403 a wrong pair (JSON body),
404 no data (no body). A window names whole UTC hours of `server_upload_time`, both ends inclusive, at most 365 days.
An hour can be exported two hours after its end; before that it has no data.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, urlsplit

from local.amplitude import hours
from local.amplitude.store import Source, Store

LONGEST = 365 * 24  # hours of one request
LATENCY = 2 * hours.HOUR  # "within 2 hours" after the end of the hour
CHUNK = 256 * 1024
WRONG_PAIR = {
    "error": {
        "http_code": 403,
        "type": "unspecified",
        "message": "Unspecified Error",
        "metadata": {"details": "Invalid API/Secret Key combination"},
    }
}


@dataclass
class Project:
    """One Amplitude project: its keys, events and request log. `frozen_now`: a rehearsal's clock."""

    api_key: str
    secret_key: str
    store: Store
    log_file: Path
    frozen_now: datetime | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> datetime:
        return self.frozen_now or datetime.now(UTC)

    def refusal(self, authorization: str | None) -> HTTPStatus | None:
        """401 without credentials, 403 for a wrong pair, None for the right one."""
        scheme, _, encoded = (authorization or "").partition(" ")
        try:
            pair = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return HTTPStatus.UNAUTHORIZED
        if scheme.lower() != "basic" or b":" not in pair:
            return HTTPStatus.UNAUTHORIZED
        right = f"{self.api_key}:{self.secret_key}".encode()
        return None if hmac.compare_digest(pair, right) else HTTPStatus.FORBIDDEN

    def window(self, query: dict[str, list[str]]) -> list[datetime]:
        """The hours a request asks for. Raises ValueError when the parameters are not a window."""
        start, end = (hours.asked(query.get(key, [""])[0]) for key in ("start", "end"))
        window = hours.between(start, end)
        if not 0 < len(window) <= LONGEST:
            raise ValueError("reversed, or longer than 365 days")
        return window

    def archive(self, window: list[datetime], target: IO[bytes]) -> int:
        """Writes the ZIP of the settled hours of a window; returns the number of members (0: no data)."""
        project, count = self.store.source.project, 0
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for hour in window:
                if hour + hours.HOUR + LATENCY > self.now():
                    break
                for number, member in enumerate(self.store.members(hour)):
                    name = f"{project}/{project}_{hour:%Y-%m-%d}_{hour.hour}#{number}.json.gz"
                    archive.writestr(zipfile.ZipInfo(name, hour.timetuple()[:6]), member)
                    count += 1
        return count

    def log(self, entry: dict[str, Any]) -> None:
        with self.lock, self.log_file.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def requests(self) -> list[dict[str, Any]]:
        with self.lock:
            return (
                [json.loads(line) for line in self.log_file.read_text().splitlines()] if self.log_file.exists() else []
            )

    def forget_requests(self) -> None:
        with self.lock:
            self.log_file.unlink(missing_ok=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        """Requests are in the request log."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return (
            format_datetime(self.server.project.now(), usegmt=True)
            if timestamp is None
            else super().date_time_string(timestamp)
        )

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        if address.path == "/api/2/export":
            self._export(query)
        elif address.path == "/_truth":
            self._control(lambda: self._truth(query))
        elif address.path == "/_requests":
            self._control(lambda: {"requests": self.server.project.requests()})
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def do_DELETE(self) -> None:
        if self.path == "/_requests":
            self._control(self.server.project.forget_requests)
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def _export(self, query: dict[str, list[str]]) -> None:
        project, began = self.server.project, time.monotonic()
        entry: dict[str, Any] = {
            "at": project.now().isoformat(),
            **{key: query.get(key, [""])[0] for key in ("start", "end")},
        }
        entry["status"], entry["bytes"] = self._exported(project, query)
        project.log(entry | {"seconds": round(time.monotonic() - began, 3)})

    def _exported(self, project: Project, query: dict[str, list[str]]) -> tuple[int, int]:
        """Answers an export request; returns status and size of the body."""
        refusal = project.refusal(self.headers.get("Authorization"))
        if refusal is HTTPStatus.FORBIDDEN:
            return self._answer(refusal, json.dumps(WRONG_PAIR).encode(), "application/json")
        if refusal:
            return self._answer(refusal)
        try:
            window = project.window(query)
        except ValueError:
            return self._answer(HTTPStatus.BAD_REQUEST)
        with tempfile.TemporaryFile() as body:
            if not project.archive(window, body):
                return self._answer(HTTPStatus.NOT_FOUND)
            size = body.tell()
            body.seek(0)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/zip")
            self.send_header("Transfer-Encoding", "chunked")  # nobody documents a Content-Length
            self.end_headers()
            while chunk := body.read(CHUNK):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")
        return HTTPStatus.OK, size

    def _truth(self, query: dict[str, list[str]]) -> dict[str, Any]:
        window = self.server.project.window(query)
        return {"hours": {hours.name(hour): self.server.project.store.truth(hour) for hour in window}}

    def _control(self, action: Callable[[], dict[str, Any] | None]) -> None:
        try:
            answer = action() or {}
        except ValueError as error:
            self._answer(HTTPStatus.BAD_REQUEST, json.dumps({"error": str(error)}).encode(), "application/json")
        else:
            self._answer(HTTPStatus.OK, json.dumps(answer).encode(), "application/json")

    def _answer(self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain") -> tuple[int, int]:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if body:
            self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)
        return status, len(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, project: Project) -> None:
        self.project = project
        super().__init__(("127.0.0.1", port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running(
    source: Source, state: Path, api_key: str = "key", secret_key: str = "secret", port: int = 0
) -> Iterator[Server]:
    """The stand-in in this process, for tests."""
    state.mkdir(parents=True, exist_ok=True)
    server = Server(port, Project(api_key, secret_key, Store(source, state), state / "requests.jsonl"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
