"""The marts' values from the events alone, written from the definitions in dbt's docs, one event after the other.

Nothing here looks at the SQL. Times are datetimes in UTC; a session is named by (amplitude_id, session_id).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

VIEW, CLICK = "[Amplitude] Page Viewed", "[Amplitude] Element Clicked"
GHOST, CAUSE, REPEATED = timedelta(milliseconds=500), timedelta(milliseconds=100), timedelta(seconds=1)
FREE_MAIL = {"gmail.com"}
Session = tuple[int, int]


@dataclass
class Event:
    """One event: as exported, and as a visitor's step."""

    raw: dict[str, Any]
    time: datetime
    repeat: bool = False  # delivered again under another uuid
    ghost: bool = False
    cause: Event | None = None  # of a view: the later click that caused it
    kind: str | None = None  # of a click: consent, media

    def __getattr__(self, name: str) -> Any:
        return self.raw.get(name)

    def own(self, name: str) -> Any:
        return self.raw["event_properties"].get(name)

    @property
    def session(self) -> Session | None:
        outside = self.session_id is None or self.session_id < 0 or self.amplitude_id is None
        return None if outside else (self.amplitude_id, self.session_id)

    @property
    def page(self) -> str | None:
        url = self.own("[Amplitude] Page URL")
        return url.split("?")[0].split("#")[0] or None if url else None

    @property
    def is_view(self) -> bool:
        return self.event_type == VIEW

    @property
    def is_page_view(self) -> bool:
        return self.is_view and not self.ghost

    @property
    def is_click(self) -> bool:
        return self.event_type == CLICK

    @property
    def is_action(self) -> bool:
        automatic = {f"[Amplitude] {name}" for name in ("Replay Captured", "Network Request", "Web Vitals")}
        passive = {"session_start", "session_end", "video_loaded", VIEW} | automatic
        return self.event_type not in passive and self.kind != "consent"

    @property
    def element(self) -> tuple[Any, ...]:
        names = ("Tag", "ID", "Class", "Href", "Text")
        values = [self.own(f"[Amplitude] Element {name}") for name in names]
        values[2] = " ".join(values[2].split()) if values[2] else values[2]
        return (self.page, *values)


@dataclass
class Visit:
    """One session: its events in the order in which the visitor saw them."""

    key: Session
    steps: list[Event] = field(default_factory=list)
    by_time: list[Event] = field(default_factory=list)

    @property
    def page_views(self) -> list[Event]:
        return [event for event in self.steps if event.is_page_view]

    @property
    def clicks(self) -> list[Event]:
        return [event for event in self.steps if event.is_click and event.kind != "consent"]

    @property
    def actions(self) -> list[Event]:
        return [event for event in self.steps if event.is_action]

    @property
    def started(self) -> datetime:
        return min(event.time for event in self.steps)

    @property
    def ended(self) -> datetime:
        return max(event.time for event in self.steps)

    @property
    def is_bounce(self) -> bool:
        return len(self.page_views) <= 1 and not self.actions

    @property
    def is_bot(self) -> bool:
        own = [event for event in self.steps if event.event_type != "session_end"]
        old = any(
            (event.os_name == "Chrome" and int(event.os_version) <= 139)
            or (event.os_name == "Edge" and int(event.os_version) <= 139)
            for event in own or self.steps
            if event.os_version
        )
        referred = any(event.own("referring_domain") not in (None, "EMPTY") for event in self.steps)
        times = [event.time for event in own]
        quick = not times or max(times) - min(times) <= timedelta(milliseconds=400)
        return old and not referred and len(own) <= 2 and quick

    def said(self, name: str) -> Any:
        """What its events say of the visitor's device; session_end is of the next visit's."""
        own = {event.raw[name] for event in self.steps if event.event_type != "session_end"} - {None}
        (value,) = own or {event.raw[name] for event in self.steps}
        return value

    def count(self, event_type: str) -> int:
        return sum(event.event_type == event_type for event in self.steps)


