"""The protocol under stress: long statements, repeated requests, cancelled ones, nonsense."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector import DictCursor
from snowflake.connector.errors import Error, ProgrammingError

from local.snowflake.lexer import tokens
from tests.integration.conformance.harness import ROWS
from tests.integration.conformance.server import Server, snowflake_running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It says "in progress" after a second."""
    sooner = "from local.snowflake import wire; wire.ANSWER_WITHIN = 1.0"
    folder = tmp_path_factory.mktemp("snowflake")
    with snowflake_running(folder, "http://127.0.0.1:1", before=sooner) as server:
        with server.connect() as connection:
            connection.cursor().execute("create database wire")
        yield server


def test_a_key_pair_logs_in_and_no_user_does_not(server: Server) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with server.connect("WIRE", password=None, private_key=key) as connection:
        assert connection.cursor().execute("select current_database()").fetchone() == ("WIRE",)
    answer = server.post("/session/v1/login-request", {"data": {"LOGIN_NAME": ""}})
    assert (answer["success"], answer["code"]) == (False, "390100")


def test_a_long_statement_is_in_progress_and_runs_once(server: Server) -> None:
    """The connector gives up an answer after 60 s and sends the statement again with the same requestId."""
    token = server.login("WIRE")
    server.query(token, "create table slow (a int)")
    sql, request_id = "insert into slow select 1 from (select system$wait(2) w)", str(uuid.uuid4())
    first = server.query(token, sql, request_id)
    assert first["code"] == "333333"
    assert first["data"]["getResultUrl"].endswith("/result")
    while (again := server.query(token, sql, request_id)).get("code") == "333333":
        pass
    assert again["data"]["rowset"] == [["1"]]
    with server.connect("WIRE", schema="PUBLIC") as connection:
        assert connection.cursor().execute("select count(*) from slow").fetchone() == (1,)
        wait = "select system$wait(2)"  # the connector itself asks on
        assert connection.cursor().execute(wait).fetchone() == ("waited 2 seconds",)


def test_a_statement_sent_off_is_read_by_the_id_that_was_told(server: Server) -> None:
    with server.connect("WIRE") as connection:
        cursor = connection.cursor()
        cursor.execute_async("select 7 as a, system$wait(1)")
        cursor.get_results_from_sfqid(str(cursor.sfqid))
        assert cursor.fetchall() == [(7, "waited 1 seconds")]


def test_a_request_that_is_no_statement_gets_an_answer_too(server: Server) -> None:
    """HTTP 500 would be sent again and again."""
    for body in (b"", b"{", b"[1]", b"\xff", b'{"data": 1}', b'{"sqlText": 1, "bindings": 2}'):
        for path in ("/queries/v1/query-request", "/session/v1/login-request", "/session/token-request"):
            assert server.post(path, body, server.login("WIRE"))["success"] in (True, False)


def test_only_rows_of_a_query_travel_as_arrow(server: Server) -> None:
    """As an account does: snowflake-connector-python #1202 and #1796, `fetch_pandas_all` after another statement."""
    token = server.login("WIRE")
    statements = ["create table told (a int)", "insert into told select 1", "show tables", "select 1"]
    formats = {sql.split()[0]: server.query(token, sql)["data"]["queryResultFormat"] for sql in statements}
    assert formats == {"create": "json", "insert": "json", "show": "json", "select": "arrow"}
    with server.connect("WIRE", schema="PUBLIC") as connection:
        shown = connection.cursor(DictCursor).execute("show tables like 'TOLD'").fetchone()
    assert (shown["name"], shown["rows"], shown["comment"]) == ("TOLD", 1, "")


def test_a_reader_does_not_wait_for_a_writer(server: Server) -> None:
    with server.connect("WIRE", schema="PUBLIC") as one, server.connect("WIRE", schema="PUBLIC") as two:
        one.cursor().execute("create or replace table busy as select 1 a")
        one.cursor().execute("begin")
        one.cursor().execute("update busy set a = 2")
        assert two.cursor().execute("select a from busy").fetchone() == (1,)
        one.cursor().execute("commit")
        assert two.cursor().execute("select a from busy").fetchone() == (2,)


def test_a_second_writer_waits_for_the_first_and_then_goes_on(server: Server) -> None:
    with server.connect("WIRE", schema="PUBLIC") as one, server.connect("WIRE", schema="PUBLIC") as two:
        one.cursor().execute("create or replace table counted as select 1 a")
        one.cursor().execute("begin")
        one.cursor().execute("update counted set a = a + 1")
        waiting = threading.Thread(target=lambda: two.cursor().execute("update counted set a = a + 10"))
        waiting.start()
        time.sleep(0.5)
        assert waiting.is_alive()
        one.cursor().execute("commit")
        waiting.join(30)
        assert two.cursor().execute("select a from counted").fetchone() == (12,)


def test_a_database_that_is_made_anew_disturbs_no_statement_that_runs_in_the_old_one(server: Server) -> None:
    with server.connect() as one, server.connect() as two:
        one.cursor().execute("create database anew")
        one.cursor().execute("create table t as select 1 a")
        sql = "select count(*) from t, (select system$wait(2) w)"
        answers: list[Any] = []
        running = threading.Thread(target=lambda: answers.append(one.cursor().execute(sql).fetchone()))
        running.start()
        time.sleep(0.5)
        two.cursor().execute("create or replace database anew")
        two.cursor().execute("create table t as select 2 a")
        running.join(30)
        assert answers == [(1,)]
        assert one.cursor().execute("select a from t").fetchone() == (2,)
        two.cursor().execute("drop database anew")
        assert one.cursor().execute("select current_database()").fetchone() == (None,)


