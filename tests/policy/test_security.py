"""No default password anywhere, and a page that answers for each secret and each rule that is off."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from docs.pages import PERSONAL
from scripts.pipeline import settings

ROOT = Path(__file__).resolve().parents[2]
# The server's own (docker/entrypoint.py) beside those of the tasks.
SERVER = {"KESTRA_ADMIN_PASSWORD", "KESTRA_ENCRYPTION_KEY", "POSTGRES_PASSWORD"}
SERVER |= {"KESTRA_STORAGE_ACCESS_KEY", "KESTRA_STORAGE_SECRET_KEY"}
SECRETS = {name for name, secret in settings.known_settings().items() if secret} | SERVER
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
SECRET_WORD = re.compile(r"(?i)passw|passphrase|secret|token|private|access.?key|encryption.?key|webhook")


def texts(*folders: str, endings: tuple[str, ...] = (".yml", ".yaml", ".sql", ".sh", ".py", ".toml", "")) -> list[Path]:
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in found if path.suffix in endings and not {"target", "__pycache__"} & set(path.parts)]


def test_the_secrets_are_known() -> None:
    assert {"AMP_SECRET_KEY", "AWS_ACCESS_SECRET_KEY", "KESTRA_ADMIN_PASSWORD", "POSTGRES_PASSWORD"} <= SECRETS


def test_the_example_of_settings_gives_no_secret() -> None:
    given = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    assert given.keys() >= SECRETS
    assert {name: given[name] for name in SECRETS if given[name]} == {}


def test_no_secret_setting_has_a_default() -> None:
    for group in settings.groups():
        for name, field in group.model_fields.items():
            if name.upper() in SECRETS:
                assert field.is_required() or field.default is None, name


@pytest.mark.parametrize("file", ["docker/kestra.yml", "dbt/profiles.yml"])
def test_configuration_takes_secrets_from_outside(file: str) -> None:
    """`${NAME}` without a default, or the same of dbt."""
    found = scalars(yaml.safe_load((ROOT / file).read_text(encoding="utf-8")))
    given = {name: str(value) for name, value in found if SECRET_WORD.search(name)}
    assert given
    for name, value in given.items():
        assert re.fullmatch(r"\$\{[A-Z_0-9]+:?\}|\{\{ ('' if )?env_var\('[^']+'(, '')?\).*\}\}", value), name


def test_compose_gives_no_container_a_secret_by_its_environment() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    for name, service in services.items():
        secret = {each for each in service.get("environment", {}) if SECRET_WORD.search(each)}
        assert secret <= {"SNOWFLAKE_PRIVATE_KEY_FILE"}, name  # a path


def scalars(value: object, name: str = "") -> list[tuple[str, object]]:
    if isinstance(value, dict):
        return [pair for key, each in value.items() for pair in scalars(each, str(key))]
    if isinstance(value, list):
        return [pair for each in value for pair in scalars(each, name)]
    return [(name, value)]


def test_no_sql_sets_a_password() -> None:
    """Key pairs only (snowflake/), and no user of Postgres but the one whose password is the setting."""
    for path in texts("snowflake", "docker", "dbt", endings=(".sql", ".sh")):
        if path.name != "check.sh":  # makes its own installation, and its secrets
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?i)password\s*=?\s*'[A-Za-z0-9]", text), path.name


def test_each_secret_has_its_rotation() -> None:
    rows = PAGE.split("## Rotation")[1].split("\n## ")[0]
    assert {name for name in SECRETS if f"`{name}`" not in rows} == set()


def test_each_rule_that_is_off_is_answered() -> None:
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    off = [rule for where, rules in ruff["per-file-ignores"].items() if where != "tests/**" for rule in rules]
    off += ruff["ignore"]
    for path in texts("scripts", "local", "docker", "docs", "dbt_dev", endings=(".py",)):
        off += re.findall(r"# noqa: (S\d+)", path.read_text(encoding="utf-8"))
    answered = set(re.findall(r"^\| (S\d+)|, (S\d+) ", PAGE, re.MULTILINE))
    answers = {code for pair in answered for code in pair if code}
    assert {rule for rule in off if re.fullmatch(r"S\d+", rule)} == answers


def test_masking_covers_what_is_personal_in_silver() -> None:
    """Of the columns that the DDL has; adid and idfa are never set on websites and closed with the rest of BASE1."""
    masked = set()
    for path in texts("snowflake/enterprise", endings=(".sql",)):
        masked |= set(re.findall(r'modify column "?(\w+)"? set masking', path.read_text(encoding="utf-8")))
    assert masked >= PERSONAL - {"adid", "idfa"}


def test_no_input_is_encrypted_by_the_key_that_may_be_changed() -> None:
    """docs/security.md, rotation: KESTRA_ENCRYPTION_KEY encrypts nothing of ours."""
    for path in texts("flows"):
        assert "type: SECRET" not in path.read_text(encoding="utf-8"), path.name


def test_no_policy_lets_the_pipeline_or_snowflake_delete() -> None:
    allowed = set()
    for path in sorted((ROOT / "docs/aws").glob("*-policy.json")):
        for statement in json.loads(path.read_text(encoding="utf-8"))["Statement"]:
            actions = statement["Action"]
            allowed |= {actions} if isinstance(actions, str) else set(actions)
    assert allowed
    assert {action for action in allowed if re.search(r"Delete|Put\w*Policy|Acl|\*", action)} == set()


def test_the_audit_passes_its_first_command() -> None:
    """`--select` takes back what pyproject.toml ignores: so it ended at the asserts of scripts/."""
    found = re.search(r"\$\(BIN\)/ruff (check --select S.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert found
    done = subprocess.run([sys.executable, "-m", "ruff", *found[1].split()], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
