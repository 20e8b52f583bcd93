"""docker/run_flow.py, a process of its own as in CI, against a server with Kestra's API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kestra_server import State, running

ROOT = Path(__file__).resolve().parents[2]


def run(state: State, url: str, *inputs: str, **environment: str) -> subprocess.CompletedProcess[str]:
    login = {"KESTRA_ADMIN_USER": state.user, "KESTRA_ADMIN_PASSWORD": state.password} | environment
    return subprocess.run(
        [sys.executable, "-B", str(ROOT / "docker/run_flow.py"), "--url", url, "snowflake_deploy", *inputs],
        env={"PATH": "/usr/bin:/bin", **login}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("ends", "code"), [("SUCCESS", 0), ("WARNING", 0), ("FAILED", 1), ("KILLED", 1)])
def test_the_job_is_as_green_as_the_run(ends: str, code: int) -> None:
    state = State(flows={"snowflake_deploy": ""})
    asked: list[tuple[str, dict[str, str]]] = []
    state.run = lambda flow, inputs: asked.append((flow, inputs)) or "run1"
    state.execution = lambda execution: ends
    with running(state) as server:
        done = run(state, server.url, "action=plan", "scope=database")
    assert done.returncode == code, done.stderr
    assert asked == [("snowflake_deploy", {"action": "plan", "scope": "database"})]
    assert f"snowflake_deploy action=plan scope=database: {ends}" in done.stdout
    assert "/ui/main/executions/analytics.amplitude/snowflake_deploy/run1" in done.stdout
    assert state.password not in done.stdout + done.stderr


def test_a_refused_login_says_so() -> None:
    state = State(flows={"snowflake_deploy": ""})
    with running(state) as server:
        done = run(state, server.url, "action=plan", KESTRA_ADMIN_PASSWORD="Wrong horse 1")
    assert done.returncode == 1
    assert "(401)" in done.stderr
    assert "Wrong horse" not in done.stdout + done.stderr


def test_without_a_login_it_names_what_is_missing() -> None:
    done = run(State(), "http://127.0.0.1:9", "action=plan", KESTRA_ADMIN_PASSWORD="")
    assert (done.returncode, "KESTRA_ADMIN_PASSWORD must be set" in done.stderr) == (1, True)


@pytest.mark.parametrize("url", ["", "kestra.example.com", "ftp://kestra.example.com"])
def test_no_address_of_kestra_is_not_called_a_server_that_is_down(url: str) -> None:
    """A deploy without its variable KESTRA_URL."""
    done = run(State(), url, "action=plan")
    assert (done.returncode, done.stderr.count("KESTRA_URL")) == (1, 1)
    assert "docker compose logs" not in done.stderr
