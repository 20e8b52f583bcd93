"""Invented visitors: device, place, network, referrer and the user properties that Amplitude's SDK derives.

No address belongs to anybody: private visitors come from 240.0.0.0/4 (never routed), offices from the documentation
networks (RFC 5737), shared providers from 100.64.0.0/10 (RFC 6598); companies end in `.example`.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple, TypeVar

SEARCH_A, SEARCH_B = "https://www.google.com/", "https://www.bing.com/"
OTHER_SITE, AI_CHAT = "https://forum.charts.example/", "https://chatgpt.com/"

# (device_family, device_type, os_name = the browser, os_version = its major version), weight
_DEVICES = {
    ("Windows", "Windows", "Chrome", "153"): 26,
    ("Windows", "Windows", "Chrome", "152"): 8,
    ("Windows", "Windows", "Chrome", "154"): 4,
    ("Windows", "Windows", "Edge", "153"): 20,
    ("Windows", "Windows", "Edge", "150"): 2,
    ("Mac OS X", "Mac", "Chrome", "153"): 13,
    ("Mac OS X", "Mac", "Chrome", "145"): 3,
    ("Mac OS X", "Mac", "Safari", "26"): 2,
    ("iOS", "Apple iPhone", "Mobile Safari", "26"): 7,
    ("iOS", "Apple iPhone", "Mobile Safari", "18"): 4,
    ("iOS", "Apple iPhone", "Chrome Mobile iOS", "152"): 1,
    ("Android", "Android", "Chrome Mobile", "153"): 5,
    ("Android", "Android", "Edge Mobile", "153"): 1,
    ("Linux", "Linux", "Chrome", "152"): 4,
}
_BOT_VERSIONS = ("104", "107", "108", "109", "112", "117", "124", "125", "131", "131", "131")
# (country, region, city, dma), weight
_PLACES = {
    ("United Kingdom", "England", "London", None): 22,
    ("United Kingdom", "England", "Leeds", None): 6,
    ("United Kingdom", None, None, None): 6,
    ("United States", "New York", "New York", "New York, NY"): 9,
    ("United States", "Illinois", "Chicago", "Chicago, IL"): 6,
    ("United States", "California", "San Jose", "San Francisco-Oakland-San Jose, CA"): 6,
    ("United States", "Virginia", None, "Washington, DC"): 6,
    ("India", "Maharashtra", "Mumbai", None): 8,
    ("Germany", None, None, None): 7,
    ("Spain", "Catalonia", "Barcelona", None): 4,
    ("Australia", "New South Wales", "Sydney", None): 6,
    ("Brazil", "S\u00e3o Paulo", "S\u00e3o Paulo", None): 4,
    ("China", None, None, None): 3,
    ("Luxembourg", None, "Luxembourg", None): 3,
}
_BOT_PLACES = {("Singapore", None, "Singapore", None): 8, ("United States", "Virginia", None, "Washington, DC"): 2}
_LANGUAGES = {
    "English": 85,
    "Chinese": 4,
    "German": 4,
    "Russian": 2,
    "Portuguese": 2,
    "Spanish": 1,
    "Italian": 1,
    "French": 1,
}
# (mail domain, office addresses): several people behind one address
_COMPANIES = (
    ("northwind-analytics.example", ("192.0.2.17", "192.0.2.18")),
    ("harbour-retail.example", ("198.51.100.9",)),
    ("oakfield-insurance.example", ("203.0.113.77", "203.0.113.78")),
    ("quarry-logistics.example", ("198.51.100.201",)),
)
_SHARED_PROVIDERS = ("100.64.0.9", "100.64.7.1", "100.71.3.3")
T = TypeVar("T")
_INITIAL = [
    "utm_medium",
    "referring_domain",
    "utm_content",
    "utm_campaign",
    "li_fat_id",
    "twclid",
    "gclid",
    "utm_source",
    "dclid",
    "wbraid",
    "fbclid",
    "rtd_cid",
    "utm_id",
    "referrer",
    "gbraid",
    "utm_term",
    "msclkid",
    "ttclid",
    "ko_click_id",
]


class Place(NamedTuple):
    country: str
    region: str | None
    city: str | None
    dma: str | None


@dataclass(frozen=True)
class Person:
    amplitude_id: int
    device_id: str
    user_id: str | None
    ip_address: str
    place: Place
    device: tuple[str, str, str, str]
    language: str
    referrer: str | None  # of the first visit; None: none
    utm_source: str | None = None


def uuid(rng: Random) -> str:
    """A version 4 UUID of this generator's own randomness."""
    text = f"{rng.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def bot(rng: Random, amplitude_id: int) -> Person:
    """Old Chrome on Windows, English, no referrer, mostly one country."""
    device = ("Windows", "Windows", "Chrome", rng.choice(_BOT_VERSIONS))
    place = Place(*_pick(rng, _BOT_PLACES))
    return Person(amplitude_id, uuid(rng), None, private_address(rng), place, device, "English", None)


def visitor(rng: Random, amplitude_id: int, referrer: str | None) -> Person:
    """A human: one in 50 sits in a company's office, one in 33 behind a shared provider; few are known by e-mail."""
    address, user_id, roll = private_address(rng), None, rng.random()
    if roll < 0.02:
        domain, offices = rng.choice(_COMPANIES)
        address = rng.choice(offices)
        if rng.random() < 0.25:
            user_id = f"colleague.{rng.randrange(16**6):06x}@{domain}"
    elif roll < 0.05:
        address = rng.choice(_SHARED_PROVIDERS)
    elif roll < 0.053:
        user_id = f"nobody.{rng.randrange(16**12):012x}@gmail.com"
    place, device = Place(*_pick(rng, _PLACES)), _pick(rng, _DEVICES)
    language = _pick(rng, _LANGUAGES)
    utm_source = "chatgpt.com" if referrer == AI_CHAT else None
    return Person(amplitude_id, uuid(rng), user_id, address, place, device, language, referrer, utm_source)


def private_address(rng: Random) -> str:
    number = rng.getrandbits(28)
    return f"{240 + (number >> 24)}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def another_place(rng: Random) -> Place:
    return Place(*_pick(rng, _PLACES))


def host(referrer: str) -> str:
    return referrer.split("/", 3)[2]


def user_properties(person: Person, later: bool = False, current_referrer: bool = True) -> dict[str, str]:
    """The SDK's 19 `initial_` keys and the current referrer. Two keys change places in later uploads."""
    names = list(_INITIAL)
    if later:
        names[7], names[8] = names[8], names[7]
    known = {"referrer": person.referrer, "utm_source": person.utm_source}
    known["referring_domain"] = host(person.referrer) if person.referrer else None
    properties = {f"initial_{name}": known.get(name) or "EMPTY" for name in names}
    if current_referrer:
        properties |= {name: value for name, value in known.items() if value}
    return properties


def _pick(rng: Random, weighted: dict[T, int]) -> T:
    return rng.choices(list(weighted), list(weighted.values()))[0]
