"""The limits and the cost of the pipeline by volume: the figures of docs/architecture.md, written there by `make docs`.

What is documented is a constant with its page; what the product itself decides is asked of its own code; what neither
knows (how long Snowflake works on it) is not guessed, but bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from local.amplitude.generator import HOURLY
from scripts.extract import ASK_FOR
from scripts.pipeline.backup_store import COPIES, RESERVE
from scripts.pipeline.export_api import MAX_REQUESTS
from scripts.pipeline.hours import BYTES_PER_REQUEST, HOUR, HOURS_PER_REQUEST, format_hour, plan_windows
from scripts.pipeline.prices import BYTES_PER_EVENT, RESUME, SNOWPIPE_CREDITS, WAREHOUSE_CREDITS
from scripts.pipeline.records import PlanLine
from scripts.pipeline.settings import PlanSettings
from scripts.plan import within_limits

VOLUMES = (1_000, 1_000_000, 100_000_000, 1_000_000_000)  # events a day
LIMITS = tuple(PlanSettings.model_fields[f"max_{what}_per_run"].default for what in ("hours", "bytes"))  # of a run
MIDNIGHT = datetime(2026, 9, 24, tzinfo=UTC)  # any day

# JSON to gzip, of the same traffic at volume (tests/unit/test_capacity.py measures it). A small site has about 11.
GZIP_RATIO = 15
# https://amplitude.com/docs/apis/analytics/export: an answer of more is refused with 400. Of what, packed or unpacked
# bytes, the page does not say.
EXPORT_LIMIT = 4_000_000_000
# https://docs.snowflake.com/en/user-guide/data-load-considerations-prepare: so that files load in parallel
GOOD_FILE = (100_000_000, 250_000_000)
# https://docs.snowflake.com/en/user-guide/tasks-triggered: a triggered task runs at most so often, unless it is told
TASK_EVERY = 30  # seconds


@dataclass(frozen=True)
class Volume:
    """A day of a project with so many events, spread over its hours as on the measured day."""

    events: int

    @property
    def json_bytes(self) -> float:
        return self.events * BYTES_PER_EVENT

    @property
    def hourly(self) -> list[float]:
        """Bytes of JSON by UTC hour."""
        return [self.json_bytes * share / sum(HOURLY) for share in HOURLY]

    @property
    def sizes(self) -> dict[datetime, int]:
        """Packed bytes by hour: what plan and extract reckon with."""
        return {MIDNIGHT + number * HOUR: round(size / GZIP_RATIO) for number, size in enumerate(self.hourly)}

    @property
    def requests(self) -> int:
        """For one day, by the product's own plan."""
        return len(plan_windows(self.sizes, self.sizes))

    @property
    def runs(self) -> int:
        """Runs of `amplitude_daily` that one day takes under the default limits."""
        expected = {f"{hour:%H}": size for hour, size in self.sizes.items()}
        left = [PlanLine(hour=format_hour(hour), action="export", reason="missing") for hour in self.sizes]
        runs = 0
        while left:
            taken, _ = within_limits(left, expected, *LIMITS)
            left = [line for line in left if line.hour not in {each.hour for each in taken}]
            runs += 1
        return runs

    @property
    def verdict(self) -> str:
        """Whether the Export API gives the busiest hour in one answer."""
        busiest = max(self.hourly)
        if busiest <= EXPORT_LIMIT:
            return "yes"
        return "only if packed bytes count" if busiest / GZIP_RATIO <= EXPORT_LIMIT else "no"

    @property
    def download(self) -> float:
        """Mbit/s that bring the day within the time for which `extract` asks."""
        return self.json_bytes / GZIP_RATIO * 8 / ASK_FOR / 1e6

    @property
    def disk(self) -> float:
        """Free bytes that the largest request needs, with all its copies (`extract` looks before it downloads)."""
        windows = plan_windows(self.sizes, self.sizes)
        return max(sum(self.sizes[hour] for hour in window.hours()) for window in windows) * COPIES + RESERVE

    @property
    def snowpipe(self) -> float:
        """Credits a day."""
        return self.json_bytes / 1e9 * SNOWPIPE_CREDITS


