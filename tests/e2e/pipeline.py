"""What a user can see of a pipeline: runs with their tasks, objects in S3, rows in Snowflake."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from local import sql
from local.progress import Event
from local.session import Session


@dataclass
class Run:
    execution: str
    state: str
    outputs: dict[str, Any]
    tasks: dict[str, dict[str, Any]]  # the last word of each task, those of child runs too
    log: list[str]
    warnings: list[str]  # of it, what is above INFO


class Pipeline:
    def __init__(self, session: Session) -> None:
        self.session = session
        self.settings = session.stack.settings

    def run(self, flow: str, **inputs: object) -> Run:
        return self._followed(self.session.do("run", {"flow": flow, "inputs": inputs, "labels": {}}))

    def replay(self, execution: str) -> Run:
        return self._followed(self.session.do("replay", {"execution": execution, "task": None}))

    def run_and_kill(self, task: str, flow: str, **inputs: object) -> Run:
        """Kills the run as soon as the task runs."""
        return self._followed(self.session.do("run", {"flow": flow, "inputs": inputs, "labels": {}}), task)

    def _followed(self, events: Iterator[Event], kill_in: str = "") -> Run:
        tasks: dict[str, dict[str, Any]] = {}
        log: list[str] = []
        warnings: list[str] = []
        for event in events:
            if event["event"] == "task":
                tasks[event["task"]] = event
                if (event["task"], event["state"]) == (kill_in, "RUNNING"):
                    list(self.session.do("kill", {"execution": event["execution"]}))
            elif event["event"] == "log":
                log.append(event["message"])
                if event["level"] in {"WARN", "ERROR"}:
                    warnings.append(f"{event['task']}: {event['message']}")
        return Run(event["execution"], event["state"], event.get("outputs") or {}, tasks, log, warnings)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return sql.query(self.settings, statement)[1]

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
