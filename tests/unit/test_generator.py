"""The generated traffic has the measured site's shape and every trap that was seen in it.

Expected figures are those of the measured day (a share of 0.15 on its 170 lines has a standard error of 0.03) or the
rates that the generator declares; none was read from the generator's own output.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import mean, median, quantiles
from typing import Any

import pytest

from local.amplitude import hours
from local.amplitude.generator import Traffic

Event = dict[str, Any]
THURSDAY = hours.between(hours.named("2026-09-24T00"), hours.named("2026-09-24T23"))
VIEW, CLICK = "[Amplitude] Page Viewed", "[Amplitude] Element Clicked"


@pytest.fixture(scope="module")
def files() -> list[list[bytes]]:
    """The 24 files of a busy Thursday."""
    traffic = Traffic(events_per_day=9000)
    return [traffic.lines(hour, 0) for hour in THURSDAY]


@pytest.fixture(scope="module")
def day(files: list[list[bytes]]) -> list[Event]:
    return [json.loads(line) for lines in files for line in lines]


@pytest.fixture(scope="module")
def sessions(day: list[Event]) -> dict[tuple[int, int], list[Event]]:
    """Events of each session in their order of event_id; server-side ones left out."""
    found: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in sorted(day, key=lambda event: event["event_id"]):
        if event["library"].startswith("amplitude-ts"):
            found[event["amplitude_id"], event["session_id"]].append(event)
    return found


def ms(event: Event, clock: str) -> int:
    return round(datetime.fromisoformat(event[clock]).replace(tzinfo=UTC).timestamp() * 1000)


def of(events: list[Event], event_type: str) -> list[Event]:
    return [event for event in events if event["event_type"] == event_type]


def share(events: list[Event], has: Any) -> float:
    return sum(map(has, events)) / len(events)


def test_hours_have_the_measured_rhythm(files: list[list[bytes]]) -> None:
    order = sorted(range(24), key=lambda hour: -len(files[hour]))
    assert {13, 15} <= set(order[:4])
    assert {1, 22} <= set(order[-5:])


@pytest.mark.parametrize(
    ("event_type", "low", "high", "size"),
    [
        (VIEW, 0.40, 0.45, 2418),
        ("session_start", 0.33, 0.43, 1881),
        (CLICK, 0.06, 0.16, 3495),
        ("session_end", 0.04, 0.075, 2054),
        ("video_started", 0.001, 0.012, None),
        ("[Amplitude] Replay Captured", 0.002, 0.01, None),
    ],
)
def test_event_types_have_their_share_and_size(
    day: list[Event], files: list[list[bytes]], event_type: str, low: float, high: float, size: int | None
) -> None:
    lines = [line for hour in files for line in hour if f'"event_type":"{event_type}"'.encode() in line]
    assert low < len(lines) / len(day) < high
    if size:
        assert mean(map(len, lines)) == pytest.approx(size, rel=0.06)


def test_the_average_line_is_as_long_as_a_real_one(files: list[list[bytes]]) -> None:
    assert mean(len(line) for lines in files for line in lines) == pytest.approx(2361, rel=0.05)


def test_each_file_holds_its_hour_of_server_upload_time_and_each_uuid_once(files: list[list[bytes]]) -> None:
    uuids: set[str] = set()
    for hour, lines in zip(THURSDAY, files, strict=True):
        events = [json.loads(line) for line in lines]
        assert {event["server_upload_time"][:13] for event in events} == {f"{hour:%Y-%m-%d %H}"}
        uuids |= {event["uuid"] for event in events}
    assert len(uuids) == sum(map(len, files))


def test_lines_are_sorted_runs_one_after_the_other(files: list[list[bytes]]) -> None:
    for lines in files:
        times = [json.loads(line)["server_upload_time"] for line in lines]
        assert 1 <= sum(later < earlier for earlier, later in pairwise(times)) <= 6
    first = [json.loads(line)["amplitude_id"] for line in files[13]][: len(files[13]) // 50]
    assert max(first) < median(json.loads(line)["amplitude_id"] for line in files[13])  # returning users come first


def test_clocks_follow_the_way_of_an_event(day: list[Event]) -> None:
    browser = [
        event for event in day if event["library"] == "amplitude-ts/2.16.1" and event["event_type"] != "session_end"
    ]
    delays = [ms(event, "server_upload_time") - ms(event, "event_time") for event in browser]
    assert 1500 < median(delays) < 2100
    assert 2300 < quantiles(delays, n=20)[-1] < 4000
    assert all(2 <= ms(event, "server_upload_time") - ms(event, "client_upload_time") <= 28 for event in day)
    assert all(90 <= ms(event, "processed_time") - ms(event, "server_upload_time") <= 9800 for event in day)
    assert all(event["server_received_time"] == event["client_upload_time"] for event in day)
    assert 0.03 < share(day, lambda event: event["event_time"][:13] != event["server_upload_time"][:13]) < 0.09


def test_uploads_carry_one_to_five_events(day: list[Event]) -> None:
    sizes = Counter(Counter((event["device_id"], event["client_upload_time"]) for event in day).values())
    assert set(sizes) <= {1, 2, 3, 4, 5}
    assert sizes[2] > sizes[3]


def test_most_sessions_are_two_events_within_a_second(sessions: dict[tuple[int, int], list[Event]]) -> None:
    whole = [events for events in sessions.values() if events[0]["event_type"] == "session_start"]
    assert 0.6 < sum(len(events) == 2 for events in whole) / len(whole) < 0.9
    long = [events for events in whole if len(events) >= 15]
    assert 0.005 < len(long) / len(whole) < 0.03
    assert all(events[0]["session_id"] == ms(events[0], "client_event_time") for events in whole)


def test_trap_01_replay_captured_restarts_at_event_0_inside_a_session(
    day: list[Event], sessions: dict[tuple[int, int], list[Event]]
) -> None:
    captured = of(day, "[Amplitude] Replay Captured")
    assert captured
    for event in captured:
        assert (event["event_id"], event["location_lat"], event["location_lng"]) == (0, 0.0, 0.0)
        assert event["data"]["path"] == "/batch"
        assert 51_000 <= ms(event, "server_upload_time") - ms(event, "event_time") <= 51_100
    assert sum((event["amplitude_id"], event["session_id"]) in sessions for event in captured) > len(captured) * 0.8


def test_trap_02_session_end_comes_with_the_next_visit_for_a_session_that_was_exported(day: list[Event]) -> None:
    ends = of(day, "session_end")
    ages = sorted(ms(event, "server_upload_time") - ms(event, "event_time") for event in ends)
    assert ages[0] > 30 * 60_000
    assert timedelta(days=100) < timedelta(milliseconds=ages[-1]) < timedelta(days=242)
    starts = {(event["device_id"], event["client_upload_time"]) for event in of(day, "session_start")}
    assert all((event["device_id"], event["client_upload_time"]) in starts for event in ends)
    old = [event for event in ends if ms(event, "server_upload_time") - event["session_id"] > 10 * 3_600_000][:5]
    traffic, found = Traffic(events_per_day=9000), 0
    for end in old:
        hour = datetime.fromtimestamp(end["session_id"] / 1000, UTC).replace(minute=0, second=0, microsecond=0)
        lines = [*traffic.lines(hour, 0), *traffic.lines(hour + hours.HOUR, 0)] if traffic.parts(hour) else []
        session = [
            event
            for event in map(json.loads, lines)
            if (event["amplitude_id"], event["session_id"]) == (end["amplitude_id"], end["session_id"])
            and event["library"] == end["library"]
        ]
        if session:
            found += 1
            assert ms(end, "event_time") == max(ms(event, "event_time") for event in session) + 1
            assert end["event_id"] > max(event["event_id"] for event in session)
            assert {event["device_id"] for event in session} == {end["device_id"]}
    assert found >= 4


def test_trap_03_event_ids_have_gaps_of_identify_calls(sessions: dict[tuple[int, int], list[Event]]) -> None:
    starts = [events[0] for events in sessions.values() if events[0]["event_type"] == "session_start"]
    assert 0.2 < share(starts, lambda event: event["event_id"] == 0) < 0.3
    assert 0.55 < share(starts, lambda event: event["event_id"] == 1) < 0.7
    for event in starts:
        if event["event_id"] == 0:
            assert event["user_properties"] == {}
            assert event["data"]["user_properties_updated"] is True


def test_trap_04_a_view_comes_before_the_click_that_caused_it(sessions: dict[tuple[int, int], list[Event]]) -> None:
    early = 0
    for events in sessions.values():
        for view, click in pairwise(events):
            gap = ms(click, "event_time") - ms(view, "event_time")
            if (view["event_type"], click["event_type"]) == (VIEW, CLICK) and 17 <= gap <= 68:
                early += 1
                here, there = click["event_properties"], view["event_properties"]
                if "#" not in there["[Amplitude] Page URL"] and there["[Amplitude] Page Counter"] > 1:
                    assert here["[Amplitude] Element Href"] == there["[Amplitude] Page URL"]
                    assert here["[Amplitude] Page Title"] != "" != there["[Amplitude] Page Title"]
    assert early > 20


def test_trap_05_ghost_views(sessions: dict[tuple[int, int], list[Event]]) -> None:
    ghosts = [
        (first, second)
        for events in sessions.values()
        for first, second in pairwise(of(events, VIEW))
        if second["event_properties"]["[Amplitude] Page URL"] == f"{first['event_properties']['[Amplitude] Page URL']}#"
    ]
    assert ghosts
    for first, second in ghosts:
        assert ms(second, "event_time") - ms(first, "event_time") == 30
        counters = [event["event_properties"]["[Amplitude] Page Counter"] for event in (first, second)]
        assert counters[1] == counters[0] + 1


def test_trap_06_a_tab_left_open_starts_a_session_with_a_click(sessions: dict[tuple[int, int], list[Event]]) -> None:
    types = Counter(tuple(event["event_type"] for event in events[:2]) for events in sessions.values())
    assert 0.005 < types["session_start", CLICK] / types["session_start", VIEW] < 0.04


def test_trap_07_a_reload_is_a_second_view_of_the_page(sessions: dict[tuple[int, int], list[Event]]) -> None:
    gaps = [
        ms(second, "event_time") - ms(first, "event_time")
        for events in sessions.values()
        for first, second in pairwise(events)
        if first["event_type"] == second["event_type"] == VIEW
        and first["event_properties"]["[Amplitude] Page URL"] == second["event_properties"]["[Amplitude] Page URL"]
    ]
    assert max(gaps) > 1_000_000
    assert max(gaps) < 1_800_000


def test_trap_08_quick_pairs_of_clicks_that_are_no_rage(sessions: dict[tuple[int, int], list[Event]]) -> None:
    gaps = Counter(
        ms(second, "event_time") - ms(first, "event_time")
        for events in sessions.values()
        for first, second in pairwise(events)
        if first["event_type"] == second["event_type"] == CLICK
    )
    assert gaps[61]
    assert gaps[768]


def test_trap_09_the_consent_banner_tops_the_clicks(day: list[Event]) -> None:
    consent = [
        event["event_properties"]
        for event in of(day, CLICK)
        if "[Amplitude] Element Parent Label" not in event["event_properties"]
    ]
    assert 0.2 < len(consent) / len(of(day, CLICK)) < 0.55
    for properties in consent:
        assert properties["[Amplitude] Element Position Left"] == properties["[Amplitude] Element Position Top"] == 0
        assert "index" not in properties["[Amplitude] Element Hierarchy"][-1]


def test_trap_10_an_address_can_change_inside_a_session(sessions: dict[tuple[int, int], list[Event]]) -> None:
    assert any(len({event["ip_address"] for event in events}) > 1 for events in sessions.values())
    people = {event["amplitude_id"]: event for events in sessions.values() for event in events}.values()
    assert share(list(people), lambda event: event["city"] is None) == pytest.approx(0.19, abs=0.06)
    assert share(list(people), lambda event: event["region"] is None) == pytest.approx(0.32, abs=0.08)
    assert share(list(people), lambda event: event["dma"] is not None) == pytest.approx(0.22, abs=0.06)
    assert any(event["city"] == event["country"] for event in people)


def test_trap_11_os_name_is_the_browser(day: list[Event]) -> None:
    browser = [event for event in day if event["os_name"]]
    assert Counter(event["os_name"] for event in browser).most_common(1)[0][0] == "Chrome"
    assert all(event["os_version"].isdigit() for event in browser)
    assert share(browser, lambda event: event["device_family"] == "Windows") == pytest.approx(0.72, abs=0.07)


def test_trap_12_a_page_that_is_gone_is_a_view(day: list[Event]) -> None:
    assert any(event["event_properties"]["[Amplitude] Page Title"].startswith("404") for event in of(day, VIEW))


def test_trap_13_only_the_location_carries_the_query(day: list[Event]) -> None:
    tagged = [event["event_properties"] for event in of(day, VIEW) if "utm_source" in event["event_properties"]]
    assert 0.003 < len(tagged) / len(of(day, VIEW)) < 0.03
    for properties in tagged:
        assert properties["[Amplitude] Page Location"].endswith("?utm_source=chatgpt.com")
        assert "?" not in properties["[Amplitude] Page URL"]


def test_trap_14_personal_data_hides_in_properties(day: list[Event]) -> None:
    replayed = [event for event in day if "[Amplitude] Session Replay ID" in event["event_properties"]]
    assert replayed
    for event in replayed:
        replay = event["event_properties"]["[Amplitude] Session Replay ID"]
        assert replay == f"{event['device_id']}/{event['session_id']}"
    texts = [event["event_properties"].get("[Amplitude] Element Text", "") for event in of(day, CLICK)]
    assert any("@" in text for text in texts)
    assert any(text.startswith("window.") and len(text) > 200 for text in texts)
    assert 0.003 < share(day, lambda event: event["user_id"] is not None) < 0.02
    assert all("@" in event["user_id"] for event in day if event["user_id"])


def test_trap_15_non_ascii_is_escaped_in_upper_case(files: list[list[bytes]]) -> None:
    lines = [line for hour in files for line in hour]
    escapes = Counter(escape for line in lines for escape in re.findall(rb"\\u[0-9A-Fa-f]{4}", line))
    assert {b"\\u00F1", b"\\u2019", b"\\u2013", b"\\u00A3"} <= set(escapes)
    assert all(escape == b"\\u" + escape[2:].upper() for escape in escapes)
    assert 0.01 < sum(rb"\u" in line for line in lines) / len(lines) < 0.1
    assert any(re.search(rb'Element Class":"[^"]*\\n {20,24}', line) for line in lines)


def test_a_fifth_of_the_visitors_are_bots_with_an_old_chrome(sessions: dict[tuple[int, int], list[Event]]) -> None:
    old = [
        events for events in sessions.values() if events[0]["os_version"] in {"104", "107", "108", "109", "112", "131"}
    ]
    assert 0.1 < len(old) / len(sessions) < 0.22
    for events in old:
        assert len(events) <= 2
        assert {event["language"] for event in events} == {"English"}


def test_user_properties_come_in_the_measured_variants(day: list[Event]) -> None:
    sizes = Counter(len(event["user_properties"]) for event in day)
    assert set(sizes) == {0, 19, 21, 22}
    assert sizes[0] / len(day) == pytest.approx(0.18, abs=0.05)
    assert sizes[21] / len(day) == pytest.approx(0.47, abs=0.12)
    orders = {tuple(event["user_properties"])[:19] for event in day if event["user_properties"]}
    assert len(orders) == 2


def test_declared_oddities_are_there(day: list[Event], sessions: dict[tuple[int, int], list[Event]]) -> None:
    outside = [event for event in day if event["session_id"] == -1]
    assert outside
    assert all(event["$insert_id"] is None for event in outside)
    assert any("merged_amplitude_id" in event["data"] for event in day)
    future = [event for event in day if ms(event, "event_time") > ms(event, "processed_time")]
    assert 0 < len(future) / len(day) < 0.01
    late = [event for event in of(day, VIEW) if ms(event, "server_upload_time") - ms(event, "event_time") > 3_600_000]
    assert 0.001 < len(late) / len(of(day, VIEW)) < 0.03
    assert any(count > 1 for count in Counter(session for _, session in sessions).values())  # twins
    addresses = defaultdict(set)
    for event in day:
        if event["ip_address"]:
            addresses[event["ip_address"]].add(event["amplitude_id"])
    assert sum(len(users) > 3 for users in addresses.values()) >= 6  # offices and shared providers


def test_a_repeated_insert_id_has_another_uuid_and_is_older_than_seven_days(day: list[Event]) -> None:
    """Amplitude drops repeats of device and `$insert_id` within 7 days only."""
    traffic = Traffic(events_per_day=9000)
    old = [
        event
        for event in of(day, VIEW)
        if ms(event, "server_upload_time") - ms(event, "event_time") > 7 * 24 * 3_600_000 and event["event_id"] < 3
    ]
    repeats = 0
    for event in old[:6]:
        hour = datetime.fromisoformat(f"{event['event_time'][:13]}:00:00Z")
        lines = [json.loads(line) for part in range(traffic.parts(hour)) for line in traffic.lines(hour, part)]
        first = [other for other in lines if other["$insert_id"] == event["$insert_id"]]
        repeats += len(first)
        assert all(other["uuid"] != event["uuid"] and other["device_id"] == event["device_id"] for other in first)
    assert repeats >= 2


def test_a_session_can_cross_an_hour(files: list[list[bytes]]) -> None:
    seen = [
        {(event["amplitude_id"], event["session_id"]) for event in map(json.loads, lines) if event["session_id"] > 0}
        for lines in files
    ]
    assert sum(bool(earlier & later) for earlier, later in pairwise(seen)) > 5
