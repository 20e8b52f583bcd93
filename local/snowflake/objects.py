"""CREATE, ALTER, DROP and COMMENT of what is only recorded: integrations, stages, file formats, warehouses, roles …"""

from __future__ import annotations

import re

from local.snowflake import lexer, pipes, privileges, procedures, streams, tasks
from local.snowflake.access import database_role
from local.snowflake.catalog import Name, Properties, label
from local.snowflake.errors import SnowflakeError, already_exists, compilation, not_found, unsupported
from local.snowflake.lexer import Reader, Unexpected
from local.snowflake.privileges import SYSTEM_ROLES
from local.snowflake.results import Result, status
from local.snowflake.session import Session

# The words after CREATE, ALTER, DROP, DESC: longest first. The value: how the catalog calls it.
KINDS = {
    "STORAGE INTEGRATION": "INTEGRATION",
    "INTEGRATION": "INTEGRATION",
    "FILE FORMAT": "FILE FORMAT",
    "RESOURCE MONITOR": "RESOURCE MONITOR",
    "NETWORK POLICY": "NETWORK POLICY",
    "NETWORK RULE": "NETWORK RULE",
    "DATABASE ROLE": "DATABASE ROLE",
    "WAREHOUSE": "WAREHOUSE",
    "PROCEDURE": "PROCEDURE",
    "DATABASE": "DATABASE",
    "SCHEMA": "SCHEMA",
    "STREAM": "STREAM",
    "STAGE": "STAGE",
    "TABLE": "TABLE",
    "PIPE": "PIPE",
    "ROLE": "ROLE",
    "TASK": "TASK",
    "USER": "USER",
    "VIEW": "VIEW",
}
OF_ACCOUNT = {"INTEGRATION", "RESOURCE MONITOR", "NETWORK POLICY", "WAREHOUSE", "ROLE", "USER"}

_OPTIONS: dict[str, set[str]] = {
    "WAREHOUSE": {
        "WAREHOUSE_TYPE", "WAREHOUSE_SIZE", "MAX_CLUSTER_COUNT", "MIN_CLUSTER_COUNT", "SCALING_POLICY", "AUTO_SUSPEND",
        "AUTO_RESUME", "INITIALLY_SUSPENDED", "RESOURCE_MONITOR", "COMMENT", "ENABLE_QUERY_ACCELERATION",
        "QUERY_ACCELERATION_MAX_SCALE_FACTOR", "MAX_CONCURRENCY_LEVEL", "STATEMENT_QUEUED_TIMEOUT_IN_SECONDS",
        "STATEMENT_TIMEOUT_IN_SECONDS", "RESOURCE_CONSTRAINT", "GENERATION", "WAIT_FOR_COMPLETION",
    },
    "INTEGRATION": {
        "TYPE", "STORAGE_PROVIDER", "ENABLED", "STORAGE_AWS_ROLE_ARN", "STORAGE_AWS_EXTERNAL_ID",
        "STORAGE_AWS_OBJECT_ACL", "STORAGE_ALLOWED_LOCATIONS", "STORAGE_BLOCKED_LOCATIONS", "COMMENT",
        "USE_PRIVATELINK_ENDPOINT",
    },
    "STAGE": {"URL", "STORAGE_INTEGRATION", "ENCRYPTION", "FILE_FORMAT", "DIRECTORY", "COMMENT"},
    "FILE FORMAT": {
        "TYPE", "COMPRESSION", "DATE_FORMAT", "TIME_FORMAT", "TIMESTAMP_FORMAT", "BINARY_FORMAT", "TRIM_SPACE",
        "NULL_IF", "FILE_EXTENSION", "ENABLE_OCTAL", "ALLOW_DUPLICATE", "STRIP_OUTER_ARRAY", "STRIP_NULL_VALUES",
        "IGNORE_UTF8_ERRORS", "REPLACE_INVALID_CHARACTERS", "SKIP_BYTE_ORDER_MARK", "MULTI_LINE", "COMMENT",
        "FIELD_DELIMITER", "RECORD_DELIMITER", "SKIP_HEADER", "PARSE_HEADER", "FIELD_OPTIONALLY_ENCLOSED_BY", "ESCAPE",
        "ESCAPE_UNENCLOSED_FIELD", "ERROR_ON_COLUMN_COUNT_MISMATCH", "EMPTY_FIELD_AS_NULL", "ENCODING",
        "SKIP_BLANK_LINES",
    },
    "ROLE": {"COMMENT"},
    "DATABASE ROLE": {"COMMENT"},
    "USER": {
        "LOGIN_NAME", "DISPLAY_NAME", "FIRST_NAME", "LAST_NAME", "EMAIL", "DISABLED", "DEFAULT_WAREHOUSE",
        "DEFAULT_NAMESPACE", "DEFAULT_ROLE", "DEFAULT_SECONDARY_ROLES", "RSA_PUBLIC_KEY", "RSA_PUBLIC_KEY_2", "TYPE",
        "COMMENT", "TIMEZONE", "QUERY_TAG", "NETWORK_POLICY", "STATEMENT_TIMEOUT_IN_SECONDS", "LOCK_TIMEOUT",
        "MUST_CHANGE_PASSWORD", "PASSWORD", "DAYS_TO_EXPIRY", "MINS_TO_UNLOCK",
    },
    "NETWORK POLICY": {
        "ALLOWED_IP_LIST", "BLOCKED_IP_LIST", "ALLOWED_NETWORK_RULE_LIST", "BLOCKED_NETWORK_RULE_LIST", "COMMENT",
    },
    "NETWORK RULE": {"TYPE", "VALUE_LIST", "MODE", "COMMENT"},
}  # fmt: skip


