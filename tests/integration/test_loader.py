"""docker/loader.py, a process of its own as in the container, against a server with Kestra's API."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.pipeline.project import namespace_files
from tests.kestra_server import State, running

ROOT = Path(__file__).resolve().parents[2]
KEY = "amplitude-pipeline.files"
KV = f"/namespaces/analytics.amplitude/kv/{KEY}"
FLOW = """\
id: {id}
namespace: analytics.amplitude
labels: {{managed_by: amplitude-pipeline}}
tasks:
  - {{id: only, type: io.kestra.plugin.core.log.Log, message: "{text}"}}
"""
CALLER = """\
id: a_caller
namespace: analytics.amplitude
labels: [{key: managed_by, value: amplitude-pipeline}]
tasks:
  - id: branch
    type: io.kestra.plugin.core.flow.If
    condition: "{{ true }}"
    then:
      - {id: call, type: io.kestra.plugin.core.flow.Subflow, namespace: analytics.amplitude, flowId: z_called}
"""
FOREIGN = "id: foreign\nnamespace: analytics.amplitude\ntasks: []\n"


class Checkout:
    def __init__(self, folder: Path, state: State) -> None:
        self.folder, self.state = folder, state
        shutil.copytree(ROOT / "docker", folder / "docker", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("__init__", "settings", "env_file", "errors", "project"):
            self.write(f"scripts/pipeline/{name}.py", (ROOT / f"scripts/pipeline/{name}.py").read_text())
        self.write("scripts/__init__.py", "")
        self.write("dbt/dbt_project.yml", "name: x\n")
        self.write("dbt/target/manifest.json", "{}")  # built: never uploaded
        self.write("snowflake/database/V1__a.sql", "select 'ü';\n")
        self.write("flows/a_caller.yml", CALLER)
        self.flow("z_called", "one")
        self.env(state.password)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, encoding="utf-8")

    def flow(self, name: str, text: str) -> None:
        self.write(f"flows/{name}.yml", FLOW.format(id=name, text=text))

    def env(self, password: str) -> None:
        self.write(".env", f"KESTRA_ADMIN_USER={self.state.user}\nKESTRA_ADMIN_PASSWORD='{password}'\n")

    def files(self) -> dict[str, bytes]:
        return {f"/{name}": (self.folder / name).read_bytes() for name in namespace_files(self.folder)}

    def load(self, url: str, wait: float = 10) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-B",
            str(self.folder / "docker/loader.py"),
            "--url",
            url,
            "--health",
            f"{url}/health",
        ]
        return subprocess.run(
            [*command, "--wait", str(wait)], env={"PATH": "/usr/bin:/bin", "PIPELINE_ROOT": "/nowhere"},
            capture_output=True, text=True, cwd="/", timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def url(state: State) -> Iterator[str]:
    with running(state) as server:
        yield server.url


@pytest.fixture
def checkout(tmp_path: Path, state: State) -> Checkout:
    return Checkout(tmp_path, state)


def green(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_first_load_then_nothing_changed(checkout: Checkout, state: State, url: str) -> None:
    said = green(checkout.load(url))
    assert state.flows == {file.stem: file.read_text() for file in (checkout.folder / "flows").iterdir()}
    assert state.files == checkout.files()
    assert "/dbt/target/manifest.json" not in state.files
    assert state.values[KEY] == sorted(name.lstrip("/") for name in checkout.files())
    # The callee first: Kestra refuses a flow whose subflow it does not know.
    assert "flows: 2 created (z_called, a_caller), 0 unchanged" in said
    state.log.clear()
    said = green(checkout.load(url))
    assert state.writes() == []
    assert "flows: 2 unchanged" in said
    assert f"files: {len(checkout.files())} unchanged" in said


def test_a_first_load_warns_of_no_subflow_that_it_brings(checkout: Checkout, state: State, url: str) -> None:
    """Nine lines `subflow 'notify' not found` were the first thing that a first `up` said."""
    checkout.write("flows/b_caller.yml", CALLER.replace("a_caller", "b_caller").replace("z_called", "elsewhere"))
    state.flows["foreign"] = FOREIGN
    said = checkout.load(url).stdout
    assert "b_caller.yml: The subflow 'elsewhere' not found" in said
    assert "z_called' not found" not in said


def test_a_first_load_does_not_list_every_file(checkout: Checkout, url: str) -> None:
    for number in range(20):
        checkout.write(f"dbt/models/m{number:02}.sql", "select 1")
    said = green(checkout.load(url))
    assert f"files: {len(checkout.files())} put (" in said
    assert "dbt/models/m19.sql" not in said
    assert f" and {len(checkout.files()) - 10} more), 0 unchanged" in said


def test_one_flow_and_one_file_changed(checkout: Checkout, state: State, url: str) -> None:
    green(checkout.load(url))
    state.log.clear()
    checkout.flow("z_called", "two")
    checkout.write("dbt/dbt_project.yml", "name: y\n")
    said = green(checkout.load(url))
    assert state.writes() == [
        "POST /namespaces/analytics.amplitude/files?path=/dbt/dbt_project.yml",
        "PUT /flows/analytics.amplitude/z_called",
    ]
    assert "1 updated (z_called), 1 unchanged" in said
    assert "1 put (dbt/dbt_project.yml)" in said


def test_an_edit_in_the_ui_is_undone(checkout: Checkout, state: State, url: str) -> None:
    green(checkout.load(url))
    state.flows["z_called"] += "# edited\n"
    state.files["/dbt/dbt_project.yml"] = b"edited"
    green(checkout.load(url))
    assert "edited" not in state.flows["z_called"]
    assert state.files == checkout.files()


def test_what_is_gone_is_removed_and_what_others_made_stays(checkout: Checkout, state: State, url: str) -> None:
    checkout.flow("old", "flow")
    checkout.write("dbt/models/old.sql", "select 1")
    green(checkout.load(url))
    state.flows["foreign"] = FOREIGN
    state.flows["broken"] = "id: [broken"
    state.files["/scripts/foreign.py"] = b"by hand"
    (checkout.folder / "flows/old.yml").unlink()
    (checkout.folder / "dbt/models/old.sql").unlink()
    said = green(checkout.load(url))
    assert "1 removed (old)" in said
    assert "1 removed (dbt/models/old.sql)" in said
    assert set(state.flows) == {"a_caller", "z_called", "foreign", "broken"}
    assert state.files == checkout.files() | {"/scripts/foreign.py": b"by hand"}


def test_a_loader_that_died_half_way_is_mended_by_the_next(checkout: Checkout, state: State, url: str) -> None:
    checkout.write("dbt/models/old.sql", "select 1")
    state.die_at = "POST /namespaces/analytics.amplitude/files?path=/snowflake/database/V1__a.sql"
    said = refused(checkout.load(url))
    assert "Kestra cannot be reached" in said
    assert "/dbt/models/old.sql" in state.files
    assert not state.flows
    state.die_at = None
    (checkout.folder / "dbt/models/old.sql").unlink()
    green(checkout.load(url))
    assert state.files == checkout.files()
    assert set(state.flows) == {"a_caller", "z_called"}


def test_a_wrong_password(checkout: Checkout, state: State, url: str) -> None:
    checkout.env("Wrong horse 1")
    said = refused(checkout.load(url))
    assert "KESTRA_ADMIN_PASSWORD (401)" in said
    assert "horse" not in said
    assert state.writes() == []


@pytest.mark.parametrize(("status", "text"), [(409, "The flow is being changed"), (422, "Invalid entity: tasks: x")])
def test_kestras_own_words_are_shown(checkout: Checkout, state: State, url: str, status: int, text: str) -> None:
    state.answers["PUT /flows/analytics.amplitude/z_called"] = (status, {"message": text})
    green(checkout.load(url))
    checkout.flow("z_called", "two")
    said = refused(checkout.load(url))
    assert f"PUT flows/analytics.amplitude/z_called: Kestra answers {status}: {text}" in said


@pytest.mark.parametrize("version", [1, 2])
def test_a_flow_that_kestra_refuses_changes_nothing(checkout: Checkout, state: State, url: str, version: int) -> None:
    state.version = version
    checkout.write("flows/z_called.yml", FLOW.format(id="z_called", text="x") + "colour: red\n")
    said = refused(checkout.load(url))
    assert 'z_called.yml: Unrecognized field "colour"' in said
    assert "nothing was changed" in said
    assert state.writes() == []


def test_the_words_of_a_newer_kestra_are_shown_too(checkout: Checkout, state: State, url: str) -> None:
    state.version = 2
    checkout.write("flows/a_caller.yml", CALLER.replace("z_called", "nowhere"))
    assert "The subflow 'nowhere' not found" in refused(checkout.load(url))


GOOD = FLOW.format(id="z_called", text="x")
LABELS = "labels: {managed_by: amplitude-pipeline}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FLOW.format(id="other", text="x"), "must hold one flow with id z_called"),
        ("- a list", "must hold one flow with id z_called"),
        (GOOD.replace("managed_by", "made_by"), "lacks the label managed_by"),
        (GOOD.replace(LABELS, "labels: [amplitude-pipeline]"), "lacks the label managed_by"),
        (GOOD.replace(LABELS, "labels: amplitude-pipeline"), "lacks the label managed_by"),
        ("id: [z_called", "while parsing a flow sequence"),
        (GOOD + "variables: {since: 2026-02-30}\n", "day is out of range"),
        (GOOD + "variables: &v {again: *v}\n", "an alias (*name) stands inside"),
        (GOOD.replace("x", "\udce9"), "can't decode byte 0xe9"),
    ],
)
def test_a_flow_file_that_cannot_be_loaded_is_named(
    checkout: Checkout, state: State, url: str, text: str, reason: str
) -> None:
    (checkout.folder / "flows/z_called.yml").write_bytes(text.encode("utf-8", "surrogateescape"))
    said = refused(checkout.load(url))
    assert "z_called.yml cannot be loaded: " in said
    assert reason in said
    assert "Traceback" not in said
    assert state.log == []


def test_flows_that_call_each_other_are_named(checkout: Checkout, state: State, url: str) -> None:
    checkout.write(
        "flows/z_called.yml", CALLER.replace("z_called", "a_caller").replace("id: a_caller", "id: z_called", 1)
    )
    said = refused(checkout.load(url))
    assert "call each other in a circle" in said
    assert "a_caller" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["z_called.yaml", "drafts/z_called.yml", "Z.YML"])
def test_a_flow_that_would_be_left_out_in_silence(checkout: Checkout, state: State, url: str, name: str) -> None:
    checkout.write(f"flows/{name}", GOOD)
    said = refused(checkout.load(url))
    assert f"{name}: a flow's file ends in .yml and lies in" in said
    assert state.log == []


@pytest.mark.parametrize("folder", ["dbt", "snowflake"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_folder_that_is_not_there_removes_nothing(
    checkout: Checkout, state: State, url: str, folder: str, empty: bool
) -> None:
    green(checkout.load(url))
    before = dict(state.files)
    shutil.rmtree(checkout.folder / folder)
    if empty:
        (checkout.folder / folder / "models").mkdir(parents=True)
    said = refused(checkout.load(url))
    assert f"no file in {folder}/: is the whole repository mounted?" in said
    assert state.files == before


@pytest.mark.parametrize("listed", ["all", {"a": 1}, [1], ["scripts/a.py", "somebody/else.py"], ["../flows/a.yml"]])
def test_a_list_of_files_that_the_loader_did_not_write(
    checkout: Checkout, state: State, url: str, listed: object
) -> None:
    state.values[KEY] = listed
    state.files["/somebody/else.py"] = b"kept"
    said = refused(checkout.load(url))
    assert f"the KV value {KEY} is not what the loader wrote: delete it" in said
    assert state.writes() == []


def test_two_loaders_at_once(checkout: Checkout, state: State, url: str) -> None:
    """Both see that a flow is not there; the second to create it is answered 422 and goes on."""
    state.hidden = {"z_called"}  # from the first question of this loader, as if created since
    state.flows["z_called"] = FLOW.format(id="z_called", text="one")
    said = green(checkout.load(url))
    assert "flows: 1 created (a_caller), 1 unchanged" in said


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_no_success(checkout: Checkout, state: State, url: str, status: int) -> None:
    state.answers["POST /flows"] = (status, {"message": "moved"})
    said = refused(checkout.load(url))
    assert f"POST flows: Kestra answers {status}" in said


@pytest.mark.parametrize("at", ["POST /flows/validate", "GET /flows/analytics.amplitude", f"GET {KV}"])
def test_an_answer_that_is_no_json_is_none_of_kestra(checkout: Checkout, state: State, url: str, at: str) -> None:
    state.answers[at] = (200, b"<html>Please log in</html>")
    said = refused(checkout.load(url))
    assert "no answer of Kestra's API (no JSON)" in said
    assert "Traceback" not in said


def test_a_server_that_comes_up_late(checkout: Checkout, state: State) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: done.append(checkout.load(f"http://127.0.0.1:{port}", wait=60)))
    thread.start()
    time.sleep(1)  # nothing listens
    state.up = False
    with running(state, port):
        time.sleep(1.5)  # it listens and says DOWN
        assert state.log == []
        state.up = True
        thread.join()
    assert "2 created" in green(done[0])


@pytest.mark.parametrize("answer", [[], "UP", None, {"status": "DOWN"}])
def test_a_health_endpoint_of_something_else(checkout: Checkout, state: State, url: str, answer: object) -> None:
    state.health = (200, answer)
    said = refused(checkout.load(url, wait=1))
    assert "Kestra is not up after 1 s" in said
    assert "Traceback" not in said


def test_a_server_that_never_comes_up(checkout: Checkout) -> None:
    assert "Kestra is not up after 1 s" in refused(checkout.load("http://127.0.0.1:9", wait=1))


def test_the_repositorys_own_flows_and_files(tmp_path: Path, state: State, url: str) -> None:
    """All of this repository goes in, and the loader takes the files that the laptop's engine takes."""
    for name in ("docker", "scripts", "dbt", "snowflake", "flows"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".env").write_text(f"KESTRA_ADMIN_USER={state.user}\nKESTRA_ADMIN_PASSWORD='{state.password}'\n")
    checkout = Checkout.__new__(Checkout)
    checkout.folder, checkout.state = tmp_path, state
    green(checkout.load(url))
    assert set(state.flows) == {file.stem for file in (ROOT / "flows").glob("*.yml")}
    assert state.files == checkout.files()
