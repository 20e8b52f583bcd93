"""What doctor says of settings, secrets, Amplitude, bucket and clock, asked of real servers."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.amplitude import server
from scripts import doctor
from scripts.pipeline import checks, export_api
from tests import aws_policy, exports, s3

ROOT = Path(__file__).resolve().parents[2]
KEYS = ("key-of-the-project", "secret-of-the-project")


@pytest.fixture(scope="module")
def amplitude(tmp_path_factory):
    hour = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}T12"
    source = exports.Known({hour: [[exports.event("a", hour)]]})
    with server.running(source, tmp_path_factory.mktemp("amplitude"), KEYS) as running:
        yield running


@pytest.fixture
def given(bucket, amplitude, monkeypatch):
    """Right settings, but for Snowflake's."""
    values = {"AMP_API_KEY": KEYS[0], "AMP_SECRET_KEY": KEYS[1], "AMP_BASE_URL": amplitude.url}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def said(check) -> str:
    return "\n".join(doctor.line(finding) for finding in check())


def test_the_keys_open_the_project_by_one_request_that_is_not_read_to_its_end(given, amplitude):
    amplitude.project.forget_requests()
    assert said(checks.of_amplitude) == f"ok       Amplitude: takes the keys, and they open project {s3.PROJECT}."
    assert len(amplitude.project.requests()) == 1


def test_an_hour_without_events_or_too_large_still_tells_that_the_keys_are_taken(given, amplitude):
    given.setenv("PIPELINE_NOW", "2026-01-02T03:00:00Z")
    assert "ok " in said(checks.of_amplitude)
    assert "could not be compared" in said(checks.of_amplitude)
    amplitude.project.programme.add(b'{"do": "status", "status": 400}')
    try:
        assert "takes the keys" in said(checks.of_amplitude)
    finally:
        amplitude.project.programme.clear()


def test_keys_of_the_other_region_are_told_apart_from_wrong_ones(given, amplitude, tmp_path):
    """Amplitude answers 403 to both."""
    with server.running(exports.Known({}), tmp_path / "eu", ("another", "pair")) as other:
        given.delenv("AMP_BASE_URL")
        given.setattr(export_api, "HOSTS", {"eu": other.url, "us": amplitude.url})
        assert "refused by region eu and taken by us: set AMP_REGION=us" in said(checks.of_amplitude)
        given.setenv("AMP_SECRET_KEY", "not-it")
        found = said(checks.of_amplitude)
    assert "403" in found
    assert "Compare AMP_API_KEY and AMP_SECRET_KEY" in found
    assert "not-it" not in found


def test_keys_of_another_project_are_told_by_its_id(given):
    given.setenv("AMP_PROJECT_ID", "4711")
    assert f"those of project {s3.PROJECT}, AMP_PROJECT_ID is 4711" in said(checks.of_amplitude)


def test_the_rights_of_docs_aws_are_enough_and_nothing_is_left_behind(given, bucket):
    bucket.fault = aws_policy.uploader(bucket)
    assert "ok " in said(checks.of_bucket)
    assert "nothing is there to read yet" in said(checks.of_bucket)
    assert bucket.objects() == {}


@pytest.mark.parametrize(
    ("right", "named"),
    [
        ("s3:ListBucket", f"cannot list {s3.PREFIX}/"),
        (f"s3:PutObject /{s3.PREFIX}/*", f"cannot create {s3.PREFIX}/"),
        (f"s3:PutObject /{s3.PREFIX}-ledger/*", f"cannot create {s3.PREFIX}-ledger/"),
        (f"s3:GetObject /{s3.PREFIX}/*", f"cannot read {s3.PREFIX}/"),
    ],
)
def test_a_right_that_lacks_is_named_with_its_prefix(given, bucket, right, named):
    bucket.put(f"{s3.PREFIX}/project={s3.PROJECT}/date=2026-11-01/hour=00/a.json.gz", b"x")
    before = bucket.objects()
    assert "ok " in said(checks.of_bucket)
    bucket.fault = aws_policy.uploader(bucket, without=right)
    found = said(checks.of_bucket)
    assert named in found
    assert "access denied" in found
    assert "docs/aws/README.md, step 2" in found
    assert "ok " not in found
    assert bucket.objects() == before


def test_a_bucket_that_is_not_there_is_said_once(given):
    given.setenv("AWS_BUCKET_NAME", "no-such-bucket")
    assert said(checks.of_bucket).count("the bucket does not exist") == 1


