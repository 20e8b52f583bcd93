"""docker/entrypoint.py: what the server and its tasks see is what was meant; nothing starts on a bad setting.

The entrypoint runs as in the container: a process of its own that becomes a shell, whose child tells what it sees.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local import stack
from scripts.pipeline.settings import known_settings

ROOT = Path(__file__).resolve().parents[2]
TELL = f"""exec '{sys.executable}' -c 'import json, os; print(json.dumps(dict(os.environ)))'"""
SERVER = {
    "KESTRA_ADMIN_USER": "admin@example.com",
    "KESTRA_ADMIN_PASSWORD": "Correct horse 1",
    "KESTRA_ENCRYPTION_KEY": base64.b64encode(b"k" * 32).decode(),
    "POSTGRES_PASSWORD": "0123456789abcdef",
}
PIPELINE = {
    "AMP_API_KEY": "api",
    "AMP_SECRET_KEY": "secret",
    "AMP_PROJECT_ID": "100001",
    "AWS_BUCKET_NAME": "bucket",
    "SNOWFLAKE_ACCOUNT": "org-account",
    "SNOWFLAKE_USER": "PIPELINE",
    "SNOWFLAKE_WAREHOUSE": "AMPLITUDE_WH",
    "SNOWFLAKE_DATABASE": "AMPLITUDE",
}
NASTY = {
    "dollars": "P@$$w0rd",  # B36
    "variable": "secret$HOME${HOME}",  # B36
    "command": "$(id)`id`;id&&id|id>x",
    "double quotes": 'say "no"',
    "backslashes": r"back\slash\n\\",
    "spaces": "  two  spaces  inside  ",
    "hash": "a #b",
    "UTF-8": "pässwörd–žluťoučký🔑",
    "equals": "a=b==",
    "glob": "*?[a-z]~",
    "4 kB": "x1$" * 1366,
}


class Container:
    """A checkout with the folders that compose mounts, and a way to start the entrypoint in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("docker/entrypoint.py", "scripts/__init__.py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        shutil.copytree(ROOT / "scripts/pipeline", folder / "scripts/pipeline")
        (folder / "dev/shm").mkdir(parents=True)
        (folder / "run").mkdir()
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key = folder / "key.p8"
        self.key.write_bytes(_pem(key, serialization.NoEncryption()))
        self.encrypted_key = folder / "encrypted.p8"
        self.encrypted_key.write_bytes(_pem(key, serialization.BestAvailableEncryption(b"open sesame")))

    def env_file(self, lines: str | dict[str, str]) -> None:
        text = lines if isinstance(lines, str) else "".join(f"{name}={value}\n" for name, value in lines.items())
        (self.folder / ".env").write_text(text, encoding="utf-8")

    def start(self, shell: str = "sh", **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.folder / "docker/entrypoint.py"), shell, "-c", TELL]
        base = {"PATH": "/usr/bin:/bin", "HOME": "/home/kestra", "PIPELINE_ROOT": str(self.folder)}
        return subprocess.run(
            command, env=base | {"SNOWFLAKE_PRIVATE_KEY_FILE": str(self.key)} | environment,
            capture_output=True, text=True, cwd="/", timeout=60, check=False,
        )  # fmt: skip

    def seen(self, shell: str = "sh", **environment: str) -> dict[str, str]:
        done = self.start(shell, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def refused(self, **environment: str) -> str:
        (self.folder / "dev/shm/server.json").unlink(missing_ok=True)
        done = self.start(**environment)
        assert done.returncode == 78, done.stdout
        assert not (self.folder / "dev/shm/server.json").exists()
        return done.stderr


def _pem(key: rsa.RSAPrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Container:
    return Container(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def container(built: Container) -> Container:
    (built.folder / ".env").unlink(missing_ok=True)
    shutil.rmtree(built.folder / "run/demo", ignore_errors=True)
    return built


def decoded(environment: dict[str, str], name: str) -> str:
    assert "\n" not in environment[f"SECRET_{name}"]  # base64 of the command line wraps at 76
    return base64.b64decode(environment[f"SECRET_{name}"], validate=True).decode()


SECRETS = [name for name, secret in known_settings().items() if secret and name != "SNOWFLAKE_PRIVATE_KEY_FILE_PWD"]
WRITTEN = [list(NASTY.values())[start : start + len(SECRETS)] for start in range(0, len(NASTY), len(SECRETS))]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("values", WRITTEN, ids=range(len(WRITTEN)))
def test_a_secret_arrives_as_it_was_written(container: Container, shell: str, values: list[str]) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} on this machine")
    given = dict(zip(SECRETS, values, strict=False))
    quoted = {name: "'" + value.replace("\\", "\\\\") + "'" for name, value in given.items()}
    container.env_file(SERVER | PIPELINE | quoted)
    seen = container.seen(shell)
    assert {name: decoded(seen, name) for name in given} == given


def test_a_value_from_the_environment_arrives_as_it_is(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    values = ["it's", "line one\nline two\n", "-----BEGIN KEY-----\nMIIE\n-----END KEY-----\n", *NASTY.values()]
    for start in range(0, len(values), len(SECRETS)):
        given = dict(zip(SECRETS, values[start:], strict=False))
        seen = container.seen(**given)
        assert {name: decoded(seen, name) for name in given} == given


def test_a_multi_line_value_of_the_file(container: Container) -> None:
    container.env_file(SERVER | PIPELINE | {"AMP_SECRET_KEY": "'one\n two\n'"})
    assert decoded(container.seen(), "AMP_SECRET_KEY") == "one\n two\n"


def test_windows_line_ends_and_byte_order_mark(container: Container) -> None:
    text = "\ufeff" + "".join(f"{name}={value}\r\n" for name, value in (SERVER | PIPELINE).items())
    (container.folder / ".env").write_bytes(text.encode())
    seen = container.seen()
    assert seen["AMP_PROJECT_ID"] == "100001"
    assert decoded(seen, "AMP_API_KEY") == "api"


def test_plain_settings_have_two_names_and_secrets_one(container: Container) -> None:
    container.env_file(SERVER | PIPELINE | {"AMP_REGION": "us", "AWS_REGION": "", "AWS_KMS_KEY_ID": "unset"})
    seen = container.seen()
    assert seen["AMP_REGION"] == seen["ENV_AMP_REGION"] == "us"
    assert not {"AWS_REGION", "AWS_KMS_KEY_ID", "ENV_AWS_REGION", "AMP_API_KEY", "ENV_AMP_API_KEY"} & set(seen)
    assert decoded(seen, "SNOWFLAKE_PRIVATE_KEY_FILE_PWD") == "unset"  # optional and not given: secret() needs a name


def test_no_task_inherits_what_is_the_servers_alone(container: Container) -> None:
    container.env_file(PIPELINE)
    seen = container.seen(**SERVER)
    assert not [name for name in seen if any(each in name for each in SERVER)]
    file = container.folder / "dev/shm/server.json"
    assert json.loads(file.read_text()) == SERVER
    assert file.stat().st_mode & 0o777 == 0o600
    assert seen["MICRONAUT_CONFIG_FILES"] == str(file)


def test_the_laptop_gives_its_engine_the_same(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """One list of names: whatever the laptop's engine gets, the server gets under the same name and form."""
    (container.folder / "run/demo").mkdir()
    monkeypatch.setattr(stack, "read_settings", lambda: dict(PIPELINE))
    laptop = stack.Stack(container.folder / "laptop")
    laptop.settings["SNOWFLAKE_PRIVATE_KEY_FILE"] = str(container.key)
    (container.folder / "run/demo/settings.json").write_text(json.dumps(laptop.settings | SERVER))
    ours = {name: value for name, value in laptop.kestra_environment().items() if name not in stack.shell()}
    seen = container.seen()
    assert {name: seen.get(name) for name in ours} == ours | {"VIRTUAL_ENV": seen.get("VIRTUAL_ENV")}
    assert {name for name in seen if name.startswith(("SECRET_", "ENV_"))} == {
        name for name in ours if name.startswith(("SECRET_", "ENV_"))
    }


def test_all_that_is_missing_is_named_at_once(container: Container) -> None:
    container.env_file("")
    said = container.refused(SNOWFLAKE_PRIVATE_KEY_FILE="/dev/null")
    for name in [*SERVER, *PIPELINE, "SNOWFLAKE_PRIVATE_KEY_FILE"]:
        assert said.count(f"{name} is missing") == 1


@pytest.mark.parametrize(
    "given",
    [
        {
            "AMP_PROJECT_ID": "abc",
            "AMP_REGION": "asia",
            "AMP_START_DATE": "01.02.2026",
            "EXPORT_LATENCY_HOURS": "two",
            "AWS_PREFIX": "/python-import/",
            "SNOWFLAKE_WAREHOUSE": "my wh; drop table x",
            "BACKUP_READABLE_JSON": "perhaps",
            "KESTRA_ADMIN_USER": "admin",
            "KESTRA_ADMIN_PASSWORD": "alllowercase1",
            "KESTRA_ENCRYPTION_KEY": "dG9vIHNob3J0",
            "POSTGRES_PASSWORD": "p@ss'word\"long",
            "AMP_SECRET_KEY": "a{{ secret('AMP_API_KEY') }}",
            "AMP_API_KEY": "a{% raw %}",
            "AWS_BUCKET_NAME": "b{# c #}",
        },
        {"KESTRA_ADMIN_PASSWORD": "Aa1-${random.uuid}", "KESTRA_ENCRYPTION_KEY": "not base64"},
        {"KESTRA_ADMIN_PASSWORD": "Short1"},
    ],
    ids=["most", "configuration", "short"],
)
def test_every_malformed_setting_is_named_at_once_without_its_value(
    container: Container, given: dict[str, str]
) -> None:
    container.env_file(PIPELINE | SERVER)
    said = container.refused(**given)
    assert all(f"- {name} " in said for name in given)
    assert not [value for value in given.values() if value in said]
    assert "is missing" not in said
    assert said.count("\n  - ") == len(given)


def test_b36_a_dollar_that_compose_would_change_is_refused(container: Container) -> None:
    lines = ["AMP_SECRET_KEY=P@$$w0rd", 'AMP_API_KEY="secret$HOME"', "AWS_ACCESS_SECRET_KEY = a${b}"]
    container.env_file("".join(f"{name}={value}\n" for name, value in (SERVER | PIPELINE).items()) + "\n".join(lines))
    said = container.refused()
    for name in ("AMP_SECRET_KEY", "AMP_API_KEY", "AWS_ACCESS_SECRET_KEY"):
        assert f"{name} has a $ outside single quotes" in said
    assert not [value for value in ("w0rd", "HOME", "{b}") if value in said]


def test_lines_that_are_no_settings(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    with (container.folder / ".env").open("a") as file:
        file.write("\nAMP_SECRET='not closed\nMIIEvQIBADANBgkqhkiG==\nAMP_APIKEY=typo\n")
    said = container.refused()
    assert "line 14 is not NAME=value" in said
    (container.folder / ".env").write_text((container.folder / ".env").read_text().replace("'not closed", "closed"))
    told = container.start().stdout
    assert "AMP_APIKEY" in told  # a misspelt name is shown
    assert "AMP_SECRET," in told
    assert "MIIE" not in told  # a line of a key is not


def test_the_private_key_is_tried(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    key, encrypted = "SNOWFLAKE_PRIVATE_KEY_FILE", str(container.encrypted_key)
    assert container.seen(**{key: encrypted, f"{key}_PWD": "open sesame"})[key] == encrypted
    assert "that SNOWFLAKE_PRIVATE_KEY_FILE_PWD opens" in container.refused(**{key: encrypted})
    assert "that SNOWFLAKE_PRIVATE_KEY_FILE_PWD opens" in container.refused(**{key: encrypted, f"{key}_PWD": "sesame"})
    assert f"{key} is no PEM private key" in container.refused(**{key: str(container.folder / ".env")})
    assert f"{key} is not a file" in container.refused(**{key: "/nowhere/key.p8"})
    assert f"{key} is missing" in container.refused(**{key: "/dev/null"})


def test_the_containers_environment_wins_over_the_file(container: Container) -> None:
    container.env_file(SERVER | PIPELINE | {"DATA_DIR": "data", "LOG_DIR": "logs"})
    assert container.seen(DATA_DIR="/pipeline/data")["DATA_DIR"] == "/pipeline/data"


def test_what_is_not_a_setting_stays_as_it_is(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    seen = container.seen(HTTPS_PROXY="http://proxy:3128", JAVA_OPTS="-Xmx1g")
    assert (seen["HTTPS_PROXY"], seen["JAVA_OPTS"], seen["HOME"]) == ("http://proxy:3128", "-Xmx1g", "/home/kestra")


def test_a_demo_never_sees_the_settings_of_real_accounts(container: Container) -> None:
    container.env_file(SERVER | PIPELINE | {"AWS_KMS_KEY_ID": "real", "AMP_SECRET_KEY": "real"})
    (container.folder / "run/demo").mkdir()
    demo = SERVER | PIPELINE | {"SNOWFLAKE_PRIVATE_KEY_FILE": str(container.key), "AMP_SECRET_KEY": "made up"}
    (container.folder / "run/demo/settings.json").write_text(json.dumps(demo))
    seen = container.seen(AWS_ENDPOINT_URL_S3="https://real")
    assert "real" not in {*seen.values(), decoded(seen, "AMP_SECRET_KEY")}
    assert seen["SNOWFLAKE_PRIVATE_KEY_FILE"] == str(container.key)


def test_without_a_command_it_only_checks(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    command = [sys.executable, str(container.folder / "docker/entrypoint.py")]
    environment = {"PIPELINE_ROOT": str(container.folder), "SNOWFLAKE_PRIVATE_KEY_FILE": str(container.key)}
    (container.folder / "dev/shm/server.json").unlink(missing_ok=True)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "entrypoint: every setting is there and well formed\n"), done.stderr
    assert not (container.folder / "dev/shm/server.json").exists()
    container.env_file("")
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 78
