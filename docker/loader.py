"""Brings the repository's flows and namespace files into Kestra, through its API: what changed, and nothing else.

    loader.py --url http://kestra:8080 --health http://kestra:8081/health

All flows are validated first; when Kestra refuses one, nothing is changed. Then files, then flows (a subflow before its
callers), then what was ours and is gone from the repository is removed: flows that carry the label `managed_by:
amplitude-pipeline`, files that the list in the KV store names. What somebody else made is never touched. A loader that
was stopped anywhere is simply run again.
"""

from __future__ import annotations

import argparse
import graphlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from entrypoint import REPOSITORY, read_settings
from kestra_api import Kestra, KestraError

NAMESPACE = "analytics.amplitude"
USER, PASSWORD = "KESTRA_ADMIN_USER", "KESTRA_ADMIN_PASSWORD"
MARK = ("managed_by", "amplitude-pipeline")
FILES_KEY = "amplitude-pipeline.files"  # in the KV store: the paths that we put
# The laptop engine takes the same (local/engine.py); a test compares the two.
NAMESPACE_FOLDERS = ("scripts", "dbt", "snowflake")
NOT_UPLOADED = {"__pycache__", "target", "logs", "dbt_packages"}


class RefusedError(Exception):
    """Flows or settings cannot be loaded as they are; the message says which and why."""


def read_flows(folder: Path) -> dict[str, str]:
    """Flow id to source, each after the flows that it calls."""
    sources: dict[str, str] = {}
    calls: dict[str, set[str]] = {}
    for file in sorted(folder.glob("*.yml")):
        source = file.read_text(encoding="utf-8")
        try:
            flow = yaml.safe_load(source)
        except yaml.YAMLError as error:
            message = f"{file.name} is not YAML: {error}"
            raise RefusedError(message) from None
        if not isinstance(flow, dict) or (flow.get("namespace"), flow.get("id")) != (NAMESPACE, file.stem):
            message = f"{file.name} must hold one flow with id {file.stem} and namespace {NAMESPACE}"
            raise RefusedError(message)
        if not has_mark(flow):
            message = f"{file.name} lacks the label {MARK[0]}: {MARK[1]}, by which the loader knows its own flows"
            raise RefusedError(message)
        sources[file.stem] = source
        calls[file.stem] = set(_flow_ids(flow))
    if not sources:
        message = f"no flow in {folder}: is the repository mounted?"
        raise RefusedError(message)
    order = graphlib.TopologicalSorter({flow: called & set(sources) - {flow} for flow, called in calls.items()})
    return {flow: sources[flow] for flow in order.static_order()}


def has_mark(flow: Mapping[str, Any]) -> bool:
    labels = flow.get("labels") or {}
    if isinstance(labels, list):  # Kestra takes a list of {key, value} as well
        labels = {label.get("key"): label.get("value") for label in labels}
    return bool(labels.get(MARK[0]) == MARK[1])


def _flow_ids(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("flowId"), str):
            yield part["flowId"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _flow_ids(each)


def read_files(root: Path) -> dict[str, bytes]:
    """Path below the namespace to content: scripts, dbt project and DDL without what is built."""
    paths = (path for folder in NAMESPACE_FOLDERS for path in sorted((root / folder).rglob("*")) if path.is_file())
    relative = ((path, path.relative_to(root)) for path in paths)
    return {
        name.as_posix(): path.read_bytes()
        for path, name in relative
        if not any(part in NOT_UPLOADED or part.startswith(".") for part in name.parts)
    }


def load_files(kestra: Kestra, files: Mapping[str, bytes]) -> str:
    """Puts changed files and removes those of ours that are gone; returns what it did."""
    ours = set(kestra.value(NAMESPACE, FILES_KEY) or [])
    if not set(files) <= ours:
        # Named before they are put: a loader that dies here loses track of none.
        kestra.put_value(NAMESPACE, FILES_KEY, sorted(ours | set(files)))
    changed = [path for path, content in files.items() if kestra.file(NAMESPACE, path) != content]
    for path in changed:
        kestra.put_file(NAMESPACE, path, files[path])
    gone = sorted(ours - set(files))
    for path in gone:
        kestra.delete_file(NAMESPACE, path)
    if gone:
        kestra.put_value(NAMESPACE, FILES_KEY, sorted(files))
    return _told("files", put=changed, removed=gone, unchanged=len(files) - len(changed))


def load_flows(kestra: Kestra, flows: Mapping[str, str]) -> str:
    """Creates and updates changed flows and removes those of ours that are gone; returns what it did."""
    created, updated = [], []
    there = set(kestra.flows(NAMESPACE))
    for flow, source in flows.items():
        if flow not in there:
            kestra.create_flow(source)
            created.append(flow)
        elif (kestra.flow(NAMESPACE, flow) or "").strip() != source.strip():  # some versions store it trimmed
            kestra.update_flow(NAMESPACE, flow, source)
            updated.append(flow)
    gone = [flow for flow in sorted(there - set(flows)) if _is_ours(kestra.flow(NAMESPACE, flow))]
    for flow in gone:
        kestra.delete_flow(NAMESPACE, flow)
    unchanged = len(flows) - len(created) - len(updated)
    return _told("flows", created=created, updated=updated, removed=gone, unchanged=unchanged)


def _is_ours(source: str | None) -> bool:
    try:
        flow = yaml.safe_load(source or "")
    except yaml.YAMLError:
        return False
    return isinstance(flow, dict) and has_mark(flow)


def _told(what: str, *, unchanged: int, **done: list[str]) -> str:
    parts = [f"{len(names)} {verb} ({', '.join(names)})" for verb, names in done.items() if names]
    return f"{what}: {', '.join([*parts, f'{unchanged} unchanged'])}"


def load(url: str, health: str, seconds: float) -> None:
    """The whole of it; raises RefusedError or KestraError."""
    given, wrong = read_settings()
    wrong += [f"{name} is missing in .env" for name in (USER, PASSWORD) if name not in given]
    if wrong:
        raise RefusedError("; ".join(wrong))
    flows, files = read_flows(REPOSITORY / "flows"), read_files(REPOSITORY)
    kestra = Kestra(url, given[USER], given[PASSWORD])
    kestra.wait(health, seconds)
    refused, warned = kestra.refusals({f"{flow}.yml": source for flow, source in flows.items()})
    for warning in warned:
        print(f"loader: {warning}", flush=True)
    if refused:
        raise RefusedError("Kestra refuses a flow, so nothing was changed:\n  " + "\n  ".join(refused))
    print(f"loader: {load_files(kestra, files)}", flush=True)
    print(f"loader: {load_flows(kestra, flows)}", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--url", required=True, help="of Kestra")
    parser.add_argument("--health", required=True, help="its management endpoint")
    parser.add_argument("--wait", type=float, default=300, metavar="SECONDS", help="for Kestra to be up")
    options = parser.parse_args(argv)
    try:
        load(options.url, options.health, options.wait)
    except (RefusedError, KestraError) as error:
        print(f"loader: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