def test_many_sessions_write_and_remake_tables_at_once(server: Server) -> None:
    """Each in a schema of its own and all in one table; no statement fails, no row is lost."""
    rounds, failures = 5, []

    def work(number: int) -> None:
        try:
            with server.connect("WIRE", schema="PUBLIC") as connection:
                cursor = connection.cursor()
                for turn in range(rounds):
                    cursor.execute(f"create or replace schema mine_{number}")
                    cursor.execute("create table t (a int)")
                    cursor.execute(f"insert into t values ({turn})")
                    cursor.execute("insert into wire.public.shared select a from t")
                    cursor.execute("update wire.public.counter set n = n + 1")
        except Error as error:
            failures.append(error)

    with server.connect("WIRE", schema="PUBLIC") as connection:
        cursor = connection.cursor()
        cursor.execute("create table shared (a int)")
        cursor.execute("create table counter as select 0 n")
        workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert failures == []
        counts = "select (select count(*) from shared), (select n from counter)"
        assert cursor.execute(counts).fetchone() == (4 * rounds, 4 * rounds)


def test_a_cancelled_statement_ends(server: Server) -> None:
    with server.connect("WIRE", schema="PUBLIC") as connection:
        start = time.monotonic()
        with pytest.raises(ProgrammingError, match="canceled"):
            connection.cursor().execute("select count(*) from range(1e12::bigint) a(x), range(1000) b(y)", timeout=2)
        assert time.monotonic() - start < 20


def test_an_error_in_a_transaction_keeps_what_was_written_before(server: Server) -> None:
    with server.connect("WIRE", schema="PUBLIC") as connection:
        cursor = connection.cursor()
        cursor.execute("create or replace table kept (a int not null, b varchar(2))")
        cursor.execute("begin")
        for good, bad in (
            ("insert into kept values (1, 'x')", "insert into kept values (null, 'x')"),
            ("insert into kept values (2, 'y')", "insert into kept values (3, 'too long')"),
            ("update kept set b = 'z' where a = 2", "select no_such_column from kept"),
            ("insert into kept values (4, 'w')", "insert into kept select 1 / 0, 'v'"),
        ):
            cursor.execute(good)
            with pytest.raises(Error):
                cursor.execute(bad)
        cursor.execute("commit")
        rows = cursor.execute("select a, b from kept order by a").fetchall()
        assert rows == [(1, "x"), (2, "z"), (4, "w")]


def broken_statements(count: int) -> Iterator[str]:
    """Statements of the conformance list with tokens dropped, doubled, swapped and replaced; always the same ones."""
    random.seed(20261126)
    texts = [row["sql"] for row in ROWS] + [step for row in ROWS for step in row["setup"] if isinstance(step, str)]
    texts = [text for text in texts if not text.startswith("!") and "execute task" not in text]
    words = [token.text for text in texts for token in tokens(text)]
    for _ in range(count):
        parts = [token.text for token in tokens(random.choice(texts))]
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(parts)) if parts else 0
            change = random.choice(("drop", "double", "swap", "replace", "cut"))
            if change == "drop" and parts:
                del parts[at]
            elif change == "double" and parts:
                parts.insert(at, parts[at])
            elif change == "swap" and len(parts) > 1:
                parts[at], parts[at - 1] = parts[at - 1], parts[at]
            elif change == "replace" and parts:
                parts[at] = random.choice(words)
            else:
                parts = parts[:at]
        yield (
            " ".join(parts)
            .replace("{DB}", "WIRE")
            .replace("{integration}", "conformance_s3")
            .replace("{url}", "s3://x/")
        )


def random_statements(count: int) -> Iterator[str]:
    """Words in no order, and characters that are no words."""
    random.seed(7)
    words = [token.text for row in ROWS for token in tokens(row["sql"])]
    for number in range(count):
        if number % 2:
            yield " ".join(random.choices(words, k=random.randint(1, 25)))
        else:
            yield "".join(random.choices("aé漢\0\n\t '\"$$();,.:@{}[]\\-/*%?1", k=random.randint(0, 60)))


def test_no_broken_statement_hangs_or_breaks_the_server(server: Server) -> None:
    """Each gets an answer or a proper error at once: never an internal failure, never a lost connection."""
    token = server.login("WIRE")
    internal = []
    for statement in (*broken_statements(700), *random_statements(300)):
        start = time.monotonic()
        answer = server.query(token, statement)
        assert time.monotonic() - start < 20, statement
        if not answer["success"] and answer["code"] in {"000603", "390104"}:
            internal.append((statement, answer["message"]))
    assert internal == []
    with server.connect() as connection:
        assert connection.cursor().execute("select 1").fetchone() == (1,)


def test_an_unknown_statement_is_refused_by_name(server: Server) -> None:
    with server.connect("WIRE", schema="PUBLIC") as connection:
        for sql, what in (
            ("create dynamic table d target_lag = '1 minute' warehouse = w as select 1 a", "DYNAMIC"),
            ("undrop table t", "UNDROP"),
            ("select * from busy at (offset => -60)", "AT"),
            ("create masking policy p as (v varchar) returns varchar -> v", "MASKING"),
        ):
            with pytest.raises(Error) as refused:
                connection.cursor().execute(sql)
            assert "not supported locally" in str(refused.value.msg)
            assert what in str(refused.value.msg)


@pytest.mark.parametrize("call", ["get_ddl('table')", "get_ddl('table' 't')", "system$pipe_status()", "to_number()"])
def test_too_few_arguments_are_an_error_of_the_statement(server: Server, call: str) -> None:
    answer = server.query(server.login("WIRE"), f"select {call}")
    assert not answer["success"]
    assert answer["code"] != "000603", answer["message"]
