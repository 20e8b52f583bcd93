"""Runs, crashes between any two durable writes, overlapping runs, late data and faults, in any order: the ledger and
the parts always end as the truth that the stand-in Amplitude serves.

Real parts: plan, extract and upload over HTTP against the stand-in and an S3 server. `load` is played by its one effect
on the ledger, the `loaded` marker. The world is the first four hours of a day; its other hours are done already.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from local.amplitude.server import running
from scripts import extract, plan, upload, verdict
from scripts.pipeline.errors import RetriableError
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.object_store import ObjectStore
from scripts.pipeline.records import UploadedLine, read_lines
from scripts.pipeline.settings import BucketSettings, load
from tests import exports, s3

START = datetime(2026, 11, 2, tzinfo=UTC)
END = START + timedelta(days=1)
WORLD = [START + timedelta(hours=number) for number in range(4)]
EVENTS = (2, 0, 3, 1)  # of each hour; none: Amplitude answers 404
NAME = re.compile(r".*/date=(\d{4}-\d{2}-\d{2})/hour=(\d{2})/([^/]+)$")
NOTHING = dict.fromkeys(("start_date", "end_date", "replay", "reason_label", "interval_label"), "")
REQUESTS: list[dict[str, str]] = [
    {},  # the newest tick
    {},
    {"replay": "true", "interval_label": f"{START:%Y-%m-%d}", "trigger_date": "", "trigger_next": ""},
    {"start_date": f"{START:%Y-%m-%d}", "force": "true"},
    {"start_date": f"{START:%Y-%m-%d}", "force": "true"},
]
FAULTS: list[dict[str, Any]] = [
    {"do": "status", "status": 503},
    {"do": "status", "status": 400, "longer_than": 1},
    {"do": "truncate"},
    {"do": "corrupt_gzip"},
    {"do": "reorder"},
    {"do": "repeat"},
    {"do": "drop"},
    {"do": "bad_line"},
]
hour_names = st.sampled_from([f"{hour:%Y-%m-%dT%H}" for hour in WORLD])


class Killed(BaseException):
    """The process is gone: no handler of ours may see it."""


class Writes:
    """Counts durable writes to S3 and does something at one of them."""

    def __init__(self) -> None:
        self.left = 0
        self.happening: Callable[[Callable[[], Any]], Any] | None = None

    def at(self, number: int, happening: Callable[[Callable[[], Any]], Any]) -> None:
        self.left, self.happening = number, happening

    def clear(self) -> None:
        self.happening = None

    def watched(self, method: Any) -> Any:
        def write(*arguments: Any) -> Any:
            happening = self.happening
            if happening is None:
                return method(*arguments)
            self.left -= 1
            if self.left:
                return method(*arguments)
            self.happening = None
            return happening(lambda: method(*arguments))

        return write


class Pipeline(RuleBasedStateMachine):
    server: s3.S3  # one for all examples

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="pipeline-state-"))
        self.stack.callback(shutil.rmtree, self.folder)
        self.server.clear()
        self.runs = 0
        self.waiting: list[dict[str, Path]] = []  # extracted, not uploaded
        self.now = START + timedelta(hours=5)  # three of the four hours are settled
        self.writes = Writes()

    @initialize()
    def world(self) -> None:
        hours = {}
        for hour, count in zip(WORLD, EVENTS, strict=True):
            name = f"{hour:%Y-%m-%dT%H}"
            lines = [exports.event(f"{name}-{number}", name) for number in range(count)]
            hours[name] = [part for part in (lines[:2], lines[2:]) if part]
        pair = (exports.API_KEY, exports.SECRET_KEY)
        source = exports.Known(hours)
        self.amplitude = self.stack.enter_context(running(source, self.folder / "amplitude", pair, self.now))
        environment = s3.settings_for(self.server) | {
            "AMP_API_KEY": pair[0],
            "AMP_SECRET_KEY": pair[1],
            "AMP_BASE_URL": self.amplitude.url,
            "AMP_START_DATE": f"{START:%Y-%m-%d}",
            "MAX_HOURS_PER_RUN": "6",
            "DATA_DIR": str(self.folder / "data"),
            "LOG_DIR": str(self.folder / "logs"),
        }
        self.stack.enter_context(mock.patch.dict(os.environ, environment))
        self.stack.enter_context(mock.patch.object(upload, "THREADS", 1))  # the same order each time
        self.stack.enter_context(mock.patch.object(ObjectStore, "create", self.writes.watched(ObjectStore.create)))
        for number in range(len(WORLD), 24):
            self.done(f"{START + timedelta(hours=number):%Y-%m-%dT%H}")
        self.ledger = HourLedger(load(BucketSettings))
        self.at(self.now)

    def done(self, hour: str) -> None:
        """An hour around the world, empty and long finished."""
        empty = {"window_start": hour, "window_end": hour, "exported_at": "2026-11-01T00:00:00Z", "status": 404}
        version = {"hour": hour, "version": 1, "manifest": empty | {"archive_bytes": 0}, "written_at": "", "tool": ""}
        self.server.put(s3.ledger_key(hour, "v0001.json"), json.dumps(version).encode())
        for name in ("v0001.empty.json", "rechecked_1d.json", "rechecked_7d.json"):
            self.server.put(s3.ledger_key(hour, name), b"{}")

    def teardown(self) -> None:
        try:
            if self.runs:
                self.settle()
        finally:
            self.stack.close()

    # What happens

    def at(self, now: datetime) -> None:
        self.now = now
        os.environ["PIPELINE_NOW"] = now.isoformat()
        self.amplitude.project.set_clock(now)

    @rule(
        hours=st.sampled_from([0, 2, 24]),
        late=st.lists(hour_names, max_size=2),
        faults=st.lists(st.tuples(st.sampled_from(FAULTS), hour_names, st.sampled_from([1, 4])), max_size=2),
        way=st.sampled_from(["whole", "half loaded", "stops", "killed before", "killed after", "killed after", "two"]),
        more=st.sampled_from(REQUESTS),
        number=st.integers(1, 8),
    )
    def a_run(
        self, hours: int, late: list[str], faults: list[Any], way: str, more: dict[str, str], number: int
    ) -> None:
        """Time passes, late events come, Amplitude misbehaves; then a run, which may meet its end at a write."""
        self.at(max(self.now, min(self.now + timedelta(hours=hours), END)))
        for hour in late:
            self.amplitude.project.store.add_late(datetime.fromisoformat(f"{hour}:00Z"), 1)
        for fault, hour, attempts in faults:
            programme = [fault | {"hours": [hour], "attempts": list(range(1, attempts + 1))}]
            self.amplitude.project.programme.add(json.dumps(programme).encode())
        files = self.extracted(more)
        if way == "stops":
            self.waiting.append(files)
        elif way.startswith("killed"):
            self.killed(files, number, after=way.endswith("after"))
        elif way == "two":
            self.two_at_once(files, self.extracted(more), number)
        else:
            self.uploaded(files)
            self.loaded(files, 2 if way == "half loaded" else 1)
            self.judge(files)

    @rule(which=st.integers(0, 9), times=st.integers(1, 2))
    @precondition(lambda self: self.waiting)
    def an_upload_that_stopped_is_restarted(self, which: int, times: int) -> None:
        files = self.waiting[which % len(self.waiting)]
        for _ in range(times):
            self.uploaded(files)
        self.loaded(files)

    def planned(self, more: dict[str, str]) -> dict[str, Path]:
        """The plan of the newest tick, changed by `more`; returns the files of the run."""
        self.runs += 1
        folder = self.folder / f"run{self.runs}"
        folder.mkdir()
        names = ("plan", "manifest", "parts", "uploaded")
        files = {name: folder / (f"{name}.tar" if name == "parts" else f"{name}.jsonl") for name in names}
        tick = {"trigger_date": self.now.isoformat(), "trigger_next": (self.now + timedelta(days=1)).isoformat()}
        plan.run(**NOTHING | {"scope": "day", "force": "false"} | tick | more, output=files["plan"])
        return files

    def extracted(self, more: dict[str, str]) -> dict[str, Path]:
        files = self.planned(more)
        extract.run(**{name: files[name] for name in ("plan", "manifest", "parts")}, patience=exports.QUICK)
        return files

    def uploaded(self, files: dict[str, Path]) -> None:
        upload.run(manifest=files["manifest"], parts=files["parts"], output=files["uploaded"])

    def loaded(self, files: dict[str, Path], share: int = 1) -> None:
        """Every `share`-th hour gets into Snowflake."""
        for line in list(read_lines(files["uploaded"], UploadedLine))[::share]:
            if not line.error:
                self.ledger.mark_loaded(line.hour, line.version, sum(part.rows for part in line.parts))

    def killed(self, files: dict[str, Path], number: int, *, after: bool) -> None:
        def kill(write: Callable[[], Any]) -> None:
            if after:
                write()
            raise Killed

        self.writes.at(number, kill)
        with contextlib.suppress(Killed):
            self.uploaded(files)
        self.writes.clear()

    def two_at_once(self, first: dict[str, Path], second: dict[str, Path], number: int) -> None:
        """The second one's upload happens in the middle of a write of the first one's."""

        def meanwhile(write: Callable[[], Any]) -> Any:
            self.uploaded(second)
            return write()

        self.writes.at(number, meanwhile)
        self.uploaded(first)
        if self.writes.happening:  # the first one had less to write
            self.writes.clear()
            self.uploaded(second)
        self.loaded(second)
        self.loaded(first)

    def judge(self, files: dict[str, Path]) -> None:
        """The verdict is green exactly when all hours of the run are done, by the names in the bucket."""
        states = self.states()
        lines = [json.loads(line) for line in files["plan"].read_text().splitlines()]
        done = all(states.get(line["hour"]) in {"loaded", "empty"} for line in lines)
        try:
            verdict.run(**{name: files[name] for name in ("plan", "manifest", "uploaded")})
        except RetriableError:
            assert not done or any(line["reason"] == "forced" for line in lines)
        else:
            assert done

    # What must hold

    def truth(self, hour: str) -> set[str]:
        return set(self.amplitude.project.store.truth(datetime.fromisoformat(f"{hour}:00Z"))["uuids"])

    def names(self) -> dict[str, dict[str, bytes]]:
        """Ledger objects of each world hour by name."""
        found: dict[str, dict[str, bytes]] = {f"{hour:%Y-%m-%dT%H}": {} for hour in WORLD}
        for key, content in self.server.objects(f"{s3.PREFIX}-ledger/").items():
            if (match := NAME.match(key)) and f"{match[1]}T{match[2]}" in found:
                found[f"{match[1]}T{match[2]}"][match[3]] = content
        return found

    def states(self) -> dict[str, str]:
        states = {}
        for key in self.server.objects(f"{s3.PREFIX}-ledger/"):
            match = NAME.match(key)
            if match is None:
                continue
            hour, name = f"{match[1]}T{match[2]}", match[3]
            if name.startswith("v") and name.count(".") == 1:
                stem = key.removesuffix(".json")
                marks = [mark for mark in ("loaded", "empty") if f"{stem}.{mark}.json" in self.server.objects(stem)]
                state = marks[0] if marks else "uploaded"
                states[hour] = "uploaded" if states.get(hour) == "uploaded" else state
        return states

    def published(self, hour: str, names: dict[str, bytes]) -> tuple[list[dict[str, Any]], set[str]]:
        """The versions of an hour, and the uuids in all their parts as they lie in the bucket."""
        numbers = sorted(name for name in names if name.startswith("v") and name.count(".") == 1)
        assert numbers == [f"v{number:04}.json" for number in range(1, len(numbers) + 1)]
        versions = [json.loads(names[name]) for name in numbers]
        uuids: set[str] = set()
        for version in versions:
            held: set[str] = set()
            for part in version["manifest"]["parts"]:
                content = self.server.objects()[part["key"]]
                assert hashlib.sha256(content).hexdigest() == part["sha256"]
                assert len(content) == part["bytes"]
                lines = gzip.decompress(content).splitlines()
                assert len(lines) == part["rows"]
                held |= {json.loads(line)["uuid"] for line in lines}
            assert (version["manifest"]["uuids"], version["manifest"]["digest"]) == (len(held), s3.digest(held))
            assert (version["new"], version["gone"]) == (len(held - uuids), len(uuids - held))
            uuids |= held
            assert (version["union_uuids"], version["union_digest"]) == (len(uuids), s3.digest(uuids))
        return versions, uuids

    @invariant()
    def no_key_ever_has_two_contents(self) -> None:
        assert [key for key, contents in self.server.contents.items() if len(contents) > 1] == []

    @invariant()
    def the_ledger_tells_what_lies_in_the_bucket(self) -> None:
        if not hasattr(self, "ledger"):
            return
        for hour, names in self.names().items():
            versions, uuids = self.published(hour, names)
            assert uuids <= self.truth(hour)
            if versions:
                end = datetime.fromisoformat(f"{hour}:00Z") + timedelta(hours=1)
                assert self.now >= end + timedelta(hours=2)  # a young hour is never recorded
            for number, version in enumerate(versions, start=1):
                if f"v{number:04}.empty.json" in names:
                    assert version["manifest"]["parts"] == []

    def a_good_run(self) -> None:
        files = self.extracted({})
        self.uploaded(files)
        self.loaded(files)
        verdict.run(**{name: files[name] for name in ("plan", "manifest", "uploaded")})

    def settle(self) -> None:
        """All is well again, and ticks come for a week: nothing else is done, by nobody."""
        self.amplitude.project.programme.clear()
        self.writes.clear()
        self.at(END + timedelta(hours=2, minutes=30))
        self.a_good_run()
        self.at(START + timedelta(days=9, hours=2, minutes=30))
        os.environ["AMP_START_DATE"] = f"{self.now:%Y-%m-%d}"  # the days between are not part of this world
        self.a_good_run()
        assert self.planned({})["plan"].read_text() == ""
        self.no_key_ever_has_two_contents()
        for hour, names in self.names().items():
            versions, uuids = self.published(hour, names)
            assert uuids == self.truth(hour)
            assert "rechecked_7d.json" in names
            for number, version in enumerate(versions, start=1):
                assert (f"v{number:04}.empty.json" in names) == (version["manifest"]["parts"] == [])
                assert (f"v{number:04}.loaded.json" in names) == (version["manifest"]["parts"] != [])


@pytest.mark.timeout(900)  # half a minute on two free cores
def test_whatever_happens_the_ledger_ends_as_the_truth(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no .env of the developer
    machine = Pipeline.TestCase
    machine.settings = settings(
        max_examples=int(os.environ.get("PIPELINE_STATE_EXAMPLES", "6")),
        stateful_step_count=4,
        deadline=None,
        derandomize="PIPELINE_STATE_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        database=None,
    )
    with s3.serving() as server:
        Pipeline.server = server
        machine("runTest").runTest()
