"""The Snowflake connection: settings to arguments, and the connector's errors to ours."""

from __future__ import annotations

import pytest
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


def raised(error: sf.Error) -> Exception:
    with pytest.raises(Exception) as caught, warehouse.statement_errors():
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (2003, ConfigurationError, "snowflake_deploy"),  # does not exist or not authorized
        (3001, ConfigurationError, "privilege"),
        (3013, ConfigurationError, "not granted"),
        (90073, ConfigurationError, "resource monitor"),
        (91016, PermanentError, "amplitude_daily over its day with `force`"),  # remote file not found
        (100038, PermanentError, "code 100038"),  # numeric value not recognized
    ],
)
def test_errors_of_statements_say_what_to_do(code, kind, said):
    error = raised(sf.ProgrammingError("SQL compilation error:\nwords", errno=code, sqlstate="42501", sfqid="01b2"))
    assert type(error) is kind
    assert said in str(error)


@pytest.mark.parametrize("code", [390100, 390144, 390189])
def test_refused_login_is_a_matter_of_settings(code):
    assert isinstance(raised(sf.DatabaseError("no", errno=code)), ConfigurationError)


def test_network_trouble_can_be_tried_again():
    assert isinstance(raised(sf.OperationalError("timed out", errno=250003)), RetriableError)


def test_text_of_a_failed_statement_stays_out_because_it_may_quote_an_event():
    error = raised(sf.ProgrammingError("Numeric value 'jane@example.com' is not recognized", errno=100038))
    assert "jane" not in str(error)
