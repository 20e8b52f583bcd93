"""The laptop stack. Nothing of it is needed to run the product."""

import importlib.util
import sys

# `python -m local` (which this name tells, until it runs) with the machine's own Python.
if sys.argv[0] == "-m" and importlib.util.find_spec("duckdb") is None:
    raise SystemExit(
        "This Python lacks the packages of the laptop stack. Run .venv/bin/python -m local …; "
        "`make demo` makes .venv, after `make clean` when it is broken."
    )
