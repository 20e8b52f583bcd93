"""Who gets in, what Snowflake may read in S3, and what a pipe was told of: refused as an account refuses it.

Codes and words: public logs of accounts (390144, 390186, 003167) and the pages of key-pair authentication, USE ROLE,
CREATE STORAGE INTEGRATION and SYSTEM$PIPE_STATUS.
"""

from __future__ import annotations

import json
import time
from base64 import b64encode

import pytest
import snowflake.connector
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from snowflake.connector.errors import DatabaseError, ProgrammingError

from tests import s3, warehouse

ROLE = "arn:aws:iam::111122223333:role/logins"


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with (
        s3.serving() as bucket,
        warehouse.serving(tmp_path_factory.mktemp("snowflake"), bucket.url) as running,
    ):
        bucket.create_bucket()
        yield bucket, running


def a_key(file):
    """Writes a private key; returns its public half as RSA_PUBLIC_KEY wants it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    return b64encode(key.public_key().public_bytes(serialization.Encoding.DER, public)).decode()


def login(running, key_file, role):
    return snowflake.connector.connect(
        account="local", user="HELD", private_key_file=str(key_file), role=role,
        host="127.0.0.1", port=running.port, protocol="http", login_timeout=20,
    )  # fmt: skip


def test_a_user_with_a_public_key_is_held_to_it_and_to_the_roles_granted(servers, tmp_path):
    _, running = servers
    first, second, stranger = (tmp_path / name for name in ("first", "second", "stranger"))
    keys = [a_key(file) for file in (first, second, stranger)]
    running.script(
        None,
        f"""create role loader;
create role stranger;
create user held type = service rsa_public_key = '{keys[0]}' rsa_public_key_2 = '{keys[1]}';
grant role loader to user held""",
    )
    for key in (first, second):  # two are valid at once, while a key is turned
        login(running, key, "LOADER").close()
    refused = {(stranger, "LOADER"): 390144, (first, "STRANGER"): 390186, (first, "NOBODY"): 390189}
    for (key, role), code in refused.items():
        with pytest.raises(DatabaseError) as caught:
            login(running, key, role)
        assert caught.value.errno == code
    with login(running, first, "LOADER") as connection:
        with pytest.raises(ProgrammingError, match="is not assigned to the executing user"):
            connection.cursor().execute("use role stranger")
        assert connection.cursor().execute("select current_warehouse()").fetchone() == (None,)


def trust(principal: str, external_id: str) -> str:
    """The policy of docs/aws."""
    text = (s3.Path(__file__).parents[2] / "docs/aws/snowflake-trust-policy.json").read_text()
    return text.replace("STORAGE_AWS_IAM_USER_ARN-OF-DESC-INTEGRATION", principal).replace(
        "VALUE-OF-AWS_EXTERNAL_ID", external_id
    )


def test_an_aws_role_lets_in_whom_its_trust_policy_names(servers):
    bucket, running = servers
    running.script(
        None,
        f"""create database trusted;
create storage integration trusted type = external_stage storage_provider = 'S3' enabled = true
    storage_aws_role_arn = '{ROLE}' storage_allowed_locations = ('s3://{s3.BUCKET}/t/')
    storage_aws_external_id = 'mine';
create stage st url = 's3://{s3.BUCKET}/t/' storage_integration = trusted file_format = (type = json);
create table landed (v variant)""",
    )
    described = {row[0]: row[2] for row in running.rows("TRUSTED", "desc integration trusted")}
    principal = described["STORAGE_AWS_IAM_USER_ARN"]
    iam = bucket.client("iam")
    iam.create_role(RoleName="logins", AssumeRolePolicyDocument=trust(principal, "another"))
    pipe = "create pipe p auto_ingest = true as copy into landed from @st"
    for policy in (trust(principal, "another"), trust("arn:aws:iam::111122223333:root", "mine")):
        iam.update_assume_role_policy(RoleName="logins", PolicyDocument=policy)
        for statement in ("list @st", pipe):
            with pytest.raises(ProgrammingError, match="Error assuming AWS_ROLE") as caught:
                running.rows("TRUSTED", statement)
            assert (caught.value.errno, caught.value.sqlstate) == (3167, "42601")
    iam.update_assume_role_policy(RoleName="logins", PolicyDocument=trust(principal, "mine"))
    assert running.rows("TRUSTED", "list @st") == []
    running.rows("TRUSTED", pipe)


def test_a_pipe_knows_of_the_first_file_that_came_after_it(servers):
    bucket, running = servers
    bucket.put("n/before.json", b'{"a": 1}')
    time.sleep(1.1)  # S3's times have whole seconds
    running.script(
        None,
        f"""create database told;
create storage integration told type = external_stage storage_provider = 'S3' enabled = true
    storage_aws_role_arn = 'arn:aws:iam::111122223333:role/unknown' storage_allowed_locations = ('s3://{s3.BUCKET}/n/');
create stage st url = 's3://{s3.BUCKET}/n/' storage_integration = told file_format = (type = json);
create table landed (v variant);
create pipe p auto_ingest = true as copy into landed from @st""",
    )

    def status():
        return json.loads(running.rows("TOLD", "select system$pipe_status('p')")[0][0])

    time.sleep(1.5)
    assert "lastForwardedMessageTimestamp" not in status()
    bucket.put("n/after.json", b'{"a": 2}')
    deadline = time.monotonic() + 20
    while "lastForwardedMessageTimestamp" not in status():
        assert time.monotonic() < deadline
        time.sleep(0.2)
