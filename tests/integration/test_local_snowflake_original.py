"""The first design of SILVER on the local Snowflake: its known faults must show here as they would on an account.

Two procedures, a stream and two tasks, statement by statement as they were. What an account is documented to refuse (a
PIVOT over ANY in a procedure: sql-reference/constructs/pivot) is refused, and is then run outside of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from snowflake.connector.errors import ProgrammingError

from tests.exports import KEYS
from tests.integration.conformance.server import Server, snowflake_running

pytestmark = pytest.mark.scenario
KINDS = {key: "integer" if key in {"amplitude_id", "app", "event_id", "session_id"} else "varchar" for key in KEYS}
PAGES = [f"\"'[Amplitude] Page {what}'\"" for what in ("Counter", "Title", "URL")]

BATCH = "create or replace temp table amplitude_events_new as (select * from amplitude_events_stream)"
BASE1 = f"""insert into amplitude_events_base1
    select {", ".join(f'json_data:"{key}"::{kind} as "{key}"' for key, kind in KINDS.items())}
    from amplitude_events_new"""
BASE2 = """insert into amplitude_events_base2
    with properties as (
        select json_data:session_id as session_id, json_data:event_id as event_id, f.key as column_name, value
        from amplitude_events_new as t, lateral flatten(input => t.json_data:"event_properties") as f
    )
    select * from properties pivot (max(value) for column_name in (any order by column_name))"""
EVENTS = f"""select "event_type", "event_id", "event_time", "session_id", {PAGES[0]} as page_counter,
        replace({PAGES[1]}, '"', '') as page_title, replace({PAGES[2]}, '"', '') as url
    from amplitude_events_base1 b1
    join amplitude_events_base2 b2 on b1."session_id" = b2.session_id and b1."event_id" = b2.event_id"""
USERS = """merge into amplitude_users as d using (
        select max("user_id") as email, "amplitude_id" as user_id from amplitude_events_base1 group by "amplitude_id"
    ) as c on d.user_id = c.user_id
    when matched and c.email is not null then update set d.email = c.email
    when not matched then insert (email, user_id) values (c.email, c.user_id)"""
SESSION = """insert into amplitude_session
    select "amplitude_id" as user_id, "session_id", "device_id" from amplitude_events_base1"""

PROCEDURE = "create procedure {} returns varchar language sql as $$ begin {}; return '{}'; end $$"
OBJECTS = [
    "create database original",
    "create warehouse dataschool_wh",
    "create table amplitude_events_raw_python (json_data variant)",
    "create table amplitude_events_base1 (" + ", ".join(f'"{key}" {kind}' for key, kind in KINDS.items()) + ")",
    f"create table amplitude_events_base2 (session_id variant, event_id variant, {' variant, '.join(PAGES)} variant)",
    f'create table amplitude_events as ({EVENTS} order by "session_id" asc, "event_id" asc)',
    "create table amplitude_users (email varchar, user_id integer)",
    "create table amplitude_session (user_id integer, session_id integer, device_id varchar)",
    PROCEDURE.format("amplitude_base_update()", f"{BATCH}; {BASE1}; {BASE2}", "BASE TABLES UPDATED"),
    PROCEDURE.format(
        "amplitude_normalised_update()",
        f"insert into amplitude_events {EVENTS}; {USERS}; {SESSION}",
        "NORMALISED TABLES UPDATED",
    ),
]
TABLES = [f"amplitude_{name}" for name in ("events_raw_python", "events_base1", "events_base2", "events", "users")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with snowflake_running(tmp_path_factory.mktemp("snowflake"), "http://127.0.0.1:1") as server:
        with server.connect() as connection:
            for statement in OBJECTS:
                connection.cursor().execute(statement)
        yield server


@pytest.fixture
def cursor(server: Server) -> Iterator[Any]:
    """All objects of the first design, empty."""
    with server.connect("ORIGINAL", schema="PUBLIC") as connection:
        cursor = connection.cursor()
        cursor.execute("drop stream if exists amplitude_events_stream")
        for table in [*TABLES, "amplitude_session"]:
            cursor.execute(f"delete from {table}")
        cursor.execute("create stream amplitude_events_stream on table amplitude_events_raw_python")
        yield cursor


def event(number: int, session: int = 7, event_id: int | None = None) -> str:
    pages = {"[Amplitude] Page Counter": number, "[Amplitude] Page Title": f"Page {number}"}
    return json.dumps(
        {
            "uuid": f"uuid-{number}", "event_type": "[Amplitude] Page Viewed", "amplitude_id": 1, "app": 100,
            "user_id": "a@example.org", "event_id": number if event_id is None else event_id, "session_id": session,
            "device_id": "d", "event_properties": pages | {"[Amplitude] Page URL": f"https://example.org/{number}"},
        }
    )  # fmt: skip


def land(cursor: Any, *events: str) -> None:
    for one in events:
        cursor.execute(f"insert into amplitude_events_raw_python select parse_json('{one}')")


def count(cursor: Any, table: str) -> int:
    return int(cursor.execute(f"select count(*) from {table}").fetchone()[0])


def base_update(cursor: Any) -> None:
    """The first procedure's statements outside of it."""
    for statement in (BATCH, BASE1, BASE2):
        cursor.execute(statement)


