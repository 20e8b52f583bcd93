"""docker-compose.yml: what Compose itself makes of it, and the rules that it keeps. docker/check.sh runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ENV_FILE = {
    "type": "bind", "source": "./.env", "target": "/repository/.env", "read_only": True,
    "bind": {"create_host_path": False},
}  # fmt: skip
KESTRA = yaml.safe_load((ROOT / "docker/kestra.yml").read_text(encoding="utf-8"))


def compose(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
    return subprocess.run(
        ["docker", "compose", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def _compose_is_there() -> None:
    if not shutil.which("docker") or compose("version").returncode:
        pytest.skip("`docker compose` is not installed here")


@pytest.mark.usefixtures("_compose_is_there")
@pytest.mark.parametrize(
    "profile", [[], ["--profile", "demo"], ["--profile", "cluster"]], ids=["default", "demo", "cluster"]
)
@pytest.mark.parametrize("env_file", [".env.example", "/dev/null"], ids=["example", "empty"])
def test_config_says_nothing(profile: list[str], env_file: str) -> None:
    done = compose(*profile, "--env-file", env_file, "config", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.usefixtures("_compose_is_there")
def test_config_shows_no_secret(tmp_path: Path) -> None:
    """B36, and everybody's screen: the settings are a mounted file, so Compose has nothing to show or to change."""
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    (tmp_path / ".env").write_text(
        "AMP_SECRET_KEY='P@$$w0rd'\nPOSTGRES_PASSWORD=0123456789abcdef\nKESTRA_ADMIN_PASSWORD=Aa1aaaaaa\n"
    )
    done = compose("--profile", "demo", "config", cwd=tmp_path)
    assert done.returncode == 0
    assert "kestra" in done.stdout
    assert not [secret for secret in ("w0rd", "0123456789abcdef", "Aa1aaaaaa") if secret in done.stdout + done.stderr]


def test_nothing_is_mandatory_for_compose() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert ":?" not in code
    assert "env_file" not in code
    assert "docker.sock" not in code


def test_every_image_has_an_exact_tag() -> None:
    base = re.search(r"^ARG KESTRA_IMAGE=(.+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    assert base
    for image in [base[1], *(service["image"] for service in SERVICES.values())]:
        assert re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+)+", image), image


def test_the_image_is_of_the_engine_that_the_laptop_runs() -> None:
    version = re.search("<kestra.version>(.+)</kestra.version>", (ROOT / "local/kestra/pom.xml").read_text())
    assert version
    assert f"kestra/kestra:v{version[1]}\n" in (ROOT / "docker/Dockerfile").read_text()
    assert {service["image"].split(":")[1] for service in SERVICES.values() if "build" in service} == {version[1]}


def test_no_file_but_the_requirements_can_get_into_an_image() -> None:
    contexts = {service["build"]["context"] for service in SERVICES.values() if "build" in service}
    assert contexts == {"requirements"}
    text = (ROOT / "docker/Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()}
    assert copied == {"uv.txt", "runtime.txt", "local.txt"}


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_is_kept_small(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "user" not in service  # not root: the image's own user, and Postgres steps down by itself
    if "build" in service:
        assert service["init"] is True
        assert service["cap_drop"] == ["ALL"]


def test_what_others_wait_for_has_a_health_check() -> None:
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]


def test_only_the_demo_has_stand_ins() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]} == {"demo", "demo-run"}
    assert SERVICES["settings"]["depends_on"]["demo"] == {"condition": "service_healthy", "required": False}


ROLES = {"webserver", "executor", "scheduler", "indexer", "worker"}


def test_a_cluster_is_every_role_once_and_not_the_server_that_is_all_of_them() -> None:
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["cluster"]} == (
        ROLES | {"cluster", "cluster-settings"}
    )
    for role in ROLES:
        assert SERVICES[role]["command"][:2] == ["server", role]
        assert SERVICES[role]["command"][-1] == SERVICES["kestra"]["command"][-1]  # one configuration
        assert SERVICES[role]["stop_grace_period"] == SERVICES["kestra"]["stop_grace_period"]
    assert SERVICES["webserver"]["ports"] == SERVICES["kestra"]["ports"]
    started, left = {"cluster"}, ["cluster"]
    while left:
        for name, how in SERVICES[left.pop()]["depends_on"].items():
            if name not in started and how.get("required", True):
                started.add(name)
                left += [name] if "depends_on" in SERVICES[name] else []
    assert started == ROLES | {"cluster", "cluster-settings", "postgres", "settings"}


