"""The invented website that the generated visitors walk on: pages and things to click.

Shapes (lengths, depth, shares of keys) follow the measured profile of a real site; every word is made up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

DOMAIN = "www.learning-school.example"
SITE = f"https://{DOMAIN}"
_TITLE_END = "Learning School Community"
_WORDS = [
    "charts",
    "tables",
    "dashboards",
    "calculated",
    "fields",
    "filters",
    "joining",
    "cleaning",
    "spatial",
    "mapping",
    "parameters",
    "level",
    "detail",
    "expressions",
    "sets",
    "actions",
    "colour",
    "design",
    "story",
    "portfolio",
    "interview",
    "week",
    "training",
    "day",
    "first",
    "project",
    "client",
    "macro",
    "workflow",
    "parsing",
    "regex",
    "dates",
    "nested",
    "unions",
    "pivots",
    "window",
    "functions",
    "ranking",
    "running",
    "totals",
    "layout",
]
_CLASSES = [
    "flex",
    "items-center",
    "justify-between",
    "w-full",
    "px-4",
    "py-2",
    "mt-6",
    "text-sm",
    "font-semibold",
    "rounded-lg",
    "border-gray-200",
    "hover:bg-blue-700",
    "focus:outline-none",
    "transition",
    "duration-150",
    "ease-in-out",
    "md:w-1/2",
    "lg:max-w-screen-xl",
    "grid",
    "gap-x-8",
    "shadow-md",
    "container",
    "mx-auto",
    "relative",
    "overflow-hidden",
    "leading-relaxed",
    "sm:grid-cols-2",
    "tracking-wide",
]


@dataclass(frozen=True)
class Page:
    path: str
    title: str

    @property
    def url(self) -> str:
        return SITE + self.path


@dataclass(frozen=True)
class Target:
    """Something that can be clicked. `place` is its position (left, top); consent stands at 0/0."""

    tag: str
    text: str | None = None
    label: str | None = None
    href: str | None = None
    id: str | None = None
    place: tuple[int, int] | None = None
    classes: str | None = None
    hierarchy: list[dict[str, Any]] = field(default_factory=list)


def _blog_page(rng: Random) -> Page:
    words = rng.sample(_WORDS, rng.choice((2, 3, 3, 4, 4, 5, 7, 10)))
    title = " ".join(words).capitalize()
    if rng.random() < 0.05:
        title = rng.choice(("Se\u00f1or tips: ", "\u00a320 visuals: ", "It\u2019s about ", "Charts \u2013 ")) + title
    return Page(f"/community/blog/{'-'.join(words)}/", f"{title} | {_TITLE_END}")


def _node(rng: Random, tag: str, outermost_banner: bool = False) -> dict[str, Any]:
    node: dict[str, Any] = {"tag": tag}
    if not outermost_banner:
        node |= {"index": rng.randrange(9), "indexOfType": rng.randrange(5)}
    if rng.random() < 0.78:
        node["classes"] = rng.sample(_CLASSES, rng.choice((1, 2, 2, 4, 5, 5, 7, 9, 12)))
    if rng.random() < 0.4:
        node["prevSib"] = rng.choice(("div", "header", "p", "a"))
    if rng.random() < 0.22:
        node["attrs"] = rng.choice(({}, {"ariaLabel": "Open menu"}, {"role": "button", "tabindex": "0"}))
    if rng.random() < 0.13:
        node["id"] = rng.choice(("main-content", "site-root", "post-body"))
    return node


def _target(number: int, tag: str, depth: int, banner: bool = False, **known: Any) -> Target:  # noqa: ANN401
    rng = Random(number)  # the same element every time
    tags = [tag, *rng.choices(("div", "section", "nav", "li", "ul", "main"), k=depth - 2), "div" if banner else "body"]
    words = rng.sample(_CLASSES, rng.choice((9, 12, 14)))
    if number % 3 == 0:  # templates leave their indentation in the attribute
        words.insert(4, "\n" + " " * rng.randint(20, 24))
    nodes = [_node(rng, name, banner and index == depth - 1) for index, name in enumerate(tags)]
    return Target(tag=tag, classes=None if number % 8 == 7 else " ".join(words), hierarchy=nodes, **known)


_pages = Random(2026)
HOME = Page("/", "Home | The Learning School")
PAGES = [
    *(_blog_page(_pages) for _ in range(160)),
    *(Page(f"/{section}/", f"{section.capitalize()} | {_TITLE_END}") for section in ("apply", "about", "events")),
    Page("/community/", _TITLE_END),
    Page("/team/consultants/cohort-forty-one/", f"Cohort forty-one | {_TITLE_END}"),
]
GONE = Page("/2016/03/02/old-post-about-sets/", "404 - Page not found | The Learning School")

CONSENT = _target(6, "div", 6, banner=True, text="Accept", place=(0, 0))
DECLINE = _target(12, "div", 6, banner=True, text="Reject", place=(0, 0))
MENU_PANEL = _target(4, "div", 6, label="Navigation", text="Menu panel", id="headlessui-disclosure-panel-42")
MENU = _target(3, "button", 7, label="Navigation", text="Menu", id="headlessui-disclosure-button-41")
SCRUBBER = _target(5, "div", 9, label="Video player", text="0:42", id="player-progress-bar-element-01")
PLAY = _target(8, "button", 8, label="Video player", text="Play video")
DEAD_BUTTON = _target(9, "div", 6, label="Related posts", text="Load more")
CONTACT = _target(10, "a", 6, label="Contact us", text="ana.writes@learning-school.example, 020 7946 0000",
                  href="mailto:ana.writes@learning-school.example")  # fmt: skip
SCRIPT_TEXT = _target(15, "div", 5, label="Embedded chart", text=("window.viz = {load: function () {}}; " * 7)[:255])
ACCENTED = _target(11, "div", 6, label="Cohort", text="Meet the team")
LINK = _target(16, "a", 7, label="Latest posts", text="Read more")


def any_page(rng: Random) -> Page:
    """A page as visits begin there: the home page one time in six, now and then one that is gone."""
    roll = rng.random()
    if roll < 0.17:
        return HOME
    return GONE if roll < 0.18 else rng.choice(PAGES)
