"""One list of settings: what the code reads is what `.env.example` explains, secrets without a default."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.pipeline.settings import NOT_FOR_PEOPLE, known_settings

ROOT = Path(__file__).resolve().parents[2]


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_example_names_every_setting_and_no_other() -> None:
    only_compose = {name for name in example() if name.startswith(("KESTRA_", "POSTGRES_"))}
    assert set(example()) - only_compose == set(known_settings()) - NOT_FOR_PEOPLE


def test_no_secret_has_a_default() -> None:
    secrets = {name for name, secret in known_settings().items() if secret}
    assert secrets >= {"AMP_API_KEY", "AMP_SECRET_KEY", "AWS_ACCESS_SECRET_KEY", "SNOWFLAKE_PRIVATE_KEY_FILE_PWD"}
    assert not [name for name in secrets if example()[name]]


@pytest.mark.parametrize("name", [".env", "prod.env", "secrets/key.txt", "snowflake_key.p8", "keys/rsa.pem"])
def test_git_ignores_settings_and_keys(name: str) -> None:
    assert subprocess.run(["git", "check-ignore", "--quiet", "--no-index", name], cwd=ROOT, check=False).returncode == 0


def test_no_committed_file_holds_a_key() -> None:
    shape = "BEGIN [A-Z ]*PRIVATE " + "KEY|(AKIA|ASIA)[0-9A-Z]{16}"  # in two parts: this file is searched too
    found = subprocess.run(["git", "grep", "-lE", shape], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, ""), found.stderr  # 1: nothing found
