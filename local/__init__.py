"""The laptop stack. Nothing of it is needed to run the product."""

import importlib.util

if importlib.util.find_spec("duckdb") is None:  # `python -m local` with the machine's own Python
    raise SystemExit(
        "This Python lacks the packages of the laptop stack. Run .venv/bin/python -m local …; "
        "`make demo` makes .venv, after `make clean` when it is broken."
    )