def test_the_procedure_is_refused_for_its_pivot_and_has_lost_the_batch(cursor: Any) -> None:
    """Fault: the temporary table has consumed the stream in a transaction of its own before the failure."""
    land(cursor, event(1), event(2))
    with pytest.raises(ProgrammingError) as failure:
        cursor.execute("call amplitude_base_update()")
    assert "not supported locally" not in str(failure.value.msg)
    assert "PIVOT" in str(failure.value.msg)
    assert count(cursor, "amplitude_events_stream") == 0
    assert count(cursor, "amplitude_events_base2") == 0


def test_each_run_of_the_second_procedure_inserts_all_history_again(cursor: Any) -> None:
    """Fault: EVENTS and SESSION grow by everything that came before, USERS does not."""
    land(cursor, event(1), event(2))
    base_update(cursor)
    keys = cursor.execute('select "$insert_id", "event_id", "session_id" from amplitude_events_base1 order by 2')
    assert keys.fetchall() == [(None, 1, 7), (None, 2, 7)]
    pages = cursor.execute("select * from amplitude_events_base2 order by event_id").fetchall()
    assert [json.loads(page[3]) for page in pages] == ["Page 1", "Page 2"]
    for run in (1, 2):
        assert cursor.execute("call amplitude_normalised_update()").fetchone() == ("NORMALISED TABLES UPDATED",)
        assert count(cursor, "amplitude_events") == 2 * run
        assert count(cursor, "amplitude_session") == 2 * run  # a row for each event, not for each session
        assert count(cursor, "amplitude_users") == 1


def test_a_repeated_pair_of_session_and_event_multiplies_rows(cursor: Any) -> None:
    """Fault: the join on (session_id, event_id); out-of-session events (-1) meet all others of their id."""
    for number in (1, 2):  # two batches: in one batch the pivot would have merged the pair into one row
        land(cursor, event(number, session=-1, event_id=0))
        base_update(cursor)
    cursor.execute("call amplitude_normalised_update()")
    assert count(cursor, "amplitude_events_base1") == 2
    assert count(cursor, "amplitude_events") == 4


def test_a_new_property_breaks_the_positional_insert(cursor: Any) -> None:
    """Fault: the columns of the pivot are those of the batch."""
    land(cursor, event(1), json.dumps(json.loads(event(2)) | {"event_properties": {"extra": 2}}))
    with pytest.raises(ProgrammingError) as failure:
        base_update(cursor)
    assert failure.value.errno == 2057


def test_tasks_are_created_suspended_and_run_only_when_resumed(cursor: Any) -> None:
    cursor.execute(
        """create or replace task amplitude_base_update_task warehouse = dataschool_wh
        when system$stream_has_data('AMPLITUDE_EVENTS_STREAM') as call amplitude_base_update()"""
    )
    cursor.execute(
        """create or replace task amplitude_normalised_update_task warehouse = dataschool_wh
        after amplitude_base_update_task as call amplitude_normalised_update()"""
    )
    states = {row[1]: row[10] for row in cursor.execute("show tasks").fetchall()}
    assert states == {"AMPLITUDE_BASE_UPDATE_TASK": "suspended", "AMPLITUDE_NORMALISED_UPDATE_TASK": "suspended"}
    cursor.execute("select system$task_dependents_enable('amplitude_base_update_task')")
    land(cursor, event(1))
    ran = """select name, state from table(information_schema.task_history())
        where database_name = current_database() and state <> 'EXECUTING'"""
    deadline = time.monotonic() + 60
    while not (history := cursor.execute(ran).fetchall()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert history == [("AMPLITUDE_BASE_UPDATE_TASK", "FAILED")]  # its pivot; so the second never starts
