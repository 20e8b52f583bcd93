"""docs/capacity.py: figures by hand from the documented ones, and the two that this repository measures itself."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime

import pytest

from docs.capacity import BYTES_PER_EVENT, GZIP_RATIO, Volume
from local.amplitude.generator import Traffic


def test_traffic_like_the_measured_packs_as_the_model_says() -> None:
    traffic = Traffic(project=100011471, events_per_day=100_000)
    hour = datetime(2026, 9, 24, 13, tzinfo=UTC)
    lines = [line + b"\n" for part in range(traffic.parts(hour)) for line in traffic.lines(hour, part)]
    plain = b"".join(lines)
    assert len(plain) / len(lines) == pytest.approx(BYTES_PER_EVENT, rel=0.05)
    assert len(plain) / len(gzip.compress(plain, 6)) == pytest.approx(GZIP_RATIO, rel=0.05)


def test_a_million_events_a_day() -> None:
    day = Volume(1_000_000)
    assert day.json_bytes == 2_361_000_000
    assert day.snowpipe == pytest.approx(2.361 * 0.0037)
    assert (day.requests, day.runs, day.verdict) == (1, 1, "yes")  # 157 MB packed: one request, one run


def test_a_billion_events_a_day_are_not_for_the_export_api() -> None:
    day = Volume(1_000_000_000)
    assert day.snowpipe == pytest.approx(2361 * 0.0037)
    assert (day.requests, day.runs, day.verdict) == (24, 24, "no")  # 6.6 GB packed an hour: an hour a request and a run


def test_an_hour_over_the_limit_unpacked_may_be_under_it_packed() -> None:
    assert Volume(100_000_000).verdict == "only if packed bytes count"  # 23 GB and 1.5 GB
