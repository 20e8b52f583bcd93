"""docker/entrypoint.py: what the server and its tasks see is what was meant; nothing starts on a bad setting.

The entrypoint runs as in the container: a process of its own that becomes a shell, whose child tells what it sees.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from local import stack
from scripts.pipeline.settings import NOT_FOR_PEOPLE

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
AWS_KEYS = {"AWS_ACCESS_KEY": "one", "AWS_ACCESS_SECRET_KEY": "two"}
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

    def demo(self, settings: dict[str, str]) -> None:
        """What docker/demo.py hands over."""
        (self.folder / "run/demo").mkdir()
        text = "".join(f"{name}={value}\n" for name, value in settings.items())
        (self.folder / "run/demo/settings.env").write_text(text)

    def start(self, shell: str = "sh", *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(self.folder / "docker/entrypoint.py"), shell, "-c", TELL, *more]
        base = {"PATH": "/usr/bin:/bin", "HOME": "/home/kestra", "PIPELINE_ROOT": str(self.folder),
                "DEMO_SETTINGS": str(self.folder / "run/demo/settings.env")}  # fmt: skip
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


def _pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption
) -> bytes:
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


SECRETS = ["AMP_API_KEY", "AMP_SECRET_KEY", "AWS_ACCESS_KEY", "AWS_ACCESS_SECRET_KEY"]  # those that may be any text
WRITTEN = [list(NASTY.values())[start : start + len(SECRETS)] for start in range(0, len(NASTY), len(SECRETS))]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("values", WRITTEN, ids=range(len(WRITTEN)))
def test_a_secret_arrives_as_it_was_written(container: Container, shell: str, values: list[str]) -> None:
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell} on this machine")
    given = dict(zip(SECRETS, values, strict=False))
    quoted = {name: "'" + value.replace("\\", "\\\\") + "'" for name, value in given.items()}
    container.env_file(SERVER | PIPELINE | AWS_KEYS | quoted)
    seen = container.seen(shell)
    assert {name: decoded(seen, name) for name in given} == given


def test_a_value_from_the_environment_arrives_as_it_is(container: Container) -> None:
    container.env_file(SERVER | PIPELINE | AWS_KEYS)
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


def test_servers_apart_need_a_bucket_for_their_files(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    done = container.start("sh", "executor")
    assert (done.returncode, done.stderr.count("KESTRA_STORAGE_BUCKET is missing")) == (78, 1)
    keys = {"KESTRA_STORAGE_ACCESS_KEY": "an-id", "KESTRA_STORAGE_SECRET_KEY": "of-the-bucket"}
    storage = keys | {"KESTRA_STORAGE_BUCKET": "kestra-files"}
    container.env_file(SERVER | PIPELINE | storage)
    assert "AWS_REGION is missing" in container.refused()
    container.env_file(SERVER | PIPELINE | storage | {"AWS_REGION": "eu-west-1"})
    seen = container.seen()
    file = json.loads((container.folder / "dev/shm/server.json").read_text())
    assert file == SERVER | storage | {"STORAGE_TYPE": "s3"}
    assert not [name for name in seen if "STORAGE" in name]


@pytest.mark.parametrize("name", ["KESTRA_STORAGE_ACCESS_KEY", "KESTRA_STORAGE_SECRET_KEY"])
def test_one_key_of_the_storage_without_the_other_is_refused(container: Container, name: str) -> None:
    """Kestra's S3 storage takes two keys or looks for a role of the machine; one alone was left out in silence."""
    container.env_file(SERVER | PIPELINE | {"KESTRA_STORAGE_BUCKET": "kestra-files", "AWS_REGION": "eu-west-1"})
    said = container.refused(**{name: "one-of-two"})
    assert "KESTRA_STORAGE_ACCESS_KEY and KESTRA_STORAGE_SECRET_KEY: give both, or none" in said
    assert "one-of-two" not in said


def test_the_laptop_gives_its_engine_the_same(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    """One list of names: whatever the laptop's engine gets, the server gets under the same name and form."""
    container.env_file("")
    monkeypatch.setattr(stack, "read_settings", lambda: dict(PIPELINE))
    laptop = stack.Stack(container.folder / "laptop")
    laptop.settings["SNOWFLAKE_PRIVATE_KEY_FILE"] = str(container.key)
    container.demo(laptop.settings | SERVER)
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


def test_a_required_setting_that_is_unset_is_missing(container: Container) -> None:
    container.env_file(SERVER | PIPELINE | {"AMP_API_KEY": "unset", "KESTRA_ADMIN_PASSWORD": "' '"})
    said = container.refused()
    assert "AMP_API_KEY is missing" in said
    assert "KESTRA_ADMIN_PASSWORD is missing" in said


def test_the_laptop_refuses_what_the_server_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "ROOT", tmp_path)
    (tmp_path / ".env").write_text("AMP_SECRET_KEY=a$b\n")
    with pytest.raises(stack.StackError, match="AMP_SECRET_KEY has a "):
        stack.read_settings()
    (tmp_path / ".env").write_text("AMP_SECRET_KEY='a${b}'\n")
    assert stack.read_settings()["AMP_SECRET_KEY"] == "a${b}"
    # A traceback of the connector's, and a stand-in that did not start for `invalid literal for int()`.
    (tmp_path / ".env").write_text("SNOWFLAKE_HOST='my host'\nAMP_PROJECT_ID=my-project\n")
    with pytest.raises(
        stack.StackError, match=r"AMP_PROJECT_ID input should be .* SNOWFLAKE_HOST must be a host"
    ) as said:
        stack.read_settings()
    assert "my" not in str(said.value)


