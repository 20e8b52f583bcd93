"""How a task and a command end when a file or the disk refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.pipeline.entry import as_command, files_explained
from scripts.pipeline.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]


def ends(code: str, folder: Path, **settings: str) -> tuple[int, str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_a_file_of_the_task_before_that_is_not_there_is_named(tmp_path):
    code = "from scripts.extract import main; raise SystemExit(main([]))"
    returned, said = ends(code, tmp_path)
    assert returned == 2
    assert said.startswith("plan.jsonl: No such file or directory. Check that it is there")


@pytest.mark.parametrize("name", ["DATA_DIR", "LOG_DIR"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "plan.jsonl").touch()
    code = (
        "from pathlib import Path; from scripts import extract; from scripts.pipeline.entry import as_task;"
        "as_task(extract.run, plan=Path('plan.jsonl'), manifest=Path('manifest.jsonl'), parts=Path('parts.tar'))"
    )
    keys = {"AMP_API_KEY": "key", "AMP_SECRET_KEY": "secret", "AMP_PROJECT_ID": "1"}
    returned, said = ends(code, tmp_path, **keys, **{name: str(tmp_path / "file" / "folder")})
    assert returned == 2
    assert f"{tmp_path}/file/folder" in said
    assert "Traceback" not in said


def test_an_alert_needs_no_room_for_its_log(tmp_path):
    """What it has to say may be that the folder of logs is closed, or its disk full."""
    (tmp_path / "file").touch()
    code = (
        "from scripts import notify; from scripts.pipeline.entry import as_task;"
        "as_task(notify.run, key='k', text='no room', severity='error', alerts='')"
    )
    returned, said = ends(code, tmp_path, LOG_DIR=str(tmp_path / "file" / "folder"))
    assert (returned, "all that is said: [error] no room" in said) == (0, True)


def test_a_full_disk_says_so(caplog):
    def run():
        with Path("/dev/full").open("wb") as file:
            file.write(b"x" * 100_000)

    assert as_command(run) == 2
    assert "No space left on device. Free disk space, then run again." in caplog.text


def test_an_error_of_the_network_stays_one():
    with pytest.raises(ConnectionResetError), files_explained():
        raise ConnectionResetError(104, "Connection reset by peer")
    with pytest.raises(ConfigurationError), files_explained():
        Path("/nowhere/at/all").read_bytes()