def read_kind(reader: Reader) -> str:
    """The kind of object named next."""
    for words, kind in KINDS.items():
        if reader.take(*words.split()):
            return kind
    raise Unexpected(reader.peek())


def full_name(session: Session, kind: str, names: list[str]) -> Name:
    if kind == "DATABASE ROLE":
        return database_role(session, names)
    return ("", "", names[-1]) if kind in OF_ACCOUNT else session.resolve(names)


def create(session: Session, reader: Reader, kind: str, *, replace: bool, alter: bool) -> Result:
    if_not_exists = reader.take("IF", "NOT", "EXISTS")
    name = full_name(session, kind, reader.name())
    reader.take("WITH")
    options = _monitor(reader) if kind == "RESOURCE MONITOR" else _read_options(reader, kind)
    there = session.catalog.get(kind, name)
    if there and if_not_exists:
        return status(f"{name[2]} already exists, statement succeeded.")
    if (there and not replace and not alter) or (kind == "ROLE" and name[2] in SYSTEM_ROLES):
        raise already_exists(name[2])
    if alter and kind in {"INTEGRATION", "USER", "RESOURCE MONITOR", "NETWORK POLICY", "NETWORK RULE"}:
        raise Unexpected(reader.tokens[2])
    properties: Properties = {"options": options, "owner": session.role, "comment": str(options.get("COMMENT", ""))}
    if there and alter:
        properties["created_on"] = there["created_on"]
    if kind in {"STAGE", "FILE FORMAT"} and not there:
        privileges.need_create(session, kind, name)
    elif kind in {"STAGE", "FILE FORMAT"}:
        privileges.need_owner(session, kind, name)
    if kind == "INTEGRATION":
        _check_integration(session, properties)
    if kind == "STAGE":
        _check_stage(session, properties)
    if there and not alter:
        privileges.forget_grants(session, kind, name)
    session.catalog.put(kind, name, properties)
    if kind == "WAREHOUSE":
        session.warehouse = name[2]
    shown = "Stage area" if kind == "STAGE" else label(kind)
    return status(f"{shown} {name[2]} successfully created.")


def _read_options(reader: Reader, kind: str) -> Properties:
    start = reader.at_token
    options = reader.options()
    for option in options.keys() - _OPTIONS[kind]:
        raise Unexpected(next(token for token in reader.tokens[start:] if token.upper == option))
    return options


def _monitor(reader: Reader) -> Properties:
    """A resource monitor: recorded, never triggered."""
    text = reader.rest()
    options: Properties = {
        name.upper(): value
        for name, value in re.findall(r"(CREDIT_QUOTA|FREQUENCY|START_TIMESTAMP)\s*=\s*(\S+)", text, re.IGNORECASE)
    }
    options["TRIGGERS"] = re.findall(r"ON\s+(\d+)\s+PERCENT\s+DO\s+(\w+)", text, re.IGNORECASE)
    return options


def _check_integration(session: Session, properties: Properties) -> None:
    options = properties["options"]
    needed = ["TYPE", "STORAGE_PROVIDER", "ENABLED", "STORAGE_ALLOWED_LOCATIONS"]
    if str(options.get("STORAGE_PROVIDER", "")).upper().startswith("S3"):
        needed.append("STORAGE_AWS_ROLE_ARN")
    for option in needed:
        if option not in options:
            raise compilation(2029, f"Missing option(s): [{option}]", "42601")
    properties["principal"] = "arn:aws:iam::000000000000:user/local-snowflake"
    given = options.get("STORAGE_AWS_EXTERNAL_ID")
    properties["external_id"] = given or f"LOCAL_SFCRole={session.account.next_number()}"


