"""`python -m local.s3 --port 0 --state DIR`: moto as S3, with its buckets and objects kept in files.

moto holds everything in memory. Each request that changes something is written to DIR before it is answered, so that
a restart, or a SIGKILL, loses nothing: `DIR/<bucket>/objects/<quoted key>` and the same below `meta/`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
REGION = "us-east-1"


class Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """No line a request."""


def with_digests(app: Wsgi) -> Wsgi:
    """S3 refuses an object whose Content-MD5 is another content's; moto takes it."""

    def checked(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "PUT" and (given := environ.get("HTTP_CONTENT_MD5")):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if base64.b64encode(hashlib.md5(body).digest()).decode() != given:
                said = b"<?xml version='1.0'?><Error><Code>BadDigest</Code><Message>Content-MD5</Message></Error>"
                headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(said)))]
                start_response("400 Bad Request", headers)
                return [said]
            environ["wsgi.input"] = io.BytesIO(body)
        return app(environ, start_response)

    return checked


class KeptBuckets:
    """Moto's S3 behind a WSGI middleware that writes each change to a folder."""

    def __init__(self, app: Wsgi, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._changing = threading.Lock()  # one change at a time: conditional writes are then atomic, as on AWS
        self._restore()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in {"GET", "HEAD"} or not environ.get("HTTP_AUTHORIZATION", "").count("/s3/"):
            return self._app(environ, start_response)
        with self._changing:
            answer = list(self._app(environ, start_response))
            bucket, _, key = unquote(environ["PATH_INFO"]).lstrip("/").partition("/")
            if bucket in self._backend.buckets:
                query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
                self._keep(bucket, list(self._stored(bucket)) if "delete" in query else [key] if key else [])
        return answer

    def _keep(self, bucket: str, keys: list[str]) -> None:
        for kind in ("objects", "meta"):
            (self._folder / bucket / kind).mkdir(parents=True, exist_ok=True)
        for key in keys:
            stored = self._backend.buckets[bucket].keys.get(key)
            body, meta = (self._folder / bucket / kind / quote(key, safe="") for kind in ("objects", "meta"))
            if stored is None:
                meta.unlink(missing_ok=True)
                body.unlink(missing_ok=True)
            elif not meta.exists() or json.loads(meta.read_text())["etag"] != stored.etag:
                facts = {
                    "etag": stored.etag,
                    "modified": stored.last_modified.isoformat(),
                    "metadata": dict(stored.metadata),
                }
                _write(body, stored.value)
                _write(meta, json.dumps(facts).encode())  # last: an object without it was never acknowledged

    def _stored(self, bucket: str) -> set[str]:
        return {unquote(file.name) for file in (self._folder / bucket / "meta").glob("*") if file.suffix != ".part"}

    def _restore(self) -> None:
        for folder in sorted(self._folder.glob("*/meta")):
            bucket = folder.parent.name
            self._backend.create_bucket(bucket, REGION)
            for key in sorted(self._stored(bucket)):
                name = quote(key, safe="")
                facts = json.loads((folder / name).read_text())
                body = (folder.parent / "objects" / name).read_bytes()
                stored = self._backend.put_object(bucket, key, body, etag=facts["etag"].strip('"'))
                stored.set_metadata(facts["metadata"], replace=True)
                stored.last_modified = datetime.fromisoformat(facts["modified"])


def _write(file: Path, content: bytes) -> None:
    part = file.with_name(file.name + ".part")
    part.write_bytes(content)
    part.replace(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.s3", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--port", type=int, default=0, help="0: a free port")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on")
    parser.add_argument("--state", type=Path, required=True, help="folder of buckets and objects")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    app = KeptBuckets(with_digests(DomainDispatcherApplication(create_backend_app)), options.state)
    server = make_server(options.host, options.port, app, threaded=True, request_handler=Quiet)

    def stop() -> None:
        sys.stdin.read()  # a parent that ends, however it ends, closes it
        server.shutdown()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    signal.signal(signal.SIGINT, lambda *_: threading.Thread(target=server.shutdown).start())
    threading.Thread(target=stop, daemon=True).start()
    print(json.dumps({"ready": True, "port": server.server_port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
