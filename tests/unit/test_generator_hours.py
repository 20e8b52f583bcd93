"""Hours of the generated traffic: pure, repeatable, of the volume that was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from local.amplitude import generator, hours
from local.amplitude.generator import Traffic

THURSDAY = hours.between(hours.named("2026-09-24T00"), hours.named("2026-09-24T23"))


def test_an_hour_is_the_same_in_every_process() -> None:
    hour = "2026-09-24T13"
    code = f"from local.amplitude.generator import events; print(hash(tuple(events({hour!r}))))"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    again = [subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout]
    generator.events("2026-09-25T02")  # what was asked before must not matter
    probe = f"from local.amplitude.generator import events; events('2026-01-05T01'); {code}"
    again.append(subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, check=True).stdout)
    assert again[0] == again[1]
    assert generator.events(hour) == generator.events(hour)


def test_seed_and_project_change_every_uuid() -> None:
    hour = "2026-09-24T13"
    known = generator.truth(hour)
    assert known == {json.loads(line)["uuid"] for line in generator.events(hour)}
    assert not known & generator.truth(hour, seed=2)
    assert not known & generator.truth(hour, project=7)


def test_a_week_has_the_events_that_were_asked_for() -> None:
    traffic = Traffic(events_per_day=500)
    week = hours.between(hours.named("2026-09-21T00"), hours.named("2026-09-27T23"))
    counts = [sum(len(traffic.lines(hour, part)) for part in range(traffic.parts(hour))) for hour in week]
    assert sum(counts) / 7 == pytest.approx(500, rel=0.1)
    days = [sum(counts[at : at + 24]) for at in range(0, 168, 24)]
    assert min(days[:5]) > max(days[5:]) * 0.9  # quieter at the weekend


def test_no_visit_lasts_into_a_third_hour() -> None:
    """An hour's file looks only one hour back: what came later would be lost."""
    traffic = Traffic(events_per_day=24_000)
    for hour in THURSDAY[12:14]:
        for number in range(traffic.visitors(hour)):
            arrivals = [sent.server_upload for sent in traffic.visit(hour, number)]
            assert max(arrivals, default=0) < (hour + 2 * hours.HOUR).timestamp() * 1000


def test_hours_at_fixed_places_are_empty_or_in_parts() -> None:
    traffic = Traffic()
    assert traffic.parts(hours.named("2026-09-20T05")) == 0
    assert traffic.lines(hours.named("2026-09-20T05"), 0) == []
    assert [traffic.parts(hours.named(f"2026-09-21T{hour}")) for hour in ("12", "13", "14", "15")] == [1, 2, 1, 2]
    thursday = Traffic(events_per_day=240_000)
    assert [thursday.parts(hour) for hour in THURSDAY] == [1] * 24
    assert Traffic(events_per_day=2_400_000).parts(THURSDAY[13]) > 3


def test_copies_for_volume_are_events_of_their_own() -> None:
    traffic = Traffic(events_per_day=240_000)
    events = [json.loads(line) for line in traffic.lines(THURSDAY[22], 0)]
    assert len(events) > 2 * generator.ORIGINALS * 2
    assert len({event["uuid"] for event in events}) == len(events)
    assert len({event["amplitude_id"] for event in events}) > 2 * generator.ORIGINALS
    assert len({event["device_id"] for event in events}) > 2 * generator.ORIGINALS
    sessions = {(event["amplitude_id"], event["session_id"], event["device_id"]) for event in events}
    assert len({session[:2] for session in sessions}) == len(sessions)
