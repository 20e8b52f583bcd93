"""Logins, GRANT and REVOKE, SHOW GRANTS. What the grants allow is checked in privileges.py."""

from __future__ import annotations

from base64 import b64decode

import jwt
from cryptography.hazmat.primitives.serialization import load_der_public_key

from local.snowflake import lexer
from local.snowflake.catalog import Name, label
from local.snowflake.errors import SnowflakeError, compilation, no_such_session_object, not_found, unsupported
from local.snowflake.lexer import Reader
from local.snowflake.privileges import SYSTEM_ROLES, roles_of_user
from local.snowflake.results import SHOW, Result, rows_result, status
from local.snowflake.session import Session

OF_SCHEMA = {"TABLE", "VIEW", "STAGE", "FILE FORMAT", "PIPE", "STREAM", "TASK", "PROCEDURE"}
_TWO_WORDS = {"FILE", "RESOURCE", "NETWORK", "STORAGE"}
# What the page of GRANT lists for each kind, beside ALL, OWNERSHIP and a schema's CREATE …
_PRIVILEGES = {
    "DATABASE": {"USAGE", "MODIFY", "MONITOR", "CREATE SCHEMA", "CREATE DATABASE ROLE", "IMPORTED"},
    "SCHEMA": {"USAGE", "MODIFY", "MONITOR"},
    "TABLE": {"SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "EVOLVE SCHEMA"},
    "VIEW": {"SELECT", "REFERENCES"},
    "STREAM": {"SELECT"},
    "STAGE": {"USAGE", "READ", "WRITE"},
    "FILE FORMAT": {"USAGE"},
    "PIPE": {"MONITOR", "OPERATE"},
    "TASK": {"MONITOR", "OPERATE"},
    "PROCEDURE": {"USAGE"},
    "WAREHOUSE": {"USAGE", "OPERATE", "MONITOR", "MODIFY"},
    "INTEGRATION": {"USAGE"},
}


def can_use_role(session: Session, role: str) -> str:
    """The role, if it exists and may be taken."""
    if not _is_role(session, role):
        raise no_such_session_object()
    if public_keys(session) and role not in roles_of_user(session):
        hint = "Specify another role to activate."
        message = f"SQL access control error:\nRequested role '{role}' is not assigned to the executing user. {hint}"
        raise SnowflakeError(3013, message, "42501")
    return role


def check_login(session: Session, token: str | None) -> None:
    """As in an account: the key pair of a user who has a public key, then the role. Any other user is let through, and
    may take any role: here there is no password either.
    """
    keys = public_keys(session)
    if keys and not token:
        raise SnowflakeError(390100, "Incorrect username or password was specified.", "08001")
    if keys and not any(_signed(str(token), key) for key in keys):
        raise SnowflakeError(390144, "JWT token is invalid.", "08001")
    hint = "Contact your local system administrator, or attempt to login with another role, e.g. PUBLIC."
    if not _is_role(session, session.role):
        message = f"Role '{session.role}' specified in the connect string does not exist or not authorized."
        raise SnowflakeError(390189, f"{message} {hint}", "08004")
    if keys and session.role not in roles_of_user(session):
        message = f"Role '{session.role}' specified in the connect string is not granted to this user."
        raise SnowflakeError(390186, f"{message} {hint}", "08004")


def public_keys(session: Session) -> list[str]:
    """Of the session's user: base64 of DER, as in RSA_PUBLIC_KEY."""
    options = (session.catalog.get("USER", ("", "", session.user)) or {"options": {}})["options"]
    return [str(options[name]) for name in ("RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2") if options.get(name)]


def _signed(token: str, public_key: str) -> bool:
    key = load_der_public_key(b64decode(public_key))
    try:
        jwt.decode(token, key, algorithms=["RS256"])  # type: ignore[arg-type]  # RSA, as the connector's pairs
    except (jwt.InvalidTokenError, ValueError):
        return False
    return True


def _is_role(session: Session, role: str) -> bool:
    return role in SYSTEM_ROLES or session.catalog.get("ROLE", ("", "", role)) is not None


def grant(session: Session, reader: Reader) -> Result:
    with session.account.ddl_lock():
        return _change(session, reader, revoke=False)


def revoke(session: Session, reader: Reader) -> Result:
    with session.account.ddl_lock():
        return _change(session, reader, revoke=True)


def _change(session: Session, reader: Reader, *, revoke: bool) -> Result:
    session.commit_before_ddl()
    reader.next()
    reader.take("GRANT", "OPTION", "FOR")
    if reader.take("ROLE"):
        _role_grant(session, reader, revoke=revoke)
    elif reader.take("DATABASE", "ROLE"):
        _database_role_grant(session, reader, revoke=revoke)
    elif reader.at("APPLICATION"):
        raise unsupported("grants of application roles")
    elif reader.at("OWNERSHIP"):
        _ownership(session, reader)
    else:
        _privileges(session, reader, revoke=revoke)
    return status()


def _role_grant(session: Session, reader: Reader, *, revoke: bool) -> None:
    role = reader.identifier()
    reader.need("FROM" if revoke else "TO")
    kind = reader.next().upper
    grantee = reader.identifier()
    reader.end()
    if not _is_role(session, role):
        raise not_found("Role", role)
    known = _is_role(session, grantee) if kind == "ROLE" else True  # a user may log in without having been created
    if not known:
        raise not_found(kind.capitalize(), grantee)
    _record(session, [("USAGE", "ROLE", role, kind, grantee)], revoke=revoke)


def database_role(session: Session, names: list[str]) -> Name:
    """A database role belongs to its database, or to the current one."""
    database = names[0] if len(names) == 2 else session.database
    if not database or len(names) > 2:
        raise not_found("Database role", ".".join(names))
    return database, "", names[-1]


def _read_database_role(session: Session, reader: Reader) -> str:
    name = database_role(session, reader.name())
    if session.catalog.get("DATABASE ROLE", name) is None:
        raise not_found("Database role", f"{name[0]}.{name[2]}")
    return f"{name[0]}.{name[2]}"


def _database_role_grant(session: Session, reader: Reader, *, revoke: bool) -> None:
    role = _read_database_role(session, reader)
    reader.need("FROM" if revoke else "TO")
    grantee = _read_grantee(session, reader)
    reader.end()
    _record(session, [("USAGE", "DATABASE ROLE", role, *grantee)], revoke=revoke)


def _read_privileges(reader: Reader) -> list[str]:
    privileges: list[str] = []
    words: list[str] = []
    while not reader.at("ON"):
        token = reader.next()
        if token.text == ",":
            privileges.append(" ".join(words))
            words = []
        elif token.upper != "PRIVILEGES":
            words.append(token.upper)
    reader.need("ON")
    return [*privileges, " ".join(words)]


def _read_object(session: Session, reader: Reader) -> tuple[str, str]:
    """(kind, name); for FUTURE and ALL the kind says so and the name is the container's."""
    if reader.take("ACCOUNT"):
        return "ACCOUNT", session.account.name
    scope = reader.next().upper + " " if reader.at("FUTURE") or reader.at("ALL") else ""
    kind = "TABLE"  # dbt: GRANT select ON database.schema.table TO ROLE r
    if reader.peek_text(1) not in {".", "TO", "FROM"}:
        kind = reader.next().upper
        if kind in _TWO_WORDS:
            kind += " " + reader.next().upper
    if scope:
        reader.need("IN")
        container = reader.next().upper
        names = reader.name()
        if container == "SCHEMA" and len(names) == 1:
            names = [session.database or "", *names]
        return scope + kind, f"{container} {'.'.join(names)}"
    return kind, _existing(session, kind, reader)


def _existing(session: Session, kind: str, reader: Reader) -> str:
    """The full name of an object that is there."""
    names = reader.name()
    if kind not in OF_SCHEMA:
        of_account = kind in {"WAREHOUSE", "INTEGRATION"}
        missing = of_account and session.catalog.get(kind, ("", "", names[-1])) is None
        if missing or (kind == "DATABASE" and not session.account.has_database(names[-1])):
            raise not_found(label(kind), names[-1])
        return ".".join([session.database or "", *names] if kind == "SCHEMA" and len(names) == 1 else names)
    name = session.resolve(names)
    if reader.at("("):
        types = [part.split("(")[0].strip().upper() for part in lexer.split_arguments(reader.parenthesis())]
        name = (name[0], name[1], f"{name[2]}({', '.join(types)})")
    there = session.relation_kind(name) if kind in {"TABLE", "VIEW"} else session.catalog.get(kind, name)
    if not there:
        raise not_found(label(kind), ".".join(name), "42S02" if kind in {"TABLE", "VIEW"} else "02000")
    return ".".join(name)


def _read_grantee(session: Session, reader: Reader) -> tuple[str, str]:
    if reader.take("DATABASE", "ROLE"):
        return "DATABASE_ROLE", _read_database_role(session, reader)
    kind = reader.next().upper if reader.peek_text() in {"ROLE", "USER"} else "ROLE"
    grantee = reader.identifier()
    if kind == "ROLE" and not _is_role(session, grantee):
        raise not_found("Role", grantee)
    return kind, grantee


def _privileges(session: Session, reader: Reader, *, revoke: bool) -> None:
    privileges = _read_privileges(reader)
    kind, name = _read_object(session, reader)
    allowed = _PRIVILEGES.get(kind.removeprefix("ALL ").removeprefix("FUTURE ").removesuffix("S"), set())
    for privilege in set(privileges) - allowed - {"ALL"} if allowed else ():
        if not (kind == "SCHEMA" and privilege.startswith("CREATE ")):
            raise compilation(1003, f"syntax error: {privilege} is no privilege on a {kind}.")
    reader.need("FROM" if revoke else "TO")
    grantee_kind, grantee = _read_grantee(session, reader)
    for words in (("WITH", "GRANT", "OPTION"), ("CASCADE",), ("RESTRICT",)):
        reader.take(*words)
    reader.end()
    objects = _all_of(session, kind, name) if kind.startswith("ALL ") else [(kind, name)]
    entries = [
        (privilege, of_kind, full, grantee_kind, grantee) for privilege in privileges for of_kind, full in objects
    ]
    _record(session, entries, revoke=revoke)


def _all_of(session: Session, kind: str, container: str) -> list[tuple[str, str]]:
    """The objects that ALL <kind> IN <container> means now."""
    one = kind.removeprefix("ALL ").removesuffix("S")
    where = container.split(" ", 1)[1].split(".")
    if one == "SCHEMA":
        return [(one, f"{name[0]}.{name[1]}") for name, _ in session.catalog.all(one) if name[0] == where[0]]
    names = [name for name, _ in session.catalog.all(one) if list(name[: len(where)]) == where]
    return [(one, ".".join(name)) for name in names]


def grant_future(session: Session, kind: str, name: Name) -> None:
    """Future grants become grants when an object is made; a schema's hide its database's of the same kind."""
    future = [one for _, one in session.catalog.all("GRANT") if one["kind"] == f"FUTURE {kind}S"]
    of_schema = [one for one in future if one["on"] == f"SCHEMA {name[0]}.{name[1]}"]
    found = of_schema or [one for one in future if one["on"] == f"DATABASE {name[0]}"]
    _record(session, [(one["privilege"], kind, ".".join(name), *one["to"]) for one in found], revoke=False)


def _ownership(session: Session, reader: Reader) -> None:
    """GRANT OWNERSHIP … [COPY | REVOKE CURRENT GRANTS]: recorded as a grant."""
    reader.need("OWNERSHIP", "ON")
    kind, name = _read_object(session, reader)
    reader.need("TO")
    grantee_kind, grantee = _read_grantee(session, reader)
    if not reader.take("COPY", "CURRENT", "GRANTS"):
        reader.take("REVOKE", "CURRENT", "GRANTS")
    reader.end()
    grants = session.catalog.all("GRANT")
    owned = ("OWNERSHIP", kind, name)
    session.catalog.drop_all(
        "GRANT", [key for key, one in grants if (one["privilege"], one["kind"], one["on"]) == owned]
    )
    _record(session, [("OWNERSHIP", kind, name, grantee_kind, grantee)], revoke=False)


def _record(session: Session, entries: list[tuple[str, str, str, str, str]], *, revoke: bool) -> None:
    """Each: privilege, kind and name of the object, kind and name of the grantee. What is granted already stays."""
    keyed = {("", "", "|".join(entry)): entry for entry in entries}
    there = {key for key in keyed if session.catalog.get("GRANT", key)}
    if revoke:
        session.catalog.drop_all("GRANT", sorted(there))
        return
    grants = {
        key: {"privilege": privilege, "kind": kind, "on": name, "to": list(to), "by": session.role}
        for key, (privilege, kind, name, *to) in keyed.items()
        if key not in there
    }
    session.catalog.put_all("GRANT", grants)


def show_grants(session: Session, reader: Reader) -> Result:
    """SHOW GRANTS [TO ROLE r | TO USER u | ON kind name | OF ROLE r | ON ACCOUNT]; SHOW FUTURE GRANTS is read apart."""
    wanted = list(session.catalog.all("GRANT"))
    if reader.take("TO"):
        if reader.take("DATABASE", "ROLE"):
            grantee = ["DATABASE_ROLE", _read_database_role(session, reader)]
        else:
            grantee = [reader.next().upper, reader.identifier()]
        wanted = [(key, one) for key, one in wanted if one["to"] == grantee]
    elif reader.take("OF"):
        reader.need("ROLE")
        role = reader.identifier()
        wanted = [(key, one) for key, one in wanted if one["kind"] == "ROLE" and one["on"] == role]
    elif reader.take("ON"):
        kind, name = _read_object(session, reader)
        wanted = [(key, one) for key, one in wanted if one["kind"] == kind and _same(one["on"], name)]
    else:
        wanted = [(key, one) for key, one in wanted if one["to"] in (["USER", session.user], ["ROLE", session.role])]
    columns = [
        "created_on",
        "privilege",
        "granted_on",
        "name",
        "granted_to",
        "grantee_name",
        "grant_option",
        "granted_by",
    ]
    rows = [
        (one["created_on"], one["privilege"], one["kind"].replace(" ", "_"), one["on"], *one["to"], "false", one["by"])
        for _, one in wanted
        if not one["kind"].startswith(("FUTURE ", "ALL "))
    ]
    return rows_result(columns, rows, SHOW)


def _same(one: str, two: str) -> bool:
    return one == two or one.endswith("." + two) or two.endswith("." + one)
