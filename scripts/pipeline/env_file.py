"""Reads the settings that somebody gave, in one way for the laptop, the containers and a command in one of them.

They come from `.env`, in which nothing is interpolated, and over it from the environment. Where the stand-ins of
compose's profile `demo` hand over settings, those take the place of both.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import parse_stream

IN_SINGLE_QUOTES = re.compile(r"\s*(export\s+)?('[^']*'|[^='\s]+)\s*=\s*'")
DEMO_SETTINGS = "DEMO_SETTINGS"  # the image's variable that names the file of the stand-ins; no task inherits it


def demo_file() -> Path | None:
    """What the stand-ins hand over, if they are up and this is a container that they serve."""
    file = Path(os.environ.get(DEMO_SETTINGS) or os.devnull)
    return file if file.is_file() else None


def read(folder: str | Path = ".") -> tuple[dict[str, str], list[str]]:
    """What is given, by name, and what is wrong with the folder's `.env`, without values."""
    if demo := demo_file():
        found, wrong = read_file(demo)
        return given(found), wrong
    found, wrong = read_file(Path(folder) / ".env")
    return given(found) | given(os.environ), wrong


def given(found: Mapping[str, str]) -> dict[str, str]:
    """`unset` and empty mean: not given (Kestra's secret() fails on a missing one, so every name is defined)."""
    return {name: value for name, value in found.items() if value.strip() not in {"", "unset"}}


def read_file(file: Path) -> tuple[dict[str, str], list[str]]:
    """The settings of an env file and what is wrong with it: a `$` that Compose would change or print is, too."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return {}, []
    except UnicodeDecodeError:
        return {}, [".env is not UTF-8: save it as UTF-8"]
    except IsADirectoryError:
        return {}, [".env is a folder: rmdir .env, then cp .env.example .env"]
    except OSError as error:
        return {}, [f".env cannot be read by uid {os.getuid()} ({error.strerror}): chown or chmod it on its machine"]
    found: dict[str, str] = {}
    wrong: list[str] = []
    for line in parse_stream(io.StringIO(text)):
        source = line.original.string
        if line.error or (line.key and line.value is None) or "\0" in source:
            number = line.original.line + source[: len(source) - len(source.lstrip())].count("\n")
            wrong.append(f".env line {number} is not NAME=value (some values need single quotes)")
        elif line.key and line.value is not None:
            found[line.key] = line.value
            if "$" in line.value and not IN_SINGLE_QUOTES.match(source):
                wrong.append(f"{line.key} has a $ outside single quotes, which Compose would change: {line.key}='...'")
    return found, wrong