def tables() -> dict[str, str]:
    """The generated pieces of the page, by name."""
    volumes = [Volume(events) for events in VOLUMES]
    head = ["events a day", *(f"{each.events:,}" for each in volumes)]
    limits = [
        ("JSON a day", [_bytes(each.json_bytes) for each in volumes]),
        ("the same packed: S3, backup and network", [_bytes(each.json_bytes / GZIP_RATIO) for each in volumes]),
        ("busiest hour, JSON / packed", [_pair(max(each.hourly)) for each in volumes]),
        ("mean packed size of an hour", [_bytes(each.json_bytes / GZIP_RATIO / 24) for each in volumes]),
        ("requests a day", [str(each.requests) for each in volumes]),
        (f"the busiest hour in one answer ({_bytes(EXPORT_LIMIT)})?", [each.verdict for each in volumes]),
        ("runs a day by `MAX_BYTES_PER_RUN` as it is", [str(each.runs) for each in volumes]),
        (f"Mbit/s that bring the day within {ASK_FOR // 3600} h", [_number(each.download) for each in volumes]),
        ("free disk for the largest request", [_bytes(each.disk) for each in volumes]),
    ]
    cost = [
        ("Snowpipe", [_number(each.snowpipe) for each in volumes]),
        ("COPY is cheaper when an X-Small loads the day in under", [_minutes(each.snowpipe) for each in volumes]),
        *(
            (f"Snowpipe and {name} awake {span}", [_number(each.snowpipe + rate * hours) for each in volumes])
            for name, span, rate, hours in _awake()
        ),
    ]
    return {"limits": _table(head, limits), "credits": _table(head, cost), "facts": facts()}


FACTS = """\
- **Volume**: {event:,} bytes of JSON an event, spread over the day as measured on a website; {ratio} bytes of JSON to
  one of gzip.
- **Requests**: a window has at most {hours} hours of one UTC day and {window} of expected packed bytes; at most
  {at_once} are asked for at once. A window that is too large (400), late (504) or damaged twice is asked for in halves,
  down to an hour.
- **The Export API** refuses an answer over {limit}. The busiest hour stays below it up to {raw} million events a day,
  or {packed} million if it is the packed bytes that count, which its page does not say. Above that, Amplitude's own S3
  export is the way.
- **Runs**: a run takes at most {run_hours} hours (`MAX_HOURS_PER_RUN`) and {run_bytes} packed (`MAX_BYTES_PER_RUN`),
  and asks for at most {ask} h; the rest is the next run's. Raise the limit, or turn on the trigger `hourly`, which
  takes an hour as it settles.
- **Files**: Amplitude's own parts, unchanged. {small} to {large} packed load best in parallel; smaller ones cost no
  more, since Snowpipe is billed by the GB.
- **Snowpipe or COPY**: Snowpipe costs {snowpipe} credits a GB of JSON. COPY on an X-Small is cheaper when it loads more
  than {even:.1f} GB a minute; a batch below that never is, as each resume is billed for {resume} s. So the pipe loads,
  and COPY repairs.
- **SILVER's tasks** run at most every {task} s while events come: with events all day their warehouse never sleeps.
  Loaded once a day they wake it once."""


def facts() -> str:
    """What the tables are reckoned from."""
    largest = EXPORT_LIMIT / BYTES_PER_EVENT * sum(HOURLY) / max(HOURLY) / 1e6
    return FACTS.format(
        event=BYTES_PER_EVENT,
        ratio=GZIP_RATIO,
        hours=HOURS_PER_REQUEST,
        window=_bytes(BYTES_PER_REQUEST),
        at_once=MAX_REQUESTS,
        limit=_bytes(EXPORT_LIMIT),
        raw=_number(largest),
        packed=_number(largest * GZIP_RATIO),
        run_hours=LIMITS[0],
        run_bytes=_bytes(LIMITS[1]),
        ask=ASK_FOR // 3600,
        small=_bytes(GOOD_FILE[0]),
        large=_bytes(GOOD_FILE[1]),
        snowpipe=SNOWPIPE_CREDITS,
        even=1 / (SNOWPIPE_CREDITS * 60),
        resume=RESUME,
        task=TASK_EVERY,
    )


def _awake() -> list[tuple[str, str, int, float]]:
    return [
        ("an X-Small", f"for {RESUME} s, the least", WAREHOUSE_CREDITS["X-Small"], RESUME / 3600),
        *((f"a {name}", "for an hour", WAREHOUSE_CREDITS[name], 1) for name in ("Small", "Large")),
        ("an X-Small", "all day", WAREHOUSE_CREDITS["X-Small"], 24),
    ]


def _table(head: list[str], rows: Iterable[tuple[str, list[str]]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *([name, *cells] for name, cells in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pair(size: float) -> str:
    return f"{_bytes(size)} / {_bytes(size / GZIP_RATIO)}"


def _bytes(size: float) -> str:
    """Three figures; GB and the like are powers of ten, as on the bills."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{_number(size / factor)} {unit}"
    return f"{_number(size / 1e3)} kB"


def _number(value: float) -> str:
    """Two figures, or all whole ones."""
    if value >= 10:
        return f"{value:,.0f}"
    return "under 0.001" if value < 0.001 else f"{value:.2g}"


def _minutes(cost: float) -> str:
    """How long an X-Small works for so many credits; a resume is billed for a minute at least."""
    seconds = cost * 3600
    return "never" if seconds < RESUME else f"{_number(seconds / 60)} min"