class Truth:
    """What the marts must say about rows of the landing table, given in the order of their load."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.events: dict[str, Event] = {}
        delivered = set()
        for raw in rows:
            if raw["uuid"] in self.events:
                continue
            event = Event(raw, _time(raw["event_time"]))
            if raw["device_id"] and raw["$insert_id"]:
                event.repeat = (raw["device_id"], raw["$insert_id"]) in delivered
                delivered.add((raw["device_id"], raw["$insert_id"]))
            event.kind = _kind(event)
            self.events[raw["uuid"]] = event
        by_session = defaultdict(list)
        for event in self.events.values():
            if event.session and not event.repeat:
                by_session[event.session].append(event)
        self.visits = {key: _ordered(key, events) for key, events in by_session.items()}

    def journeys(self) -> Iterator[dict[str, Any]]:
        for visit in self.visits.values():
            counter = title = page = None
            seen, views, before = 0, visit.page_views, None
            steps = [event for event in visit.steps if not event.ghost]
            for number, event in enumerate(steps, start=1):
                seen += event.is_page_view
                counter = _or(event.own("[Amplitude] Page Counter"), counter)
                title = _or(event.own("[Amplitude] Page Title"), title)
                page = _or(event.page, page)
                waited = None if before is None else max((event.time - before.time).total_seconds(), 0)
                yield {
                    "uuid": event.uuid,
                    "amplitude_id": event.amplitude_id,
                    "session_id": event.session_id,
                    "step_number": number,
                    "event_id": event.event_id,
                    "event_type": event.event_type,
                    "event_time": event.time,
                    "page_counter": counter,
                    "page_title": title,
                    "page_url": page,
                    "is_page_view": event.is_page_view,
                    "path_position": seen,
                    "path_depth": len(views),
                    "is_entry": bool(views) and event is views[0],
                    "is_exit": bool(views) and event is views[-1],
                    "seconds_since_previous_step": waited,
                }
                before = event

    def issues(self) -> Iterator[dict[str, Any]]:
        for event in self.events.values():
            if not event.session and not event.repeat:
                yield {**_told(event), **_no_signs(), "element_kind": None, "is_suspected_bot": False}
        for visit in self.visits.values():
            yield from _issues(visit)

    def sessions(self) -> Iterator[dict[str, Any]]:
        numbers: dict[int, int] = defaultdict(int)
        known = {event.amplitude_id for event in self.events.values() if event.user_id}
        for visit in sorted(self.visits.values(), key=lambda one: (one.key[0], one.started, one.key[1])):
            numbers[visit.key[0]] += 1
            views = visit.page_views
            yield {
                "amplitude_id": visit.key[0],
                "session_id": visit.key[1],
                "session_number": numbers[visit.key[0]],
                "is_first_session": numbers[visit.key[0]] == 1,
                "is_identified": visit.key[0] in known,
                "started_at": visit.started,
                "ended_at": visit.ended,
                "duration_seconds": (visit.ended - visit.started).total_seconds(),
                "events": len(visit.steps),
                "page_views": len(views),
                "clicks": len(visit.clicks),
                "actions": len(visit.actions),
                "videos_loaded": visit.count("video_loaded"),
                "videos_started": visit.count("video_started"),
                "videos_paused": visit.count("video_paused"),
                "videos_finished": visit.count("video_finished"),
                "entry_page_url": views[0].page if views else None,
                "exit_page_url": views[-1].page if views else None,
                "referring_domain": _or(views[0].own("referring_domain"), "EMPTY").replace("EMPTY", "") or None
                if views
                else None,
                "browser": visit.said("os_name"),
                "browser_version": int(visit.said("os_version")),
                "operating_system": visit.said("device_family"),
                "device_type": visit.said("device_type"),
                "language": visit.said("language"),
                "has_session_end": visit.count("session_end") > 0,
                "is_bounce": visit.is_bounce,
                "is_suspected_bot": visit.is_bot,
            }

    def engagement(self, zone: str) -> Iterator[dict[str, Any]]:
        days: dict[date, list[Visit]] = defaultdict(list)
        firsts: dict[int, date] = {}
        for visit in self.visits.values():
            day = visit.started.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone)).date()
            if [event.event_type for event in visit.steps] != ["session_end"]:
                days[day].append(visit)
            if not visit.is_bot:
                firsts[visit.key[0]] = min(firsts.get(visit.key[0], day), day)
        for day, visits in days.items():
            people = [visit for visit in visits if not visit.is_bot]
            visitors = {visit.key[0] for visit in people}
            new = {visitor for visitor in visitors if firsts[visitor] == day}
            bounces, views = sum(visit.is_bounce for visit in people), sum(len(visit.page_views) for visit in people)
            yield {
                "engagement_date": day,
                "visitors": len(visitors),
                "new_visitors": len(new),
                "returning_visitors": len(visitors - new),
                "sessions": len(people),
                "bot_sessions": len(visits) - len(people),
                "bounces": bounces,
                "bounce_rate": bounces / len(people) if people else None,
                "page_views": views,
                "pages_per_session": views / len(people) if people else None,
                **{
                    f"sessions_{name}": sum(visit.count(name) > 0 for visit in people)
                    for name in ("video_loaded", "video_started", "video_paused", "video_finished")
                },
            }

    def companies(self) -> dict[int, tuple[str | None, str]]:
        """amplitude_id → (company, or None for an unknown one; confidence)."""
        sessions = defaultdict(list)
        for visit in self.visits.values():
            sessions[visit.key[0]].append(visit.is_bot)
        bots = {person for person, flags in sessions.items() if all(flags)}
        newest: dict[int, tuple[datetime, str]] = {}
        networks: dict[str, set[int]] = defaultdict(set)
        for event in self.events.values():
            if event.amplitude_id is None or event.amplitude_id in bots:
                continue
            if event.user_id:
                found = (event.time, event.user_id)
                newest[event.amplitude_id] = max(newest.get(event.amplitude_id, found), found)
            if event.ip_address:
                networks[_network(event.ip_address)].add(event.amplitude_id)
        domains = {person: text.split("@")[1].lower() for person, (_, text) in newest.items() if "@" in text}
        domains = {person: domain for person, domain in domains.items() if domain not in FREE_MAIL}
        best: dict[int, tuple[int, int, str | None, str]] = {}
        for people in networks.values():
            companies = {domains[person] for person in people if person in domains}
            if 3 <= len(people) <= 50 and len(companies) <= 1:
                rank, name = (2, "medium") if companies else (3, "low")
                for person in people:
                    found = (rank, -len(people), next(iter(companies), None), name)
                    best[person] = min(best.get(person, found), found, key=lambda one: one[:2])
        best |= {person: (1, 0, domain, "high") for person, domain in domains.items()}
        return {person: (company, confidence) for person, (_, _, company, confidence) in best.items()}

    def properties(self) -> Iterator[dict[str, Any]]:
        types: dict[str, int] = defaultdict(int)
        found: dict[tuple[str, str, str], list[datetime]] = defaultdict(list)
        for event in self.events.values():
            types[event.event_type] += 1
            for name, value in event.event_properties.items():
                found[event.event_type, name, _kind_of(value)].append(_time(event.server_upload_time))
        for (event_type, name, kind), times in found.items():
            yield {
                "event_type": event_type,
                "property": name,
                "value_kind": kind,
                "events": len(times),
                "event_type_events": types[event_type],
                "share": len(times) / types[event_type],
                "first_seen_at": min(times),
                "last_seen_at": max(times),
            }


def _ordered(key: Session, events: list[Event]) -> Visit:
    visit = Visit(key, by_time=sorted(events, key=lambda one: (one.time, one.event_id, one.uuid)))
    view_before: Event | None = None  # the last one, ghosts too
    page_views: list[Event] = []
    for event in visit.by_time:
        if event.is_view:
            same = view_before is not None and event.page is not None and event.page == view_before.page
            event.ghost = same and event.time - view_before.time <= GHOST
            view_before = event
            if not event.ghost:
                page_views.append(event)
        if event.is_click and page_views and _caused(event, page_views):
            visit.steps.insert(visit.steps.index(page_views[-1]), event)
            page_views[-1].cause = event if event.time > page_views[-1].time else None
        else:
            visit.steps.append(event)
    return visit


def _caused(click: Event, page_views: list[Event]) -> bool:
    view = page_views[-1]
    left = page_views[-2].page if len(page_views) > 1 else click.page
    return click.time - view.time <= CAUSE and click.page is not None and click.page != view.page and click.page == left


def _told(event: Event) -> dict[str, Any]:
    tag, element_id, element_class = event.element[1:4]
    return {
        "uuid": event.uuid,
        "amplitude_id": event.amplitude_id,
        "event_type": event.event_type,
        "event_time": event.time,
        "page_url": event.page,
        "page_title": event.own("[Amplitude] Page Title"),
        "element_tag": tag,
        "element_id": element_id,
        "element_class": element_class,
    }


def _no_signs() -> dict[str, Any]:
    return {
        "repeat_click_flag": "N",
        "clicks_in_run": 0,
        "is_repeated_click": False,
        "page_return_number": 0,
        "is_page_return": False,
        "is_loop": False,
        "is_missing_page": False,
        "is_dead_end": False,
    }


def _issues(visit: Visit) -> Iterator[dict[str, Any]]:
    signs = {event.uuid: _no_signs() for event in visit.steps}
    repeated = {
        after.event_id
        for before, after in pairwise(visit.by_time)
        if before.event_id == after.event_id and before.time != after.time
    }
    for event in visit.steps:
        signs[event.uuid]["repeat_click_flag"] = "Y" if event.event_id in repeated else "N"
        title = event.own("[Amplitude] Page Title") or ""
        if event.cause:
            told = event.cause.own("[Amplitude] Page Title") or ""
            title = "" if told == title else told
        signs[event.uuid]["is_missing_page"] = event.is_page_view and title.startswith("404")
    if not visit.is_bot:
        for run in _click_runs(visit):
            for event in run:
                signs[event.uuid] |= {"clicks_in_run": len(run), "is_repeated_click": len(run) >= 3}
        pages: list[str | None] = []
        for event in visit.page_views:
            if event.page is None or (pages and pages[-1] == event.page):
                continue
            returns = pages.count(event.page)
            loop = len(pages) > 1 and pages[-2] == event.page
            pages.append(event.page)
            signs[event.uuid] |= {"page_return_number": returns, "is_page_return": returns >= 2, "is_loop": loop}
        _dead_end(visit, signs)
    for event in visit.steps:
        yield {**_told(event), **signs[event.uuid], "element_kind": event.kind, "is_suspected_bot": visit.is_bot}


def _click_runs(visit: Visit) -> list[list[Event]]:
    open_runs: dict[Any, list[Event]] = {}
    runs = []
    for event in visit.by_time:
        if not event.is_click or event.kind:
            continue
        run = open_runs.get(event.element)
        if run and event.time - run[-1].time <= REPEATED:
            run.append(event)
        else:
            open_runs[event.element] = [event]
            runs.append(open_runs[event.element])
    return runs


def _dead_end(visit: Visit, signs: dict[str, dict[str, Any]]) -> None:
    if not visit.page_views:
        return
    view = visit.page_views[-1]
    told = [event for event in visit.steps if event.event_type not in ("session_end", "[Amplitude] Replay Captured")]
    tried = told[-1].is_click and not told[-1].kind and visit.steps.index(told[-1]) > visit.steps.index(view)
    signs[view.uuid]["is_dead_end"] = tried or signs[view.uuid]["is_missing_page"]


def _kind(event: Event) -> str | None:
    """Of the seed's patterns those that the generated site's elements meet, and the rule for the consent banner."""
    if not event.is_click:
        return None
    text = str(event.own("[Amplitude] Element ID") or "").lower()
    label = event.own("[Amplitude] Element Parent Label")
    if (label or "").lower().startswith("video player") or "player" in text or "progress-bar" in text:
        return "media"
    place = [event.own(f"[Amplitude] Element Position {side}") for side in ("Left", "Top")]
    return "consent" if label is None and place == [0, 0] else None


def _network(address: str) -> str:
    parsed = ip_address(address)
    whole = not isinstance(parsed, IPv6Address) or parsed.ipv4_mapped
    return str(parsed) if whole else str(ip_network((address, 64), strict=False))


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    kinds = {str: "text", int: "number", float: "number", dict: "object", list: "array"}
    return kinds[type(value)]


def _time(text: str) -> datetime:
    """As the warehouse keeps it: UTC, without a zone."""
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time


def _or(value: Any, other: Any) -> Any:
    return other if value is None else value
