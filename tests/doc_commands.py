"""The commands that README and runbook give a person, from their fences and their lines."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^ *```(?:bash|sql)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(
    r"(\.venv/bin/)?python |make |sudo |brew |docker |cp |touch |find |(alter|copy|delete|select|show) \S",
    re.IGNORECASE,
)


def commands(page: str) -> list[str]:
    """Each once, on one line, in the order of the page. Statements end at a semicolon."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [
        part for fence in FENCE.findall(text) for part in (fence.split(";") if ";" in fence else fence.splitlines())
    ]
    found += re.findall(r"`([^`]+)`", PICTURE.sub("", text))
    lines = [" ".join(each.split()).removeprefix(".venv/bin/") for each in found]
    return list(dict.fromkeys(line for line in lines if COMMAND.match(line)))
