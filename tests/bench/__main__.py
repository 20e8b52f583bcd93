"""python -m tests.bench [NAME …]: run the bench modules of this folder (all, or the named) into .local/bench.json.

Each module has `rows()`: a list of {"name", "ours", "reference", "ratio", "unit", "note"}.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
REPORT = FOLDER.parents[1] / ".local" / "bench.json"


def main(names: list[str]) -> None:
    wanted = names or sorted(file.stem for file in FOLDER.glob("[!_]*.py"))
    rows: list[dict[str, Any]] = []
    for name in wanted:
        for row in importlib.import_module(f"tests.bench.{name}").rows():
            rows.append(row)
            sys.stdout.write("{name}: {ours} against {reference} {unit}, ratio {ratio} ({note})\n".format(**row))
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
