"""Builds the documentation: docs/site/index.html (dbt's own pages, one static file, not committed),
docs/data_dictionary.md (every model, column and threshold) and the generated pieces of the other pages (docs/pages.py);
both are committed, and a test compares them.

Needs no warehouse: what the pages say comes from the project alone. `python -m dbt_dev.docs`
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from dbt.cli.main import dbtRunner

from docs import pages

ROOT = Path(__file__).resolve().parents[1]
DICTIONARY, SITE = ROOT / "docs" / "data_dictionary.md", ROOT / "docs" / "site" / "index.html"
LAYERS = (
    ("Marts", "MARTS", "For analysts. Columns and types are a contract: a change that breaks it fails the build."),
    ("Intermediate", "INTERMEDIATE", "Closed to reporters."),
    ("Sensitive", "SENSITIVE", "Personal data: for AMPLITUDE_PII_READER alone."),
    ("Staging", "STAGING", "Closed to reporters."),
)
_HEAD = """# Data dictionary

Generated from the dbt project by `make docs`; do not edit. What one row is, and what each column means.
"""


def dictionary(manifest: Any) -> str:  # noqa: ANN401 (dbt's Manifest)
    """The page for a parsed project."""
    nodes = sorted(manifest.nodes.values(), key=lambda node: node.name)
    models = [node for node in nodes if node.resource_type == "model"]
    pieces = [_HEAD]
    for title, schema, who in LAYERS:
        pieces.append(f"## {title}\n\nSchema `{schema}`. {who}\n")
        pieces += [_table(node) for node in models if node.schema == schema]
    pieces.append("## Seeds\n\nLists that people keep, in `dbt/seeds/`; loaded into `INTERMEDIATE`.\n")
    pieces += [_table(node) for node in nodes if node.resource_type == "seed"]
    pieces.append("## Source\n\nSchema `RAW` (setting `RAW_SCHEMA`).\n")
    pieces += [_table(source) for source in sorted(manifest.sources.values(), key=lambda source: source.name)]
    return "\n".join(pieces)


def _table(node: Any) -> str:  # noqa: ANN401
    lines = [f"### {node.name}", "", _line(node.description), ""]
    if node.columns:
        lines += ["| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {c.data_type or ''} | {_line(c.description)} |" for c in node.columns.values()]
        lines.append("")
    return "\n".join(lines)


def _line(text: str) -> str:
    """A description as one line; a table inside it becomes a list of its first two columns."""
    said, listed = [], []
    for line in text.strip().splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not set(cells[0]) <= {"-"} and cells[0] != "event type":
                listed.append(f"`{cells[0]}` {cells[1][0].lower()}{cells[1][1:]}")
        elif line.strip():
            said.append(line.strip())
    return " ".join([*said, "; ".join(listed)]).strip().replace("|", "\\|")


def main() -> int:
    for name in ("ACCOUNT", "USER", "WAREHOUSE", "DATABASE", "PRIVATE_KEY_FILE"):
        os.environ.setdefault(f"SNOWFLAKE_{name}", "AMPLITUDE")  # the profile asks for them; nothing connects
    with tempfile.TemporaryDirectory() as folder:
        manifest = _dbt(folder, "parse").result
        # takes the manifest that parse wrote; compiling would need the warehouse
        _dbt(folder, "docs", "generate", "--static", "--empty-catalog", "--no-compile")
        SITE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / "static_index.html", SITE)
    DICTIONARY.write_text(dictionary(manifest), encoding="utf-8")
    pages.write(manifest)
    sys.stdout.write(f"written: {SITE.relative_to(ROOT)} (open it in a browser), and what is generated in docs/*.md\n")
    return 0


def _dbt(folder: str, *command: str) -> Any:  # noqa: ANN401
    project = ("--project-dir", str(ROOT / "dbt"), "--profiles-dir", str(ROOT / "dbt"))
    result = dbtRunner().invoke([*command, "--quiet", *project, "--target-path", folder, "--log-path", folder])
    if not result.success:
        sys.exit(f"dbt {command[0]} failed: {result.exception or 'see above'}")
    return result


if __name__ == "__main__":
    raise SystemExit(main())
