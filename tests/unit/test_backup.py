"""The local backup: what is kept, and when it goes."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from scripts import backup, upload
from scripts.pipeline import backup_store
from scripts.pipeline.backup_store import BackupStore
from scripts.pipeline.errors import DamagedError, PermanentError
from scripts.pipeline.records import PlanLine, write_lines
from scripts.pipeline.settings import BackupSettings, load
from tests.exports import DAY, PROJECT, a_day, bench, event

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def day(tmp_path, monkeypatch):
    with bench(a_day(without=(7,)), tmp_path, monkeypatch) as running:
        yield running


def store(day) -> BackupStore:
    return BackupStore(load(BackupSettings), PROJECT)


def readable(day) -> list[str]:
    return sorted(path.name for path in (day.folder / "data" / "json").iterdir())


def test_an_answer_is_kept_as_received_beside_its_facts(day):
    day.run([3, 4])
    facts, archive = day.zips()
    assert facts.startswith(f"{DAY}T03..{DAY}T04.")
    assert (facts.rsplit(".", 1)[0], archive[-4:]) == (archive[:-4], ".zip")
    folder = day.folder / "data" / "zip" / str(PROJECT)
    found = json.loads((folder / facts).read_text())
    assert (found["status"], found["bytes"]) == (200, (folder / archive).stat().st_size)
    with zipfile.ZipFile(folder / archive) as members:
        assert members.testzip() is None


def test_a_404_is_kept_as_facts_alone(day):
    day.run([7])
    (facts,) = day.zips()
    assert json.loads((day.folder / "data" / "zip" / str(PROJECT) / facts).read_text())["status"] == 404


def test_readable_json_is_the_events_without_number_signs_in_its_name(day):
    day.run([3])
    assert readable(day) == [f"{PROJECT}_{DAY}_3_0.json"]
    lines = (day.folder / "data" / "json" / f"{PROJECT}_{DAY}_3_0.json").read_bytes().splitlines()
    assert lines == [event(f"03-{number}") for number in range(3)]


def test_readable_json_can_be_switched_off_and_ends_at_its_limit(day, monkeypatch):
    monkeypatch.setenv("BACKUP_READABLE_JSON", "false")
    day.run([3])
    assert not (day.folder / "data" / "json").exists()
    monkeypatch.setenv("BACKUP_READABLE_JSON", "true")
    monkeypatch.setattr(backup_store, "READABLE_LIMIT", 2 * len(event("03-0")) * 3 + 100)
    day.run([3, 4, 5])
    assert len(readable(day)) == 2


def test_only_loaded_hours_expire_and_only_when_old_enough(day, monkeypatch):
    day.run([3, 4])
    day.run([5, 7])
    now = datetime.now(UTC)
    loaded = {f"{DAY}T03", f"{DAY}T05", f"{DAY}T07"}
    monkeypatch.setenv("BACKUP_KEEP_DAYS", "30")
    assert store(day).expire(loaded.__contains__, now + timedelta(days=29)) == 0
    assert len(day.zips()) == 5
    store(day).expire(loaded.__contains__, now + timedelta(days=31))
    assert {name[:28] for name in day.zips()} == {f"{DAY}T03..{DAY}T04"}
    assert readable(day) == [f"{PROJECT}_{DAY}_4_0.json"]


def test_keeping_for_no_day_deletes_once_loaded(day, monkeypatch):
    day.run([3])
    monkeypatch.setenv("BACKUP_KEEP_DAYS", "0")
    assert store(day).expire(lambda hour: False, datetime.now(UTC)) == 0
    assert store(day).expire(lambda hour: True, datetime.now(UTC) + timedelta(seconds=1)) == 3
    assert (day.zips(), readable(day)) == ([], [])


def test_keeping_for_more_days_than_time_has_is_keeping_for_ever(day, monkeypatch):
    monkeypatch.setenv("BACKUP_KEEP_DAYS", "999999")
    day.run([3])
    assert store(day).expire(lambda hour: True, datetime.now(UTC) + timedelta(days=3650)) == 0


def test_what_a_killed_run_left_goes_after_a_day(day):
    folder = day.folder / "data" / "zip" / str(PROJECT)
    store(day)
    (folder / ".old.part").touch()
    (folder / ".young.part").touch()
    os.utime(folder / ".old.part", (0, 0))
    text = day.folder / "data" / "json"
    left = [text / ".100_2026-09-24_3_0.json.7.part", text.parent / "restore-x", text.parent / "reconcile-x"]
    text.mkdir()
    left[0].write_text('{"uuid": "a person\'s"}')
    for path in left[1:]:
        path.mkdir()
        (path / "parts.tar").touch()
    for path in left:
        os.utime(path, (0, 0))
    day.run([3])
    assert [path.name for path in folder.glob(".*")] == [".young.part"]
    assert not [path for path in left if path.exists()]


def test_a_disk_that_fills_up_leaves_no_half_of_a_readable_file(day, monkeypatch):
    def full(source, target):
        target.write(source.read(10))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("scripts.pipeline.backup_store.shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        day.run([3])
    assert list((day.folder / "data" / "json").iterdir()) == []


def test_the_backup_lists_its_answers_oldest_first(day):
    day.run([5])
    day.run([3])
    day.run([7])
    answers = list(store(day).answers())
    assert [(str(window), answer.status, archive.exists()) for window, answer, archive in answers] == [
        (f"{DAY}T05", 200, True),
        (f"{DAY}T03", 200, True),
        (f"{DAY}T07", 404, False),
    ]


def uploaded(result) -> None:
    upload.run(
        manifest=result.folder / "manifest.jsonl",
        parts=result.folder / "parts.tar",
        output=result.folder / "uploaded.jsonl",
    )


def ledger(server) -> dict[str, object]:
    """Names of all objects, and versions without the times of their writing."""
    found = {}
    for key, content in server.objects().items():
        if key.startswith("python-import-ledger/") and key.rsplit("/", 1)[-1].startswith("v"):
            version = json.loads(content)
            version.pop("written_at", None)
            version.pop("marked_at", None)
            for part in version.get("manifest", {}).get("parts", []):
                part.pop("uploaded_at")
            found[key] = version
        else:
            found[key] = None if "-ledger/" in key else content
    return found


def test_a_restore_rebuilds_the_bucket_and_every_version_without_amplitude(bucket, tmp_path, monkeypatch):
    with bench(a_day(without=(7,)), tmp_path, monkeypatch) as day:
        day.program({"do": "bad_line", "hours": [f"{DAY}T05"]})
        uploaded(day.run(range(12)))
        day.server.project.store.add_late(datetime(2026, 9, 24, 3, tzinfo=UTC), 2)
        uploaded(day.run([3]))
        before, asked = ledger(bucket), len(day.requests())
        assert len([key for key in before if key.endswith("/v0002.json")]) == 1
        bucket.clear()
        counts = backup.restore(into_snowflake=False)
        assert ledger(bucket) == before
        assert (counts["exports"], counts["hours"]) == (2, 13)
        assert len(day.requests()) == asked
        backup.restore(first=date(2026, 9, 24), last=date(2026, 9, 24), into_snowflake=False)  # again: nothing changes
        assert ledger(bucket) == before


@pytest.mark.parametrize("kind", ["zip", "json"])
def test_a_restore_names_what_is_damaged_and_restores_the_rest(bucket, tmp_path, monkeypatch, caplog, kind):
    with bench(a_day(), tmp_path, monkeypatch) as day:
        day.run([3])
        day.run([5])
        archive = next((tmp_path / "data" / "zip").rglob(f"{DAY}T03*.{kind}"))
        archive.write_bytes(archive.read_bytes()[:-30])
        with pytest.raises(DamagedError, match=r"incomplete \(damaged: 1"):
            backup.restore(into_snowflake=False)
    assert archive.name in caplog.text
    assert {key.split("/")[3] for key in bucket.objects("python-import/")} == {"hour=05"}


def test_a_restore_of_a_reversed_range_is_refused():
    with pytest.raises(PermanentError, match=r"2026-11-25 lies after --to 2026-11-24\. Swap them"):
        backup.restore(first=date(2026, 11, 25), last=date(2026, 11, 24))


def test_a_restore_of_days_that_are_not_there_is_refused(bucket, tmp_path, monkeypatch):
    with bench(a_day(), tmp_path, monkeypatch) as day:
        day.run([3])
        with pytest.raises(PermanentError, match=r"holds no export of these days.*BACKUP_KEEP_DAYS, 30\).*`force`"):
            backup.restore(first=date(2026, 1, 1), last=date(2026, 1, 2), into_snowflake=False)


def start(day) -> subprocess.Popen:
    """The real command, on a day whose body drips in."""
    write_lines(day.folder / "plan.jsonl", [PlanLine(hour=f"{DAY}T03", action="export", reason="asked")])
    day.program({"do": "drip", "bytes_per_second": 50})
    process = subprocess.Popen(
        [sys.executable, "-m", "scripts.extract"],
        cwd=day.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    folder = day.folder / "data" / "zip" / str(PROJECT)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list(folder.glob(".*.part")):
        time.sleep(0.02)
    return process


def test_sigterm_ends_a_run_at_once_and_leaves_nothing_half_done(day):
    process = start(day)
    process.send_signal(signal.SIGTERM)
    stopped = time.monotonic()
    process.communicate(timeout=20)
    assert time.monotonic() - stopped < 10
    assert process.returncode == 128 + signal.SIGTERM
    assert sorted(path.name for path in day.folder.iterdir() if path.name != "amplitude") == ["data", "plan.jsonl"]
    assert day.zips() == []


def test_a_killed_run_leaves_no_final_name_and_the_next_one_works(day):
    process = start(day)
    process.kill()
    process.communicate()
    assert [name for name in day.zips() if not name.startswith(".")] == []
    assert not (day.folder / "manifest.jsonl").exists()
    assert not (day.folder / "parts.tar").exists()
    day.server.project.programme.clear()
    assert day.run([3]).outcomes() == {"exported": [3]}
