"""What a session's roles may do. Grants are those of access.py; ACCOUNTADMIN and an object's owner may do all.

Checked: reading and changing tables and views, streams, stages, pipes, tasks and procedures, USAGE on their database
and schema, CREATE in a schema. Not checked: account objects.
"""

from __future__ import annotations

from collections import defaultdict

from local.snowflake.catalog import Catalog, Name, label
from local.snowflake.errors import SnowflakeError, not_found
from local.snowflake.session import Session

SYSTEM_ROLES: dict[str, list[str]] = {
    "ACCOUNTADMIN": ["SYSADMIN", "SECURITYADMIN"],
    "SECURITYADMIN": ["USERADMIN"],
    "SYSADMIN": [],
    "USERADMIN": [],
    "PUBLIC": [],
}
Held = dict[tuple[str, str], dict[str, set[str]]]  # (kind, full name) -> role -> privileges


def _build(catalog: Catalog) -> tuple[Held, dict[str, set[str]]]:
    """(privileges by object and role, the roles that each role or user was granted)."""
    held: Held = defaultdict(lambda: defaultdict(set))
    granted: dict[str, set[str]] = defaultdict(set)
    for _, grant in catalog.all("GRANT"):
        kind, grantee = grant["to"]
        key = f"user {grantee}" if kind == "USER" else grantee
        if grant["kind"] in {"ROLE", "DATABASE ROLE"}:
            granted[key].add(grant["on"])
        else:
            held[grant["kind"], grant["on"]][key].add(grant["privilege"])
    return held, granted


def _closure(granted: dict[str, set[str]], roles: set[str]) -> set[str]:
    found: set[str] = {"PUBLIC"}
    waiting = list(roles)
    while waiting:
        role = waiting.pop()
        if role not in found or role == "PUBLIC":
            found.add(role)
            waiting += [one for one in [*SYSTEM_ROLES.get(role, []), *granted.get(role, set())] if one not in found]
    return found


def roles_of(session: Session, *, primary_only: bool = False) -> set[str]:
    """The session's roles with all that they inherit. Secondary roles (ALL) count too, except for CREATE."""
    _, granted = session.catalog.derived(_build)
    roles = {session.role}
    if session.secondary_roles and not primary_only:
        known = session.catalog.get("USER", ("", "", session.user)) is not None
        roles |= granted.get(f"user {session.user}", set()) if known else {"ACCOUNTADMIN"}
    return _closure(granted, roles)


def roles_of_user(session: Session) -> set[str]:
    """All that the session's user was granted, with what it inherits."""
    _, granted = session.catalog.derived(_build)
    return _closure(granted, granted.get(f"user {session.user}", set()))


def warehouse_for(session: Session, name: str) -> str | None:
    """The warehouse, if it is there and the session's roles may use it: a login is not refused for its sake."""
    roles = roles_of(session)
    there = session.catalog.get("WAREHOUSE", ("", "", name)) is not None
    may = "ACCOUNTADMIN" in roles or _held(session, "WAREHOUSE", ("", "", name), roles) & {"USAGE", "OWNERSHIP", "ALL"}
    return name if there and may else None


def _held(session: Session, kind: str, name: Name, roles: set[str]) -> set[str]:
    """The privileges of these roles on an object; its owner holds OWNERSHIP."""
    held, _ = session.catalog.derived(_build)
    of_object = held.get((kind, ".".join(part for part in name if part)), {})
    found = set().union(*(of_object.get(role, set()) for role in roles))
    properties = session.catalog.get(kind, name)
    if properties is None and kind == "SCHEMA":
        properties = session.catalog.get("DATABASE", (name[0], "", ""))
    if properties is None or properties.get("owner") in roles:
        found.add("OWNERSHIP")
    return found


def _reach(session: Session, name: Name, roles: set[str]) -> None:
    """USAGE on the database and the schema of an object."""
    database, schema = (name[0], "", ""), (name[0], name[1], "")
    if not _held(session, "DATABASE", database, roles) & {"USAGE", "OWNERSHIP", "ALL"}:
        raise not_found("Database", name[0])
    if not _held(session, "SCHEMA", schema, roles) & {"USAGE", "OWNERSHIP", "ALL"}:
        raise not_found("Schema", f"{name[0]}.{name[1]}")


def need(session: Session, kind: str, name: Name, *privileges: str, written: str = "") -> None:
    """Raise unless the session holds one of the privileges. No right at all: the object does not exist."""
    roles = roles_of(session)
    if "ACCOUNTADMIN" in roles or name in session.temporary:
        return
    _reach(session, name, roles)
    held = _held(session, kind, name, roles)
    if held & {"OWNERSHIP", "ALL", *privileges}:
        return
    if not held:
        relation = kind in {"TABLE", "VIEW", "STREAM"}
        raise not_found(
            "Object" if relation else label(kind), written or ".".join(name), "42S02" if relation else "02000"
        )
    raise _refused(kind, name[2])


def need_owner(session: Session, kind: str, name: Name) -> None:
    """ALTER, DROP and CREATE OR REPLACE are the owner's."""
    need(session, kind, name)


def need_create(session: Session, kind: str, name: Name) -> None:
    """CREATE <kind> on the schema, by the primary role."""
    roles = roles_of(session, primary_only=True)
    if "ACCOUNTADMIN" in roles:
        return
    _reach(session, name, roles)
    if not _held(session, "SCHEMA", (name[0], name[1], ""), roles) & {"OWNERSHIP", "ALL", f"CREATE {kind}"}:
        raise _refused("SCHEMA", name[1])


def need_create_schema(session: Session, database: str) -> None:
    roles = roles_of(session, primary_only=True)
    held = _held(session, "DATABASE", (database, "", ""), roles)
    if "ACCOUNTADMIN" not in roles and not held & {"OWNERSHIP", "ALL", "CREATE SCHEMA"}:
        raise _refused("DATABASE", database)


def forget_grants(session: Session, kind: str, name: Name) -> None:
    """Grants go with their object."""
    grants = session.catalog.all("GRANT")
    session.catalog.drop_all(
        "GRANT", [key for key, one in grants if (one["kind"], one["on"]) == (kind, ".".join(name))]
    )


def _refused(kind: str, name: str) -> SnowflakeError:
    message = f"Insufficient privileges to operate on {kind.lower()} '{name}'."
    return SnowflakeError(3001, f"SQL access control error:\n{message}", "42501")
