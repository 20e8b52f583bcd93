"""docker/postgres.sh: the database gets the password of `.env`, whole, and never on a command line."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "Aa0._~-Aa0._~-"


class Container:
    """The mounted folders, with `gosu` and `docker-entrypoint.sh` that tell what they were given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "docker").mkdir()
        shutil.copy(ROOT / "docker/postgres.sh", folder / "docker")
        (folder / "bin").mkdir()
        for name in ("gosu", "docker-entrypoint.sh"):
            tool = folder / "bin" / name
            keep = f"cat >{folder}/sql; " if name == "gosu" else ""
            tool.write_text(f'#!/bin/bash\n{keep}echo "{name} $*"; echo "is $POSTGRES_PASSWORD"\n')
            tool.chmod(0o755)

    def start(self, env_file: str) -> subprocess.CompletedProcess[str]:
        (self.folder / ".env").write_text(env_file)
        environment = {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin",
            "PGDATA": f"{self.folder}/data",
            "PIPELINE_ROOT": str(self.folder),
        }
        return subprocess.run(
            ["bash", self.folder / "docker/postgres.sh"], env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def container(tmp_path: Path) -> Container:
    if not shutil.which("bash"):
        pytest.skip("there is no bash on this machine")
    return Container(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        f"POSTGRES_PASSWORD={PASSWORD}",
        f"POSTGRES_PASSWORD='{PASSWORD}'",
        f'  export POSTGRES_PASSWORD = "{PASSWORD}"  # made by openssl',
        f"POSTGRES_PASSWORD={PASSWORD} # a comment",
        f"POSTGRES_PASSWORD=an-earlier-one\r\nPOSTGRES_PASSWORD={PASSWORD}\r",
    ],
)
def test_the_password_as_the_server_reads_it(container: Container, line: str) -> None:
    done = container.start(f"AMP_REGION=eu\n{line}\nMY_POSTGRES_PASSWORD=another-password\n")
    assert done.stdout == f"docker-entrypoint.sh postgres\nis {PASSWORD}\n", done.stderr


@pytest.mark.parametrize(
    "line", ["", "POSTGRES_PASSWORD=", "POSTGRES_PASSWORD='P@$$w0rd-of-mine'", "POSTGRES_PASSWORD=short"]
)
def test_a_password_that_the_server_refuses_is_refused(container: Container, line: str) -> None:
    done = container.start(f"{line}\n")
    assert done.returncode == 78
    assert "POSTGRES_PASSWORD in .env is missing or not" in done.stderr
    assert "w0rd" not in done.stderr


def test_a_changed_password_is_set_and_stands_on_no_command_line(container: Container) -> None:
    (container.folder / "data").mkdir()
    (container.folder / "data/PG_VERSION").write_text("17")
    done = container.start(f"POSTGRES_PASSWORD={PASSWORD}\n")
    assert (container.folder / "sql").read_text() == f"alter role kestra password '{PASSWORD}'\n"
    assert done.stdout == f"docker-entrypoint.sh postgres\nis {PASSWORD}\n", done.stderr


def test_the_demos_own_password(container: Container) -> None:
    (container.folder / "run/demo").mkdir(parents=True)
    settings = {"AMP_API_KEY": "x", "POSTGRES_PASSWORD": PASSWORD, "AWS_REGION": "us-east-1"}
    (container.folder / "run/demo/settings.json").write_text(json.dumps(settings))
    assert f"is {PASSWORD}" in container.start("POSTGRES_PASSWORD=that-of-the-real-one\n").stdout
