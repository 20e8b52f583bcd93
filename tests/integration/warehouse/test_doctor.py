"""Doctor against a deployed warehouse: all is well, and each failure of the first hour in its own words."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from base64 import b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from local.amplitude import server
from scripts import doctor
from scripts.pipeline import warehouse
from tests import aws_policy, exports

DOCS = Path(__file__).resolve().parents[3] / "docs"
KEYS = ("key-of-the-project", "secret-of-the-project")
ROLE = "arn:aws:iam::111122223333:role/doctor"


@pytest.fixture
def look(environment, deployed, s3_server, monkeypatch):
    """What is said of Snowflake, by check, on a deployed database whose settings are right."""
    environment(deployed)
    monkeypatch.setenv("SILVER_TASKS", "false")
    return lambda scope="": by_check(doctor.of_snowflake(scope))


def by_check(findings) -> dict[str, str]:
    found: dict[str, str] = {}
    for finding in findings:
        found[finding.check] = f"{found.get(finding.check, '')}{doctor.line(finding)}\n"
    return found


def of(state: str, found: dict[str, str]) -> set[str]:
    return {check for check, lines in found.items() if any(line.startswith(state) for line in lines.splitlines())}


def test_all_is_well(look, s3_server, tmp_path, monkeypatch, capsys):
    s3_server.clear()
    s3_server.fault = aws_policy.uploader(s3_server)
    with server.running(exports.Known({}), tmp_path / "amplitude", KEYS) as amplitude:
        given = {"AMP_API_KEY": KEYS[0], "AMP_SECRET_KEY": KEYS[1], "AMP_BASE_URL": amplitude.url}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert doctor.main(["--json"]) == 0
        s3_server.fault = lambda environ: None
    shown = capsys.readouterr().out
    states = {each["check"]: each["state"] for each in json.loads(shown)}
    # Neither webhook nor heartbeat is set, and no part was ever uploaded.
    assert {check for check, state in states.items() if state != "ok"} == {"alerts", "notification"}
    assert not [value for value in (*KEYS, "test-secret") if value in shown]
    assert s3_server.objects() == {}
    assert "arn:aws:sqs" in look()["notification"]


def test_all_that_lacks_is_named_at_once(look, deployed, snowflake_server, monkeypatch):
    """Another external id than the integration's, a stage and a warehouse that the loader may not use."""
    grants = (
        "usage on stage raw.amplitude_events_stage {} database role raw_loader",
        "usage, operate on warehouse AMPLITUDE_WH {} role amplitude_loader",
    )
    monkeypatch.setenv("AWS_EXTERNAL_ID", "typed-anew")
    for grant in grants:
        snowflake_server.script(deployed, "revoke " + grant.format("from"))
    try:
        found = look()
    finally:
        for grant in grants:
            snowflake_server.script(deployed, "grant " + grant.format("to"))
    assert "another AWS_EXTERNAL_ID than .env" in found["integration"]
    assert "step 4" in found["integration"]
    assert "database role raw_loader lacks USAGE on AMPLITUDE_EVENTS_STAGE" in found["DDL"]
    assert "snowflake_deploy" in found["DDL"]
    assert "AMPLITUDE_LOADER cannot list" in found["stage"]
    assert "AMPLITUDE_LOADER lacks USAGE on warehouse AMPLITUDE_WH" in found["role"]


def test_a_trust_policy_that_lets_nobody_in_and_what_stands_still(look, deployed, s3_server, snowflake_server):
    """003167, Error assuming AWS_ROLE: the role is there, its trust policy is still the example."""
    trust = (DOCS / "aws/snowflake-trust-policy.json").read_text()
    s3_server.client("iam").create_role(RoleName="doctor", AssumeRolePolicyDocument=trust)
    change = f"alter storage integration {deployed}_S3 set storage_aws_role_arn"
    pause = "alter pipe raw.amplitude_events_pipe set pipe_execution_paused"
    snowflake_server.script(deployed, f"{change} = '{ROLE}';\n{pause} = true")
    try:
        found = look()
    finally:
        s3_server.client("iam").delete_role(RoleName="doctor")
        was = snowflake_server.settings()["AWS_ROLE_ARN"]
        snowflake_server.script(deployed, f"{change} = '{was}';\n{pause} = false")
    assert "another AWS_ROLE_ARN" in found["integration"]
    assert "trust policy must name STORAGE_AWS_IAM_USER_ARN" in found["stage"]
    assert "step 4 (trust policy)" in found["stage"]
    assert "AMPLITUDE_EVENTS_PIPE is PAUSED" in found["pipe, streams, tasks"]


