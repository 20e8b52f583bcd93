"""First process of the server's container: turns the settings into what Kestra reads, then becomes the server.

    entrypoint.py COMMAND [ARGUMENT ...]    without a command it only checks the settings

Settings come from `.env`, mounted and read as the laptop reads it (nothing is interpolated), and over it from the
container's environment. Under the profile `demo` those of the stand-ins take the place of both. They become
- each secret: SECRET_<NAME>, base64 in one line, `unset` when it is optional and not given: what `secret()` reads;
- each plain setting: its own name, which tasks inherit, and ENV_<NAME>, which `{{ envs.x }}` reads;
- the server's own (database, login, encryption): a file that only the server is told of, so that no task inherits one.
When one is missing or malformed nothing starts: exit code 78, all of them named at once, and never a value.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from dotenv.parser import parse_stream
from pydantic import AfterValidator, ValidationError

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from scripts.pipeline import settings  # noqa: E402 (mounted beside this file; the image holds no code of ours)

EX_CONFIG = 78  # sysexits.h
ROOT = Path(os.environ.get("PIPELINE_ROOT", "/"))  # tests have another
SERVER_FILE = ROOT / "dev/shm/server.json"  # in memory in every container, and writable by its user
DEMO_FILE = ROOT / "run/demo/settings.json"  # from docker/demo.py, on a tmpfs that is gone when the stand-ins are
NOT_OURS = ("COMPOSE_", "DOCKER_")  # Compose's own settings may stand in .env too
EVALUATED = re.compile(r"\{\{|\{%|\{#")  # Kestra renders what stands in `env:`, secrets too, twice


def _mail(value: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", value):
        raise ValueError("must be a mail address (Kestra's rule)")
    return value


def _password(value: str) -> str:
    if len(value) < 8 or not re.search("[A-Z]", value) or not re.search("[0-9]", value):
        raise ValueError("needs 8 characters or more, a capital letter and a digit (Kestra's rule)")
    return value


def _key(value: str) -> str:
    try:
        if len(base64.b64decode(value, validate=True)) == 32:
            return value
    except binascii.Error:
        pass
    raise ValueError("must be 32 bytes in base64: openssl rand -base64 32")


def _word(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~-]{12,}", value):
        raise ValueError("needs 12 or more of A-Z a-z 0-9 . _ ~ - and no other: openssl rand -hex 24")
    return value


class ServerSettings(settings.Settings):
    """What Kestra's server itself needs (docker/kestra.yml); flows never see these."""

    kestra_admin_user: Annotated[str, AfterValidator(_mail)]
    kestra_admin_password: Annotated[str, AfterValidator(_password)]
    kestra_encryption_key: Annotated[str, AfterValidator(_key)]
    postgres_password: Annotated[str, AfterValidator(_word)]


SERVER = [name.upper() for name in ServerSettings.model_fields if name not in settings.Settings.model_fields]
KNOWN = settings.known_settings()


def read_settings() -> tuple[dict[str, str], list[str]]:
    """What is given, by name, and what is wrong with `.env`, without values."""
    if DEMO_FILE.exists():
        given: dict[str, str] = json.loads(DEMO_FILE.read_text(encoding="utf-8"))
        wrong: list[str] = []
    else:
        given, wrong = read_file(REPOSITORY / ".env")
        given |= {name: value for name in (*KNOWN, *SERVER) if (value := os.environ.get(name))}
    return {name: value for name, value in given.items() if value.strip() not in {"", "unset"}}, wrong


