"""Fixtures of the tests that need a bucket."""

import pytest

from tests import s3


@pytest.fixture(scope="session")
def s3_server():
    with s3.serving() as running:
        yield running


@pytest.fixture
def bucket(s3_server, monkeypatch, tmp_path):
    """An empty bucket on a real server, and the environment that points at it."""
    s3_server.clear()
    monkeypatch.chdir(tmp_path)  # no .env of the developer
    for name, value in s3.settings_for(s3_server).items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def no_waiting(monkeypatch):
    """Retries follow at once."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
