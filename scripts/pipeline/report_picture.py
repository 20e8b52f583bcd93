"""The report's picture: events by hour as bars, and below them the state of each hour."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from scripts.pipeline.hour_ledger import State

# Told apart without colours too: by lightness, and the legend counts each.
COLOURS: dict[State, str] = {
    "loaded": "#1b6ca8",
    "uploaded": "#e9a23b",
    "open": "#b3202c",
    "young": "#cfcfcf",
    "empty": "#ece6d6",
}
LABELS = 12


def draw(hours: Sequence[tuple[str, int, State]], output: Path) -> None:
    """Writes a PNG of hours (`YYYY-MM-DDTHH`, events, state), in time order."""
    with tempfile.TemporaryDirectory(prefix="matplotlib-") as folder:
        os.environ.setdefault("MPLCONFIGDIR", folder)  # where it keeps its list of fonts: not every home is writable
        # Late: 1 to 2 s and 60 MB, which no other task pays; and without pyplot, which looks for a screen.
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch

        figure = Figure(figsize=(10, 3.6), dpi=110, layout="constrained")
        bars, states = figure.subplots(2, 1, sharex=True, height_ratios=(9, 1))
        counts = Counter(state for _, _, state in hours)
        edges = [place - 0.5 for place in range(len(hours) + 1)]
        for name in counts:  # one shape a state, not one an hour: a year has 8760
            mine = [state == name for _, _, state in hours]
            heights = [events * each for (_, events, _), each in zip(hours, mine, strict=True)]
            bars.fill_between(edges, [*heights, 0], step="post", color=COLOURS[name], linewidth=0)
            states.fill_between(edges, [*mine, False], step="post", color=COLOURS[name], linewidth=0)
        bars.set_ylim(bottom=0)
        bars.set_ylabel("events an hour")
        bars.spines[["top", "right"]].set_visible(False)
        states.set_ylim(0, 1)
        states.set_yticks([])
        places = range(0, len(hours), -(-len(hours) // LABELS))
        states.set_xticks(places, [_label(hours[place][0], len(hours)) for place in places])
        states.set_xlim(-0.5, len(hours) - 0.5)
        legend = [Patch(color=COLOURS[state], label=f"{state} {counts[state]}") for state in COLOURS if counts[state]]
        figure.legend(handles=legend, loc="outside lower left", ncols=len(COLOURS), frameon=False)
        figure.suptitle(_title(hours), x=0.01, ha="left", fontsize="medium")
        figure.savefig(output, metadata={"Software": None})


def _title(hours: Sequence[tuple[str, int, State]]) -> str:
    first, last = hours[0][0], hours[-1][0]
    when = first if first == last else f"{first} to {last}"
    return f"{sum(events for _, events, _ in hours):,} events, {when} (server upload time, UTC)"


def _label(hour: str, shown: int) -> str:
    return hour[11:] if shown <= 24 else hour[5:10] if shown > 24 * LABELS else f"{hour[5:10]} {hour[11:]}"