def _check_stage(session: Session, properties: Properties) -> None:
    options = properties["options"]
    url = options.get("URL")
    if not url:
        raise unsupported("internal stages (PUT and GET)")
    if not str(url).startswith("s3://"):
        raise unsupported(f"stage URL {url} (s3:// only)")
    integration = str(options.get("STORAGE_INTEGRATION") or "").upper()
    if integration:
        allowed = session.catalog.need("INTEGRATION", ("", "", integration))["options"]
        blocked = allowed.get("STORAGE_BLOCKED_LOCATIONS", [])
        inside = any(place == "*" or url.startswith(place) for place in allowed["STORAGE_ALLOWED_LOCATIONS"])
        if not inside or any(url.startswith(place) for place in blocked):
            hint = "Please use DESC INTEGRATION to check out allowed and blocked locations."
            message = f"Location '{url}' is not allowed by integration '{integration}'. {hint}"
            raise SnowflakeError(3127, f"SQL compilation error:\n{message}", "42601")
    file_format = options.get("FILE_FORMAT")
    if isinstance(file_format, str):
        file_format = {"FORMAT_NAME": file_format}
    name = (file_format or {}).get("FORMAT_NAME")
    if name:
        session.catalog.need("FILE FORMAT", session.resolve(lexer.Reader(str(name)).name()))
    properties |= {"url": url, "storage_integration": integration or None, "file_format": file_format}


def alter(session: Session, reader: Reader, kind: str) -> Result:
    if_exists = reader.take("IF", "EXISTS")
    if kind == "WAREHOUSE" and (reader.at("SUSPEND") or reader.at("RESUME")):
        return status()
    name = full_name(session, kind, reader.name())
    properties = session.catalog.get(kind, name)
    if properties is None:
        if if_exists:
            return status()
        raise not_found(label(kind), ".".join(part for part in name if part))
    if reader.take("SET"):
        if reader.at("TAG"):
            raise unsupported("tags")
        options = _monitor(reader) if kind == "RESOURCE MONITOR" else _read_options(reader, kind)
        properties["options"] |= options
        properties["comment"] = str(properties["options"].get("COMMENT", ""))
        if kind == "INTEGRATION":
            properties["external_id"] = options.get("STORAGE_AWS_EXTERNAL_ID", properties["external_id"])
        if kind == "STAGE":
            _check_stage(session, properties)
    elif reader.take("UNSET"):
        while not reader.done():
            if not reader.take(","):
                properties["options"].pop(reader.identifier(), None)
    elif reader.take("RENAME", "TO"):
        session.catalog.drop(kind, name)
        name = full_name(session, kind, reader.name())
    elif kind == "WAREHOUSE" and reader.peek_text() in {"SUSPEND", "RESUME", "ABORT"}:
        reader.rest()  # a warehouse here has no state
    else:
        raise unsupported(f"ALTER {kind} … {reader.peek_text()}")
    session.catalog.put(kind, name, properties)
    return status()


def drop(session: Session, reader: Reader, kind: str) -> Result:
    if_exists = reader.take("IF", "EXISTS")
    names = reader.name()
    name = full_name(session, kind, names)
    if kind == "PROCEDURE":
        name = procedures.key_of(name, reader.parenthesis())
    reader.end()
    if session.catalog.get(kind, name) is None:
        if if_exists:
            return status(f"Drop statement executed successfully ({names[-1]} already dropped).")
        raise not_found(label(kind), ".".join(part for part in name if part))
    own = {"STREAM": streams.drop, "PIPE": pipes.drop, "TASK": tasks.drop}
    if kind in own:
        own[kind](session, name)
    else:
        session.catalog.drop(kind, name)
    privileges.forget_grants(session, kind, name)
    return status(f"{names[-1]} successfully dropped.")


def set_comment(session: Session, kind: str, names: list[str], value: str, *, if_exists: bool) -> Result:
    if kind == "DATABASE":
        name: Name = (names[0], "", "")
    elif kind == "SCHEMA":
        name = (names[0] if len(names) == 2 else session.database or "", names[-1], "")
    else:
        name = full_name(session, kind, names)
    properties = session.catalog.get(kind, name)
    if properties is None:
        if if_exists:
            return status()
        raise not_found(label(kind), ".".join(names))
    properties["comment"] = value
    session.catalog.put(kind, name, properties)
    return status()
