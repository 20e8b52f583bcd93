"""State survives a stop and a kill; what was half done when the kill came is not there afterwards."""

from __future__ import annotations

import gzip
import json
import threading
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conformance.server import BUCKET, Server, s3_running, snowflake_running

EVENTS = 60_000
OBJECTS = """
create database kept;
create warehouse kept_wh;
create role kept_role;
create table landing (v variant, file varchar, line number, at timestamp_ltz) comment = 'what lands';
create table target (id number, v varchar);
create stream landed on table landing append_only = true;
create file format ndjson type = json;
create stage parts url = 's3://{bucket}/parts/' storage_integration = conformance_s3 file_format = ndjson;
create pipe brought auto_ingest = true as copy into landing
  from (select $1, metadata$filename, metadata$file_row_number, metadata$start_scan_time from @parts)
  on_error = skip_file;
create task moved warehouse = kept_wh when system$stream_has_data('landed') as call move();
create procedure move() returns varchar language sql as
$$
begin
    begin transaction;
    insert into target select v:id::number, v:text::varchar from landed;
    insert into target select -v:id::number, v:text::varchar from landed;
    commit;
    return 'moved';
end
$$;
create view seen as select count(*) as n from landing;
grant select on table landing to role kept_role
"""


def put(server: Server, name: str, first: int, count: int) -> None:
    lines = "\n".join(json.dumps({"id": number, "text": "x" * 200}) for number in range(first, first + count))
    server.aws("s3").put_object(Bucket=BUCKET, Key=f"parts/{name}.json.gz", Body=gzip.compress(lines.encode(), 1))


def query(server: Server, sql: str) -> list[tuple[Any, ...]]:
    with server.connect("KEPT", schema="PUBLIC") as connection:
        return list(connection.cursor().execute(sql).fetchall())


def wait_for(server: Server, sql: str, value: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while (found := query(server, sql)[0][0]) != value:
        assert time.monotonic() < deadline, f"{sql}: {found}, not {value}"
        time.sleep(0.2)


def deploy(server: Server) -> None:
    """The objects above; the procedure's body holds `;` and is cut out first."""
    head, rest = OBJECTS.split("create procedure", 1)
    body, tail = rest.split("$$;\n", 1)
    with server.connect() as connection:
        for statement in [*head.split(";\n"), f"create procedure{body}$$", *tail.split(";\n")]:
            if statement.strip():
                connection.cursor().execute(statement.replace("{bucket}", BUCKET))


def test_everything_is_there_after_a_stop_and_the_pipe_goes_on(tmp_path: Path) -> None:
    with s3_running(tmp_path / "s3") as endpoint:
        with snowflake_running(tmp_path / "state", endpoint) as server:
            deploy(server)
            put(server, "a", 0, 10)
            wait_for(server, "select count(*) from landing", 10)
        put(server, "b", 10, 5)  # it arrives while nobody watches
        with snowflake_running(tmp_path / "state", endpoint) as server:
            wait_for(server, "select n from seen", 15)
            assert query(server, "select count(*) from landed") == [(15,)]
            assert query(server, "select count(distinct file, line) from landing") == [(15,)]
            assert query(server, "show tables like 'LANDING'")[0][5] == "what lands"
            assert [row[1] for row in query(server, "show grants on table landing")] == ["SELECT"]
            assert query(server, "call move()") == [("moved",)]
            assert query(server, "select (select count(*) from landed), (select count(*) from target)") == [(0, 30)]
            assert query(server, "select state from table(information_schema.task_history())") == []
            history = "copy_history(table_name => 'LANDING', start_time => dateadd(hour, -1, current_timestamp()))"
            assert query(server, f"select count(*) from table(information_schema.{history})") == [(2,)]
            assert query(server, "alter pipe brought refresh") == []


COPY = "copy into landing (v) from (select $1 from @parts)"
CALL = "call move()"


def assert_all_or_nothing(server: Server) -> None:
    there, moved, left = query(
        server, "select (select count(*) from landing), (select count(*) from target), (select count(*) from landed)"
    )[0]
    assert there in {0, EVENTS}
    assert (moved, left) in {(0, there), (2 * there, 0)}


@pytest.mark.scenario  # five starts of the server
def test_a_kill_at_any_moment_leaves_nothing_half_done(tmp_path: Path) -> None:
    with s3_running(tmp_path / "s3") as endpoint:
        put(Server(0, endpoint, None), "a", 0, EVENTS)
        with snowflake_running(tmp_path / "state", endpoint) as server:
            deploy(server)
            query(server, "alter pipe brought set pipe_execution_paused = true")
            kill_during(server, COPY, 0.1)
        for statement, seconds in ((COPY, 0.4), (CALL, 0.1), (CALL, 0.4)):
            with snowflake_running(tmp_path / "state", endpoint) as server:
                assert_all_or_nothing(server)
                if statement == CALL:
                    query(server, COPY)  # what the kill has undone, or nothing
                kill_during(server, statement, seconds)
        with snowflake_running(tmp_path / "state", endpoint) as server:
            assert_all_or_nothing(server)
            query(server, CALL)
            assert query(server, "select count(*), count(distinct id) from target") == [(2 * EVENTS, 2 * EVENTS - 1)]
            assert query(server, "select count(*) from landed") == [(0,)]


def kill_during(server: Server, sql: str, seconds: float) -> None:
    """Send a statement and kill the server so long after it, as an outside process would."""

    token = server.login("KEPT")

    def send() -> None:
        with suppress(OSError, HTTPException):
            server.query(token, sql)

    sender = threading.Thread(target=send)
    sender.start()
    time.sleep(seconds)
    server.kill()
    sender.join(60)