def test_a_cluster_without_its_bucket_does_not_start() -> None:
    """`settings` said that all is there, and every role then began, refused and began again without end."""
    for role in ROLES:
        assert SERVICES[role]["depends_on"]["cluster-settings"] == {"condition": "service_completed_successfully"}
    looks = SERVICES["cluster-settings"]
    assert looks["entrypoint"] == [*SERVICES["settings"]["entrypoint"]]
    assert set(looks["command"]) & ROLES  # so docker/entrypoint.py knows whom the settings are for
    assert looks["restart"] == "no"


def test_a_worker_of_a_cluster_has_what_a_task_needs() -> None:
    kestra, worker = SERVICES["kestra"], SERVICES["worker"]
    assert worker["environment"] == kestra["environment"]
    # but Kestra's own files, which lie in S3
    assert [each for each in kestra["volumes"] if each not in worker["volumes"]] == ["storage:/app/storage"]


def test_nothing_starts_before_the_settings_are_checked() -> None:
    assert SERVICES["postgres"]["depends_on"]["settings"] == {"condition": "service_completed_successfully"}
    assert SERVICES["kestra"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    for key in ("environment", "secrets", "labels"):
        given = SERVICES["settings"][key]
        assert all(each in SERVICES["kestra"][key] for each in given)
    for name in ("kestra", *ROLES):
        assert all(volume in SERVICES[name]["volumes"] for volume in SERVICES["settings"]["volumes"]), name


@pytest.mark.usefixtures("_compose_is_there")
def test_another_private_key_makes_its_containers_anew(tmp_path: Path) -> None:
    """`up` with an empty `.env`, then with a filled-in one: the first containers have /dev/null mounted as the key."""
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    hashes = []
    for path in ("", "first.p8", "second.p8"):
        (tmp_path / ".env").write_text(f"SNOWFLAKE_PRIVATE_KEY_FILE={path}\n")
        done = compose("config", "--hash", "settings,kestra,postgres", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        hashes.append(dict(line.split() for line in done.stdout.splitlines()))
    for name in ("settings", "kestra"):
        assert len({each[name] for each in hashes}) == 3, name
    assert len({each["postgres"] for each in hashes}) == 1


def test_the_stop_grace_is_above_kestras() -> None:
    def minutes(text: str) -> int:
        return int(text.removesuffix("m"))

    kestras = KESTRA["kestra"]["server"]["termination-grace-period"]
    assert minutes(SERVICES["kestra"]["stop_grace_period"]) > minutes(kestras)


def test_each_container_sees_what_it_runs() -> None:
    short = {
        name: [volume for volume in service["volumes"] if isinstance(volume, str)] for name, service in SERVICES.items()
    }
    mounted = {name: {volume.split(":")[1] for volume in volumes} for name, volumes in short.items()}
    assert {"/repository/docker", "/repository/scripts"} <= mounted["kestra"]
    assert {f"/repository/{name}" for name in ("flows", "scripts", "dbt", "snowflake")} <= mounted["loader"]
    for name, volumes in short.items():
        for volume in volumes:
            if ":/repository/" in volume:
                assert volume.endswith(":ro"), name
    named = {volume.split(":")[0] for volumes in short.values() for volume in volumes if volume[0] != "."}
    assert named == set(COMPOSE["volumes"])


def test_docker_never_makes_a_folder_named_env() -> None:
    """The short form of a mount makes a folder of root's where the file is missing; the demo's services need none."""
    for name, service in SERVICES.items():
        long = [volume for volume in service["volumes"] if not isinstance(volume, str)]
        assert long == ([] if name.startswith("demo") else [ENV_FILE]), name


def test_a_demo_and_accounts_share_no_state() -> None:
    """What a demo leaves is never read on accounts: other folders of the same volumes (docker/demo.py, postgres.sh)."""
    place = next(each for each in SERVICES["postgres"]["volumes"] if str(each).startswith("postgres:")).split(":")[1]
    assert SERVICES["postgres"]["environment"]["PGDATA"] == f"{place}/kestra"
    assert KESTRA["kestra"]["storage"]["local"]["base-path"] == "${STORAGE_DIR:/app/storage}"


def test_the_settings_of_the_server_are_those_that_its_configuration_reads() -> None:
    text = (ROOT / "docker/kestra.yml").read_text(encoding="utf-8")
    names = set(re.findall(r"\$\{((?:KESTRA|POSTGRES)_[A-Z_]+):?\}", re.sub(r"(?m)#.*$", "", text)))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert names == set(re.findall(r"^((?:KESTRA|POSTGRES)_\w+)=", example, re.MULTILINE))


def test_a_loader_that_runs_again_leaves_the_workers_of_a_cluster_alone() -> None:
    """`run` brings what a service depends on to the scale of the file, which is one: it stopped all workers but one."""
    pages = [ROOT / "docker-compose.yml", ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    runs = [run for page in pages for run in re.findall(r"--profile cluster run .*", page.read_text(encoding="utf-8"))]
    assert runs
    assert all("--no-deps cluster" in run for run in runs)