@pytest.mark.parametrize(
    "given",
    [
        {
            "AMP_PROJECT_ID": "abc",
            "AMP_REGION": "asia",
            "AMP_START_DATE": "2026-02-01T00:00:00",
            "AMP_BASE_URL": "ftp://amplitude.example",
            "AWS_ENDPOINT_URL_S3": "minio:9000",
            "SNOWFLAKE_ACCOUNT": "https://org-account.snowflakecomputing.com",
            "SNOWFLAKE_HOST": "https://org-account.snowflakecomputing.com/",
            "SNOWFLAKE_PORT": "65536",
            "REPORTING_TIMEZONE": "Mars/Olympus",
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
            "SNOWFLAKE_USER": "b{# c #}",
        },
        {"KESTRA_ADMIN_PASSWORD": "Aa1-${random.uuid}", "KESTRA_ENCRYPTION_KEY": "not base64"},
        {"KESTRA_ADMIN_PASSWORD": "Short1", "KESTRA_ADMIN_USER": "a:d@example.com", "AWS_BUCKET_NAME": "s3://bucket/x"},
        {"SNOWFLAKE_ACCOUNT": "org-account.snowflakecomputing.com", "AMP_START_DATE": "1767225600"},
        {"ALERT_WEBHOOK_URL": "hooks.example/T0/B0/key", "HEARTBEAT_URL": "https:///ping/key"},
        {"KESTRA_ADMIN_PASSWORD": "NO SMALL LETTER 1", "KESTRA_ADMIN_USER": "jürgen@example.com"},
        {"KESTRA_ADMIN_PASSWORD": "Aa1" + "x" * 254, "KESTRA_ADMIN_USER": "x" * 250 + "@example.com"},
    ],
    ids=[
        "most",
        "configuration",
        "short",
        "addresses",
        "secrets",
        "login that Kestra drops in silence",
        "login that is too long",
    ],
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


@pytest.mark.parametrize("value", ['"=\'secret$HOME"', "='secret$HOME", "x='a$HOME'", '"a = \'$HOME"'])
def test_a_dollar_behind_a_quote_within_the_value_is_refused(container: Container, value: str) -> None:
    """Compose read these as a variable and printed its name, a piece of the secret: the check looked for any `='`."""
    container.env_file(SERVER | PIPELINE | {"AMP_SECRET_KEY": value})
    assert "AMP_SECRET_KEY has a $ outside single quotes" in container.refused()


@pytest.mark.parametrize("name", ["AMP_SECRET_KEY", "export AMP_SECRET_KEY ", "\n\t'AMP_SECRET_KEY' "])
def test_a_dollar_in_single_quotes_is_taken_however_the_name_is_written(container: Container, name: str) -> None:
    others = {key: value for key, value in (SERVER | PIPELINE).items() if key != "AMP_SECRET_KEY"}
    container.env_file(others | {name: " 'a=$HOME'" if name.endswith(" ") else "'a=$HOME'"})
    assert decoded(container.seen(), "AMP_SECRET_KEY") == "a=$HOME"


def test_lines_that_are_no_settings(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    with (container.folder / ".env").open("a") as file:
        file.write("\nAMP_SECRET='not closed\nNUL=a\0b\n")
    said = container.refused()
    assert "line 14 is not NAME=value" in said
    assert "line 15 is not NAME=value" in said
    assert "closed" not in said


def test_a_misspelt_setting_is_refused(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    with (container.folder / ".env").open("a") as file:
        file.write("AMP_APIKEY=x\nMIIEvQIBADANBgkqhkiG==\nCOMPOSE_PROFILES=\nDOCKER_HOST=x\n")
    said = container.refused()
    assert "AMP_APIKEY is no setting of this product, did you mean AMP_API_KEY?" in said
    assert "a name (not shown) is no setting" in said
    assert "MIIE" not in said  # a line of a key is not shown
    assert said.count("\n  - ") == 2


def test_what_tasks_and_rehearsals_set_is_refused_from_a_person(container: Container) -> None:
    container.env_file(SERVER | PIPELINE | {"PIPELINE_NOW": "2026-01-01T00:00:00Z", "SNOWFLAKE_ROLE": "ACCOUNTADMIN"})
    said = container.refused(QUERY_TAG="mine")
    assert all(f"{name} is set by the pipeline itself" in said for name in NOT_FOR_PEOPLE)


def test_one_aws_key_without_the_other_is_refused(container: Container) -> None:
    for name in AWS_KEYS:
        container.env_file(SERVER | PIPELINE | {name: "x"})
        assert "AWS_ACCESS_KEY and AWS_ACCESS_SECRET_KEY: give both, or none" in container.refused()


def test_what_is_expected_is_told_as_it_is_written(container: Container) -> None:
    """Messages were put in lower case, patterns and examples too."""
    container.env_file(SERVER | PIPELINE | {"REPORTING_TIMEZONE": "London", "SNOWFLAKE_ACCOUNT": "https://x"})
    said = container.refused()
    assert "REPORTING_TIMEZONE must be a name of the time zone database, such as Europe/London" in said
    assert "SNOWFLAKE_ACCOUNT must be ORGANIZATION-ACCOUNT, and no address" in said


@pytest.mark.parametrize(
    "line",
    ["POSTGRES_PASSWORD='{}'", 'POSTGRES_PASSWORD="{}"', "POSTGRES_PASSWORD = {}", "export POSTGRES_PASSWORD={}",
     "POSTGRES_PASSWORD={} # mine", "'POSTGRES_PASSWORD'={}", "POSTGRES_PASSWORD={0}\nPOSTGRES_PASSWORD={0}",
     "POSTGRES_PASSWORD={0}\nAMP_API_KEY='one\nPOSTGRES_PASSWORD={0}\n'"],
)  # fmt: skip
def test_a_line_that_the_database_would_read_otherwise_is_refused(container: Container, line: str) -> None:
    others = {name: value for name, value in (SERVER | PIPELINE).items() if name != "POSTGRES_PASSWORD"}
    text = "".join(f"{name}={value}\n" for name, value in others.items())
    container.env_file(text + line.format(SERVER["POSTGRES_PASSWORD"]) + "\n")
    said = container.refused()
    assert said.count("\n  - ") == 1
    assert "POSTGRES_PASSWORD must stand once" in said


def test_no_env_file_but_the_folder_that_compose_made(container: Container) -> None:
    (container.folder / ".env").mkdir()
    try:
        assert ".env is a folder: rmdir .env" in container.refused()
    finally:
        (container.folder / ".env").rmdir()


def test_the_private_key_is_tried(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    key, encrypted = "SNOWFLAKE_PRIVATE_KEY_FILE", str(container.encrypted_key)
    assert container.seen(**{key: encrypted, f"{key}_PWD": "open sesame"})[key] == encrypted
    assert "that SNOWFLAKE_PRIVATE_KEY_FILE_PWD opens" in container.refused(**{key: encrypted})
    assert "that SNOWFLAKE_PRIVATE_KEY_FILE_PWD opens" in container.refused(**{key: encrypted, f"{key}_PWD": "sesame"})
    assert f"{key} is no PEM private key" in container.refused(**{key: str(container.folder / ".env")})
    assert f"{key} is not a file" in container.refused(**{key: "/nowhere/key.p8"})
    assert f"{key} is missing" in container.refused(**{key: "/dev/null"})


def _ec() -> bytes:
    return _pem(ec.generate_private_key(ec.SECP256R1()), serialization.NoEncryption())


def _small_rsa() -> bytes:
    return _pem(rsa.generate_private_key(65537, 1024), serialization.NoEncryption())


def _openssh() -> bytes:
    return ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _unknown() -> bytes:
    """PKCS #8 of an algorithm that nobody has: cryptography raises UnsupportedAlgorithm."""
    der = bytes.fromhex("300f020100300606042a03040504020000")
    name = b"PRIVATE KEY-----\n"  # in two parts: a test looks for keys in what is committed
    return b"-----BEGIN " + name + base64.b64encode(der) + b"\n-----END " + name


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_ec, "an RSA key"),
        (_small_rsa, "2048 bits"),
        (_openssh, "no PEM private key"),
        (_unknown, "no PEM private key"),
    ],
)
def test_a_key_that_snowflake_would_refuse(
    container: Container, tmp_path: Path, make: Callable[[], bytes], why: str
) -> None:
    container.env_file(SERVER | PIPELINE)
    (tmp_path / "key.p8").write_bytes(make())
    said = container.refused(SNOWFLAKE_PRIVATE_KEY_FILE=str(tmp_path / "key.p8"))
    assert why in said
    assert "Traceback" not in said


def test_the_containers_environment_wins_over_the_file(container: Container) -> None:
    container.env_file(SERVER | PIPELINE | {"DATA_DIR": "data", "LOG_DIR": "logs"})
    assert container.seen(DATA_DIR="/pipeline/data")["DATA_DIR"] == "/pipeline/data"


def test_what_is_not_a_setting_stays_as_it_is(container: Container) -> None:
    container.env_file(SERVER | PIPELINE)
    seen = container.seen(HTTPS_PROXY="http://proxy:3128", JAVA_OPTS="-Xmx1g")
    assert (seen["HTTPS_PROXY"], seen["JAVA_OPTS"], seen["HOME"]) == ("http://proxy:3128", "-Xmx1g", "/home/kestra")


def test_a_demo_reads_nothing_of_the_environment(container: Container) -> None:
    container.env_file({"AWS_KMS_KEY_ID": "real"})
    container.demo(SERVER | PIPELINE | {"SNOWFLAKE_PRIVATE_KEY_FILE": str(container.key), "AMP_SECRET_KEY": "made-up"})
    done = container.start(AWS_ENDPOINT_URL_S3="https://real")
    assert "entrypoint: the DEMO" in done.stdout
    seen = json.loads(done.stdout.splitlines()[-1])
    assert decoded(seen, "AMP_SECRET_KEY") == "made-up"
    assert not [value for value in seen.values() if "real" in value]
    assert seen["SNOWFLAKE_PRIVATE_KEY_FILE"] == str(container.key)
    server = json.loads((container.folder / "dev/shm/server.json").read_text())
    assert server == SERVER | {"STORAGE_DIR": "/app/storage/demo"}  # its state lies apart from that of accounts


@pytest.mark.parametrize("name", ["AMP_API_KEY", "KESTRA_ADMIN_USER", "POSTGRES_PASSWORD"])
def test_accounts_never_start_on_the_settings_of_a_demo_that_is_left(container: Container, name: str) -> None:
    """A plain `docker compose down` leaves the demo's container, and with it the settings that it hands over."""
    container.demo(SERVER | PIPELINE | {"SNOWFLAKE_PRIVATE_KEY_FILE": str(container.key)})
    container.env_file({name: (SERVER | PIPELINE)[name]})
    said = container.refused()
    assert "docker compose --profile demo down" in said
    assert said.count("\n  - ") == 1
    shutil.copy(ROOT / ".env.example", container.folder / ".env")  # not filled in: no accounts
    container.seen()


READ = """
import json
from scripts.pipeline import settings
for group in (settings.AmplitudeSettings, settings.BackupSettings):
    print(json.dumps({k: getattr(v, "get_secret_value", lambda: str(v))() for k, v in settings.load(group)}))
"""


def at_a_terminal(container: Container, **environment: str) -> dict[str, str]:
    """`docker compose exec --workdir /repository kestra python -m scripts.…`: it has the environment of the image."""
    base = {"PATH": "/usr/bin:/bin", "HOME": "/h", "DEMO_SETTINGS": str(container.folder / "run/demo/settings.env")}
    done = subprocess.run(
        [sys.executable, "-c", READ], env=base | environment, cwd=container.folder, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    return json.loads(first) | json.loads(second)


def test_a_command_in_the_container_reads_what_the_server_reads(container: Container) -> None:
    """pydantic's own reader of `.env` puts variables in place of `${…}`, also within single quotes."""
    container.env_file(SERVER | PIPELINE | {"AMP_SECRET_KEY": "'a${HOME}b$$c'", "DATA_DIR": "data"})
    seen, read = container.seen(DATA_DIR="/pipeline/data"), at_a_terminal(container, DATA_DIR="/pipeline/data")
    assert read["amp_secret_key"] == decoded(seen, "AMP_SECRET_KEY") == "a${HOME}b$$c"
    assert read["data_dir"] == seen["DATA_DIR"] == "/pipeline/data"


def test_a_command_in_the_demo_reads_what_the_demo_reads(container: Container) -> None:
    container.env_file({"AMP_REGION": "us"})
    demo = {"SNOWFLAKE_PRIVATE_KEY_FILE": str(container.key), "AMP_BASE_URL": "http://demo:1", "DATA_DIR": "/data/demo"}
    container.demo(SERVER | PIPELINE | demo)
    seen, read = container.seen(DATA_DIR="/data"), at_a_terminal(container, DATA_DIR="/data")
    assert (read["amp_base_url"], read["data_dir"], read["amp_region"]) == ("http://demo:1", "/data/demo", "eu")
    assert (seen["AMP_BASE_URL"], seen["DATA_DIR"]) == ("http://demo:1", "/data/demo")
    assert "DEMO_SETTINGS" not in seen  # a task has what its flow gives it, and no file to read more from


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
