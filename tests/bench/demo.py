"""`make demo` in a fresh clone of what is committed, and again: installing, resolving and building included."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench import row

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {"demo_first": 360, "demo_again": 75}  # seconds


def rows() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        return [
            row(name, seconds := demo(clone), limit, seconds / limit, "seconds", "two cores; at most 1")
            for name, limit in LIMITS.items()
        ]


def demo(clone: Path) -> float:
    begin = time.perf_counter()
    subprocess.run(["make", "demo"], cwd=clone, check=True, capture_output=True)
    return time.perf_counter() - begin
