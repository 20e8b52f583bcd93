"""The few calls of Kestra's REST API that we need, in one place: 1.3 and 2.x differ in some of them.

Paths and bodies: the OpenAPI of 1.3 (tenant `main`, basic auth). What 2.x answers otherwise is marked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema
from urllib3.util import Retry

TIMEOUT = (5, 60)  # seconds: connect, read
YAML = {"Content-Type": "application/x-yaml"}
ENDED = {"SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED", "SKIPPED"}


class KestraError(Exception):
    """Kestra refused, cannot be reached, or went away; the message holds Kestra's own words."""


class Kestra:
    """One Kestra server. Every method raises KestraError when a call does not succeed."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.auth = HTTPBasicAuth(user.encode(), password.encode())  # as text it would be sent in Latin-1
        # Each call may be repeated: a POST only when it surely did not arrive.
        retry = Retry(
            total=4, backoff_factor=0.5, status_forcelist=[502, 503, 504], allowed_methods={"GET", "PUT", "DELETE"},
            raise_on_status=False,
        )  # fmt: skip
        self._session.mount("http", HTTPAdapter(max_retries=retry))

    def wait(self, health: str, seconds: float) -> None:
        """Waits until the management endpoint `health` says UP."""
        deadline = time.monotonic() + seconds
        reason = ""
        while time.monotonic() < deadline:
            try:
                answer = requests.get(health, timeout=TIMEOUT)
                if answer.ok and answer.json()["status"] == "UP":
                    return
                reason = f"it answers {answer.status_code}"
            except (requests.RequestException, ValueError, KeyError, TypeError) as error:  # the last two: other JSON
                reason = f"{type(error).__name__}"
            time.sleep(1)
        message = f"Kestra is not up after {seconds:.0f} s ({health}: {reason}): docker compose logs"
        raise KestraError(message)

    def refusals(self, sources: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """What Kestra refuses in the flows (file name to text), and what it warns of; each `<file>: <why>`."""
        refused: list[str] = []
        warned: list[str] = []
        for name, source in sources.items():  # one at a time: the many-in-one form cuts at every `---`
            for found in self._json("POST", "flows/validate", data=source.encode(), headers=YAML):
                errors = [found["constraints"]] if found.get("constraints") else []
                errors += [str(each.get("message") or each) for each in found.get("errors") or []]  # 2.x
                refused += [f"{name}: {error.strip()}" for error in errors]
                warned += [f"{name}: {text}" for text in found.get("warnings") or []]
                warned += [f"{name}: {path} is deprecated" for path in found.get("deprecationPaths") or []]
        return refused, warned

    def flows(self, namespace: str) -> list[str]:
        """The ids of a namespace's flows."""
        return [flow["id"] for flow in self._json("GET", f"flows/{namespace}")]

    def flow(self, namespace: str, flow: str) -> str | None:
        """A flow's source, or None."""
        found = self._json("GET", f"flows/{namespace}/{flow}", params={"source": "true"}, missing_is_fine=True)
        return found and str(found["source"])

    def create_flow(self, source: str) -> None:
        self._call("POST", "flows", data=source.encode(), headers=YAML)

    def update_flow(self, namespace: str, flow: str, source: str) -> None:
        self._call("PUT", f"flows/{namespace}/{flow}", data=source.encode(), headers=YAML)

    def delete_flow(self, namespace: str, flow: str) -> None:
        self._call("DELETE", f"flows/{namespace}/{flow}", missing_is_fine=True)

    def file(self, namespace: str, path: str) -> bytes | None:
        """A namespace file's content, or None."""
        answer = self._call("GET", f"namespaces/{namespace}/files", params={"path": f"/{path}"}, missing_is_fine=True)
        return None if answer.status_code == HTTPStatus.NOT_FOUND else answer.content

    def put_file(self, namespace: str, path: str, content: bytes) -> None:
        # A name that ends in .zip would be unpacked: the part's own name is neutral, the place is `path`.
        part = {"fileContent": ("content", content, "application/octet-stream")}
        self._call("POST", f"namespaces/{namespace}/files", params={"path": f"/{path}"}, files=part)

    def delete_file(self, namespace: str, path: str) -> None:
        self._call("DELETE", f"namespaces/{namespace}/files", params={"path": f"/{path}"}, missing_is_fine=True)

    def value(self, namespace: str, key: str) -> Any:  # noqa: ANN401 (any JSON)
        """A value of the KV store, or None."""
        found = self._json("GET", f"namespaces/{namespace}/kv/{key}", missing_is_fine=True)
        return found and found["value"]

    def put_value(self, namespace: str, key: str, value: object) -> None:
        headers = {"Content-Type": "text/plain"}
        self._call("PUT", f"namespaces/{namespace}/kv/{key}", data=json.dumps(value), headers=headers)

    def run(self, namespace: str, flow: str, inputs: Mapping[str, str]) -> str:
        """Starts a run with one input or more; returns the execution's id."""
        parts = {name: (None, value) for name, value in inputs.items()}
        return str(self._json("POST", f"executions/{namespace}/{flow}", files=parts)["id"])

    def page(self, namespace: str, flow: str, execution: str) -> str:
        """A run's page in the UI."""
        return f"{self._url}/ui/main/executions/{namespace}/{flow}/{execution}"

    def states(self, execution: str, seconds: float, pause: float = 2) -> Iterator[str]:
        """An execution's states as they change; the last one is final."""
        deadline = time.monotonic() + seconds
        state = ""
        while time.monotonic() < deadline:
            now = str(self._json("GET", f"executions/{execution}")["state"]["current"])
            if now != state:
                yield now
            if (state := now) in ENDED:
                return
            time.sleep(pause)
        message = f"execution {execution} is still {state} after {seconds:.0f} s"
        raise KestraError(message)

    def _json(self, method: str, path: str, **arguments: Any) -> Any:  # noqa: ANN401
        """What the call answers; None when it is not there and need not be."""
        answer = self._call(method, path, **arguments)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return None
        try:
            return answer.json()
        except ValueError:
            message = f"{method} {path}: no answer of Kestra's API (no JSON): what else listens at {self._url}?"
            raise KestraError(message) from None

    def _call(self, method: str, path: str, *, missing_is_fine: bool = False, **arguments: Any) -> requests.Response:  # noqa: ANN401
        try:
            answer = self._session.request(
                method, f"{self._url}/api/v1/main/{path}", timeout=TIMEOUT, allow_redirects=False, **arguments
            )
        except (MissingSchema, InvalidSchema, InvalidURL):
            message = (
                "--url is no address: write https://kestra.example.com (deploy.yml has it in its variable KESTRA_URL)"
            )
            raise KestraError(message) from None
        except requests.RequestException as error:
            message = f"{method} {path}: Kestra cannot be reached ({type(error).__name__}): docker compose logs"
            raise KestraError(message) from None
        if answer.status_code == HTTPStatus.UNAUTHORIZED:
            raise KestraError("Kestra refuses KESTRA_ADMIN_USER and KESTRA_ADMIN_PASSWORD (401): was .env edited since "
                              "Kestra started? docker compose restart postgres kestra")  # fmt: skip
        if not (answer.status_code // 100 == 2 or (missing_is_fine and answer.status_code == HTTPStatus.NOT_FOUND)):
            message = f"{method} {path}: Kestra answers {answer.status_code}: {_words(answer)}"
            raise KestraError(message)
        return answer


def _words(answer: requests.Response) -> str:
    """Kestra's own explanation: JSON with `message`; 2.x: a problem with `detail`."""
    try:
        body = answer.json()
    except ValueError:
        return answer.text.strip()[:2000] or "(no explanation)"
    if not isinstance(body, dict):
        return answer.text.strip()[:2000]
    return str(body.get("message") or body.get("detail") or body.get("title") or body)[:2000]
