"""What the report asks of others: the ledger about its hours, Snowflake about its days. Neither may hold the run up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from scripts.pipeline.errors import PipelineError

T = TypeVar("T")


@dataclass(frozen=True)
class Days:
    """Of marts.daily_engagement by day, and of marts.detecting_website_issues by page, the worst first."""

    engagement: list[dict[str, object]]
    pages: list[dict[str, object]]


class Asked(Generic[T]):
    """A question in a thread of its own: it begins at once, and what hangs ends with the process."""

    def __init__(self, ask: Callable[[], T], seconds: float) -> None:
        self._ask, self._until = ask, time.monotonic() + seconds
        self._answer: T | None = None
        self.why = f"there was no answer within {seconds:.0f} s"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._ask()
        except PipelineError as error:
            self.why = str(error)
        except Exception as error:  # noqa: BLE001 (the report is written all the same)
            self.why = f"it ended with {type(error).__name__}"  # its text may hold anything

    def answer(self) -> T | None:
        """None: there is none, and `why` says why."""
        self._thread.join(max(0.0, self._until - time.monotonic()))
        return self._answer


def of_days(first: str, last: str) -> Days:
    """Days of the reporting time zone, both inclusive."""
    from scripts.pipeline import warehouse  # late: a report without marts need not wait for the connector
    from scripts.pipeline.settings import DbtSettings, SnowflakeSettings, load

    zone = load(DbtSettings).reporting_timezone
    with warehouse.connect(load(SnowflakeSettings)) as session:
        engagement = session.dicts(
            "select engagement_date, visitors, new_visitors, sessions, bounces, bounce_rate, pages_per_session,"
            " bot_sessions from marts.daily_engagement where engagement_date between to_date(?) and to_date(?)"
            " order by engagement_date desc limit 31",
            first,
            last,
        )
        pages = session.dicts(
            "select page_url, count_if(is_repeated_click) as repeated_clicks, count_if(is_page_return) as returns,"
            " count_if(is_loop) as loops, count_if(is_missing_page) as missing, count_if(is_dead_end) as dead_ends,"
            " count(distinct session_key) as sessions from marts.detecting_website_issues"
            " where event_time >= dateadd('day', -1, to_date(?)) and event_time < dateadd('day', 2, to_date(?))"
            " and convert_timezone('UTC', ?, event_time)::date between to_date(?) and to_date(?)"
            " and not is_suspected_bot"
            " and (is_repeated_click or is_page_return or is_loop or is_missing_page or is_dead_end)"
            " group by page_url order by count(*) desc, page_url limit 10",
            first,
            last,
            zone,
            first,
            last,
        )
    return Days(engagement[::-1], pages)