def test_what_comes_later_is_a_warning_after_the_account_and_a_failure_without(look, environment):
    environment("NOT_DEPLOYED")
    found = look("account")
    assert "not deployed" in found["DDL"]
    assert "step 5" in found["DDL"]
    assert of("warning", found) >= {"DDL"}
    assert "DDL" in of("failed", look())


def test_an_integration_of_another_cloud_under_our_name_is_told(look, environment, snowflake_server):
    environment("OTHER_CLOUD")
    snowflake_server.script(
        None,
        "create storage integration other_cloud_s3 type = external_stage storage_provider = 'GCS' enabled = true"
        " storage_allowed_locations = ('gcs://bucket/')",
    )
    try:
        found = look()
    finally:
        snowflake_server.script(None, "drop integration other_cloud_s3")
    assert "OTHER_CLOUD_S3 is of GCS, not of S3" in found["integration"]
    assert "role" in found


def a_key(file: Path) -> str:
    """Writes a private key; returns its public half as RSA_PUBLIC_KEY wants it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    return b64encode(key.public_key().public_bytes(serialization.Encoding.DER, public)).decode()


def test_a_key_that_is_not_the_users_and_a_role_that_it_lacks(look, snowflake_server, tmp_path, monkeypatch):
    snowflake_server.script(
        None,
        f"""create user doctor_held type = service default_role = amplitude_loader
    default_secondary_roles = () rsa_public_key = '{a_key(tmp_path / "held.p8")}';
grant role amplitude_loader to user doctor_held;
grant role sysadmin to user doctor_held;
revoke role amplitude_transformer from role sysadmin""",
    )
    monkeypatch.setenv("SNOWFLAKE_USER", "DOCTOR_HELD")
    try:
        found = look()
        assert "Snowflake refuses the login (390144)" in found["Snowflake login"]
        assert "set the public key" in found["Snowflake login"]
        assert "not looked at" in found["Snowflake"]
        monkeypatch.setenv("SNOWFLAKE_PRIVATE_KEY_FILE", str(tmp_path / "held.p8"))
        found = look()
    finally:
        snowflake_server.script(None, "grant role amplitude_transformer to role sysadmin;\ndrop user doctor_held")
    assert "DOCTOR_HELD cannot take the role AMPLITUDE_TRANSFORMER" in found["role"]
    assert "DOCTOR_HELD can take AMPLITUDE_LOADER, SYSADMIN" in found["role"]


def until_deaf(port: int, statements: int) -> int:
    """The port of a way to `port` on which nothing comes back after so many statements."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked = 0

    def pass_on(source: socket.socket, target: socket.socket, *, up: bool) -> None:
        nonlocal asked
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                asked += data.count(b"POST /queries/v1/query-request") if up else 0
                if asked <= statements:
                    target.sendall(data)
            target.close()

    def accept() -> None:
        while True:
            near, far = listener.accept()[0], socket.create_connection(("127.0.0.1", port))
            for source, target, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=pass_on, args=(source, target), kwargs={"up": up}, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


@pytest.mark.scenario
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the connector's own thread
def test_a_snowflake_that_hangs_after_the_login_is_told_in_time_and_as_that(look, snowflake_server, monkeypatch):
    """It was an hour a statement, longer than the task may take: and then nothing at all was told."""
    monkeypatch.setenv("SNOWFLAKE_PORT", str(until_deaf(snowflake_server.port, 1)))
    monkeypatch.setattr(doctor, "PATIENCE", 1)
    monkeypatch.setattr(warehouse, "NETWORK_MORE", 2)
    monkeypatch.setattr("snowflake.connector.network.DEFAULT_SOCKET_CONNECT_TIMEOUT", 2)  # a minute
    started = time.monotonic()
    found = by_check(doctor._checked("Snowflake", lambda: doctor.of_snowflake("")))
    assert time.monotonic() - started < 30
    assert set(found) == {"Snowflake login", "Snowflake"}
    assert "did not answer as it should" in found["Snowflake"]
