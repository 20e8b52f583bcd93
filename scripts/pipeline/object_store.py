"""The S3 bucket, or an S3-compatible store: paging, typed errors, objects that are never overwritten with other bytes.

Errors of the store become ConfigurationError (a person must act: keys, bucket, rights, clock, region) or
RetriableError (network, throttling, the store's own failure). S3's error codes: API reference, "Error responses".
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, Protocol, cast

import boto3
import botocore.exceptions as aws
from botocore.config import Config

from scripts.pipeline.errors import ConfigurationError, DamagedError, PipelineError, RetriableError
from scripts.pipeline.settings import BucketSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SHA256 = "sha256"  # name in the object's metadata; an ETag says nothing of the content under KMS
CONFLICT_TRIES = 8
OTHER_MD5 = base64.b64encode(bytes(16)).decode()  # of no content that anybody has

_KEYS = "check AWS_ACCESS_KEY and AWS_ACCESS_SECRET_KEY, or the profile or role that boto3 finds"
_CONFIGURATION = {
    "NoSuchBucket": "the bucket does not exist: check AWS_BUCKET_NAME and AWS_ENDPOINT_URL_S3, or create it",
    "InvalidAccessKeyId": f"the access key is unknown: {_KEYS}",
    "SignatureDoesNotMatch": f"the secret key does not fit the access key: {_KEYS}",
    "ExpiredToken": "the temporary credentials have expired: renew them",
    "TokenRefreshRequired": "the temporary credentials have expired: renew them",
    "InvalidToken": "the session token is not valid: renew the credentials",
    "RequestTimeTooSkewed": "this machine's clock is more than 15 minutes off: set it (NTP), then start again",
    "AccessDenied": "access denied: compare the rights of this user or role with docs/aws/",
    "AllAccessDisabled": "access to the bucket is disabled: ask its owner",
    "AccountProblem": "AWS reports a problem with the account of this key: ask its owner",
    "PermanentRedirect": "the bucket lies in another region: check AWS_REGION",
    "AuthorizationHeaderMalformed": "the bucket lies in another region: check AWS_REGION",
    "IllegalLocationConstraintException": "the bucket lies in another region: check AWS_REGION",
    "KMS.NotFoundException": "the KMS key does not exist: check AWS_KMS_KEY_ID",
    "KMS.DisabledException": "the KMS key is disabled: enable it or change AWS_KMS_KEY_ID",
    # An answer to HEAD has no body, so only its status is known.
    "301": "the bucket lies in another region: check AWS_REGION",
    "400": f"the request was refused: {_KEYS}, AWS_REGION, and this machine's clock",
    "403": f"access denied: {_KEYS}, its rights (docs/aws/), and this machine's clock",
}
_MISSING = {"404", "NoSuchKey", "NotFound"}


@dataclass(frozen=True)
class StoredObject:
    """What the store says about an object. `sha256` is "" when whoever put it left none."""

    key: str
    bytes: int
    sha256: str
    modified: datetime


class ObjectStore:
    """One bucket. Safe to use from several threads."""

    def __init__(self, settings: BucketSettings, tries: int = 5) -> None:
        self.bucket = settings.aws_bucket_name
        self._where = f"s3://{self.bucket}"
        if settings.aws_endpoint_url_s3:
            self._where += f" at {settings.aws_endpoint_url_s3.rpartition('@')[2]}"  # no user and password of it
        self._client = _client(settings, tries)
        self.endpoint: str = self._client.meta.endpoint_url
        self._encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": settings.aws_kms_key_id}
            if settings.aws_kms_key_id
            else {}
        )

    def keys(self, prefix: str, start_after: str = "") -> Iterator[tuple[str, int]]:
        """Keys and sizes (bytes) below `prefix`, in the order of their UTF-8 bytes; all pages."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, StartAfter=start_after
        )
        with self._errors(f"list {prefix}"):
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"], entry["Size"]

    def folders(self, prefix: str) -> list[str]:
        """The prefixes one `/` below `prefix` (which ends with `/`), sorted."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix, Delimiter="/")
        with self._errors(f"list {prefix}"):
            return sorted(entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", []))

    def head(self, key: str) -> StoredObject | None:
        """None when there is no such object."""
        with self._errors(f"look at {key}"):
            try:
                answer = self._client.head_object(Bucket=self.bucket, Key=key)
            except aws.ClientError as error:
                if self._is_missing(key, error):
                    return None
                raise
        sha256 = answer["Metadata"].get(SHA256, "")
        return StoredObject(key, answer["ContentLength"], sha256, answer["LastModified"].astimezone(UTC))

    @contextmanager
    def reading(self, key: str) -> Iterator[BinaryIO]:
        """The object as a stream. Raises DamagedError when there is no such object."""
        with self._errors(f"read {key}"):
            try:
                body = self._client.get_object(Bucket=self.bucket, Key=key)["Body"]
            except aws.ClientError as error:
                if self._is_missing(key, error):
                    message = f"{self._where}: {key} is gone. Run amplitude_daily over its day with `force`."
                    raise DamagedError(message) from None
                raise
            with body:
                yield cast("BinaryIO", body)

    def _is_missing(self, key: str, error: aws.ClientError) -> bool:
        """S3 says 403, not 404, of a missing key to those who may not list the bucket, and a right to list some
        prefixes (docs/aws) does not count for HEAD and GET: then a listing tells.
        """
        code = error.response.get("Error", {}).get("Code", "")
        if code not in {"403", "AccessDenied"}:
            return code in _MISSING
        try:
            there = self._client.list_objects_v2(Bucket=self.bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        except aws.ClientError:
            return False  # denied as well
        return not any(entry["Key"] == key for entry in there)

    def read(self, key: str) -> bytes:
        with self.reading(key) as body:
            return body.read()

    def create(self, key: str, content: bytes | BinaryIO, metadata: dict[str, str] | None = None) -> bool:
        """Puts an object unless the key is taken, in one step. False: it is taken (or an unanswered try of this very
        call took it: compare what is there). A stream costs no memory; S3 takes up to 5 GB in one request, and a part
        is a member of an archive of at most 4 GB.
        """
        with self._errors(f"create {key}"):
            for _ in range(CONFLICT_TRIES):
                if not isinstance(content, bytes):
                    content.seek(0)
                try:
                    self._client.put_object(
                        Bucket=self.bucket,
                        Key=key,
                        Body=content,
                        IfNoneMatch="*",
                        Metadata=metadata or {},
                        **self._encryption,  # type: ignore[arg-type]
                    )
                except aws.ClientError as error:
                    code = error.response.get("Error", {}).get("Code")
                    if code == "PreconditionFailed":
                        return False
                    if code != "ConditionalRequestConflict":  # 409: another one is being written at this moment
                        raise
                    time.sleep(0.2)
                else:
                    return True
        message = f"{self._where}: create {key} met other writers {CONFLICT_TRIES} times. Replay the run."
        raise RetriableError(message)

    def check_write(self, key: str) -> None:
        """Raises ConfigurationError without the right to put an object there. Nothing is stored: the request carries
        another content's MD5, and S3 looks at the rights first, then answers BadDigest.
        """
        with self._errors(f"create {key}"):
            try:
                self._client.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=b"doctor",
                    ContentMD5=OTHER_MD5,
                    IfNoneMatch="*",
                    **self._encryption,  # type: ignore[arg-type]
                )
            except aws.ClientError as error:
                if error.response.get("Error", {}).get("Code") not in {"BadDigest", "PreconditionFailed"}:
                    raise
            else:
                with suppress(aws.ClientError):
                    self._client.delete_object(Bucket=self.bucket, Key=key)
                message = (
                    f"{self._where}: {key} was stored in spite of a wrong Content-MD5: no such store is supported."
                )
                raise ConfigurationError(message)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (aws.BotoCoreError, aws.ClientError) as error:
            raise self._typed(what, error) from error

    def _typed(self, what: str, error: BaseException) -> PipelineError:
        place = f"{self._where}: cannot {what}: "
        if isinstance(error, aws.NoCredentialsError | aws.PartialCredentialsError | aws.CredentialRetrievalError):
            return ConfigurationError(f"{place}no credentials: {_KEYS}.")
        if isinstance(error, aws.ProfileNotFound | aws.NoRegionError | aws.ParamValidationError):
            return ConfigurationError(f"{place}{type(error).__name__}: check the AWS_ settings in .env.")
        if isinstance(error, aws.ClientError):
            code = error.response.get("Error", {}).get("Code", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            advice = _CONFIGURATION.get(code)
            if advice is None and code.startswith("KMS."):
                advice = "the KMS key refuses: check AWS_KMS_KEY_ID and the key's policy"
            if advice:
                return ConfigurationError(f"{place}{advice} ({code}).")
            return RetriableError(f"{place}the store answered {status} {code}. Replay the run later.")
        return RetriableError(f"{place}{type(error).__name__}: check the network, then replay the run.")


def _client(settings: BucketSettings, tries: int) -> S3Client:
    key, secret = settings.aws_access_key, settings.aws_access_secret_key
    config = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": tries},
        max_pool_connections=16,
        s3={"addressing_style": settings.s3_addressing_style},
        request_checksum_calculation=settings.s3_checksums,
        response_checksum_validation=settings.s3_checksums,
    )
    try:
        return boto3.client(
            "s3",
            region_name=settings.aws_region,
            endpoint_url=settings.aws_endpoint_url_s3,
            aws_access_key_id=key.get_secret_value() if key else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=config,
        )
    except (aws.BotoCoreError, ValueError) as error:  # boto3 raises ValueError for a malformed endpoint
        message = f"settings: no S3 client: {type(error).__name__}. Check the AWS_ settings in .env."
        raise ConfigurationError(message) from None


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def sha256_of(stream: Readable) -> str:
    """Hex digest of the rest of a stream, read in pieces."""
    digest = hashlib.sha256()
    while piece := stream.read(256 * 1024):
        digest.update(piece)
    return digest.hexdigest()
