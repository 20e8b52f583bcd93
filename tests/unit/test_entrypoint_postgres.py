"""docker/postgres.sh: the database gets the password of `.env`, whole, and never on a command line."""

from __future__ import annotations

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
            tool.write_text(f'#!/bin/bash\n{keep}echo "{name} $*"; echo "is $POSTGRES_PASSWORD in $PGDATA"\n')
            tool.chmod(0o755)

    def start(self, env_file: str, **given: str) -> subprocess.CompletedProcess[str]:
        (self.folder / ".env").write_bytes(env_file.encode())
        environment = {
            "PATH": f"{self.folder}/bin:/usr/bin:/bin",
            "PGDATA": f"{self.folder}/data",
            "PIPELINE_ROOT": str(self.folder),
        }
        return subprocess.run(
            ["bash", self.folder / "docker/postgres.sh"], env=environment | given, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    def green(self, env_file: str, folder: str = "data", **given: str) -> None:
        done = self.start(env_file, **given)
        told = f"docker-entrypoint.sh postgres\nis {PASSWORD} in {self.folder}/{folder}\n"
        assert done.stdout == told, done.stderr


@pytest.fixture
def container(tmp_path: Path) -> Container:
    if not shutil.which("bash"):
        pytest.skip("there is no bash on this machine")
    return Container(tmp_path)


@pytest.mark.parametrize("before", ["AMP_REGION=eu\n", "AMP_REGION=eu\r\n", "", "\ufeff"])
@pytest.mark.parametrize("after", ["", "\n", "\r\nMY_POSTGRES_PASSWORD=another-password\r\n"])
def test_the_password_as_the_server_reads_it(container: Container, before: str, after: str) -> None:
    container.green(f"{before}POSTGRES_PASSWORD={PASSWORD}{after}")


def test_a_password_of_the_environment_wins_as_it_does_in_the_server(container: Container) -> None:
    container.green("POSTGRES_PASSWORD=another-password\n", POSTGRES_PASSWORD=PASSWORD)


@pytest.mark.parametrize(
    "line",
    ["", "POSTGRES_PASSWORD=", "POSTGRES_PASSWORD='P@$$w0rd-of-mine'", "POSTGRES_PASSWORD=short",
     f"POSTGRES_PASSWORD='{PASSWORD}'", f"POSTGRES_PASSWORD={PASSWORD} # mine",
     f"POSTGRES_PASSWORD=an-earlier-one\nPOSTGRES_PASSWORD={PASSWORD}"],
)  # fmt: skip
def test_a_password_that_the_server_refuses_is_refused(container: Container, line: str) -> None:
    done = container.start(f"{line}\n")
    assert done.returncode == 78
    assert "POSTGRES_PASSWORD must stand in .env once" in done.stderr
    assert "w0rd" not in done.stderr


def test_a_changed_password_is_set_and_stands_on_no_command_line(container: Container) -> None:
    (container.folder / "data").mkdir()
    (container.folder / "data/PG_VERSION").write_text("17")
    container.green(f"POSTGRES_PASSWORD={PASSWORD}\n")
    assert (container.folder / "sql").read_text() == f"alter role kestra password '{PASSWORD}'\n"


def test_the_demo_has_its_own_password_and_database(container: Container) -> None:
    (container.folder / "run/demo").mkdir(parents=True)
    (container.folder / "run/demo/settings.env").write_text(f"AMP_API_KEY=x\nPOSTGRES_PASSWORD={PASSWORD}\n")
    container.green("POSTGRES_PASSWORD=that-of-the-real-one\n", folder="demo")
