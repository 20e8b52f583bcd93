"""What stops a newcomer's first hour on a laptop is said in a sentence with the next step."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from local import stack

ROOT = Path(__file__).resolve().parents[2]


def test_a_port_in_use_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(stack, "PORTS", {"amplitude": port})
        options = ["--host", "0.0.0.0", "--port", str(port), "--project", "1"]
        server = stack.Server("amplitude", tmp_path, *options, environment=os.environ)
        try:
            with pytest.raises(stack.StackError, match=f"amplitude did not start: port {port} is in use"):
                server.wait_ready()
        finally:
            server.stop()


def test_a_full_disk_is_called_so(tmp_path: Path) -> None:
    """Wherever it is met: one place says it for all commands."""
    program = (
        "import errno, sys; from local import __main__ as laptop, stack\n"
        "def full(*_): raise OSError(errno.ENOSPC, 'No space left on device', '/somewhere')\n"
        "laptop.session.running = full\n"
        "sys.exit(laptop.main(['status']))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the disk is full ([Errno 28] No space left on device: '/somewhere'). Free some space" in done.stderr
    assert "run it again" in done.stderr


MAKE = ["make", "--no-print-directory", ".venv/uv.stamp"]


def make(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name in ("Makefile", "requirements"):
        (folder / name).symlink_to(ROOT / name)
    return subprocess.run(MAKE, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_make_without_a_python_says_which(tmp_path: Path) -> None:
    path = tmp_path / "bin"
    path.mkdir()
    for tool in ("make", "bash"):
        (path / tool).symlink_to(shutil.which(tool) or tool)
    done = make(tmp_path, {"PATH": str(path)})
    assert done.returncode == 2
    assert "This needs Python 3.11, 3.12 or 3.13" in done.stderr


@pytest.mark.scenario  # makes a virtual environment
def test_make_without_a_registry_says_what_to_do(tmp_path: Path) -> None:
    """A port without a server stands for the registry."""
    nobody = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    done = make(tmp_path, os.environ | nobody)
    assert done.returncode == 2
    assert "HTTPS_PROXY" in done.stderr
    assert "Then run make again" in done.stderr
    assert not (tmp_path / ".venv/uv.stamp").exists()
