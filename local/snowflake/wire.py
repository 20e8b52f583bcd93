"""Snowflake's HTTP protocol as far as its Python connector speaks it. Every failure is HTTP 200 with `success: false`.

The connector stops reading an answer after 60 s and sends the statement again with the same requestId. So a statement
that takes longer is answered "in progress" (333333) with a URL for its result, and a requestId runs once.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
from base64 import b64encode
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.snowflake import access, arrow, bindings, lexer
from local.snowflake import sql as plain_sql
from local.snowflake.account import Account
from local.snowflake.errors import SnowflakeError, convert
from local.snowflake.results import SELECT, Result, counts, status
from local.snowflake.session import Session

ANSWER_WITHIN = 25.0  # seconds; well below the connector's 60
KEPT_ANSWERS = 500
Json = dict[str, Any]


@dataclass(slots=True)
class Running:
    """A statement that was sent: its session and what it will answer."""

    session: Session
    answer: Future[list[Result]]
    query_id: str


class Wire:
    def __init__(self, account: Account) -> None:
        self._account = account
        self._sessions: dict[str, Session] = {}
        self._running: OrderedDict[str, Running] = OrderedDict()  # by query id
        self._requests: OrderedDict[str, Running] = OrderedDict()  # by requestId
        self._pool = ThreadPoolExecutor(max_workers=64, thread_name_prefix="statement")

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/session/v1/login-request", self._login, methods=["POST"]),
                Route("/session/token-request", self._renew, methods=["POST"]),
                Route("/session/heartbeat", self._nothing, methods=["POST"]),
                Route("/session", self._logout, methods=["POST"]),
                Route("/queries/v1/query-request", self._query, methods=["POST"]),
                Route("/queries/v1/abort-request", self._abort, methods=["POST"]),
                Route("/queries/{query_id}/result", self._result),
                Route("/monitoring/queries/{query_id}", self._monitor),
                Route("/telemetry/send", self._nothing, methods=["POST"]),
            ],
            exception_handlers={Exception: _unforeseen},
        )

    def close(self) -> None:
        for session in list(self._sessions.values()):
            self._cancel(session)
        self._pool.shutdown(wait=True, cancel_futures=True)

    # ---- sessions
    async def _login(self, request: Request) -> JSONResponse:
        data = (await _body(request)).get("data", {})
        query = request.query_params
        user = str(data.get("LOGIN_NAME") or "").upper()
        if not user:
            return _failure(SnowflakeError(390100, "Incorrect username or password was specified.", "08001"))
        names = [_name(query.get(key)) for key in ("databaseName", "schemaName", "roleName", "warehouse")]
        loop = asyncio.get_running_loop()
        try:
            session = await loop.run_in_executor(self._pool, self._open, user, names, data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client needs an answer
            return _failure(convert(error))
        token = secrets.token_urlsafe(32)
        self._sessions[token] = session
        return JSONResponse(
            {
                "data": {
                    "token": token,
                    "masterToken": token,
                    "validityInSeconds": 86400,
                    "masterValidityInSeconds": 86400,
                    "sessionId": session.id,
                    "serverVersion": "9.0.0",
                    "parameters": [*_parameters(session), {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0}],
                    "sessionInfo": {
                        "databaseName": session.database,
                        "schemaName": session.schema,
                        "warehouseName": session.warehouse,
                        "roleName": session.role,
                    },
                },
                "success": True,
            }
        )

    def _open(self, user: str, names: list[str | None], data: Json) -> Session:
        session = self._account.login(user, *names)
        try:
            access.check_login(session, data.get("TOKEN"))
            for name, value in (data.get("SESSION_PARAMETERS") or {}).items():
                if name in {"QUERY_TAG", "TIMEZONE", "STATEMENT_TIMEOUT_IN_SECONDS"}:
                    session.set_parameter(name, value)
        except SnowflakeError:
            self._account.logout(session)
            raise
        return session

    async def _renew(self, request: Request) -> JSONResponse:
        token = (await _body(request)).get("oldSessionToken")
        data = {"sessionToken": token, "masterToken": token, "validityInSecondsST": 86400, "validityInSecondsMT": 86400}
        return JSONResponse({"data": data, "success": True})

    async def _logout(self, request: Request) -> JSONResponse:
        if request.query_params.get("delete"):
            session = self._sessions.pop(_token(request), None)
            if session is not None:
                await asyncio.get_running_loop().run_in_executor(self._pool, self._account.logout, session)
        return JSONResponse({"data": None, "success": True})

    async def _nothing(self, request: Request) -> JSONResponse:  # noqa: ARG002 - the signature of a route
        return JSONResponse({"data": {}, "success": True})

    # ---- statements
    async def _query(self, request: Request) -> JSONResponse:
        session = self._sessions.get(_token(request))
        if session is None:
            return _failure(SnowflakeError(390104, "User must login again to access the service.", "08001"))
        body = await _body(request)
        request_id = request.query_params.get("requestId", "")
        running = self._requests.get(request_id)
        if running is None:
            session.cancelled.clear()
            query_id = secrets.token_hex(16)
            running = Running(session, self._pool.submit(_execute, session, body, query_id), query_id)
            self._running[running.query_id] = running
            self._requests[request_id] = running
            for kept in (self._running, self._requests):
                while len(kept) > KEPT_ANSWERS:
                    kept.popitem(last=False)
        if body.get("asyncExec"):
            data = {"queryId": running.query_id, "getResultUrl": f"/queries/{running.query_id}/result"}
            return JSONResponse({"data": data, "code": "333334", "message": "accepted", "success": True})
        return await self._answer(running)

    async def _answer(self, running: Running) -> JSONResponse:
        """The result, or "in progress" when it is not there in time."""
        answer = asyncio.wrap_future(running.answer)
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # read also when nobody waits
        await asyncio.wait({answer}, timeout=ANSWER_WITHIN)
        if not answer.done():
            url = f"/queries/{running.query_id}/result"
            data = {"queryId": running.query_id, "getResultUrl": url, "queryAbortsAfterSecs": 86400}
            return JSONResponse({"data": data, "code": "333333", "message": "in progress", "success": True})
        try:
            results = answer.result()
            if len(results) == 1:
                loop = asyncio.get_running_loop()
                return JSONResponse(
                    await loop.run_in_executor(self._pool, _encode, running.session, results[0], running.query_id)
                )
        except Exception as error:  # noqa: BLE001 - whatever it is, the client needs an answer
            return _failure(convert(error), running.query_id)
        return JSONResponse(self._several(running, results))

    def _several(self, running: Running, results: list[Result]) -> Json:
        """A request of several statements: each result is asked for by its own id."""
        for result in results:
            done: Future[list[Result]] = Future()
            done.set_result([result])
            self._running[result.query_id] = Running(running.session, done, result.query_id)
        data = {
            "resultIds": ",".join(result.query_id for result in results),
            "resultTypes": ",".join(str(result.type_id) for result in results),
            "queryId": running.query_id,
            "statementTypeId": 0xA000,
            "rowtype": [],
            "rowset": [],
            "queryResultFormat": "json",
            "total": 0,
            "returned": 0,
        }
        return {"data": data, "success": True}

    async def _result(self, request: Request) -> JSONResponse:
        running = self._running.get(request.path_params["query_id"])
        if running is None:
            return _failure(SnowflakeError(709, f"Statement {request.path_params['query_id']} not found", "02000"))
        return await self._answer(running)

    async def _monitor(self, request: Request) -> JSONResponse:
        running = self._running.get(request.path_params["query_id"])
        queries = []
        if running is not None:
            done = running.answer.done()
            failed = done and running.answer.exception() is not None
            state = "FAILED_WITH_ERROR" if failed else "SUCCESS" if done else "RUNNING"
            error = convert(running.answer.exception() or Exception()) if failed else None
            queries = [
                {
                    "id": running.query_id,
                    "status": state,
                    "errorCode": error.code_text if error else "",
                    "errorMessage": error.message if error else "",
                }
            ]
        return JSONResponse({"data": {"queries": queries}, "success": True})

    async def _abort(self, request: Request) -> JSONResponse:
        session = self._sessions.get(_token(request))
        if session is not None:
            self._cancel(session)
        return JSONResponse({"data": None, "success": True})

    @staticmethod
    def _cancel(session: Session) -> None:
        session.cancelled.set()
        session.transaction.duck.interrupt()


def _execute(session: Session, body: Json, query_id: str) -> list[Result]:
    results = _results(session, body)
    session.results[query_id] = results[-1]  # whoever was told this id before the statement ended asks for it by it
    return results


def _results(session: Session, body: Json) -> list[Result]:
    text = str(body.get("sqlText", ""))
    rows = bindings.rows(body.get("bindings") or {})
    if body.get("describeOnly"):
        with session.lock:
            return [_describe(session, text)]
    wanted = int((body.get("parameters") or {}).get("MULTI_STATEMENT_COUNT", 1))
    parts = lexer.split(text) if wanted != 1 else [text]
    if wanted > 1 and len(parts) != wanted:
        message = f"Actual statement count {len(parts)} did not match the desired statement count {wanted}."
        raise SnowflakeError(8, message, "0A000")
    if len(parts) > 1:
        return [session.execute(part) for part in parts]
    if len(rows) <= 1:
        return [session.execute(text, rows[0] if rows else ())]
    results = [session.execute(text, row) for row in rows]
    if not results[-1].dml:
        return [results[-1]]
    return [counts(results[-1].type_id, number_of_rows_inserted=sum(result.rowcount for result in results))]


def _describe(session: Session, text: str) -> Result:
    try:
        return plain_sql.describe(session, text) if lexer.head(text) in {"SELECT", "WITH"} else status()
    except Exception as error:
        raise convert(error, text) from error


def _encode(session: Session, result: Result, query_id: str) -> Json:
    data: Json = {
        "parameters": _parameters(session),
        "rowtype": [column.wire() for column in result.columns],
        "total": result.table.num_rows,
        "returned": result.table.num_rows,
        "queryId": result.query_id or query_id,
        "statementTypeId": result.type_id,
        "finalDatabaseName": session.database,
        "finalSchemaName": session.schema,
        "finalWarehouseName": session.warehouse,
        "finalRoleName": session.role,
    }
    # As an account does: only the rows of a query travel as Arrow. Other answers hold text and whole numbers alone.
    if result.type_id == SELECT:
        data["queryResultFormat"] = "arrow"
        data["rowsetBase64"] = b64encode(arrow.encode(result)).decode()
    else:
        data["queryResultFormat"] = "json"
        data["rowset"] = [[None if value is None else str(value) for value in row] for row in result.rows()]
    return {"data": data, "success": True, "code": None, "message": None}


def _parameters(session: Session) -> list[Json]:
    return [
        {"name": "AUTOCOMMIT", "value": True},
        {"name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600},
        {"name": "TIMEZONE", "value": str(session.parameter("TIMEZONE"))},
    ]


def _failure(error: SnowflakeError, query_id: str = "") -> JSONResponse:
    data = {"errorCode": error.code_text, "sqlState": error.state, "queryId": query_id, "internalError": False}
    return JSONResponse({"data": data, "code": error.code_text, "message": error.message, "success": False})


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the signature of a handler
    """Never HTTP 500: the connector would send the request again until its network_timeout."""
    return _failure(convert(error))


async def _body(request: Request) -> Json:
    raw = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        raw = gzip.decompress(raw)
    parsed = json.loads(raw or b"{}")
    return parsed if isinstance(parsed, dict) else {}


def _token(request: Request) -> str:
    """`Authorization: Snowflake Token="…"`."""
    return request.headers.get("Authorization", "").removeprefix('Snowflake Token="').rstrip('"')


def _name(given: str | None) -> str | None:
    if not given:
        return None
    return given[1:-1] if given.startswith('"') else given.upper()
