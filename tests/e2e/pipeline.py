"""What a user can see of a pipeline: runs with their tasks, objects in S3, rows in Snowflake, export requests."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Any, Self

import boto3
import requests
from botocore.config import Config

from local import sql
from local.session import Session


@dataclass
class Run:
    execution: str
    state: str
    outputs: dict[str, Any]
    tasks: dict[str, dict[str, Any]]  # the last word of each task, those of child runs too
    log: list[str]


class Pipeline:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.settings = session.stack.settings

    @classmethod
    def deployed(cls, session: Session) -> Self:
        there = cls(session)
        for scope in ("account", "database"):
            deploy = there.run("snowflake_deploy", action="apply", scope=scope)
            assert deploy.state == "SUCCESS", deploy.log
        return there

    def run(self, flow: str, **inputs: object) -> Run:
        tasks: dict[str, dict[str, Any]] = {}
        log: list[str] = []
        for event in self.session.do("run", {"flow": flow, "inputs": inputs, "labels": {}}):
            if event["event"] == "task":
                tasks[event["task"]] = event
            elif event["event"] == "log":
                log.append(event["message"])
        return Run(event["execution"], event["state"], event.get("outputs") or {}, tasks, log)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return sql.query(self.settings, statement)[1]

    def uuids(self, relation: str, column: str = "uuid") -> list[str]:
        return [row[0] for row in self.sql(f"select {column} from {relation}")]

    def truth(self, day: str) -> dict[str, set[str]]:
        """Uuids per hour that the stand-in Amplitude serves, hours without events left out."""
        compact = day.replace("-", "")
        answer = self._amplitude("_truth", start=f"{compact}T00", end=f"{compact}T23")["hours"]
        return {hour: set(facts["uuids"]) for hour, facts in answer.items() if facts["uuids"]}

    def exports(self) -> list[dict[str, Any]]:
        """Export requests that the stand-in has seen."""
        return self._amplitude("_requests")["requests"]

    def _amplitude(self, path: str, **parameters: str) -> Any:
        answer = requests.get(f"{self.settings['AMP_BASE_URL']}/{path}", params=parameters, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.settings["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id="local",
            aws_secret_access_key="local",
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Key and bytes of every object below a prefix."""
        s3, bucket = self.s3(), self.settings["AWS_BUCKET_NAME"]
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def events_in_s3(self, day: str) -> list[dict[str, Any]]:
        prefix = f"python-import/project={self.settings['AMP_PROJECT_ID']}/date={day}/"
        parts = self.objects(prefix).values()
        return [json.loads(line) for part in parts for line in gzip.decompress(part).splitlines()]