@pytest.mark.parametrize(("minutes", "state"), [(0, "ok"), (2, "warning"), (16, "failed")])
def test_the_clock_is_compared_with_the_servers(given, amplitude, minutes, state):
    amplitude.project.set_clock(datetime.now(UTC) + timedelta(minutes=minutes))
    try:
        first, second = said(checks.of_clock).splitlines()
    finally:
        amplitude.project.set_clock(None)
    assert first.startswith(state)
    assert int(re.search(r"(\d+) s off Amplitude's", first)[1]) == pytest.approx(60 * minutes, abs=3)
    assert second.startswith("ok")


def test_the_disk_has_room_and_takes_files(given, tmp_path):
    assert said(doctor.of_disk).startswith("ok ")
    given.setenv("MAX_BYTES_PER_RUN", str(10**18))  # no disk has room for that
    assert said(doctor.of_disk).startswith("warning")
    (tmp_path / "file").touch()
    given.setenv("LOG_DIR", str(tmp_path / "file/logs"))
    assert re.match(r"failed   disk: .*/file/logs is no folder that uid \d+ may write to", said(doctor.of_disk))


def test_every_setting_that_is_missing_or_malformed_is_a_row(given):
    given.setenv("AWS_PREFIX", "/no")
    found = said(checks.of_settings).splitlines()
    assert any(line.startswith("failed   settings: AWS_PREFIX must be letters") for line in found)
    assert any(line.startswith("failed   settings: SNOWFLAKE_ACCOUNT is missing.") for line in found)


def test_a_secret_is_shown_by_six_digits_of_its_hash_and_never_itself(given):
    """As the shell command of --help makes them."""
    given.setenv("ALERT_WEBHOOK_URL", "https://chat.example.test/T0K3N")
    found = next(iter(checks.of_secrets()))
    digits = hashlib.sha256(KEYS[1].encode()).hexdigest()
    assert f"AMP_SECRET_KEY {digits[:6]}" in found.what
    assert digits[:7] not in found.what
    assert "HEARTBEAT_URL" not in found.what  # not given
    assert not [value for value in (*KEYS, "T0K3N", "test-secret") if value in found.what]


def test_nothing_stops_it_and_a_failure_is_the_exit_code(given, capsys):
    given.setenv("AMP_SECRET_KEY", "not-it")
    assert doctor.main([]) == 1
    shown = capsys.readouterr().out
    assert {line.split()[1].rstrip(":") for line in shown.splitlines()} >= {
        "settings", "secrets", "Amplitude", "bucket", "clock", "disk", "Snowflake", "alerts",
    }  # fmt: skip
    assert "Traceback" not in shown


def test_every_remedy_is_in_the_pages_that_it_names():
    source = "".join((ROOT / name).read_text() for name in ("scripts/doctor.py", "scripts/pipeline/checks.py"))
    aws, runbook = ((ROOT / "docs" / name).read_text() for name in ("aws/README.md", "runbook.md"))
    steps = set(re.findall(r"(?:\{AWS\}|step) (\d)", source))
    assert steps >= {"2", "3", "4", "5", "6"}
    assert not [step for step in steps if f"\n{step}. **" not in aws]
    headings = set(re.findall(r'"docs/runbook\.md, ([^"]+)"', source))
    assert len(headings) >= 3
    assert not [heading for heading in headings if f"\n## {heading}\n" not in runbook]


def test_an_answer_of_no_bytes_is_no_archive_and_no_sign_that_the_keys_are_taken(given, amplitude):
    amplitude.project.programme.add(b'{"do": "empty"}')
    try:
        assert said(lambda: doctor._checked("Amplitude", checks.of_amplitude)) == (
            f"failed   Amplitude: project {s3.PROJECT} at 127.0.0.1 answered 200 with nothing, not an archive of a"
            " project. → docs/runbook.md, A run failed"
        )
    finally:
        amplitude.project.programme.clear()


def test_a_check_that_ends_as_nobody_foresaw_takes_no_other_along_and_shows_no_text(given):
    def unforeseen():
        raise KeyError("not-for-eyes")

    assert said(lambda: doctor._checked("x", unforeseen)) == (
        "failed   x: this check ended with KeyError. → docs/runbook.md, A run failed"
    )


def test_a_host_that_no_request_can_go_to_leaves_the_other_clock_to_be_compared(given):
    given.setenv("AMP_BASE_URL", "https://a..b")
    first, second = said(checks.of_clock).splitlines()
    assert first == "warning  clock: Amplitude was not reached to compare (LocationParseError)."
    assert second.startswith("ok")


def test_a_bucket_that_does_not_work_is_asked_once(given, bucket):
    """A store that hangs takes a minute a try."""
    bucket.fault = lambda environ: ("503 Service Unavailable", "SlowDown")
    bucket.requests.clear()
    assert "503" in said(checks.of_bucket)
    assert len(bucket.requests) == 1
