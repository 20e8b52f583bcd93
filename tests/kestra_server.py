"""A server with the part of Kestra's REST API that the loader uses, to test against; in memory, strict about requests.

Paths, status codes and texts: Kestra 1.3's OpenAPI and controllers (flows, namespace files, KV, executions); with
`version = 2` it answers where 2.x answers otherwise. Of flows it knows YAML, the keys of a flow, and subflows.
"""

from __future__ import annotations

import base64
import contextlib
import email
import email.policy
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

FLOW_KEYS = {
    *("id", "namespace", "description", "labels", "disabled"),
    *("inputs", "outputs", "variables", "tasks", "triggers", "errors", "finally", "afterExecution"),
    *("concurrency", "retry", "sla", "checks"),
}
Answer = tuple[int, Any]


class RefusedError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class State:
    user: str = "admin@example.com"
    password: str = "Correct horse 1"
    version: int = 1
    up: bool = True
    health: Answer | None = None  # what the management endpoint answers instead
    flows: dict[str, str] = field(default_factory=dict)  # id to source, one namespace
    files: dict[str, bytes] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    # How a flow is run: (id, inputs) to execution id, and that to a state. docker/check/server.py has an engine for it.
    run: Callable[[str, dict[str, str]], str] | None = None
    execution: Callable[[str], str | None] | None = None
    answers: dict[str, Answer] = field(default_factory=dict)  # "PUT /flows/x" to what it answers instead
    hidden: set[str] = field(default_factory=set)  # flows that a list does not show: created since by somebody else
    die_at: str | None = None  # a request as in the log: from it on every connection is cut
    log: list[str] = field(default_factory=list)

    def writes(self) -> list[str]:
        return [line for line in self.log if not line.startswith("GET") and "/validate" not in line]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each small answer waits 40 ms
    server: Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        """Requests are in the state's log."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            super().handle_one_request()

    def _serve(self) -> None:
        state = self.server.state
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        if address.path == "/health":
            return self._answer(*(state.health or (200, {"status": "UP"}) if state.up else (503, {"status": "DOWN"})))
        path = unquote(address.path.removeprefix("/api/v1/main"))
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        name = f"{self.command} {path}" + (f"?path={query['path']}" if "path" in query else "")
        if state.die_at is not None and state.die_at in (name, *state.log):
            state.log.append(name)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        state.log.append(name)
        pair = base64.b64encode(f"{state.user}:{state.password}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {pair}":
            return self._answer(401, None)
        if name in state.answers:
            return self._answer(*state.answers[name])
        try:
            return self._answer(*self._route(path, query, body))
        except RefusedError as error:
            if state.version == 1:
                return self._answer(error.status, {"message": str(error), "_links": {"self": {"href": self.path}}})
            return self._answer(error.status, {"status": error.status, "title": "Refused", "detail": str(error)})

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 (the base class's names)

    def _answer(self, status: int, body: Any) -> None:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _route(self, path: str, query: dict[str, str], body: bytes) -> Answer:
        routes: list[tuple[str, str, Callable[..., Answer]]] = [
            ("POST", "/flows/validate", self._validate),
            ("POST", "/flows", self._create),
            ("GET", "/flows/([^/]+)", self._list),
            ("(GET|PUT|DELETE)", "/flows/([^/]+)/([^/]+)", self._flow),
            ("(GET|POST|DELETE)", "/namespaces/([^/]+)/files", self._file),
            ("(GET|PUT)", "/namespaces/([^/]+)/kv/([^/]+)", self._value),
            ("GET", "/executions/([^/]+)", self._execution),
            ("POST", "/executions/([^/]+)/([^/]+)", self._run),
        ]
        self.query, self.body = query, body
        for method, pattern, route in routes:
            found = re.fullmatch(pattern, path)
            if found and re.fullmatch(method, self.command):
                return route(*found.groups())
        raise RefusedError(404, f"Page Not Found: {self.command} {path}")

    def _yaml(self) -> str:
        if self.headers.get("Content-Type") != "application/x-yaml":
            raise RefusedError(415, "Content Type [..] not allowed. Allowed types: [application/x-yaml]")
        return self.body.decode()

    def _validate(self) -> Answer:
        sources = re.split(r"\n+---\n*?", self._yaml().strip())
        found = []
        for index, source in enumerate(sources):
            flow = yaml.safe_load(source)
            constraints, warnings = self._violations(flow)
            told: dict[str, Any] = {"index": index, "outdated": False, "warnings": warnings, "deprecationPaths": []}
            if constraints:
                if self.server.state.version == 1:
                    told["constraints"] = constraints
                else:
                    told["errors"] = [{"message": constraints}]
            found.append(told)
        return 200, found

    def _violations(self, flow: dict[str, Any]) -> tuple[str | None, list[str]]:
        strange = sorted(set(flow) - FLOW_KEYS)
        if strange:
            return (f'Unrecognized field "{strange[0]}" (class io.kestra.core.models.flows.Flow), '
                    f"not marked as ignorable"), []  # fmt: skip
        missing = sorted(set(_subflows(flow)) - set(self.server.state.flows))
        return None, [f"The subflow '{each}' not found in namespace '{flow['namespace']}'." for each in missing]

    def _stored(self, source: str) -> dict[str, Any]:
        flow: dict[str, Any] = yaml.safe_load(source)
        constraints, missing = self._violations(flow)
        if constraints or missing:
            raise RefusedError(422, f"Invalid entity: {constraints or missing[0]}")
        self.server.state.flows[flow["id"]] = source
        return {"id": flow["id"], "namespace": flow["namespace"], "source": source}

    def _list(self, namespace: str) -> Answer:
        state = self.server.state
        return 200, [{"id": flow, "namespace": namespace} for flow in state.flows if flow not in state.hidden]

    def _create(self) -> Answer:
        if yaml.safe_load(self._yaml())["id"] in self.server.state.flows:
            raise RefusedError(422, "Invalid entity: flow.id: Flow id already exists")
        return 200, self._stored(self._yaml())

    def _flow(self, namespace: str, flow: str) -> Answer:
        flows = self.server.state.flows
        if flow not in flows:
            raise RefusedError(404, "Not Found")
        if self.command == "PUT":
            return 200, self._stored(self._yaml())
        if self.command == "DELETE":
            del flows[flow]
            return 204, None
        told = {"id": flow, "namespace": namespace, "revision": 1}
        return 200, told | ({"source": flows[flow]} if self.query.get("source") == "true" else {})

    def _file(self, namespace: str) -> Answer:
        files, path = self.server.state.files, self.query.get("path", "")
        if not path.startswith("/"):
            raise RefusedError(422, f"Illegal argument: the path must be absolute: {path}")
        if self.command == "POST":
            files[path] = self._parts()["fileContent"]
            return 200, None
        if self.command == "DELETE":
            return 200, [path] if files.pop(path, None) is not None else []
        if path not in files:
            raise RefusedError(404, f"Not Found: java.io.FileNotFoundException: {path}")
        return 200, files[path]

    def _value(self, namespace: str, key: str) -> Answer:
        values = self.server.state.values
        if self.command == "PUT":
            if self.headers.get("Content-Type") not in {"text/plain", "application/json"}:
                raise RefusedError(415, "Content Type not allowed")
            values[key] = json.loads(self.body)
            return 200, None
        if key not in values:
            raise RefusedError(404, f"No value found for key '{key}' in namespace '{namespace}'")
        return 200, {"type": "JSON", "value": values[key]}

    def _run(self, namespace: str, flow: str) -> Answer:
        if flow not in self.server.state.flows or not self.server.state.run:
            raise RefusedError(404, "Flow not found")
        inputs = {name: value.decode() for name, value in self._parts().items()}
        return 200, {"id": self.server.state.run(flow, inputs), "state": {"current": "CREATED"}}

    def _execution(self, execution: str) -> Answer:
        state = self.server.state.execution and self.server.state.execution(execution)
        if not state:
            raise RefusedError(404, "Execution not found")
        return 200, {"id": execution, "state": {"current": state}}

    def _parts(self) -> dict[str, bytes]:
        kind = self.headers.get("Content-Type", "")
        if not kind.startswith("multipart/form-data"):
            raise RefusedError(415, "Content Type [..] not allowed. Allowed types: [multipart/form-data]")
        message = email.message_from_bytes(
            f"Content-Type: {kind}\r\n\r\n".encode() + self.body, policy=email.policy.HTTP
        )
        parts: dict[str, bytes] = {}
        for part in message.iter_parts():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            parts[str(part.get_param("name", header="content-disposition"))] = content
        return parts


def _subflows(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if str(part.get("type", "")).endswith(".Subflow"):
            yield part["flowId"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _subflows(each)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, state: State, host: str = "127.0.0.1", port: int = 0) -> None:
        self.state = state
        super().__init__((host, port), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def running(state: State, port: int = 0) -> Iterator[Server]:
    with Server(state, port=port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
