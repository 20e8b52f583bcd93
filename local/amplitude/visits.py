"""What one visitor does: the events of a visit in the order in which the browser made them.

Shares and gaps are the measured ones of a real site unless a comment says "declared": those were not in the sample,
but the export has them, and a pipeline must live with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, NamedTuple

from local.amplitude import people, website
from local.amplitude.people import Person
from local.amplitude.website import Page, Target

VIEW, CLICK, START, END = "[Amplitude] Page Viewed", "[Amplitude] Element Clicked", "session_start", "session_end"
REPLAY = "[Amplitude] Replay Captured"
VIDEO = "https://video.learning-school.example/watch?v=a1&t=1234"
HOUR_MS = 3_600_000


class Moment(NamedTuple):
    """One event as the client made it; `at` is its clock in epoch milliseconds."""

    at: int
    event_type: str
    properties: dict[str, Any]
    event_id: int
    session_id: int
    person: Person
    user_properties: dict[str, str]
    updated: bool = False  # data.user_properties_updated


@dataclass
class Visit:
    person: Person
    moments: list[Moment]
    viewport: tuple[int, int] = (887, 1280)
    replayed: bool = False  # session replay is on


@dataclass
class _Walk:
    """A visit being made: the clock, the counters and the page on the screen."""

    rng: Random
    person: Person
    clock: int
    event_id: int
    user_properties: dict[str, str]
    updated: bool = False
    session_id: int = 0
    page: Page = website.HOME
    page_counter: int = 0
    replayed: bool = False
    viewport: tuple[int, int] = (887, 1280)
    moments: list[Moment] = field(default_factory=list)

    def add(self, event_type: str, properties: dict[str, Any], at: int | None = None) -> None:
        if self.replayed and event_type in {START, VIEW}:
            properties = properties | {"[Amplitude] Session Replay ID": replay_id(self.person, self.session_id)}
        at = self.clock if at is None else at
        self.moments.append(
            Moment(
                at,
                event_type,
                properties,
                self.event_id,
                self.session_id,
                self.person,
                self.user_properties,
                self.updated,
            )
        )
        self.event_id += 1

    def start(self) -> None:
        self.session_id, self.page_counter = self.clock, 0
        self.add(START, {})

    def end_of_previous(self, last: Moment) -> None:
        """The client ends a session only when the next one starts: 1 ms after its last event, uploaded now."""
        properties = self.user_properties
        self.moments.append(Moment(last.at + 1, END, {}, self.event_id, last.session_id, self.person, properties))
        self.event_id += 1

    def view(self, page: Page, title: str | None = None, referrer: str | None = None, at: int | None = None) -> None:
        self.page, self.page_counter = page, self.page_counter + 1
        location = (
            f"{page.url}?utm_source={self.person.utm_source}" if self.person.utm_source and referrer else page.url
        )
        properties: dict[str, Any] = {
            "[Amplitude] Page URL": page.url,
            "[Amplitude] Page Counter": self.page_counter,
            "[Amplitude] Page Domain": website.DOMAIN,
            "[Amplitude] Page Path": page.path,
            "[Amplitude] Page Title": title or page.title,
            "[Amplitude] Page Location": location,
        }
        if referrer:
            properties |= {"referrer": referrer, "referring_domain": people.host(referrer)}
            if self.person.utm_source:
                properties["utm_source"] = self.person.utm_source
        self.add(VIEW, properties, at)

    def click(self, target: Target, on: Page | None = None, shift: int = 0) -> None:
        left, top = target.place or (self.rng.randint(-40, 1100), self.rng.randint(-200, 2600))
        known = {
            "[Amplitude] Page URL": (on or self.page).url,
            "[Amplitude] Element Position Left": left + shift,
            "[Amplitude] Element Hierarchy": target.hierarchy,
            "[Amplitude] Element Tag": target.tag,
            "[Amplitude] Element Position Top": top,
            "[Amplitude] Page Title": self.page.title,
            "[Amplitude] Viewport Height": self.viewport[0],
            "[Amplitude] Viewport Width": self.viewport[1],
            "[Amplitude] Element Text": target.text,
            "[Amplitude] Element Class": target.classes,
            "[Amplitude] Element Parent Label": target.label,
            "[Amplitude] Element Href": target.href,
            "[Amplitude] Element ID": target.id,
        }
        self.add(CLICK, {key: value for key, value in known.items() if value is not None})

    def wait(self, low: float, high: float) -> None:
        """Lets a log-uniform time between two numbers of seconds pass."""
        self.clock += round(1000 * low * math.exp(self.rng.random() * math.log(high / low)))

    def navigate(self, to: Page) -> None:
        """A click on a link. Single-page: the view comes 17 to 68 ms before its click and has the old title."""
        old = self.page
        link = replace(website.LINK, href=to.url)
        if self.rng.random() < 0.75:
            self.view(to, title=old.title)
            if self.rng.random() < 0.1:  # a ghost: the same page again with an empty fragment
                self.view(Page(f"{to.path}#", to.title), title=old.title, at=self.clock + 30)
            self.clock += self.rng.randint(31, 68) if self.moments[-1].at > self.clock else self.rng.randint(17, 68)
            self.click(link, on=old)
        else:
            self.click(link)
            self.wait(0.3, 2)
            self.view(to, referrer=old.url)

    def done(self) -> Visit:
        return Visit(self.person, self.moments, self.viewport, self.replayed)


def replay_id(person: Person, session_id: int) -> str:
    return f"{person.device_id}/{session_id}"


def bot_visit(rng: Random, person: Person, clock: int) -> Visit:
    walk = _Walk(rng, person, clock, 1, people.user_properties(person))
    walk.start()
    walk.clock += _first_gap(rng)
    walk.view(website.any_page(rng))
    return walk.done()


def first_visit(rng: Random, person: Person, clock: int, redirected: bool) -> Visit:
    """A new visitor's visit. Redirected from an old address: event 0 is exported and properties come later."""
    walk = _Walk(rng, person, clock, 0 if redirected else 1, {} if redirected else people.user_properties(person))
    walk.updated = redirected
    _set_up(walk)
    page = website.any_page(rng)
    walk.start()
    walk.clock += _first_gap(rng)
    referrer = (
        f"{website.SITE}/2019/05/17{page.path.removeprefix('/community/blog')}" if redirected else person.referrer
    )
    walk.view(page, referrer=referrer)
    walk.updated, walk.user_properties = False, people.user_properties(person)
    _after_first_view(walk)
    return walk.done()


