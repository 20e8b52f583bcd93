"""Upload against a real S3 server: content-addressed objects, versions, markers, two runs at once."""

from __future__ import annotations

import pytest

from scripts import upload
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.records import UploadedLine, read_lines
from scripts.pipeline.settings import BucketSettings
from tests import s3

HOUR = "2026-11-24T03"
OLD = "2026-11-01T03"


@pytest.fixture(scope="module")
def server():
    with s3.serving() as running:
        yield running


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    server.clear()
    monkeypatch.chdir(tmp_path)
    for name, value in s3.settings_for(server).items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def ledger(bucket):
    return HourLedger(BucketSettings())


def uploaded(files) -> list[UploadedLine]:
    return list(read_lines(files["output"], UploadedLine))


def test_a_day_is_in_the_bucket_and_in_the_ledger_after_one_upload(bucket, ledger, tmp_path):
    export = s3.Export(tmp_path / "a")
    for hour in range(24):
        export.add(f"2026-11-24T{hour:02}", [[f"{hour}-{n}" for n in range(3)], [f"{hour}-x"]] if hour != 7 else [])
    files = export.write()
    counts = upload.run(**files)
    assert counts == {
        "hours": 23, "objects": 46, "skipped": 0, "bytes": sum(map(len, export.members.values())), "versions": 24,
        "unchanged": 0, "empty": 1, "new": 23 * 4, "gone": 0, "errors": 0,
    }  # fmt: skip
    stored = bucket.objects(s3.PREFIX + "/")
    assert {key.rsplit("/", 1)[1]: body for key, body in stored.items()} == {
        name.removeprefix("parts/"): body for name, body in export.members.items()
    }
    entries = ledger.entries()
    assert [entry.version for entry in entries.values()] == [1] * 24
    assert entries["2026-11-24T07"].empty == {1}
    lines = uploaded(files)
    assert [line.hour for line in lines] == [f"2026-11-24T{hour:02}" for hour in range(24) if hour != 7]
    assert [(part.key in stored, part.rows) for part in lines[0].parts] == [(True, 3), (True, 1)]
    assert lines[0].parts[0].uploaded_at.endswith("Z")
