"""Functions that dbt models and DDL of this repository rest on, each with the answer that Snowflake documents."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector

from scripts.pipeline.archive import uuid_figures


@pytest.fixture(scope="module")
def cursor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = subprocess.Popen(
        [sys.executable, "-m", "local.snowflake", "--state", str(tmp_path_factory.mktemp("snowflake")),
         "--s3-endpoint", "http://127.0.0.1:1"],
        cwd=Path(__file__).resolve().parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdin
    assert server.stdout
    port = json.loads(server.stdout.readline())["port"]
    connection = snowflake.connector.connect(
        account="local", user="SOMEONE", password="any", host="127.0.0.1", port=port, protocol="http",
        session_parameters={"TIMEZONE": "America/Los_Angeles"}, login_timeout=20, network_timeout=30,
    )  # fmt: skip
    cursor = connection.cursor()
    cursor.execute("create database used")
    yield cursor
    connection.close()
    server.stdin.close()
    server.wait(timeout=20)


ZONED = "'YYYY-MM-DD HH24:MI:SS.FF9TZH:TZM'"
wall = datetime.fromisoformat  # TIMESTAMP_NTZ arrives without a zone


# Pages: functions/as_object, functions/to_timestamp, date-time-input-output, functions/convert_timezone,
# functions/md5_number_lower64, functions/try_to_number.
@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("as_object(parse_json('{\"a\": 1}')):a::int", 1),
        ("as_object(parse_json('[1]'))", None),
        ("as_object(parse_json('null'))", None),
        ("try_to_timestamp_ntz('2026-01-02 03:04:05.006007', 'YYYY-MM-DD HH24:MI:SS.FF9')",
         wall("2026-01-02 03:04:05.006007")),
        ("try_to_timestamp_ntz('2026-01-02 03:04:05', 'YYYY-MM-DD HH24:MI:SS.FF9')", None),
        (f"convert_timezone('UTC', try_to_timestamp_tz('2026-01-02 03:04:05.5+02:00', {ZONED}))::timestamp_ntz",
         wall("2026-01-02 01:04:05.500000")),
        (f"convert_timezone('UTC', try_to_timestamp_tz('no time', {ZONED}))::timestamp_ntz", None),
        ("parse_json('{\"$insert_id\": \"x\"}'):\"$insert_id\"::varchar", "x"),
        ("parse_json('{\"id\": 9007199254740993}'):id::number(38, 0)", 9007199254740993),
        ("try_to_number('abc', 38, 0)", None),
    ],
)  # fmt: skip
def test_a_function_that_our_sql_uses(cursor: Any, expression: str, answer: object) -> None:
    assert cursor.execute(f"select {expression}").fetchone()[0] == answer


def test_the_uuid_digest_is_that_of_the_manifest(cursor: Any) -> None:
    cursor.execute("select sum(md5_number_lower64(u)) from (values ('a'), ('b')) as t (u)")
    digests = b"".join(hashlib.md5(u).digest()[8:] for u in (b"a", b"b"))
    assert str(cursor.fetchone()[0]) == uuid_figures([digests])[1]


# Two rows: a, b, c.d are 1, 2, 3 and 4, 5, 6.
THREE = "v:a::varchar || v:b::varchar || v:c.d::varchar"


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (f"select {THREE} from said where v:a::varchar = '1'", ["123"]),
        (f"select {THREE.replace('v:', 's.v:')} from said as s", ["123", "456"]),
        (f"select {THREE} from said s union all select {THREE} || 'x' from said", ["123", "123x", "456", "456x"]),
        (f"select (select max({THREE.replace('v:', 'said.v:')} || n) from one) from said", ["1231", "4561"]),
        (f"select {THREE} || n from said s join one on true", ["1231", "4561"]),
        (f"select x from (select *, {THREE} as x from said)", ["123", "456"]),
    ],
)
def test_many_paths_of_one_column(cursor: Any, query: str, answer: list[str]) -> None:
    """Three and more are read together: wherever they stand, the answer is that of each alone."""
    objects = """('{"a": 1, "b": 2, "c": {"d": 3}}'), ('{"a": 4, "b": 5, "c": {"d": 6}}')"""
    cursor.execute(f"create or replace table said as select parse_json(column1) as v from values {objects}")
    cursor.execute("create or replace table one as select '1' as n")
    assert sorted(row[0] for row in cursor.execute(query)) == answer
