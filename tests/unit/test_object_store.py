"""The bucket over real HTTP: paging, conditional writes, checksums, and errors that say what to do."""

import base64
import hashlib
import io
import threading

import pytest

from scripts.pipeline import object_store
from scripts.pipeline.errors import ConfigurationError, DamagedError, RetriableError
from scripts.pipeline.object_store import ObjectStore
from scripts.pipeline.parts_tar import Slice
from scripts.pipeline.settings import BucketSettings, load
from tests import aws_policy, s3

MIB = 1024 * 1024


@pytest.fixture
def store(bucket):
    return ObjectStore(load(BucketSettings))


def put(store, key, content):
    assert store.create(key, io.BytesIO(content), {"member": "m#0", "sha256": hashlib.sha256(content).hexdigest()})


def test_an_object_carries_its_own_sha256_and_size(store):
    put(store, "a/b", b"content")
    found = store.head("a/b")
    assert (found.bytes, found.sha256) == (7, hashlib.sha256(b"content").hexdigest())
    assert found.modified.utcoffset().total_seconds() == 0
    assert store.read("a/b") == b"content"
    assert store.head("a/c") is None
    with pytest.raises(DamagedError, match=r"a/c is gone.*amplitude_daily over its day with `force`"):
        store.read("a/c")


def test_a_big_object_arrives_whole(bucket, store):
    content = bytes(range(256)) * (36 * MIB // 256)
    put(store, "big", content)
    assert bucket.objects()["big"] == content
    assert store.head("big").sha256 == hashlib.sha256(content).hexdigest()
    assert not store.create("big", b"other")
    assert bucket.objects()["big"] == content


def test_b35_more_than_a_thousand_keys_are_listed(bucket, store):
    for number in range(2300):
        bucket.put(f"p/{number:05}", b"x")
    keys = [key for key, size in store.keys("p/")]
    assert keys == [f"p/{number:05}" for number in range(2300)]
    assert [key for key, size in store.keys("p/", start_after="p/02297")] == ["p/02298", "p/02299"]


@pytest.mark.parametrize("size", [1024, 40 * MIB])
def test_b34_a_store_that_refuses_checksum_headers_works_with_when_required(bucket, monkeypatch, size):
    def refuse(environ):
        named = [name for name in environ if name.startswith("HTTP_X_AMZ_CHECKSUM") or name == "HTTP_X_AMZ_TRAILER"]
        streamed = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "").startswith("STREAMING")
        return ("400 Bad Request", "XAmzContentSHA256Mismatch") if named or streamed else None

    content = b"z" * size
    bucket.fault = refuse
    with pytest.raises(RetriableError, match="XAmzContentSHA256Mismatch"):
        put(ObjectStore(load(BucketSettings)), "k", content)  # the default keeps AWS's integrity check
    monkeypatch.setenv("S3_CHECKSUMS", "when_required")
    store = ObjectStore(load(BucketSettings))
    put(store, "k", content)
    assert store.create("small", b"{}")
    assert store.read("k") == content


def test_b34_on_aws_settings_every_put_carries_a_checksum(bucket, store):
    put(store, "k", b"1")
    store.create("m", b"2")
    puts = [headers for line, headers in zip(bucket.requests, bucket.headers, strict=True) if line.startswith("PUT")]
    assert len(puts) == 2
    assert all(any(name.startswith("HTTP_X_AMZ_CHECKSUM") for name in headers) for headers in puts)


def test_kms_key_is_asked_for_with_every_object(bucket, monkeypatch):
    monkeypatch.setenv("AWS_KMS_KEY_ID", "alias/events")
    store = ObjectStore(load(BucketSettings))
    put(store, "k", b"1")
    store.create("m", b"2")
    wanted = ("aws:kms", "alias/events")
    for line, headers in zip(bucket.requests, bucket.headers, strict=True):
        if line.startswith("PUT"):
            sent = headers.get("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION")
            assert (sent, headers.get("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_AWS_KMS_KEY_ID")) == wanted


