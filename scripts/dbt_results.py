"""What a dbt run did, from its run_results.json: counts for the flow's outputs and the names of what went wrong.

Read in the `finally:` of the flow dbt_build, also after a build that failed before dbt could write anything.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.pipeline.entry import as_command
from scripts.pipeline.errors import DamagedError

log = logging.getLogger("pipeline.dbt_results")

# dbt's statuses (dbt-core's artifact schema run-results v6) by what a person must do about them.
_KINDS = {
    "success": "ok",
    "pass": "ok",
    "no-op": "ok",
    "warn": "warned",
    "partial success": "failed",
    "error": "failed",
    "fail": "failed",
    "runtime error": "failed",
    "skipped": "skipped",
}
_MAX_NAMES = 1500  # characters of one output; all of a task's outputs stay under 10 kB


def run(*, run_results: Path, manifest: Path | None = None) -> dict[str, int | float | str]:
    """Tells what `counted` finds, and returns it."""
    results = counted(run_results, manifest)
    _tell(results)
    return results


def counted(run_results: Path, manifest: Path | None = None) -> dict[str, int | float | str]:
    """Counts nodes by result. A missing or empty file is not an error: `problem` says that dbt wrote none.

    Returns nodes_ok, nodes_warned, nodes_failed, nodes_skipped, rows (of models, where the adapter told), seconds (of
    the whole run), slowest (`name 1.2 s`), `failed_names`, `skipped_names`, `warned_names` (with dbt's count),
    `problem`. Raises DamagedError when the file is there but is not dbt's.
    """
    document = _read(run_results)
    names = _names(_read(manifest) if manifest else {})
    groups: dict[str, list[str]] = {"ok": [], "warned": [], "failed": [], "skipped": []}
    rows, slowest = 0, ("", 0.0)
    for result in document.get("results", []):
        node = str(result.get("unique_id", ""))
        name = names.get(node, _short(node))
        kind = _KINDS.get(str(result.get("status")), "failed")
        found = result.get("failures")
        groups[kind].append(f"{name} ({found})" if found and kind in ("warned", "failed") else name)
        response = result.get("adapter_response") or {}
        if node.startswith(("model.", "snapshot.")) and str(response.get("rows_affected", "")).isdigit():
            rows += int(response["rows_affected"])
        seconds = float(result.get("execution_time") or 0)
        if seconds > slowest[1]:
            slowest = (name, seconds)
    problem = "" if document else "dbt wrote no results: it failed before the first node; see the log of the task build"
    return {
        **{f"nodes_{kind}": len(found) for kind, found in groups.items()},
        "rows": rows,
        "seconds": round(float(document.get("elapsed_time") or 0), 1),
        "slowest": f"{slowest[0]} {slowest[1]:.1f} s" if slowest[0] else "",
        **{f"{kind}_names": _joined(groups[kind]) for kind in ("failed", "skipped", "warned")},
        "problem": problem,
    }


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file() or path.stat().st_size == 0:
        return {}
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        message = f"{path.name} is not JSON ({error}): dbt was stopped while it wrote it. Replay the run."
        raise DamagedError(message) from None
    if not isinstance(document, dict):
        message = f"{path.name} is not an artifact of dbt (no JSON object). Give dbt's target/run_results.json."
        raise DamagedError(message)
    return document


def _names(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Node id → name; a test on a column also says of which model it is."""
    names = {}
    for node, entry in {**manifest.get("nodes", {}), **manifest.get("unit_tests", {})}.items():
        model = _short(str(entry.get("attached_node") or ""))
        name = str(entry["name"])
        names[node] = name if not model or model in name else f"{name} on {model}"
    return names


def _short(node: str) -> str:
    """`model.amplitude.journey_analysis` → `journey_analysis`; a test's hash is dropped too."""
    return node.split(".")[2] if node.count(".") >= 2 else node


def _joined(names: list[str]) -> str:
    text = ", ".join(sorted(names))
    return text if len(text) <= _MAX_NAMES else text[: _MAX_NAMES - 2].rsplit(",", 1)[0] + ", …"


def _tell(results: Mapping[str, int | float | str]) -> None:
    counts = ", ".join(f"{results[f'nodes_{kind}']} {kind}" for kind in ("ok", "warned", "failed", "skipped"))
    log.info("dbt: %s; %s rows in %s s; slowest %s", counts, results["rows"], results["seconds"], results["slowest"])
    for kind, level in (("warned", logging.WARNING), ("failed", logging.ERROR), ("skipped", logging.ERROR)):
        if results[f"{kind}_names"]:
            log.log(level, "dbt %s: %s", kind, results[f"{kind}_names"])
    if results["problem"]:
        log.error("%s", results["problem"])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_results", type=Path, help="dbt's target/run_results.json")
    parser.add_argument("--manifest", type=Path, help="dbt's target/manifest.json, for names")
    arguments = parser.parse_args(argv)
    return as_command(run, run_results=arguments.run_results, manifest=arguments.manifest)


if __name__ == "__main__":
    raise SystemExit(main())
