"""What S3 answers a user who has a policy of docs/aws, by IAM's rules: what no statement allows is denied."""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from tests import s3

DOCS = Path(__file__).resolve().parent.parent / "docs/aws"
ACTIONS = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}


def uploader(server: s3.S3, without: str = "") -> Callable[[dict[str, Any]], tuple[str, str] | None]:
    """A `fault` for the server. `without`: an action, or an action and what its resource ends with, that is denied."""
    text = (DOCS / "uploader-policy.json").read_text().replace("EXAMPLE-BUCKET", s3.BUCKET)
    statements = json.loads(text)["Statement"]

    def allowed(action: str, resource: str, **context: str) -> bool:
        denied, _, place = without.partition(" ")
        if action == denied and fnmatchcase(resource, f"*{place or '*'}"):
            return False
        return any(
            action in _listed(statement["Action"])
            and any(fnmatchcase(resource, pattern) for pattern in _listed(statement["Resource"]))
            and all(
                any(fnmatchcase(context[key], pattern) for pattern in _listed(patterns)) if key in context else False
                for key, patterns in statement.get("Condition", {}).get("StringLike", {}).items()
            )
            for statement in statements
        )

    def answer(environ: dict[str, Any]) -> tuple[str, str] | None:
        bucket = f"arn:aws:s3:::{s3.BUCKET}"
        key = unquote(environ["PATH_INFO"]).removeprefix(f"/{s3.BUCKET}").lstrip("/")
        if not key:
            prefix = parse_qs(environ.get("QUERY_STRING", "")).get("prefix", [""])[0]
            good = allowed("s3:ListBucket", bucket, **{"s3:prefix": prefix})
        else:
            good = allowed(ACTIONS[environ["REQUEST_METHOD"]], f"{bucket}/{key}")
            reads = environ["REQUEST_METHOD"] in {"GET", "HEAD"}
            if reads and key not in server.bucket.keys:  # HeadObject's page: 404 with s3:ListBucket, else 403
                good = good and allowed("s3:ListBucket", bucket)
        return None if good else ("403 Forbidden", "AccessDenied")

    return answer


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
