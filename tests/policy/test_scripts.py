"""Rules that the scripts keep beyond what the linters see."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SHARED = sorted((Path(__file__).resolve().parents[2] / "scripts/pipeline").glob("*.py"))


@pytest.mark.parametrize("file", SHARED, ids=lambda file: file.stem)
def test_json_decoders_are_made_at_import(file: Path) -> None:
    """msgspec reads a type at its first use; threads that met one at once ended in a segmentation fault."""
    calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    typed = [call.lineno for call in calls if ast.unparse(call.func).endswith("json.decode") and call.keywords]
    assert typed == []
