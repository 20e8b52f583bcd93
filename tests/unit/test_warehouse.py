"""The Snowflake connection: settings to arguments, and the connector's errors to ours."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from snowflake.connector import errors as sf

from scripts.pipeline import warehouse
from scripts.pipeline.errors import ConfigurationError, PermanentError, RetriableError
from scripts.pipeline.settings import SnowflakeSettings


@pytest.fixture
def settings(tmp_path):
    key_file = tmp_path / "key.p8"
    key_file.write_text("not read here")
    return SnowflakeSettings(
        snowflake_account="acme-eu",
        snowflake_user="AMPLITUDE_PIPELINE",
        snowflake_warehouse="AMPLITUDE_WH",
        snowflake_database="AMPLITUDE",
        snowflake_private_key_file=key_file,
        snowflake_private_key_file_pwd="hush",
        snowflake_role="AMPLITUDE_LOADER",
        query_tag="amplitude_daily/abc/load",
    )


def test_session_is_utc_bounded_in_time_and_tagged(settings):
    arguments = warehouse.parameters(settings)
    assert arguments["session_parameters"]["TIMEZONE"] == "UTC"
    assert arguments["session_parameters"]["QUERY_TAG"] == "amplitude_daily/abc/load"
    # The connector cancels a statement at network_timeout, so Snowflake's own limit must come first.
    assert arguments["session_parameters"]["STATEMENT_TIMEOUT_IN_SECONDS"] < arguments["network_timeout"]
    assert arguments["role"] == "AMPLITUDE_LOADER"
    assert arguments["private_key_file_pwd"] == "hush"
    assert "host" not in arguments
    assert "password" not in arguments


def test_role_of_a_task_wins_over_the_environment(settings):
    assert warehouse.parameters(settings, "SYSADMIN")["role"] == "SYSADMIN"


def test_missing_key_file_is_named_before_any_request(settings):
    settings.snowflake_private_key_file = settings.snowflake_private_key_file.with_name("gone.p8")
    with pytest.raises(ConfigurationError, match=r"SNOWFLAKE_PRIVATE_KEY_FILE: there is no file .*gone\.p8"):
        warehouse.parameters(settings)


def test_a_key_file_below_the_home_of_nobody_is_one_that_is_missing(settings):
    settings.snowflake_private_key_file = Path("~nobody-of-that-name/key.p8")
    with pytest.raises(ConfigurationError, match="there is no file ~nobody-of-that-name"):
        warehouse.parameters(settings)


def test_a_key_of_another_kind_is_told_as_such(settings):
    form = serialization.PrivateFormat.PKCS8
    content = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"hush")
    )
    settings.snowflake_private_key_file.write_bytes(content)
    with (
        pytest.raises(ConfigurationError, match="is of a kind that is not supported: make an RSA key"),
        warehouse.connect(settings),
    ):
        pass


def raised(error: sf.Error) -> Exception:
    with pytest.raises(Exception) as caught, warehouse.statement_errors():
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (2003, ConfigurationError, "snowflake_deploy"),  # does not exist or not authorized
        (3001, ConfigurationError, "privilege"),
        (3167, ConfigurationError, "docs/aws/README.md, step 4"),  # Error assuming AWS_ROLE
        (3013, ConfigurationError, "not granted"),
        (90105, ConfigurationError, "snowflake_deploy"),  # the session has no current database
        (90073, ConfigurationError, "resource monitor"),
        (91016, PermanentError, "amplitude_daily over its day with `force`"),  # remote file not found
        (100038, PermanentError, "code 100038"),  # numeric value not recognized
    ],
)
def test_errors_of_statements_say_what_to_do(code, kind, said):
    error = raised(sf.ProgrammingError("SQL compilation error:\nwords", errno=code, sqlstate="42501", sfqid="01b2"))
    assert type(error) is kind
    assert said in str(error)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (390100, "SNOWFLAKE_ACCOUNT, _USER and the key pair"),
        (390144, "is not the user's"),  # JWT token is invalid
        (394304, "is not the user's"),  # JWT_TOKEN_INVALID_PUBLIC_KEY_FINGERPRINT_MISMATCH
        (394302, "clock"),  # JWT_TOKEN_NOT_YET_VALID
        (390186, "scope account"),  # a role that is not granted to this user
        (390189, "scope account"),  # a role that does not exist
        (290404, "ORGANIZATION-ACCOUNT"),  # the host answers 404
    ],
)
def test_refused_login_is_a_matter_of_settings(code, said):
    error = raised(sf.DatabaseError("no", errno=code))
    assert isinstance(error, ConfigurationError)
    assert said in str(error)


def a_key(password: bytes | None) -> tuple[bytes, str]:
    """A private key's file, and its public half's fingerprint as `openssl … -outform DER | dgst -sha256` has it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    shut = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    file = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, shut)
    return file, "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode()


@pytest.mark.parametrize("password", [b"hush", b"other", None, b""])
def test_a_key_that_does_not_open_is_told_before_any_request(settings, password):
    """`hush` is the passphrase that is given; b"": the file is no key at all."""
    file, fingerprint = a_key(password)
    settings.snowflake_private_key_file.write_bytes(file if password != b"" else b"no key")
    if password == b"hush":
        assert warehouse.key_fingerprint(settings) == fingerprint
        return
    for look in (lambda: warehouse.key_fingerprint(settings), lambda: warehouse.connect(settings).__enter__()):
        with pytest.raises(ConfigurationError, match="SNOWFLAKE_PRIVATE_KEY_FILE_PWD does not fit"):
            look()


def test_an_account_that_nobody_answers_for_may_be_misspelt(settings, monkeypatch):
    settings.snowflake_private_key_file.write_bytes(a_key(b"hush")[0])
    monkeypatch.setattr(warehouse, "LOGIN_SECONDS", 1)
    there = settings.model_copy(update={"snowflake_host": "127.0.0.1", "snowflake_port": 1})
    with pytest.raises(RetriableError, match="not reached within 1 s: check the network, SNOWFLAKE_ACCOUNT"):
        warehouse.connect(there).__enter__()


def test_network_trouble_can_be_tried_again():
    assert isinstance(raised(sf.OperationalError("timed out", errno=250003)), RetriableError)


def test_text_of_a_failed_statement_stays_out_because_it_may_quote_an_event():
    error = raised(sf.ProgrammingError("Numeric value 'jane@example.com' is not recognized", errno=100038))
    assert "jane" not in str(error)
