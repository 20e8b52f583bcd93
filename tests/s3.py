"""A real S3 server (moto over HTTP on 127.0.0.1) whose answers a test can disturb, and exports to upload to it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

from local.s3 import with_digests
from scripts.pipeline import keys
from scripts.pipeline.hours import parse_hour
from scripts.pipeline.records import Manifest, ManifestLine, Part, write_lines

PROJECT = 100011471
BUCKET = "events-test"
PREFIX = "python-import"


class _Quiet(WSGIRequestHandler):
    def log_request(self, code="-", size="-"):
        """No line a request."""


class S3:
    """`requests` holds `METHOD key` of each request; `fault(environ)` may answer `(status, code)` instead of moto, or
    `("after", status, code)` to let moto do it first (an answer that got lost).
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.contents: dict[str, set[str]] = {}  # SHA-256 of all that a key has ever held
        self.fault: Callable[[dict[str, Any]], tuple[str, str] | tuple[str, str, str] | None] = lambda environ: None
        self._changing = threading.Lock()  # moto checks If-None-Match and writes in two steps; S3 in one
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
        self._app = with_digests(DomainDispatcherApplication(create_backend_app))
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def bucket(self) -> Any:
        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[BUCKET]

    def client(self, service: str = "s3") -> Any:
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        return {key: stored.value for key, stored in self.bucket.keys.items() if key.startswith(prefix)}

    def put(self, key: str, content: bytes) -> None:
        """Not over HTTP: what someone else left there."""
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, key, content)

    def remove(self, prefix: str) -> None:
        for key in self.objects(prefix):
            del self.bucket.keys[key]

    def create_bucket(self, name: str = BUCKET) -> None:
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(name, "us-east-1")

    def clear(self) -> None:
        self.fault = lambda environ: None
        self.requests.clear()
        self.headers.clear()
        self.contents.clear()
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
        self.create_bucket()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO'].removeprefix(f'/{BUCKET}/')}")
        self.headers.append({name: value for name, value in environ.items() if name.startswith("HTTP_")})
        fault = self.fault(environ)
        if fault is None or fault[0] == "after":
            with self._changing:
                answer = list(self._app(environ, start_response if fault is None else lambda *_: None))
                self._remember(environ)
            if fault is None:
                return answer
            fault = fault[1:]
        status, code = fault
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>test</Message></Error>".encode()
        start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [b""] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _remember(self, environ: dict[str, Any]) -> None:
        key = environ["PATH_INFO"].removeprefix(f"/{BUCKET}/")
        if environ["REQUEST_METHOD"] in {"PUT", "POST"} and (stored := self.bucket.keys.get(key)):
            self.contents.setdefault(key, set()).add(hashlib.sha256(stored.value).hexdigest())


@contextmanager
def serving() -> Iterator[S3]:
    server = S3()
    try:
        yield server
    finally:
        server.stop()


def settings_for(server: S3, **more: str) -> dict[str, str]:
    """Environment of the tasks."""
    return {
        "AMP_PROJECT_ID": str(PROJECT),
        "AWS_ACCESS_KEY": "test-key",
        "AWS_ACCESS_SECRET_KEY": "test-secret",
        "AWS_BUCKET_NAME": BUCKET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": server.url,
        "S3_ADDRESSING_STYLE": "path",
        **more,
    }


def digest(uuids: Iterable[str]) -> str:
    """The uuid digest by its definition (DESIGN: sum over distinct uuids of the lower 64 bits of MD5, decimal)."""
    return str(sum(int(hashlib.md5(uuid.encode()).hexdigest()[16:], 16) for uuid in set(uuids)))


def ledger_key(hour: str, name: str) -> str:
    """By the design's layout."""
    return f"{PREFIX}-ledger/project={PROJECT}/date={hour[:10]}/hour={hour[11:]}/{name}"


class Export:
    """What extract hands over: manifest.jsonl and parts.tar in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.lines: list[ManifestLine] = []
        self.members: dict[str, bytes] = {}

    def add(
        self,
        hour: str,
        uuids: list[str] | list[list[str]],
        *,
        action: str = "export",
        reason: str = "asked",
        version: int = 0,
        after: timedelta = timedelta(hours=4),
        level: int = 6,
    ) -> Export:
        """An hour with these uuids (a list a part), exported `after` its end; no uuids: a 404."""
        lists = uuids if uuids and isinstance(uuids[0], list) else [uuids] if uuids else []
        exported_at = parse_hour(hour) + timedelta(hours=1) + after
        parts = [self._part(hour, number, part, level) for number, part in enumerate(lists)]
        everything = [uuid for part in lists for uuid in part]
        manifest = Manifest(
            window_start=hour,
            window_end=hour,
            exported_at=_text(exported_at),
            status=200 if parts else 404,
            archive_bytes=sum(part.bytes for part in parts),
            parts=parts,
            uuids=len(set(everything)),
            repeats=len(everything) - len(set(everything)),
            digest=digest(everything),
        )
        outcome = "exported" if parts else "empty"
        return self.line(hour, outcome, action=action, reason=reason, version=version, manifest=manifest)

    def line(self, hour: str, outcome: str, **more: Any) -> Export:
        fields = {"action": "export", "reason": "asked", "version": 0, **more}
        self.lines.append(ManifestLine(hour=hour, outcome=outcome, **fields))
        return self

    def _part(self, hour: str, number: int, uuids: list[str], level: int) -> Part:
        text = "".join(json.dumps({"uuid": uuid, "event_type": "e"}) + "\n" for uuid in uuids)
        content = gzip.compress(text.encode(), level, mtime=0)
        sha256 = hashlib.sha256(content).hexdigest()
        key = keys.part_key(PREFIX, PROJECT, parse_hour(hour), number, sha256)
        self.members["parts/" + key.rsplit("/", 1)[1]] = content
        moment = parse_hour(hour)
        member = f"{PROJECT}_{hour[:10]}_{moment.hour}#{number}.json.gz"
        return Part(member=member, key=key, sha256=sha256, bytes=len(content), rows=len(uuids))

    def write(self) -> dict[str, Path]:
        """The arguments of upload.run."""
        files = {name: self.folder / file for name, file in _FILES.items()}
        write_lines(files["manifest"], self.lines)
        with tarfile.open(files["parts"], "w") as tar:
            for name, content in self.members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return files


_FILES = {"manifest": "manifest.jsonl", "parts": "parts.tar", "output": "uploaded.jsonl"}


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