def return_visit(rng: Random, before: Visit, clock: int) -> Visit:
    """A known device again: its old session ends only now, then a gap of one in event_id (an identify call)."""
    last = before.moments[-1]
    current = rng.random() < 0.6
    properties = people.user_properties(before.person, later=True, current_referrer=current)
    walk = _Walk(rng, before.person, clock, last.event_id + 1, properties)
    _set_up(walk)
    walk.end_of_previous(last)
    walk.event_id += rng.random() < 0.8
    walk.start()
    walk.clock += _first_gap(rng)
    walk.view(website.any_page(rng), referrer=before.person.referrer if current else None)
    _after_first_view(walk)
    return walk.done()


def late_view(rng: Random, before: Visit) -> Visit:
    """One more view of an old session, which the device could send only now."""
    last = before.moments[-1]
    walk = _Walk(rng, last.person, last.at, last.event_id + 1, people.user_properties(last.person, later=True))
    walk.session_id = last.session_id
    walk.wait(2, 60)
    walk.view(website.any_page(rng))
    return walk.done()


def _set_up(walk: _Walk) -> None:
    rng = walk.rng
    phone = walk.person.device[0] in {"iOS", "Android"}
    walk.viewport = (rng.choice((740, 852)), 393) if phone else rng.choice(((588, 1280), (887, 1280), (1304, 1920)))
    walk.replayed = rng.random() < 0.014


def _first_gap(rng: Random) -> int:
    """Milliseconds from session_start to its view: log-normal, median 15, 4 to 322."""
    return min(max(round(rng.lognormvariate(math.log(15), 1.1)), 4), 322)


def _after_first_view(walk: _Walk) -> None:
    rng = walk.rng
    roll = rng.random()
    if roll < 0.02:
        _long_visit(walk)
    elif roll < 0.24:
        _first_click(walk)
    elif roll < 0.29:  # a reload, sometimes after almost half an hour: the same session
        walk.wait(3, 1780)
        walk.view(walk.page)
    # Not after a long visit: all of it must be sent within the hour after the one in which it began.
    if rng.random() < 0.023 and walk.clock - walk.session_id < 20 * 60_000:
        _left_open(walk)


