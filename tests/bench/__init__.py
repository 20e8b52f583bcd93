"""What `make bench` measures."""

from __future__ import annotations

from typing import Any


def row(name: str, ours: float, reference: float, ratio: float, unit: str, note: str) -> dict[str, Any]:
    """One line of .local/bench.json; `ratio` is the figure that an aim is set for, whichever way round."""
    figures = {"ours": round(ours, 2), "reference": round(reference, 2), "ratio": round(ratio, 3)}
    return {"name": name, **figures, "unit": unit, "note": note}
