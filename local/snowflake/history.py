"""TABLE(INFORMATION_SCHEMA.…_HISTORY(…)): DuckDB SQL for each function."""

from __future__ import annotations

from local.snowflake import lexer, tasks
from local.snowflake.catalog import quoted, text
from local.snowflake.errors import compilation, unsupported
from local.snowflake.session import Session
from local.snowflake.translate import GLOBAL, HIDDEN

Arguments = dict[str | int, object]


def _named(session: Session, database: str | None, value: object) -> tuple[str, str, str]:
    parts = lexer.Reader(str(value)).name()
    if len(parts) < 3 and database and database != session.database:
        parts = [database, session.schema or "PUBLIC", parts[-1]] if len(parts) == 1 else [database, *parts]
    return session.resolve(parts)


def _time(value: object) -> str:
    return f"timestamptz {text(str(value))}"


def copy_history(session: Session, database: str | None, arguments: Arguments) -> str:
    table = arguments.get("TABLE_NAME", arguments.get(0))
    start, end = arguments.get("START_TIME", arguments.get(1)), arguments.get("END_TIME", arguments.get(2))
    if table is None or start is None:
        raise compilation(938, "not enough arguments for function [COPY_HISTORY], expected START_TIME", "22023")
    name = _named(session, database, table)
    until = f"and load_time <= {_time(end)}" if end is not None else ""
    return f"""
        select substr(file, 6 + strpos(substr(file, 6), '/')) as "FILE_NAME", '@' || stage as "STAGE_LOCATION",
          load_time as "LAST_LOAD_TIME", row_count as "ROW_COUNT", row_parsed as "ROW_PARSED", bytes as "FILE_SIZE",
          first_error as "FIRST_ERROR_MESSAGE", first_error_line as "FIRST_ERROR_LINE_NUMBER",
          first_error_character as "FIRST_ERROR_CHARACTER_POS", first_error_column as "FIRST_ERROR_COLUMN_NAME",
          error_count as "ERROR_COUNT", error_limit as "ERROR_LIMIT",
          case status when 'LOADED' then 'Loaded' when 'PARTIALLY_LOADED' then 'Partially loaded'
            when 'LOAD_FAILED' then 'Load failed' else status end as "STATUS",
          {text(name[0])} as "TABLE_CATALOG_NAME", schema_name as "TABLE_SCHEMA_NAME", table_name as "TABLE_NAME",
          split_part(pipe, '.', 1) as "PIPE_CATALOG_NAME", split_part(pipe, '.', 2) as "PIPE_SCHEMA_NAME",
          split_part(pipe, '.', 3) as "PIPE_NAME", case when pipe is not null then received end as "PIPE_RECEIVED_TIME",
          load_time as "FIRST_COMMIT_TIME"
        from {quoted(name[0], HIDDEN, "loads")}
        where schema_name = {text(name[1])} and table_name = {text(name[2])} and load_time >= {_time(start)} {until}
          and load_time > now() - interval 14 day"""


def validate_pipe_load(session: Session, database: str | None, arguments: Arguments) -> str:
    """Answers with an error for a pipe whose COPY transforms, as an account does."""
    name = _named(session, database, arguments.get("PIPE_NAME", arguments.get(0)))
    pipe = session.catalog.need("PIPE", name)
    if pipe["transforms"]:
        raise compilation(2095, "VALIDATE_PIPE_LOAD is not supported with COPY transformations.", "0A000")
    raise unsupported("VALIDATE_PIPE_LOAD")


def task_history(session: Session, database: str | None, arguments: Arguments) -> str:
    del session, database  # account-wide, filtered by its arguments only
    where = ["scheduled_time > now() - interval 7 day"]
    if arguments.get("TASK_NAME"):
        where.append(f"name = {text(str(arguments['TASK_NAME']).upper())}")
    if arguments.get("SCHEDULED_TIME_RANGE_START"):
        where.append(f"scheduled_time >= {_time(arguments['SCHEDULED_TIME_RANGE_START'])}")
    if arguments.get("SCHEDULED_TIME_RANGE_END"):
        where.append(f"scheduled_time <= {_time(arguments['SCHEDULED_TIME_RANGE_END'])}")
    if arguments.get("ERROR_ONLY"):
        where.append("state like 'FAILED%'")
    names = (
        "query_id", "name", "database_name", "schema_name", "query_text", "condition_text", "state", "error_code",
        "error_message", "scheduled_time", "query_start_time", "completed_time", "root_task_id", "run_id",
        "return_value", "scheduled_from", "attempt_number", "graph_run_group_id",
    )  # fmt: skip
    columns = ", ".join(f'{name} as "{name.upper()}"' for name in names)
    limit = int(str(arguments.get("RESULT_LIMIT", 100)))
    return f"""select {columns} from {GLOBAL}.{HIDDEN}.task_history where {" and ".join(where)}
        order by scheduled_time desc, query_start_time desc limit {limit}"""


def task_dependents(session: Session, database: str | None, arguments: Arguments) -> str:
    name = _named(session, database, arguments.get("TASK_NAME", arguments.get(0)))
    rows = ", ".join(
        f"({text(key[2])}, {text(key[0])}, {text(key[1])}, {text(task['state'])})"
        for key, task in tasks.dependents(session, name, recursive=bool(arguments.get("RECURSIVE", True)))
    )
    return f'select * from (values {rows}) as q("NAME", "DATABASE_NAME", "SCHEMA_NAME", "STATE")'


def query_history(session: Session, database: str | None, arguments: Arguments) -> str:
    del database
    return _queries(session, arguments, of_session=False)


def query_history_by_session(session: Session, database: str | None, arguments: Arguments) -> str:
    del database
    return _queries(session, arguments, of_session=True)


def _queries(session: Session, arguments: Arguments, *, of_session: bool) -> str:
    limit = int(str(arguments.get("RESULT_LIMIT", 100)))
    found = [query for query in list(session.account.queries) if not of_session or query.session_id == session.id]
    rows = []
    for query in found[-limit:]:
        error = query.error
        values = [
            query.query_id, query.text, query.database, query.schema, str(query.session_id), query.user, query.role,
            query.warehouse, query.query_tag, "FAILED_WITH_ERROR" if error else "SUCCESS",
            error.code_text if error else None, error.message if error else None,
        ]  # fmt: skip
        shown = ["null" if value is None else text(str(value)) for value in values]
        shown += [_time(query.start.isoformat()), _time(query.end.isoformat()), str(query.rows or 0)]
        rows.append(f"({', '.join(shown)})")
    names = (
        "QUERY_ID", "QUERY_TEXT", "DATABASE_NAME", "SCHEMA_NAME", "SESSION_ID", "USER_NAME", "ROLE_NAME",
        "WAREHOUSE_NAME", "QUERY_TAG", "EXECUTION_STATUS", "ERROR_CODE", "ERROR_MESSAGE", "START_TIME", "END_TIME",
        "ROWS_PRODUCED",
    )  # fmt: skip
    listed = ", ".join(rows) or f"({', '.join(['null'] * len(names))})"
    columns = ", ".join(f'"{name}"' for name in names)
    return f'select * from (values {listed}) as q({columns}) where "QUERY_ID" is not null'