def _first_click(walk: _Walk) -> None:
    """Eight of ten first clicks answer the consent banner."""
    rng = walk.rng
    walk.wait(0.6, 90)
    roll = rng.random()
    if roll < 0.8:
        walk.click(website.CONSENT if roll < 0.7 else website.DECLINE)
        if rng.random() < 0.75:
            return
        walk.wait(2, 60)
    walk.navigate(rng.choice(website.PAGES))
    if rng.random() < 0.3:
        walk.wait(2, 120)
        walk.click(rng.choice((website.ACCENTED, website.CONTACT, website.SCRIPT_TEXT)))


def _left_open(walk: _Walk) -> None:
    """A tab used again after more than half an hour: a new session that begins with a click, without a view."""
    last = walk.moments[-1]
    walk.clock = max(walk.clock, last.at) + walk.rng.randint(1_810_000, 2_100_000)
    walk.user_properties = people.user_properties(walk.person, later=True)
    walk.end_of_previous(last)
    walk.start()
    walk.clock += walk.rng.randint(1, 9)
    walk.click(website.ACCENTED)
    if walk.rng.random() < 0.5:
        walk.wait(1, 60)
        walk.navigate(website.any_page(walk.rng))


def _long_visit(walk: _Walk) -> None:
    """15 to 20 events in 10 to 20 minutes: navigation and, in turn, the things that look like website issues."""
    rng, began, first_page = walk.rng, walk.clock, walk.page
    walk.wait(1, 20)
    walk.click(website.CONSENT)
    extras = rng.sample((_menu, _video, _dead_clicks, _form, _search), k=2)
    while len(walk.moments) < 15 or extras:
        if extras and rng.random() < 0.4:
            extras.pop()(walk)
        else:
            back = rng.random() < 0.3  # A, B, A
            walk.navigate(first_page if back and walk.page != first_page else rng.choice(website.PAGES))
        walk.wait(10, 90)
        if rng.random() < 0.04:  # another network: address, city and region change inside the session
            place = people.another_place(rng)
            walk.person = replace(walk.person, ip_address=people.private_address(rng), place=place)
        if walk.clock - began > 20 * 60_000:
            return


def _menu(walk: _Walk) -> None:
    """One touch on a menu hits the panel behind and, 61 ms later, the button."""
    walk.click(website.MENU_PANEL)
    walk.clock += 61
    walk.click(website.MENU)


def _video(walk: _Walk) -> None:
    walk.click(website.PLAY)
    walk.wait(0.2, 1.5)
    walk.add("video_started", {"video_url": VIDEO})
    walk.add("video_loaded", {"video_url": VIDEO})  # the same millisecond
    walk.wait(4, 40)
    walk.click(replace(website.SCRUBBER, text="0:42"))
    walk.clock += 768
    walk.click(replace(website.SCRUBBER, text="1:07"), shift=130)
    walk.wait(4, 60)
    walk.add(walk.rng.choice(("video_paused", "video_finished")), {"video_url": VIDEO})  # declared


def _dead_clicks(walk: _Walk) -> None:
    """Declared: four clicks within two seconds on a button that does nothing."""
    button = replace(website.DEAD_BUTTON, place=(612, 1480))
    for _ in range(4):
        walk.click(button)
        walk.clock += walk.rng.randint(280, 610)


def _form(walk: _Walk) -> None:
    """Declared: event types that the SDK sends when they are enabled."""
    form = {"[Amplitude] Form ID": "newsletter", "[Amplitude] Page URL": walk.page.url}
    walk.add("[Amplitude] Form Started", form)
    walk.wait(3, 30)
    walk.add("[Amplitude] Element Changed", form | {"[Amplitude] Element Tag": "input"})
    if walk.rng.random() < 0.5:
        walk.wait(3, 30)
        walk.add("[Amplitude] Form Submitted", form)


def _search(walk: _Walk) -> None:
    """Declared: the site's own event, and a download."""
    walk.add("Activate Modal Search", {"results": walk.rng.randrange(40)})
    walk.wait(2, 20)
    file = {"[Amplitude] File Extension": "pdf", "[Amplitude] File Name": "course-plan.pdf"}
    walk.add("[Amplitude] File Downloaded", file | {"[Amplitude] Page URL": walk.page.url})
