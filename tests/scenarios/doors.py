"""What a server says to somebody whom it does not let in, in front of a stand-in that lets everybody in."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
)
# Snowflake, "Key-pair authentication: troubleshooting": code 390144 when the key is not the user's.
BAD_KEY = json.dumps({"success": False, "code": "390144", "message": "JWT token is invalid.", "data": {}}).encode()


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behind = ""

    def do_GET(self) -> None:
        self.forward(b"")

    def do_HEAD(self) -> None:
        self.forward(b"")

    def forward(self, body: bytes) -> None:
        """On to what is behind."""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {"connection", "expect"}}
        got = requests.request(self.command, f"{self.behind}{self.path}", headers=headers, data=body, timeout=60)
        self.send_response(got.status_code)
        for name, value in got.headers.items():
            if name.lower() not in {"connection", "transfer-encoding", "content-encoding", "content-length"}:
                self.send_header(name, value)
        size = got.headers["Content-Length"] if self.command == "HEAD" else str(len(got.content))
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(got.content)

    def refuse(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # what was sent is not read
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


class _NoParts(_Door):
    """S3 for a user whose policy no longer has s3:PutObject for the parts."""

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "/python-import/" in self.path:
            self.refuse(403, "application/xml", DENIED)
        else:
            self.forward(body)


class _NoLogin(_Door):
    """Snowflake for a user whose public key was replaced."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.refuse(200, "application/json", BAD_KEY)


@contextmanager
def _served(handler: type[_Door]) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def s3_without_parts(endpoint: str) -> Iterator[dict[str, str]]:
    """Settings of a pipeline that may write to this S3, but no parts."""
    with _served(type("Door", (_NoParts,), {"behind": endpoint})) as port:
        yield {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}


@contextmanager
def snowflake_without_login() -> Iterator[dict[str, str]]:
    """Settings of a pipeline whose key Snowflake does not take."""
    with _served(_NoLogin) as port:
        yield {"SNOWFLAKE_PORT": str(port)}
