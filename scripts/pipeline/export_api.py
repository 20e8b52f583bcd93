"""Client of Amplitude's Export API: `GET /api/2/export?start=YYYYMMDDTHH&end=YYYYMMDDTHH`, both hours inclusive, UTC.

Documented statuses: 200 a ZIP, 400 too large (above 4 GB), 404 no data, 504 timed out because of the size. Seen: 401
without and 403 with wrong keys (or the wrong region). Nothing is promised about headers, and a repeated request need
not answer the same bytes, so nothing is resumed: a failed download starts anew.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3
from requests.auth import HTTPBasicAuth

from scripts.pipeline.errors import (
    ConfigurationError,
    DamagedError,
    PermanentError,
    PipelineError,
    RetriableError,
    TooLargeError,
)
from scripts.pipeline.hours import Window
from scripts.pipeline.settings import AmplitudeSettings

log = logging.getLogger("pipeline")
T = TypeVar("T")

HOSTS = {"eu": "https://analytics.eu.amplitude.com", "us": "https://amplitude.com"}
MAX_REQUESTS = 4  # at once; Amplitude's REST APIs together allow 5
BLOCK = 256 * 1024
ROOM_EVERY = 64 * 2**20  # bytes between two looks at the free disk space
_KEPT_HEADERS = ("Date", "Content-Type", "Content-Length", "Content-Disposition", "ETag", "Last-Modified")
SPLIT_AFTER = 2  # tries of a window of several hours whose answer is cut, late or damaged
_SAVE_BY_S3 = "If it stays so, export this hour by Amplitude's own S3 export (Destinations > Amazon S3)."


@dataclass(frozen=True)
class Patience:
    """Seconds, and tries of one request. Amplitude makes the whole archive before it sends the first byte."""

    connect: float = 10
    read: float = 300
    whole: float = 1800
    tries: int = 5
    backoff: float = 5  # doubles with each try, less up to a half by chance
    longest_wait: float = 300


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a request that Amplitude answered: with an archive (200), or that it has no data (404)."""

    window_start: str
    window_end: str
    host: str
    status: int
    exported_at: str  # by our clock, ISO 8601 with Z and milliseconds
    server_time: str = ""  # Date header, ISO 8601 with Z
    headers: dict[str, str] = {}
    bytes: int = 0


