"""Runs one flow by Kestra's API and waits for its end: for continuous delivery.

    run_flow.py --url https://kestra.example.com snowflake_deploy action=plan scope=database

The login is that of .env, or of the environment. Exit code 0 when the run is green. What it did stands in Kestra: only
its page and its states are printed.
"""

from __future__ import annotations

import argparse
import sys

from entrypoint import read_settings
from kestra_api import Kestra, KestraError
from loader import PASSWORD, USER

from scripts.pipeline.project import NAMESPACE

GREEN = {"SUCCESS", "WARNING"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--url", required=True, help="of Kestra")
    parser.add_argument("--wait", type=float, default=3900, metavar="SECONDS", help="for the run to end (%(default)s)")
    parser.add_argument("flow")
    parser.add_argument("inputs", nargs="+", metavar="NAME=VALUE")
    options = parser.parse_args(argv)
    given, _ = read_settings()
    missing = [name for name in (USER, PASSWORD) if name not in given]
    if missing:
        print(f"run_flow: {' and '.join(missing)} must be set", file=sys.stderr, flush=True)
        return 1
    inputs = dict(each.partition("=")[::2] for each in options.inputs)
    kestra, state = Kestra(options.url, given[USER], given[PASSWORD]), ""
    try:
        execution = kestra.run(NAMESPACE, options.flow, inputs)
        print(f"run_flow: {kestra.page(NAMESPACE, options.flow, execution)}", flush=True)
        for state in kestra.states(execution, options.wait):
            print(f"run_flow: {options.flow} {' '.join(options.inputs)}: {state}", flush=True)
    except KestraError as error:
        print(f"run_flow: {error}", file=sys.stderr, flush=True)
        return 1
    return 0 if state in GREEN else 1


if __name__ == "__main__":
    raise SystemExit(main())
