"""What of the repository goes into Kestra: the same for the server's loader and for the laptop's engine."""

from __future__ import annotations

from pathlib import Path

from scripts.pipeline.errors import ConfigurationError

NAMESPACE = "analytics.amplitude"
FOLDERS = ("scripts", "dbt", "snowflake")
BUILT = {"__pycache__", "target", "logs", "dbt_packages"}


def namespace_files(root: Path) -> list[str]:
    """The files that tasks run, relative to the root: scripts, dbt project and DDL without what is built."""
    paths = (path for folder in FOLDERS for path in sorted((root / folder).rglob("*")) if path.is_file())
    files = (path.relative_to(root) for path in paths)
    return [file.as_posix() for file in files if not any(part in BUILT or part[0] == "." for part in file.parts)]


def flow_files(folder: Path) -> list[Path]:
    """The flows' files. Raises ConfigurationError for one that somebody would take for a flow and Kestra never sees."""
    found = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in {".yml", ".yaml"}]
    for file in found:
        if file.suffix != ".yml" or file.parent != folder:
            message = f"{file}: a flow's file ends in .yml and lies in {folder}/ itself; this one would not be loaded"
            raise ConfigurationError(message)
    return found