def test_of_many_writers_of_one_name_one_wins(bucket, store):
    results = []
    writers = [
        threading.Thread(target=lambda number=number: results.append((store.create("v", b"%d" % number), number)))
        for number in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    (winner,) = [number for won, number in results if won]
    assert bucket.objects()["v"] == b"%d" % winner


def test_a_conflict_with_a_write_in_flight_is_tried_again(bucket, store, no_waiting):
    answers = iter([("409 Conflict", "ConditionalRequestConflict")] * 2)
    bucket.fault = lambda environ: next(answers, None) if environ["REQUEST_METHOD"] == "PUT" else None
    assert store.create("v", b"1")
    assert bucket.objects() == {"v": b"1"}


def test_a_write_whose_answer_got_lost_is_reported_as_taken(bucket, store, no_waiting):
    answers = iter([("after", "503 Slow Down", "SlowDown")])
    bucket.fault = lambda environ: next(answers, None) if environ["REQUEST_METHOD"] == "PUT" else None
    assert not store.create("v", b"1")
    assert bucket.objects() == {"v": b"1"}


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        ("404 Not Found", "NoSuchBucket", "AWS_BUCKET_NAME"),
        ("403 Forbidden", "AccessDenied", "docs/aws"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
        ("403 Forbidden", "InvalidAccessKeyId", "AWS_ACCESS_KEY"),
        ("403 Forbidden", "SignatureDoesNotMatch", "AWS_ACCESS_SECRET_KEY"),
        ("400 Bad Request", "ExpiredToken", "renew"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", "AWS_REGION"),
        ("400 Bad Request", "KMS.DisabledException", "AWS_KMS_KEY_ID"),
    ],
)
def test_what_a_person_must_mend_is_a_configuration_error_that_says_how(bucket, store, status, code, advice):
    bucket.fault = lambda environ: (status, code)
    for call in (
        lambda: list(store.keys("p/")),
        lambda: store.read("k"),
        lambda: store.create("k", b"1"),
        lambda: put(store, "k", b"1"),
        lambda: put(store, "k", b"1" * 33 * MIB),
    ):
        with pytest.raises(ConfigurationError, match=advice) as caught:
            call()
        assert f"s3://{s3.BUCKET}" in str(caught.value)
        assert "test-secret" not in str(caught.value)


def test_a_denied_head_names_all_that_it_can_mean(bucket, store):
    bucket.fault = lambda environ: ("403 Forbidden", "ignored: HEAD has no body")
    with pytest.raises(ConfigurationError, match=r"AWS_ACCESS_KEY.*clock"):
        store.head("k")


def test_a_failing_or_absent_store_is_retriable(bucket, store, monkeypatch, no_waiting):
    bucket.fault = lambda environ: ("503 Service Unavailable", "SlowDown")
    with pytest.raises(RetriableError, match="503 SlowDown"):
        store.read("k")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(RetriableError, match="check the network"):
        ObjectStore(load(BucketSettings)).read("k")


def test_a_password_in_the_endpoint_is_in_no_error(bucket, monkeypatch, no_waiting):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:pass-word@127.0.0.1:1")
    with pytest.raises(RetriableError, match=r"at 127\.0\.0\.1:1: cannot") as raised:
        ObjectStore(load(BucketSettings)).head("a")
    assert "pass-word" not in str(raised.value)


def test_without_credentials_the_error_names_the_settings(bucket, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY", "unset")
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_SECRET_KEY: give both, or none"):
        load(BucketSettings)
    monkeypatch.setenv("AWS_ACCESS_SECRET_KEY", "unset")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps credentials that it found once
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="no credentials"):
        ObjectStore(load(BucketSettings)).read("k")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "standard-name")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "standard-secret")
    assert ObjectStore(load(BucketSettings)).create("k", b"1")


def test_a_slice_reads_as_a_file_of_its_own(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")
    with (tmp_path / "f").open("rb") as file:
        part = Slice(file, 3, 4)
        assert part.read() == b"3456"
        assert part.seek(-2, 2) == 2
        assert (part.read(1), part.tell(), part.read(9), part.read(9)) == (b"5", 3, b"6", b"")


def test_the_rights_of_docs_aws_tell_a_missing_object_from_a_forbidden_one(bucket, store):
    """A right to list by prefix does not count for HEAD and GET: S3 says 403 of a key that is not there."""
    bucket.fault = aws_policy.uploader(bucket)
    key = f"{s3.PREFIX}-ledger/project=1/first_day.json"
    assert store.head(key) is None
    with pytest.raises(DamagedError, match="is gone"):
        store.read(key)
    assert store.create(key, b"{}")
    assert store.read(key) == b"{}"
    bucket.fault = aws_policy.uploader(bucket, without="s3:GetObject")
    for look in (store.head, store.read):
        with pytest.raises(ConfigurationError, match="docs/aws/"):
            look(key)


def test_the_right_to_write_is_known_without_writing(bucket, store):
    bucket.fault = aws_policy.uploader(bucket)
    store.check_write(f"{s3.PREFIX}/doctor")
    bucket.put(f"{s3.PREFIX}/there", b"content")
    store.check_write(f"{s3.PREFIX}/there")
    assert bucket.objects() == {f"{s3.PREFIX}/there": b"content"}
    with pytest.raises(ConfigurationError, match="docs/aws/"):
        store.check_write("elsewhere/doctor")


def test_a_store_that_ignores_the_digest_is_left_as_it_was(bucket, store, monkeypatch):
    monkeypatch.setattr(object_store, "OTHER_MD5", base64.b64encode(hashlib.md5(b"doctor").digest()).decode())
    with pytest.raises(ConfigurationError, match="wrong Content-MD5"):
        store.check_write("k")
    assert bucket.objects() == {}
