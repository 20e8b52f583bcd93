"""The rows of each SHOW."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from local.snowflake.catalog import Name, Properties
from local.snowflake.describe import snowflake_type
from local.snowflake.objects import OF_ACCOUNT
from local.snowflake.privileges import SYSTEM_ROLES
from local.snowflake.session import DEFAULT_PARAMETERS, Session
from local.snowflake.translate import HIDDEN

Row = tuple[object, ...]
_HIDDEN_SCHEMAS = f"('main', 'information_schema', 'pg_catalog', '{HIDDEN}')"


@dataclass(slots=True)
class Scope:
    """What a SHOW is limited to: LIKE, IN, STARTS WITH, LIMIT … FROM."""

    database: str | None
    schema: str | None
    like: str | None = None
    starts_with: str = ""
    limit: int = 10_000
    after: str = ""
    terse: bool = False

    def names(self, name: str) -> bool:
        return matches(self.like, name) and name.startswith(self.starts_with) and name > self.after

    def objects(self, session: Session, kind: str) -> Iterator[tuple[Name, Properties]]:
        for name, properties in session.catalog.all(kind):
            inside = self.database in {None, name[0]} and self.schema in {None, name[1]}
            if (kind in OF_ACCOUNT or inside) and self.names(name[2]):
                yield name, properties


def matches(pattern: str | None, name: str) -> bool:
    """LIKE of SHOW: without regard to case."""
    if pattern is None:
        return True
    expression = re.escape(pattern).replace("%", ".*").replace("_", ".")
    return re.fullmatch(expression, name, re.IGNORECASE | re.DOTALL) is not None


Shown = tuple[list[str | tuple[str, str]], list[Row]]


def relations(
    session: Session, scope: Scope, kinds: tuple[str, ...]
) -> list[tuple[str, str, str, str, str, int | None]]:
    """(database, schema, name, kind, comment, rows) of tables and views."""
    parts = []
    if "TABLE" in kinds:
        parts.append("""select database_name d, schema_name s, table_name n, 'TABLE' k, comment c, estimated_size r
                        from duckdb_tables() where not temporary""")
    if "VIEW" in kinds:
        parts.append("""select database_name d, schema_name s, view_name n, 'VIEW' k, comment c, null r
                        from duckdb_views() where not internal and not temporary""")
    sql = f"""select d, s, n, k, coalesce(c, ''), r from ({" union all ".join(parts)})
        where d in (select database_name from duckdb_databases() where path is not null)
          and d <> '_fs_global' and s not in {_HIDDEN_SCHEMAS}
          and (d = $1 or $1 is null) and (s = $2 or $2 is null) order by d, s, n"""
    found = session.meta.execute(sql, [scope.database, scope.schema]).fetchall()
    streams = {name for name, _ in session.catalog.all("STREAM")}
    return [row for row in found if scope.names(row[2]) and tuple(row[:3]) not in streams]


def owner_of(session: Session, kind: str, name: Name) -> tuple[str, str]:
    """(created_on, owner)."""
    properties = session.catalog.get(kind, name) or {}
    return str(properties.get("created_on", "1970-01-01 00:00:00.000")), str(properties.get("owner", "SYSADMIN"))


def objects(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "database_name", "schema_name", "kind", "comment", "cluster_by", ("rows", "fixed"),
        ("bytes", "fixed"), "owner", "retention_time", "owner_role_type", "is_hybrid", "is_dynamic", "is_iceberg",
        "is_interactive",
    ]  # fmt: skip
    rows: list[Row] = []
    for database, schema, name, kind, comment, count in relations(session, scope, ("TABLE", "VIEW")):
        created, owner = owner_of(session, kind, (database, schema, name))
        size = None if count is None else 0
        rows.append(
            (created, name, database, schema, kind, comment, "", count, size, owner, "1", "ROLE", "N", "N", "N", "N")
        )
    return columns, rows


def tables(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "database_name", "schema_name", "kind", "comment", "cluster_by", ("rows", "fixed"),
        ("bytes", "fixed"), "owner", "retention_time", "change_tracking", "is_external", "owner_role_type",
        "is_event", "is_hybrid", "is_iceberg", "is_dynamic", "is_immutable",
    ]  # fmt: skip
    rows: list[Row] = []
    for database, schema, name, _, comment, count in relations(session, scope, ("TABLE",)):
        created, owner = owner_of(session, "TABLE", (database, schema, name))
        rows.append((created, name, database, schema, "TABLE", comment, "", count, 0, owner, "1", "ON", "N", "ROLE",
                     "N", "N", "N", "N", "N"))  # fmt: skip
    return columns, rows


def views(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "kind", "reserved", "database_name", "schema_name", "owner", "comment", "text",
        "is_secure", "is_materialized", "owner_role_type", "change_tracking",
    ]  # fmt: skip
    rows: list[Row] = []
    for database, schema, name, _, comment, _ in relations(session, scope, ("VIEW",)):
        properties = session.catalog.get("VIEW", (database, schema, name)) or {}
        created, owner = owner_of(session, "VIEW", (database, schema, name))
        rows.append((created, name, "", "", database, schema, owner, comment, properties.get("text", ""), "false",
                     "false", "ROLE", "OFF"))  # fmt: skip
    return columns, rows


def schemas(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "is_default", "is_current", "database_name", "owner", "comment", "options",
        "retention_time", "owner_role_type", "kind", "schema_name",
    ]  # fmt: skip
    sql = f"""select database_name, schema_name from duckdb_schemas()
        where database_name in (select database_name from duckdb_databases() where path is not null)
          and database_name <> '_fs_global' and schema_name not in {_HIDDEN_SCHEMAS}
          and (database_name = $1 or $1 is null) order by 1, 2"""
    rows: list[Row] = []
    for database, schema in session.meta.execute(sql, [scope.database]).fetchall():
        properties = session.catalog.get("SCHEMA", (database, schema, "")) or {}
        created = properties.get("created_on", "1970-01-01 00:00:00.000")
        current = "Y" if (database, schema) == (session.database, session.schema) else "N"
        if scope.names(schema):
            rows.append((created, schema, "N", current, database, properties.get("owner", "SYSADMIN"),
                         properties.get("comment", ""), "", "1", "ROLE", None, None))  # fmt: skip
    return columns, rows


def databases(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "is_default", "is_current", "origin", "owner", "comment", "options", "retention_time",
        "kind", "database_name", "schema_name",
    ]  # fmt: skip
    rows: list[Row] = []
    for database in session.account.databases():
        properties = session.catalog.get("DATABASE", (database, "", "")) or {}
        created = properties.get("created_on", "1970-01-01 00:00:00.000")
        current = "Y" if database == session.database else "N"
        if scope.names(database):
            rows.append((created, database, "N", current, "", properties.get("owner", "SYSADMIN"),
                         properties.get("comment", ""), "", "1", "STANDARD", None, None))  # fmt: skip
    return columns, rows


def columns(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "table_name", "schema_name", "column_name", "data_type", "null?", "default", "kind", "expression", "comment",
        "database_name",
    ]  # fmt: skip
    found = session.meta.execute(
        f"""select table_name, schema_name, column_name, data_type, is_nullable, column_default, comment, database_name
            from duckdb_columns() where schema_name not in {_HIDDEN_SCHEMAS} and not internal
              and (database_name = $1 or $1 is null) and (schema_name = $2 or $2 is null)""",
        [scope.database, scope.schema],
    ).fetchall()
    rows: list[Row] = [
        (table, schema, column, f'{{"type":"{snowflake_type(type_)}"}}', str(nullable).lower(), default, "COLUMN", "",
         comment or "", database)
        for table, schema, column, type_, nullable, default, comment, database in found
        if scope.names(column)
    ]  # fmt: skip
    return columns, rows


def pipes(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "database_name", "schema_name", "definition", "owner", "notification_channel", "comment",
        "integration", "pattern", "error_integration", "owner_role_type", "invalid_reason", "kind",
    ]  # fmt: skip
    rows: list[Row] = [
        (p["created_on"], name[2], name[0], name[1], p["definition"], p["owner"], p["notification_channel"],
         p["comment"], None, p["pattern"], None, "ROLE", None, "STAGE")
        for name, p in scope.objects(session, "PIPE")
    ]  # fmt: skip
    return columns, rows


def stages(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "database_name", "schema_name", "url", "has_credentials", "has_encryption_key", "owner",
        "comment", "region", "type", "cloud", "notification_channel", "storage_integration", "endpoint",
        "owner_role_type", "directory_enabled",
    ]  # fmt: skip
    rows: list[Row] = [
        (p["created_on"], name[2], name[0], name[1], p["url"], "N", "N", p["owner"], p["comment"], "us-east-1",
         "EXTERNAL", "AWS", None, p["storage_integration"], None, "ROLE", "N")
        for name, p in scope.objects(session, "STAGE")
    ]  # fmt: skip
    return columns, rows


def streams(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "database_name", "schema_name", "owner", "comment", "table_name", "source_type",
        "base_tables", "type", "stale", "mode", "stale_after", "invalid_reason", "owner_role_type",
    ]  # fmt: skip
    rows: list[Row] = [
        (p["created_on"], name[2], name[0], name[1], p["owner"], p["comment"], ".".join(p["source"]), "Table",
         ".".join(p["source"]), "DELTA", str(p["stale"]).lower(), "APPEND_ONLY" if p["append_only"] else "DEFAULT",
         None, "N/A", "ROLE")
        for name, p in scope.objects(session, "STREAM")
    ]  # fmt: skip
    return columns, rows


def tasks(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "id", "database_name", "schema_name", "owner", "comment", "warehouse", "schedule",
        "predecessors", "state", "definition", "condition", "allow_overlapping_execution", "error_integration",
        "last_committed_on", "last_suspended_on", "owner_role_type", "config", "task_relations",
    ]  # fmt: skip
    rows: list[Row] = []
    for name, p in scope.objects(session, "TASK"):
        after = [".".join(one) for one in p["after"]]
        options = p["options"]
        rows.append((
            p["created_on"], name[2], ".".join(name), name[0], name[1], p["owner"], options.get("COMMENT", ""),
            options.get("WAREHOUSE"), options.get("SCHEDULE"), after, p["state"], p["body"], p["when"],
            str(bool(options.get("ALLOW_OVERLAPPING_EXECUTION"))).lower(), options.get("ERROR_INTEGRATION"), None,
            None, "ROLE", options.get("CONFIG"), {"Predecessors": after},
        ))  # fmt: skip
    return columns, rows


def procedures(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "schema_name", "is_builtin", ("min_num_arguments", "fixed"),
        ("max_num_arguments", "fixed"), "arguments", "description", "catalog_name", "language",
    ]  # fmt: skip
    rows: list[Row] = [
        (p["created_on"], name[2].split("(")[0], name[1], "N", len(p["arguments"]), len(p["arguments"]),
         f"{name[2]} RETURN {p['returns']}", p.get("comment") or "user-defined procedure", name[0], p["language"])
        for name, p in scope.objects(session, "PROCEDURE")
    ]  # fmt: skip
    return columns, rows


def roles(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "is_default", "is_current", "is_inherited", ("assigned_to_users", "fixed"),
        ("granted_to_roles", "fixed"), ("granted_roles", "fixed"), "owner", "comment",
    ]  # fmt: skip
    known = [(name, "1970-01-01 00:00:00.000", "", "") for name in SYSTEM_ROLES]
    known += [(name[2], p["created_on"], p["owner"], p["comment"]) for name, p in session.catalog.all("ROLE")]
    rows: list[Row] = [
        (created, name, "N", "Y" if name == session.role else "N", "N", 0, 0, 0, owner, comment)
        for name, created, owner, comment in sorted(known)
        if scope.names(name)
    ]
    return columns, rows


def warehouses(session: Session, scope: Scope) -> Shown:
    columns: list[str | tuple[str, str]] = [
        "name", "state", "type", "size", ("auto_suspend", "fixed"), "auto_resume", "resource_monitor", "comment",
        "owner", "created_on",
    ]  # fmt: skip
    rows: list[Row] = []
    for name, p in scope.objects(session, "WAREHOUSE"):
        o = p["options"]
        size = str(o.get("WAREHOUSE_SIZE", "XSMALL")).upper()
        rows.append((
            name[2], "STARTED", o.get("WAREHOUSE_TYPE", "STANDARD"), {"XSMALL": "X-Small"}.get(size, size.capitalize()),
            o.get("AUTO_SUSPEND", 600), str(o.get("AUTO_RESUME", True)).lower(), o.get("RESOURCE_MONITOR", "null"),
            p["comment"], p["owner"], p["created_on"],
        ))  # fmt: skip
    return columns, rows


def integrations(session: Session, scope: Scope) -> Shown:
    rows: list[Row] = [
        (name[2], p["options"].get("TYPE"), "STORAGE", str(bool(p["options"].get("ENABLED"))).lower(), p["comment"],
         p["created_on"])
        for name, p in scope.objects(session, "INTEGRATION")
    ]  # fmt: skip
    return ["name", "type", "category", "enabled", "comment", "created_on"], rows


def parameters(session: Session, scope: Scope) -> Shown:
    def shown(value: object) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value)

    rows: list[Row] = []
    for name in sorted(DEFAULT_PARAMETERS.keys() | session.parameters.keys()):
        if matches(scope.like, name):
            default = shown(DEFAULT_PARAMETERS.get(name, ""))
            level = "SESSION" if name in session.parameters else ""
            rows.append((name, shown(session.parameter(name)), default, level, "", "STRING"))
    return ["key", "value", "default", "level", "description", "type"], rows


def user_functions(session: Session, scope: Scope) -> Shown:  # noqa: ARG001 - the signature of a handler
    """dbt asks; functions of one's own are not supported, so there are none."""
    columns: list[str | tuple[str, str]] = [
        "created_on", "name", "schema_name", "is_builtin", "is_aggregate", "is_ansi", ("min_num_arguments", "fixed"),
        ("max_num_arguments", "fixed"), "arguments", "description", "catalog_name", "is_table_function",
        "valid_for_clustering", "is_secure", "secrets", "external_access_integrations", "is_external_function",
        "language", "is_memoizable", "is_data_metric",
    ]  # fmt: skip
    return columns, []


def recorded(kind: str) -> Callable[[Session, Scope], Shown]:
    def handler(session: Session, scope: Scope) -> Shown:
        rows: list[Row] = [
            (p["created_on"], name[2], name[0], name[1], kind.replace(" ", "_"), p["owner"], p["comment"], p["options"])
            for name, p in scope.objects(session, kind)
        ]
        return ["created_on", "name", "database_name", "schema_name", "kind", "owner", "comment", "options"], rows

    return handler
