"""docker/demo.py's first run, a process of its own as in the container, against a server with Kestra's API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kestra_server import State, running

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("ends", "code"), [("SUCCESS", 0), ("WARNING", 0), ("FAILED", 1), ("KILLED", 1)])
def test_green_or_not_a_person_is_told_how_to_log_in(tmp_path: Path, ends: str, code: int) -> None:
    """After a red run there was an address alone, and behind it a login that nobody had named."""
    state = State()
    state.flows = dict.fromkeys(("snowflake_deploy", "amplitude_daily"), "")
    runs: list[str] = []
    state.run = lambda flow, inputs: runs.append(f"{flow} {' '.join(inputs.values())}") or f"run{len(runs)}"
    state.execution = lambda execution: ends if execution == "run3" else "SUCCESS"
    file = tmp_path / "settings.env"
    file.write_text(f"KESTRA_ADMIN_USER={state.user}\nKESTRA_ADMIN_PASSWORD={state.password}\n")
    with running(state) as server:
        done = subprocess.run(
            [sys.executable, "-B", str(ROOT / "docker/demo.py"), "run", "--url", server.url],
            env={"PATH": "/usr/bin:/bin", "DEMO_SETTINGS": str(file)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert runs[:2] == ["snowflake_deploy apply account", "snowflake_deploy apply database"]
    assert runs[2].startswith("amplitude_daily 20")
    said = done.stderr if code else done.stdout
    assert ("demo: not green: see" if code else "demo: green.") in said
    assert f"user {state.user}, password:\n  docker compose exec demo python" in said
    assert ("/executions/analytics.amplitude/amplitude_daily/run3" in said) == bool(code)
    assert state.password not in done.stdout + done.stderr
