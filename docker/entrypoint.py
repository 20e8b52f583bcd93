"""First process of the server's container: turns the settings into what Kestra reads, then becomes the server.

    entrypoint.py COMMAND [ARGUMENT ...]    without a command it only checks the settings

Settings come from `.env`, mounted and read as everywhere (scripts/pipeline/env_file.py), and over it from the
container's environment. Under the profile `demo` those of the stand-ins take the place of both. They become
- each secret: SECRET_<NAME>, base64 in one line, `unset` when it is optional and not given: what `secret()` reads;
- each plain setting: its own name, which tasks inherit, and ENV_<NAME>, which `{{ envs.x }}` reads;
- the server's own (database, login, encryption): a file that only the server is told of, so that no task inherits one.
When one is missing or malformed nothing starts: exit code 78, all of them named at once, and never a value.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import AfterValidator, ValidationError

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from scripts.pipeline import env_file, settings  # noqa: E402 (mounted beside this file; the image holds no code of ours)

EX_CONFIG = 78  # sysexits.h
ROOT = Path(os.environ.get("PIPELINE_ROOT", "/"))  # tests have another
SERVER_FILE = ROOT / "dev/shm/server.json"  # in memory in every container, and writable by its user
NOT_OURS = ("COMPOSE_", "DOCKER_")  # Compose's own settings may stand in .env too
EVALUATED = re.compile(r"\{\{|\{%|\{#")  # Kestra renders what stands in `env:`, secrets too, twice
WORD = r"[A-Za-z0-9._~-]{12,}"  # docker/postgres.sh has the same
KEY_FILE = "SNOWFLAKE_PRIVATE_KEY_FILE"
APART = {"webserver", "executor", "scheduler", "indexer", "worker"}  # Kestra's roles, each in a container of its own
STORAGE = "KESTRA_STORAGE_BUCKET"
STORAGE_KEYS = ("KESTRA_STORAGE_ACCESS_KEY", "KESTRA_STORAGE_SECRET_KEY")
RSA_BITS = 2048  # Snowflake's minimum (user guide, key-pair authentication)


def _password(value: str) -> str:
    # Kestra's own rule (BasicAuthService). What breaks it is no error there: the server starts with no login, or with
    # the one before.
    if not re.fullmatch(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9]).{8,256}", value):
        raise ValueError("needs 8 to 256 characters with a-z, A-Z and 0-9 among them (Kestra's rule)")
    return value


def _key(value: str) -> str:
    try:
        if len(base64.b64decode(value, validate=True)) == 32:
            return value
    except binascii.Error:
        pass
    raise ValueError("must be 32 bytes in base64: openssl rand -base64 32")


class ServerSettings(settings.Settings):
    """What Kestra's server itself needs (docker/kestra.yml); flows never see these."""

    kestra_admin_user: Annotated[
        str,
        settings.shape(
            r"(?=.{,256}$)[a-zA-Z0-9_!#$%&*+/=?`{|}~^.-]+@[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)+",
            "a mail address of ASCII letters and digits (Kestra's rule)",
        ),
    ]
    kestra_admin_password: Annotated[str, AfterValidator(_password)]
    kestra_encryption_key: Annotated[str, AfterValidator(_key)]
    postgres_password: Annotated[
        str, settings.shape(WORD, "12 or more of A-Z a-z 0-9 . _ ~ - and no other: openssl rand -hex 24")
    ]
    # Kestra's files in S3 instead of on its volume; without keys by the role of the machine.
    kestra_storage_bucket: settings.Bucket | None = None
    kestra_storage_access_key: str | None = None
    kestra_storage_secret_key: str | None = None


SERVER = [name.upper() for name in ServerSettings.model_fields if name not in settings.Settings.model_fields]
KNOWN = settings.known_settings()


def read_settings() -> tuple[dict[str, str], list[str]]:
    """What is given, by name, and what is wrong with `.env`, without values."""
    found, wrong = env_file.read(REPOSITORY)
    given = {name: value for name, value in found.items() if name in KNOWN or name in SERVER}
    own, _ = env_file.read_file(REPOSITORY / ".env")
    wrong += _strangers(own)
    if not env_file.demo_file():
        return given, wrong + _as_postgres_reads_it(given)
    if any(KNOWN.get(name) or name in SERVER for name in env_file.given(own)):
        wrong.append("holds accounts, but the stand-ins of the demo are up and take none: "
                     "docker compose --profile demo down (or, for the demo, an empty .env)")  # fmt: skip
    return given, wrong


def _strangers(own: Mapping[str, str]) -> list[str]:
    """Misspelt names. A line of a pasted key can look like a name: only what is surely one is shown."""
    wrong = []
    for name in own:
        if name in KNOWN or name in SERVER or name.startswith(NOT_OURS):
            continue
        near = difflib.get_close_matches(name, [*KNOWN, *SERVER], n=1)
        shown = name if re.fullmatch("[A-Z][A-Z0-9_]{0,40}", name) else "a name (not shown)"
        wrong.append(f"{shown} is no setting of this product{f', did you mean {near[0]}?' if near else ''}")
    return wrong