class _LaterError(RetriableError):
    """The server is busy or away, whatever it is asked for. Carries its Retry-After, seconds."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


def utc_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ExportClient:
    """One connection's worth of client: use one per thread. `room(bytes)` raises when the disk cannot take as many."""

    def __init__(
        self,
        settings: AmplitudeSettings,
        room: Callable[[int], None],
        patience: Patience = Patience(),
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base = (settings.amp_base_url or HOSTS[settings.amp_region]).rstrip("/")
        if "://" not in self.base:
            self.base = f"https://{self.base}"
        self._host = _host(self.base)
        self._where = f"project {settings.amp_project_id} at {self._host}"
        self._room = room
        self._patience = patience
        self._sleep = sleep
        self._clock = clock
        self._session = requests.Session()
        self._session.auth = HTTPBasicAuth(
            settings.amp_api_key.get_secret_value().encode(), settings.amp_secret_key.get_secret_value().encode()
        )
        self._session.headers["Accept-Encoding"] = "identity"
        self.counts: Counter[str] = Counter()  # requests, requests_repeated, requests_split

    def export(self, window: Window, target: Path, accept: Callable[[Answer], T]) -> T:
        """Asks for a window; what `accept(answer)` returns for a whole answer. For status 200 `target` holds the ZIP.

        `accept` may raise DamagedError: then the download is tried again like one that was cut. Raises TooLargeError
        (ask for less), ConfigurationError, and after the last try RetriableError or DamagedError.

        Several hours whose answer fails twice are asked for in pieces: one bad hour must not take the others along.
        """
        for tries in range(1, self._patience.tries + 1):
            try:
                return accept(self._ask(window, target))
            except (RetriableError, DamagedError) as error:
                if len(window) > 1 and tries == SPLIT_AFTER and not isinstance(error, _LaterError):
                    raise TooLargeError(f"{window}: {error} Tried {tries} times.") from None
                if tries == self._patience.tries:
                    raise type(error)(f"{window}: {error} Tried {tries} times; the hours stay open.") from None
                wait = self._wait(tries, error)
                log.warning("%s: %s Trying again in %.0f s.", window, error, wait)
                self.counts["requests_repeated"] += 1
                self._sleep(wait)
        raise AssertionError("unreachable")

    def _wait(self, tries: int, error: PipelineError) -> float:
        after = error.after if isinstance(error, _LaterError) else None
        if after is None or after <= 0:
            after = self._patience.backoff * 2 ** (tries - 1) * random.uniform(0.5, 1)  # noqa: S311
        return min(after, self._patience.longest_wait)

    def project_of(self, window: Window) -> int | None:
        """The project whose archive the keys open, by the name of its first member: no more of it is read. None: there
        is no data. Raises as `export`, and does not try again.
        """
        with self._answered(window) as response:
            if response.status_code == 404:
                return None
            head = response.raw.read(64, decode_content=True)
        found = re.match(rb"PK\x03\x04.{26}(\d+)/", head, re.DOTALL)  # a ZIP's first header has 30 bytes, then the name
        if found is None:
            raise DamagedError(f"{self._where} answered 200 with {_kind(head)}, not an archive of a project.")
        return int(found[1])

    def _ask(self, window: Window, target: Path) -> Answer:
        started = self._clock()
        with self._answered(window) as response:
            size = self._download(window, response, target, started) if response.status_code == 200 else 0
        server_time = http_date(response.headers.get("Date"))
        return Answer(
            window_start=f"{window.start:%Y-%m-%dT%H}",
            window_end=f"{window.end:%Y-%m-%dT%H}",
            host=self._host,
            status=response.status_code,
            exported_at=utc_text(datetime.now(UTC)),
            server_time=utc_text(server_time) if server_time else "",
            headers={name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers},
            bytes=size,
        )

    @contextmanager
    def _answered(self, window: Window) -> Iterator[requests.Response]:
        """Asks for a window: an answer of status 200 or 404, its body not yet read."""
        self.counts["requests"] += 1
        try:
            with self._session.get(
                f"{self.base}/api/2/export",
                params={"start": f"{window.start:%Y%m%dT%H}", "end": f"{window.end:%Y%m%dT%H}"},
                stream=True,
                timeout=(self._patience.connect, self._patience.read),
                allow_redirects=False,
            ) as response:
                if response.status_code not in {200, 404}:
                    raise self._refusal(window, response)
                yield response
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            problem = f"{self._where}: the connection failed ({_cause(error)})."
            if isinstance(error, requests.ConnectionError):  # nobody there: asking for less would not help
                raise _LaterError(problem) from None
            raise RetriableError(problem) from None

    def _download(self, window: Window, response: requests.Response, target: Path, started: float) -> int:
        """Streams the body to `target`; returns its size. Raises DamagedError if it is cut or not a ZIP."""
        length = response.headers.get("Content-Length", "")
        self._room(int(length) if length.isdigit() else 0)
        size = looked = 0
        head = b""
        with target.open("wb") as file:
            # read1 returns what has come, so that a body that drips in cannot hide from the deadline.
            while block := response.raw.read1(BLOCK, decode_content=True):
                head = head or block[:64]
                size += file.write(block)
                if self._clock() - started > self._patience.whole:
                    raise self._too_slow(window, size)
                if size - looked > ROOM_EVERY:
                    self._room(0)
                    looked = size
        if not head.startswith(b"PK"):
            kind = _kind(head)
            raise DamagedError(f"{self._where} answered 200 with {size} bytes that are {kind}, not a ZIP.")
        return size

    def _too_slow(self, window: Window, size: int) -> PipelineError:
        problem = f"{self._where} had sent {size} bytes after {self._patience.whole:.0f} s, and not all."
        return TooLargeError(f"{window}: {problem}") if len(window) > 1 else RetriableError(problem)

    def _refusal(self, window: Window, response: requests.Response) -> PipelineError:
        """What a status other than 200 and 404 means. Bodies are not read: nothing is documented about them."""
        status = response.status_code
        said = f"{self._where} answered {status}"
        if status in {401, 403}:
            return ConfigurationError(
                f"{said}: it does not take the keys. Compare AMP_API_KEY and AMP_SECRET_KEY with the project's "
                "settings in Amplitude, and AMP_REGION with where the project lives (eu or us)."
            )
        if 300 <= status < 400:
            return ConfigurationError(f"{said}: an API does not redirect. Correct AMP_REGION or AMP_BASE_URL.")
        # A 400 has no body to tell by; our parameters are valid, so the window is too large.
        if status == 400 or (status == 504 and len(window) > 1):
            last = f" One hour cannot be split. {_SAVE_BY_S3}" if len(window) == 1 else ""
            return TooLargeError(f"{window}: {said}: too large for one request.{last}")
        if status == 504:
            return RetriableError(f"{said}: one hour was too much for it. {_SAVE_BY_S3}")
        if status in {408, 425, 429} or status >= 500:
            return _LaterError(f"{said}.", _retry_after(response))
        return PermanentError(f"{window}: {said}, which the Export API does not document. Check AMP_BASE_URL.")


def _retry_after(response: requests.Response) -> float | None:
    """Seconds to wait by a Retry-After header in either form; by the server's own clock when it is a date."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", value):
        return float(value)
    moment = http_date(value)
    if moment is None:
        return None
    return (moment - (http_date(response.headers.get("Date")) or datetime.now(UTC))).total_seconds()


def http_date(value: str | None) -> datetime | None:
    """A Date header's moment."""
    try:
        moment = parsedate_to_datetime(value or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _host(base: str) -> str:
    """Raises ConfigurationError for an address that no request can go to."""
    try:
        parts = urlsplit(base)
        parts.port  # noqa: B018 (read on demand)
    except ValueError:
        raise ConfigurationError("AMP_BASE_URL is not an address: write https://HOST, or leave it out.") from None
    return parts.hostname or ""


def _kind(head: bytes) -> str:
    """What a body seems to be, by its first bytes, which themselves are never shown."""
    if not head:
        return "nothing"
    text = head.lstrip()
    if text.startswith((b"{", b"[")):
        return "JSON"
    if text.startswith(b"<"):
        return "HTML or XML"
    return "gzip" if head.startswith(b"\x1f\x8b") else "of an unknown kind"


def _cause(error: BaseException) -> str:
    """Names of error classes, the innermost too; texts of errors may hold addresses and credentials."""
    names = [type(error).__name__]
    for inner in error.args:
        inner = getattr(inner, "reason", inner)
        if isinstance(inner, BaseException):
            names.append(type(inner).__name__)
    return ": ".join(names)