def read_file(file: Path) -> tuple[dict[str, str], list[str]]:
    """The settings of an env file and what is wrong with it: a `$` that Compose would change or print is, too."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except PermissionError:
        return {}, [f".env cannot be read by the container's user (uid {os.getuid()}): on the host, chown or chmod it"]
    except UnicodeDecodeError:
        return {}, [".env is not UTF-8: save it as UTF-8"]
    found: dict[str, str] = {}
    wrong: list[str] = []
    for line in parse_stream(io.StringIO(text)):
        if line.error or (line.key and line.value is None):
            text = line.original.string
            number = line.original.line + text[: len(text) - len(text.lstrip())].count("\n")
            wrong.append(f".env line {number} is not NAME=value (some values need single quotes)")
        elif line.key and line.value is not None:
            found[line.key] = line.value
            if "$" in line.value and not re.search(r"=\s*'", line.original.string):
                wrong.append(f"{line.key} has a $ outside single quotes, which Compose would change: {line.key}='...'")
    strangers = [name for name in found if name not in KNOWN and name not in SERVER and not name.startswith(NOT_OURS)]
    if strangers:
        # A line of a pasted key can look like a name: only what is surely a name is shown.
        names = [name if re.fullmatch("[A-Z][A-Z0-9_]{0,40}", name) else "(not shown)" for name in strangers]
        print(f"entrypoint: not settings of this product, ignored: {', '.join(names)}", flush=True)
    return {name: value for name, value in found.items() if name not in strangers}, wrong


def check(given: Mapping[str, str]) -> list[str]:
    """Everything that is missing or malformed, each once."""
    os.environ.clear()  # where the groups of settings read; what the server gets is made anew afterwards
    os.environ.update(given)
    wrong: list[str] = []
    groups: list[type[settings.Settings]] = [*settings.groups(), ServerSettings]
    for group in groups:
        try:
            group(_env_file=None)
        except ValidationError as error:
            wrong += settings.problems(error)
    wrong += [
        f"{name} holds {{{{, {{% or {{#, which Kestra would evaluate" for name in given if EVALUATED.search(given[name])
    ]
    wrong += [
        f"{name} holds ${{, which Kestra's configuration would evaluate"
        for name in SERVER
        if "${" in given.get(name, "")
    ]
    if "SNOWFLAKE_PRIVATE_KEY_FILE" in given:
        wrong += _check_key(Path(given["SNOWFLAKE_PRIVATE_KEY_FILE"]), given.get("SNOWFLAKE_PRIVATE_KEY_FILE_PWD"))
    return list(dict.fromkeys(wrong))


def _check_key(file: Path, password: str | None) -> list[str]:
    name = "SNOWFLAKE_PRIVATE_KEY_FILE"
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = f"cannot be read by the container's user (uid {os.getuid()}): on the host, chown or chmod it"
        return [f"{name} {reason if isinstance(error, PermissionError) else 'is not a file'}"]
    if not content:
        return [f"{name} is missing (or an empty file)"]  # Compose mounts /dev/null when it is not set
    try:
        load_pem_private_key(content, password.encode() if password else None)
    except (ValueError, TypeError):  # TypeError: a password for a plain key, or none for an encrypted one
        return [f"{name} is no PEM private key that SNOWFLAKE_PRIVATE_KEY_FILE_PWD opens"]
    return []


def kestra_environment(given: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of server and tasks."""
    environment = {name: value for name, value in inherited.items() if name not in KNOWN and name not in SERVER}
    for name, secret in KNOWN.items():
        if secret:
            environment[f"SECRET_{name}"] = base64.b64encode(os.fsencode(given.get(name, "unset"))).decode()
        elif name in given:
            environment |= {name: given[name], f"ENV_{name}": given[name]}
    return environment | {"MICRONAUT_CONFIG_FILES": str(SERVER_FILE)}


def main(command: list[str]) -> None:
    inherited = dict(os.environ)
    given, wrong = read_settings()
    wrong += check(given)
    if wrong:
        lines = "".join(f"\n  - {line}" for line in wrong)
        print(f"entrypoint: not started. In .env (see .env.example):{lines}", file=sys.stderr, flush=True)
        raise SystemExit(EX_CONFIG)
    if not command:
        print("entrypoint: every setting is there and well formed", flush=True)
        return
    SERVER_FILE.unlink(missing_ok=True)
    with open(os.open(SERVER_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump({name: given[name] for name in SERVER}, file)
    os.execvpe(command[0], command, kestra_environment(given, inherited))


if __name__ == "__main__":
    main(sys.argv[1:])
