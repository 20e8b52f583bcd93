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

from scripts.pipeline.errors import ConfigurationError
from scripts.pipeline.project import FOLDERS, NAMESPACE, flow_files, namespace_files

USER, PASSWORD = "KESTRA_ADMIN_USER", "KESTRA_ADMIN_PASSWORD"
MARK = ("managed_by", "amplitude-pipeline")
SHOWN = 10  # names in a line of what was done
FILES_KEY = "amplitude-pipeline.files"  # in the KV store: the paths that we put


def read_flows(folder: Path) -> dict[str, str]:
    """Flow id to source, each after the flows that it calls."""
    sources: dict[str, str] = {}
    calls: dict[str, set[str]] = {}
    for file in flow_files(folder):
        try:
            sources[file.stem] = file.read_text(encoding="utf-8")
            calls[file.stem] = _calls(yaml.safe_load(sources[file.stem]), file.stem)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, a date that is none, or ours
            message = f"{file.name} cannot be loaded: {error}"
            raise ConfigurationError(message) from None
        except RecursionError:
            message = f"{file.name} cannot be loaded: an alias (*name) stands inside of what it names (&name)"
            raise ConfigurationError(message) from None
    if not sources:
        message = f"no flow in {folder}: is the repository mounted?"
        raise ConfigurationError(message)
    order = graphlib.TopologicalSorter({flow: called & set(sources) - {flow} for flow, called in calls.items()})
    try:
        return {flow: sources[flow] for flow in order.static_order()}
    except graphlib.CycleError as error:
        message = f"flows call each other in a circle, so none can be the first: {' <- '.join(error.args[1])}"
        raise ConfigurationError(message) from None


def _calls(flow: object, name: str) -> set[str]:
    """The flows that a flow calls. ValueError: it cannot be ours."""
    if not isinstance(flow, dict) or (flow.get("namespace"), flow.get("id")) != (NAMESPACE, name):
        message = f"it must hold one flow with id {name} and namespace {NAMESPACE}"
        raise ValueError(message)
    if not has_mark(flow):
        message = f"it lacks the label {MARK[0]}: {MARK[1]}, by which the loader knows its own flows"
        raise ValueError(message)
    return set(_flow_ids(flow))


def has_mark(flow: Mapping[str, Any]) -> bool:
    labels = flow.get("labels")
    if isinstance(labels, dict):
        return bool(labels.get(MARK[0]) == MARK[1])
    # Kestra takes a list of {key, value} as well.
    return isinstance(labels, list) and {"key": MARK[0], "value": MARK[1]} in labels


def _flow_ids(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("flowId"), str):
            yield part["flowId"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _flow_ids(each)


def read_files(root: Path) -> dict[str, bytes]:
    """Path below the namespace to content. A folder that is not there is no reason to remove its files from Kestra."""
    files = {name: (root / name).read_bytes() for name in namespace_files(root)}
    empty = [folder for folder in FOLDERS if not any(name.startswith(f"{folder}/") for name in files)]
    if empty:
        message = f"no file in {', '.join(f'{folder}/' for folder in empty)}: is the whole repository mounted?"
        raise ConfigurationError(message)
    return files


def our_files(kestra: Kestra) -> set[str]:
    """The paths that an earlier load put, as the KV store has them. They may be removed, so they are looked at."""
    listed = kestra.value(NAMESPACE, FILES_KEY) or []
    if isinstance(listed, list) and all(isinstance(path, str) and path.split("/")[0] in FOLDERS for path in listed):
        return set(listed)
    message = f"the KV value {FILES_KEY} is not what the loader wrote: delete it in the UI, and run the loader again"
    raise ConfigurationError(message)


def load_files(kestra: Kestra, files: Mapping[str, bytes]) -> str:
    """Puts changed files and removes those of ours that are gone; returns what it did."""
    ours = our_files(kestra)
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
        if flow not in there and _created(kestra, flow, source):
            created.append(flow)
        elif (kestra.flow(NAMESPACE, flow) or "").strip() != source.strip():  # some versions store it trimmed
            kestra.update_flow(NAMESPACE, flow, source)
            updated.append(flow)
    gone = [flow for flow in sorted(there - set(flows)) if _is_ours(kestra.flow(NAMESPACE, flow))]
    for flow in gone:
        kestra.delete_flow(NAMESPACE, flow)
    unchanged = len(flows) - len(created) - len(updated)
    return _told("flows", created=created, updated=updated, removed=gone, unchanged=unchanged)


def _created(kestra: Kestra, flow: str, source: str) -> bool:
    """Creates it; False when another loader was there first."""
    try:
        kestra.create_flow(source)
    except KestraError:
        if kestra.flow(NAMESPACE, flow) is None:
            raise
        return False
    return True


def _is_ours(source: str | None) -> bool:
    try:
        flow = yaml.safe_load(source or "")
    except (yaml.YAMLError, ValueError):
        return False
    return isinstance(flow, dict) and has_mark(flow)


def _told(what: str, *, unchanged: int, **done: list[str]) -> str:
    parts = [f"{len(names)} {verb} ({_list(names)})" for verb, names in done.items() if names]
    return f"{what}: {', '.join([*parts, f'{unchanged} unchanged'])}"


def _list(names: list[str]) -> str:
    """Not the hundred files of a first load, behind which what matters is overlooked."""
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"


def load(url: str, health: str | None, seconds: float) -> None:
    """The whole of it; raises ConfigurationError or KestraError."""
    given, wrong = read_settings()
    wrong += [f"{name} is missing in .env" for name in (USER, PASSWORD) if name not in given]
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    flows, files = read_flows(REPOSITORY / "flows"), read_files(REPOSITORY)
    kestra = Kestra(url, given[USER], given[PASSWORD])
    if health:
        kestra.wait(health, seconds)
    refused, warned = kestra.refusals({f"{flow}.yml": source for flow, source in flows.items()})
    # Kestra warns at a first load that subflows are missing: those that this load brings are not.
    brought = tuple(f"The subflow '{flow}' not found in namespace '{NAMESPACE}'." for flow in flows)
    for warning in warned:
        if not warning.endswith(brought):
            print(f"loader: {warning}", flush=True)
    if refused:
        raise ConfigurationError("Kestra refuses a flow, so nothing was changed:\n  " + "\n  ".join(refused))
    print(f"loader: {load_files(kestra, files)}", flush=True)
    print(f"loader: {load_flows(kestra, flows)}", flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--url", required=True, help="of Kestra")
    parser.add_argument("--health", help="its management endpoint, to wait for; without it Kestra must be up")
    parser.add_argument("--wait", type=float, default=300, metavar="SECONDS", help="for Kestra to be up")
    options = parser.parse_args(argv)
    try:
        load(options.url, options.health, options.wait)
    except (ConfigurationError, KestraError) as error:
        print(f"loader: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
