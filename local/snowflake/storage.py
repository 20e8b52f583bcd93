"""S3 as the stages see it: list, head, download, the queue that a bucket notifies."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.snowflake.errors import SnowflakeError

CREDENTIAL_SECONDS = 60


@dataclass(frozen=True, slots=True)
class StoredObject:
    bucket: str
    key: str
    etag: str
    size: int
    modified: datetime

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class Storage:
    """endpoint: the local S3. Keys are the environment's, any will do for a stand-in."""

    def __init__(self, endpoint: str | None, scratch: Path) -> None:
        self._endpoint, self.scratch = endpoint, scratch
        scratch.mkdir(parents=True, exist_ok=True)
        for left_over in scratch.iterdir():
            left_over.unlink()  # of a killed run
        self.s3 = self._client("s3")
        self._taken_on: dict[tuple[str, str, str], float] = {}  # until when

    def _client(self, service: str) -> Any:  # noqa: ANN401 - boto3 has no static types
        return boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self._endpoint,
            region_name=os.environ.get("AWS_REGION", "us-east-1"),
            aws_access_key_id=os.environ.get("AWS_ACCESS_KEY_ID", "local"),
            aws_secret_access_key=os.environ.get("AWS_SECRET_ACCESS_KEY", "local"),
            config=Config(connect_timeout=5, read_timeout=60, s3={"addressing_style": "path"}),
        )

    def take_on(self, role: str, principal: str, external_id: str) -> None:
        """AssumeRole, by the trust policy of the role. One that the stand-in for AWS does not hold is taken on unasked.

        Like an account it goes on with what it was given for a while after the policy has changed.
        """
        asked = (role, principal, external_id)
        if self._taken_on.get(asked, 0) > time.monotonic():
            return
        if (trust := self._trust(role)) and not any(_lets_in(each, principal, external_id) for each in trust):
            message = f"User: {principal} is not authorized to perform: sts:AssumeRole on resource: {role}"
            raise SnowflakeError(3167, f"Error assuming AWS_ROLE:\n{message}", "42601")
        self._taken_on[asked] = time.monotonic() + CREDENTIAL_SECONDS

    def _trust(self, role: str) -> list[dict[str, Any]]:
        if not self._endpoint:
            return []
        try:
            found = self._client("iam").get_role(RoleName=role.rsplit("/", 1)[-1])
        except (BotoCoreError, ClientError):
            return []
        return list(found["Role"]["AssumeRolePolicyDocument"]["Statement"])

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """Objects whose key begins with prefix, in key order."""
        try:
            for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield StoredObject(
                        bucket, entry["Key"], entry["ETag"].strip('"'), entry["Size"], entry["LastModified"]
                    )
        except (BotoCoreError, ClientError) as error:
            raise SnowflakeError(2003, f"Failure using stage area. Cause: [{error}]", "42501") from error

    def head(self, bucket: str, key: str) -> StoredObject:
        try:
            found = self.s3.head_object(Bucket=bucket, Key=key)
        except (BotoCoreError, ClientError) as error:
            hint = "There are several potential causes. The file might not exist."
            raise SnowflakeError(91016, f"Remote file 's3://{bucket}/{key}' was not found. {hint}", "22000") from error
        return StoredObject(bucket, key, found["ETag"].strip('"'), found["ContentLength"], found["LastModified"])

    def download(self, stored: StoredObject) -> Path:
        """A local copy in the scratch folder, which the caller deletes."""
        handle, name = tempfile.mkstemp(dir=self.scratch, suffix=".gz" if stored.key.endswith(".gz") else ".data")
        os.close(handle)
        try:
            self.s3.download_file(stored.bucket, stored.key, name)
        except (BotoCoreError, ClientError) as error:
            Path(name).unlink(missing_ok=True)
            raise SnowflakeError(91016, f"Remote file '{stored.url}' cannot be read: {error}", "22000") from error
        return Path(name)


def _lets_in(statement: dict[str, Any], principal: str, external_id: str) -> bool:
    """A statement of a trust policy."""
    wanted = statement.get("Condition", {}).get("StringEquals", {}).get("sts:ExternalId", external_id)
    who = (statement["Effect"], statement["Action"], statement["Principal"].get("AWS"))
    return who == ("Allow", "sts:AssumeRole", principal) and bool(wanted == external_id)