def _as_postgres_reads_it(given: Mapping[str, str]) -> list[str]:
    """docker/postgres.sh has no parser but a pattern of one line, so only what both read alike may pass."""
    name = "POSTGRES_PASSWORD"
    if os.environ.get(name) or not re.fullmatch(WORD, given.get(name, "")):
        return []
    text = (REPOSITORY / ".env").read_bytes().removeprefix(b"\xef\xbb\xbf")
    if re.findall(rf"(?m)^{name}=({WORD})\r?$".encode(), text) == [given[name].encode()]:
        return []
    return [f"{name} must stand once, as {name}=value on a line without quotes, spaces and comment"]


def check(given: Mapping[str, str]) -> list[str]:
    """Everything that is missing or malformed, each once."""
    wrong: list[str] = []
    groups: list[type[settings.Settings]] = [*settings.groups(), ServerSettings]
    for group in groups:
        try:
            group(**{name.lower(): value for name, value in given.items()})
        except ValidationError as error:
            wrong += settings.problems(error)
    wrong += [f"{name} is set by the pipeline itself: remove it" for name in settings.NOT_FOR_PEOPLE & set(given)]
    wrong += [
        f"{name} holds {{{{, {{% or {{#, which Kestra would evaluate" for name in given if EVALUATED.search(given[name])
    ]
    wrong += [
        f"{name} holds ${{, which Kestra's configuration would evaluate"
        for name in SERVER
        if "${" in given.get(name, "")
    ]
    if KEY_FILE in given:
        wrong += [f"{KEY_FILE} {why}" for why in _check_key(Path(given[KEY_FILE]), given.get(f"{KEY_FILE}_PWD"))]
    return list(dict.fromkeys(wrong))


def _check_key(file: Path, password: str | None) -> list[str]:
    try:
        content = file.read_bytes()
    except PermissionError:
        return [f"cannot be read by the container's user (uid {os.getuid()}): on the host, chown or chmod it"]
    except OSError:
        return ["is not a file"]
    if not content:
        return ["is missing (or an empty file)"]  # Compose mounts /dev/null when it is not set
    try:
        key = load_pem_private_key(content, password.encode() if password else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: a password for a plain key, or none for another
        return [f"is no PEM private key that {KEY_FILE}_PWD opens"]
    if not isinstance(key, RSAPrivateKey) or key.key_size < RSA_BITS:
        return [f"must be an RSA key of {RSA_BITS} bits or more (Snowflake's rule)"]
    return []


def kestra_environment(given: Mapping[str, str], inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of server and tasks."""
    environment = {
        name: value for name, value in inherited.items() if name not in {*KNOWN, *SERVER, env_file.DEMO_SETTINGS}
    }
    for name, secret in KNOWN.items():
        if secret:
            environment[f"SECRET_{name}"] = base64.b64encode(os.fsencode(given.get(name, "unset"))).decode()
        elif name in given:
            environment |= {name: given[name], f"ENV_{name}": given[name]}
    return environment | {"MICRONAUT_CONFIG_FILES": str(SERVER_FILE)}


def _check_storage(given: Mapping[str, str], command: list[str]) -> list[str]:
    """Servers apart reach each other's files by S3 alone. With one key of two Kestra would take the machine's role."""
    wrong = [f"{' and '.join(STORAGE_KEYS)}: give both, or none"] if len(given.keys() & set(STORAGE_KEYS)) == 1 else []
    if STORAGE not in given:
        return wrong + [f"{STORAGE} is missing: servers apart share Kestra's files in S3"] * bool(APART & set(command))
    return wrong if "AWS_REGION" in given else [*wrong, f"AWS_REGION is missing: {STORAGE} needs it"]


def main(command: list[str]) -> None:
    inherited = dict(os.environ)
    given, wrong = read_settings()
    wrong += check(given) + _check_storage(given, command)
    if wrong:
        lines = "".join(f"\n  - {line}" for line in wrong)
        print(f"entrypoint: not started. In .env (see .env.example):{lines}", file=sys.stderr, flush=True)
        raise SystemExit(EX_CONFIG)
    demo = env_file.demo_file()
    if demo:
        print("entrypoint: the DEMO: settings of the stand-ins, none of .env", flush=True)
    if not command:
        print("entrypoint: every setting is there and well formed", flush=True)
        return
    SERVER_FILE.unlink(missing_ok=True)
    with open(os.open(SERVER_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        # The demo's state lies apart from that of accounts, on the same volumes (docker/postgres.sh, docker/demo.py).
        apart = {"STORAGE_DIR": "/app/storage/demo"} if demo else {}
        storage = {"STORAGE_TYPE": "s3"} if STORAGE in given else {}
        json.dump({name: given[name] for name in SERVER if name in given} | storage | apart, file)
    os.execvpe(command[0], command, kestra_environment(given, inherited))


if __name__ == "__main__":
    main(sys.argv[1:])
