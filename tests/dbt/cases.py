"""Hand-written events: what real exports hold (numbered traps) and what others met (known faults B..), small.

`first` arrives in the first load, `second` days later in the second. Each case has a person of its own, `PEOPLE[name]`.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

_KEYS = (  # an exported event has always these 55, in this order
    "$insert_id $insert_key $schema adid amplitude_attribution_ids amplitude_event_type amplitude_id app city"
    " client_event_time client_upload_time country data data_type device_brand device_carrier device_family device_id"
    " device_manufacturer device_model device_type dma event_id event_properties event_time event_type"
    " global_user_properties group_properties groups idfa ip_address is_attribution_event language library location_lat"
    " location_lng os_name os_version partner_id paying plan platform processed_time region sample_rate"
    " server_received_time server_upload_time session_id source_id start_version user_creation_time user_id"
    " user_properties uuid version_name"
)
KEYS = _KEYS.split()
VIEW, CLICK = "[Amplitude] Page Viewed", "[Amplitude] Element Clicked"
SITE = "https://www.learning-school.example"
EMAIL, ADDRESS, REPLAY = "grace.reader@oakfield-insurance.example", "240.17.4.211", "device-replay/1790218900000"

PEOPLE: dict[str, int] = {}
first: list[dict[str, Any]] = []
second: list[dict[str, Any]] = []


class Case:
    """Writes events of one person on 2026-09-24; times are milliseconds after `at`."""

    def __init__(self, name: str, at: str = "2026-09-24 10:00:00", into: list[dict[str, Any]] = first) -> None:
        self.person = PEOPLE.setdefault(name, 990_000_000_001 + len(PEOPLE))
        self.name, self.into = name, into
        self.start = datetime.fromisoformat(at).replace(tzinfo=UTC)
        self.session = round(self.start.timestamp() * 1000)
        self._number = 0

    def __call__(self, event_type: str, after: float = 0, into: list[Any] | None = None, **values: Any) -> Any:
        self._number += 1
        time = _text(self.start + timedelta(milliseconds=after))
        made = dict.fromkeys(KEYS) | {
            "$insert_id": f"{self.name}-{self._number}",
            "amplitude_id": self.person,
            "app": 100011471,
            "client_event_time": time,
            "client_upload_time": time,
            "data": {"path": "/2/httpapi", "group_first_event": {}, "group_ids": {}},
            "data_type": "event",
            "device_family": "Windows",
            "device_id": f"device-{self.name}",
            "device_type": "Windows",
            "event_id": self._number,
            "event_properties": {},
            "event_time": time,
            "event_type": event_type,
            "group_properties": {},
            "groups": {},
            "ip_address": ADDRESS,
            "language": "English",
            "library": "amplitude-ts/2.16.1",
            "os_name": "Chrome",
            "os_version": "153",
            "plan": {},
            "platform": "Web",
            "processed_time": time,
            "server_received_time": time,
            "server_upload_time": time,
            "session_id": self.session,
            "user_properties": {},
            "uuid": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self.name}/{self._number}/{self.session}")),
        }
        made |= values
        (self.into if into is None else into).append(made)
        return made

    def view(self, path: str, after: float, counter: int = 1, title: str = "A page", **more: Any) -> dict[str, Any]:
        own = {
            "[Amplitude] Page URL": SITE + path,
            "[Amplitude] Page Counter": counter,
            "[Amplitude] Page Title": title,
            "[Amplitude] Page Location": SITE + path + "?utm_source=letter",
        }
        return self(VIEW, after, event_properties=own | more.pop("own", {}), **more)

    def click(self, path: str, after: float, **own: Any) -> dict[str, Any]:
        names = {name.title() if name != "id" else "ID": value for name, value in own.items() if name != "label"}
        properties = {f"[Amplitude] Element {name}": value for name, value in names.items()}
        properties["[Amplitude] Page URL"] = SITE + path
        properties["[Amplitude] Element Parent Label"] = own.get("label", "Main")
        return self(CLICK, after, event_properties=properties)


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S.%f")


# trap 1: a server-side event restarts event_id at 0 inside a live session and arrives late
replay = Case("replay")
replay("session_start", 0)
replay.view("/replayed/", 15)
replay(
    "[Amplitude] Replay Captured", 8000, event_id=0, library="amplitude-java/1.10.3", location_lat=0.0,
    location_lng=0.0, event_properties={"[Amplitude] Session Replay ID": REPLAY},
)  # fmt: skip

# trap 2, B02, B08: the old session's end arrives with the visitor's next visit, 190 days later
ended = Case("ended", at="2026-03-18 09:00:00")
ended("session_start", 0)
last = ended.view("/left/", 4000)
back = Case("ended", at="2026-09-24 11:00:00", into=second)
late = {"server_upload_time": _text(back.start), "client_upload_time": _text(back.start)}
ended("session_end", 4001, into=second, os_version="158", **late)
back("session_start", 0, **{"$insert_id": "ended-back-1"})
back.view("/came-back/", 20, **{"$insert_id": "ended-back-2"})

# trap 3: an identify call took event_id 0, another one 3
identified = Case("identified")
identified("session_start", 0, event_id=1)
identified.view("/signed-in/", 10, event_id=2)
identified.click("/signed-in/", 4000, tag="a", text="My courses")["event_id"] = 4

# trap 4: the view stands 40 ms before the click that caused it, still with the old title
spa = Case("spa")
spa.view("/from/", 0, title="From")
spa.view("/to/", 5000, counter=2, title="From")
caused = spa.click("/from/", 5040, tag="a", text="To")
apart = spa.click("/from/", 5140, tag="a", text="Too late to have caused it")

# trap 5, B09: two views of one page, 30 ms apart
ghost = Case("ghost")
ghost.view("/x/", 0, counter=6)
ghosted = ghost.view("/x/#", 30, counter=7)

# trap 6: a tab left open: a session without any page view
open_tab = Case("open_tab")
open_tab("session_start", 0)
open_tab.click("/old-tab/", 5, tag="div", text="Menu")

# trap 7: a reload after 29 minutes is a second view of the same page in the same session
reload = Case("reload")
reload.view("/read/", 0)
reload.view("/read/", 29 * 60_000, counter=2)

# trap 8, B10: a scrubber and a menu are no repeated clicks; four clicks on one dead button are
clicks = Case("clicks")
clicks.view("/watch/", 0)
scrub = {"tag": "div", "class": "bar", "id": "player-progress-bar-element-01", "label": "Video player"}
scrubs = [clicks.click("/watch/", after, text=text, **scrub) for after, text in ((2000, "0:42"), (2768, "1:07"))]
nested = [
    clicks.click("/watch/", 9000, tag="div", text="Menu panel"),
    clicks.click("/watch/", 9061, tag="button", text="Menu"),
]
fast = [clicks.click("/watch/", after, tag="a", text="Next") for after in (15000, 15400)]  # two are not enough
# the same link of two pages, back and forth: no run on either
tabs = [clicks.click(path, after, tag="a", text="Tab") for path, after in
        (("/watch/", 30_000), ("/other/", 30_900), ("/watch/", 31_800))]  # fmt: skip
dead = [clicks.click("/watch/", after, tag="div", text="Load more") for after in (20000, 20600, 21300, 22000)]

# trap 9: the consent banner's button tells nothing
consent = Case("consent")
consent("session_start", 0)
consent.view("/", 10)
accepted = consent.click("/", 3000, tag="div", text="Accept", label=None, **{"position left": 0, "position top": 0})

# trap 10: the address changes inside a session; then the same address is in another place
moving = Case("moving")
moving.view("/train/", 0)
moving.view("/station/", 9000, counter=2, ip_address="240.17.4.212")
moving.view("/town/", 20000, counter=3, ip_address="240.17.4.212", city="Leeds", country="United Kingdom")

# B22: one place, spelt without a city in two ways, and again in a later load
blank = Case("blank")
blank("session_start", 0, city="", region="Kent")
blank.view("/blank/", 10, city=None, region="Kent")
blank.view("/blank/", 9000, into=second, city="", region="Kent")

# a session older than the first export: only its end is known
gone = Case("gone", at="2025-12-31 09:00:00")
gone_end = gone("session_end", 0)

# half an hour before midnight UTC, on the days around both changes of the clock in London
for number, day in enumerate(("2026-03-28", "2026-03-29", "2026-10-24", "2026-10-25")):
    clock = Case(f"clock_{number}", at=f"{day} 23:30:00")
    clock("session_start", 0)
    clock.view("/clock/", 900)

# over midnight in London; and a clock a year ahead, by which the session is named: its number is by the corrected times
midnight = Case("midnight", at="2026-09-24 22:50:00")
midnight("session_start", 0)
midnight.view("/midnight/", 20 * 60_000)
for hour, ahead in (("09", 365 * 86_400_000), ("11", 0)):
    skewed = Case("skewed", at=f"2026-09-24 {hour}:00:00")
    skewed.session += ahead
    skewed("session_start", 0, **{"$insert_id": f"skewed-{hour}"})

# trap 12: a missing page
missing = Case("missing")
missing.view("/2016/old-post/", 0, title="404 - Page not found")
# traps 4 and 12: from there the visitor goes home, whose view has the missing page's title; and the other way round
away = Case("away")
away.view("/2017/old-post/", 0, title="404 - Page not found")
home = away.view("/", 5000, counter=2, title="404 - Page not found")
away.click("/2017/old-post/", 5040, tag="a", text="Home")["event_properties"]["[Amplitude] Page Title"] = "Home"
into = Case("into_missing")
into.view("/", 0, title="Home")
lost = into.view("/2018/old-post/", 5000, counter=2, title="Home")
into.click("/", 5040, tag="a", text="Old")["event_properties"]["[Amplitude] Page Title"] = "404 - Page not found"

# traps 13, 14: what must not be in a mart
secret = Case("secret")
secret.view("/private/", 0, user_id=EMAIL, own={"[Amplitude] Session Replay ID": REPLAY})
secret.click("/private/", 900, tag="a", text="call 020 7946 0999", href="mailto:grace@oakfield-insurance.example")

# trap 15: other alphabets, and a class with a line break in it
accents = Case("accents")
accents.view("/señor/", 0, title="Señor’s £20 – guide")
accents.click("/señor/", 4000, tag="div", text="Más", **{"class": "card\n                        wide"})

# A, B, A, B, A: a loop, and a page come back to
loop = Case("loop")
loop_pages = ("/a", "/b", "/b", "/a", "/b", "/a")  # the second /b is a reload
loop_views = [loop.view(path, number * 4000, counter=number) for number, path in enumerate(loop_pages, start=1)]

# B03, B22: exported again, in another file of the same load and in a later load
again = Case("again")
exported = [again("session_start", 0), again.view("/again/", 10)]
more = [again(VIEW, at, into=second) for at in (9000, 9500, 9900)]  # the later export has three more

# a part whose load commits after a newer one was built
slow_load = Case("slow", into=[])
slow = slow_load("session_start", 0)

# B07: two devices with one session_id, and an event outside any session
twins = [Case("twin_a", at="2026-09-24 12:00:00"), Case("twin_b", at="2026-09-24 12:00:00")]
for twin in twins:
    twin("session_start", 0)
    twin.view("/twins/", 30)
server = Case("server")
outside = server("Data Skills Video", 0, session_id=-1, device_id=None, library="http/1.0")
outside_again = server("Data Skills Video", 60_000, into=second, session_id=-1, device_id=None, library="http/1.0")

# B14: JSON null and an absent key are one
nulls = Case("nulls")
null_user = nulls("session_start", 0)
absent_user = nulls.view("/null/", 10)
del absent_user["user_id"]

# B17: integers beyond 2^53
big = Case("big")
big_event = big("session_start", 0, event_id=9007199254740993)

# malformed values become NULL, RFC 3339 times are read
odd = Case("odd")
rfc = odd("session_start", 0, event_time="2026-09-24T10:00:00.5Z", client_event_time="2026-09-24T12:00:00+02:00",
          processed_time="2026-09-24T10:00:00", server_received_time="2026:09:24 10:00:00.000000",
          paying="perhaps", sample_rate="0.5", app="1.5", groups="none")  # fmt: skip

# B23: a session over midnight, with a build between its halves
night = Case("night", at="2026-09-24 23:50:00")
night("session_start", 0)
night.view("/night/", 100)
tomorrow = {"server_upload_time": "2026-09-25 00:20:01.000000"}
night.view("/morning/", 30 * 60_000, counter=2, into=second, **tomorrow)

# B26: an event type that nobody has announced
drift = Case("drift", into=second)
drift("Course Enrolled", 0)

# what the SDK records by itself is no action
vitals = Case("vitals", into=second)
vitals.view("/vitals/", 0)
vitals("[Amplitude] Web Vitals", 900)
vitals("[Amplitude] Network Request", 950)

# delivered again after Amplitude's 7 days: the same $insert_id under another uuid
repeat = Case("repeat", at="2026-09-10 08:00:00")
original = repeat("session_start", 0)
repeated = repeat("session_start", 0, into=second, **{name: original[name] for name in ("$insert_id", "event_id")})

# an empty $insert_id says nothing: two events, not a repeat; an empty user_id names nobody
unnamed = Case("unnamed")
unnamed("session_start", 0, user_id="", **{"$insert_id": ""})
unnamed.view("/unnamed/", 10, **{"$insert_id": ""})

# a person whose user_id changes: the newest counts, whatever the alphabet says
renamed = Case("renamed", at="2026-09-23 08:00:00")
renamed("session_start", 0, user_id="zoe@gmail.com")
renamed.view("/renamed/", 10, into=second, user_id="anna@harbour-retail.example")

# an office: three people on one address, one of whom is known; and a provider with too many companies
OFFICE, PROVIDER = "192.0.2.200", "192.0.2.201"
for number, user_id in enumerate((None, "Kim@Quarry-Logistics.Example", None)):
    worker = Case(f"office_{number}", at=f"2026-09-24 13:0{number}:00")
    worker("session_start", 0, ip_address=OFFICE, user_id=user_id)
    worker.view("/office/", 900, ip_address=OFFICE)
# one of them works in a larger office too, which counts more
DEPOT = "192.0.2.202"
for number, user_id in enumerate((None, "lee@canal-freight.example", None)):
    Case(f"depot_{number}", at=f"2026-09-24 13:1{number}:00")("session_start", 0, ip_address=DEPOT, user_id=user_id)
worker("[Amplitude] Element Changed", 1800, ip_address=DEPOT)
for number, user_id in enumerate((None, "a@one-company.example", "b@another-company.example")):
    guest = Case(f"guest_{number}", at=f"2026-09-24 14:0{number}:00")
    guest("session_start", 0, ip_address=PROVIDER, user_id=user_id)
    guest.view("/provider/", 900, ip_address=PROVIDER)

# three people whose IPv6 addresses are IPv4 addresses: no network in common
for number in range(3):
    mapped = Case(f"mapped_{number}", at=f"2026-09-24 15:0{number}:00")
    mapped("session_start", 0, ip_address=f"::ffff:198.51.100.{number}")
    mapped.view("/mapped/", 900, ip_address=f"::ffff:198.51.100.{number}")

# an office with IPv6: its network in three spellings (RFC 5952), and the network beside it
SPELLINGS = ("2001:db8:7::5", "2001:db8:7:0:a1b2:c3d4:e5f6:789a", "2001:DB8:7:0::9", "2001:db8:7:1::5")
for number, host in enumerate(SPELLINGS):
    Case(f"six_{number}", at=f"2026-09-24 16:0{number}:00")("session_start", 0, ip_address=host)

# thresholds at their edge: the last value that counts, and the first that does not
edge = Case("edge")
edge.view("/from/", 0)
edge.view("/to/", 5000)
edge.click("/from/", 5100, tag="a", text="Caused it")
edge.click("/from/", 5101, tag="a", text="Did not")
edge.view("/x/", 10_000)
edge.view("/x/#", 10_500)
edge.view("/x/", 11_001)
for name, version, after in (("bot", "139", 400), ("slow", "139", 401), ("new", "140", 400)):
    browser = Case(f"edge_{name}")
    browser("session_start", 0, os_version=version)
    browser.view("/", after, os_version=version)
for people in (50, 51):
    for number in range(people):
        Case(f"crowd_{people}_{number}")("session_start", 0, ip_address=f"203.0.113.{people}")
