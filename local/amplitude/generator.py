"""A seeded day of website traffic as the Export API would hand it out, and the truth about it.

Every hour is a pure function of seed, project, volume and hour: asked twice, it gives the same bytes. Each visitor of
each hour has an own random number, so that a visit can be made without the others, and a device that returns finds the
visit it made months ago.

What the measured day did not show comes at fixed places and rates: on Sundays hour 05 has no data; on Mondays hours
13 and 15 come in two parts (any hour does above 50,000 events); and of 1,000 visitors (ODD) 2 begin in the same
millisecond as another, 10 send a view hours or days late, 3 repeat an event with its `$insert_id` after the 7 days in
which Amplitude would drop it, 5 are a server (session_id -1), 4 were merged with another user, 4 had a clock that ran
months ahead.

Above 500 visitors in an hour the others are copies with ids of their own: volume for a bench, at little cost.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec

from local.amplitude import hours, people, visits, website
from local.amplitude.visits import HOUR_MS, Moment, Visit

PROJECT, SEED, EVENTS_PER_DAY = 100100, 1, 1000
# Events per UTC hour, relative: the bytes of a measured Thursday.
HOURLY = (28, 14, 23, 71, 32, 16, 33, 20, 50, 76, 37, 34, 69, 97, 58, 97, 32, 19, 31, 19, 34, 71, 13, 25)
EVENTS_PER_VISITOR = 2.77  # measured on this generator
PART_EVENTS = 50_000
ORIGINALS = 500  # visitors of an hour that are no copies
STRIDE = 7  # between the amplitude_ids of two visitors of an hour
ODD = {"twin": 0.002, "late": 0.010, "repeat": 0.003, "server": 0.005, "merged": 0.004, "ahead": 0.004}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SOURCES = (__file__, people.__file__, visits.__file__, website.__file__)
_FORM = hashlib.sha256(b"".join(Path(file).read_bytes() for file in _SOURCES)).hexdigest()[:8]


@dataclass(frozen=True)
class Sent:
    """One exported event: what the client made and the clocks of its way (epoch ms)."""

    moment: Moment
    client_upload: int
    server_upload: int
    processed: int
    changes: dict[str, Any] = field(default_factory=dict)  # exported keys that differ from a browser's


class Line(NamedTuple):
    """A rendered event with what its place in the export depends on."""

    server_upload: int
    text: bytes
    amplitude_id: int
    device_id: bytes
    copy: int = 0


@dataclass
class Traffic:
    """The website's traffic. `lines` are exported events, one JSON object each."""

    seed: int = SEED
    project: int = PROJECT
    events_per_day: int = EVENTS_PER_DAY
    _made: dict[datetime, list[list[Line]]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"traffic-{self.project}-{self.seed}-{self.events_per_day}-{_FORM}"

    def parts(self, hour: datetime) -> int:
        if (hour.weekday(), hour.hour) == (6, 5) or not self.visitors(hour):
            return 0
        volume = math.ceil(self.visitors(hour) * EVENTS_PER_VISITOR / PART_EVENTS)
        return max(volume, 2) if (hour.weekday(), hour.hour) in {(0, 13), (0, 15)} else volume

    def lines(self, hour: datetime, part: int) -> list[bytes]:
        """The events of one part, not sorted by any clock: shards one after the other, old users first."""
        parts = self.parts(hour)
        if part >= parts:
            return []
        shards = self._rng(hour, "shards").randint(3, 6)
        oldest = _amplitude_id(hour - 24 * hours.HOUR, 0)
        keyed: list[tuple[int, int, int, bytes]] = []
        for line in self._sent(hour, parts, part):
            shard = 0 if line.amplitude_id < oldest else 1 + line.amplitude_id // STRIDE % shards
            # More volume, more runs; and copies must stand apart, or gzip would store them as one.
            keyed.append((shard + line.copy * (shards + 1), line.server_upload, len(keyed), line.text))
        keyed.sort()
        return [text for *_, text in keyed]

    def visitors(self, hour: datetime) -> int:
        """How many visits begin in an hour: fewer at weekends, and no two days alike."""
        weekend = 0.85 if hour.weekday() > 4 else 1.06
        day = self._rng(hour.replace(hour=0), "day").uniform(0.94, 1.06)
        mean = self.events_per_day * HOURLY[hour.hour] / sum(HOURLY) / EVENTS_PER_VISITOR
        return round(mean * weekend * day * self._rng(hour, "volume").uniform(0.85, 1.15))

    def _sent(self, hour: datetime, parts: int, part: int) -> Iterator[Line]:
        """What visits of this hour and the one before sent in it; a visit is over within the hour after its own."""
        began = _ms(hour)
        for begun in (hour - hours.HOUR, hour):
            count = self.visitors(begun)
            originals = [
                [line for line in lines if began <= line.server_upload < began + HOUR_MS]
                for lines in self._originals(begun)
            ]
            for number in range(part, count, parts):
                copy, original = divmod(number, ORIGINALS)
                for line in originals[original]:
                    yield _copied(line, copy) if copy else line

    def _originals(self, begun: datetime) -> list[list[Line]]:
        """The rendered visits of an hour; the last hours' are kept, as the next hour needs them again."""
        if begun not in self._made:
            count = min(self.visitors(begun), ORIGINALS)
            made = [[self._line(sent) for sent in self.visit(begun, number)] for number in range(count)]
            before = begun - hours.HOUR
            self._made = {before: self._made[before], begun: made} if before in self._made else {begun: made}
        return self._made[begun]

    def visit(self, hour: datetime, number: int) -> list[Sent]:
        """All that one visitor of an hour sent."""
        rng = self._rng(hour, number)
        clock, roll, odd = _ms(hour) + rng.randrange(HOUR_MS), rng.random(), _odd(rng.random())
        if odd == "twin" and number:
            clock = _ms(hour) + self._rng(hour, number - 1).randrange(HOUR_MS)
        if odd == "server":
            return _server_event(rng, people.visitor(rng, _amplitude_id(hour, number), None), clock)
        if odd == "late" and (before := self._earlier(rng, clock, 1, 4 * 24)):
            return _uploads(rng, visits.late_view(rng, before), arrived=clock)
        if odd == "repeat" and (before := self._earlier(rng, clock, 8 * 24, 60 * 24)):
            return _uploads(rng, Visit(before.person, before.moments[1:2]), arrived=clock)
        if roll >= 0.87 and (before := self._earlier(rng, clock, 1, 240 * 24)):
            return _uploads(rng, visits.return_visit(rng, before, clock))
        visit = self._first_visit(rng, hour, number, clock, roll)
        sent = _uploads(rng, visit)
        if odd == "merged":
            other = {"merged_amplitude_id": visit.person.amplitude_id - rng.randrange(10**9)}
            return [replace(one, changes={"data": _data(one.moment) | other}) for one in sent]
        return _ahead(sent, rng.randint(1, 400)) if odd == "ahead" else sent

    def _first_visit(self, rng: Random, hour: datetime, number: int, clock: int, roll: float) -> Visit:
        """Of all visitors 19 % are bots, 25 % redirected, 33 % come from a search, 10 % directly, 13 % return."""
        amplitude_id = _amplitude_id(hour, number)
        if roll < 0.19:
            return visits.bot_visit(rng, people.bot(rng, amplitude_id), clock)
        if roll < 0.44:
            return visits.first_visit(rng, people.visitor(rng, amplitude_id, None), clock, redirected=True)
        referrer = None
        if roll < 0.77:
            sites = (people.SEARCH_A, people.SEARCH_B, people.OTHER_SITE, people.AI_CHAT)
            referrer = rng.choices(sites, (80, 14, 3, 3))[0]
        return visits.first_visit(rng, people.visitor(rng, amplitude_id, referrer), clock, redirected=False)

    def _earlier(self, rng: Random, clock: int, low: int, high: int) -> Visit | None:
        """A human's first visit, `low` to `high` hours ago (log-uniform); None when the site had none then."""
        age = HOUR_MS * low * math.exp(rng.random() * math.log(high / low))
        hour = _hour(clock - round(age)) - hours.HOUR
        count = min(self.visitors(hour), ORIGINALS)
        for number in range(rng.randrange(count), count) if count else ():
            own = self._rng(hour, number)
            began, roll, odd = _ms(hour) + own.randrange(HOUR_MS), own.random(), _odd(own.random())
            if 0.19 <= roll < 0.87 and not odd:
                visit = self._first_visit(own, hour, number, began, roll)
                if visit.moments[-1].at < clock - 31 * 60_000:  # else it is still the same session
                    return visit
        return None

    def _rng(self, hour: datetime, of: int | str) -> Random:
        return Random(f"{self.seed}/{self.project}/{int(hour.timestamp()) // 3600}/{of}")

    def _line(self, sent: Sent) -> Line:
        moment, person = sent.moment, sent.moment.person
        key = f"{self.seed}/{person.amplitude_id}/{moment.session_id}/{moment.event_id}/{moment.event_type}"
        at, uploaded = _text(moment.at), _text(sent.client_upload)
        event = {
            "$insert_id": _uuid(key),
            "$insert_key": None,
            "$schema": None,
            "adid": None,
            "amplitude_attribution_ids": None,
            "amplitude_event_type": None,
            "amplitude_id": person.amplitude_id,
            "app": self.project,
            "city": person.place.city,
            "client_event_time": at,
            "client_upload_time": uploaded,
            "country": person.place.country,
            "data": _data(moment),
            "data_type": "event",
            "device_brand": None,
            "device_carrier": None,
            "device_family": person.device[0],
            "device_id": person.device_id,
            "device_manufacturer": None,
            "device_model": None,
            "device_type": person.device[1],
            "dma": person.place.dma,
            "event_id": moment.event_id,
            "event_properties": moment.properties,
            "event_time": at,
            "event_type": moment.event_type,
            "global_user_properties": None,
            "group_properties": {},
            "groups": {},
            "idfa": None,
            "ip_address": person.ip_address,
            "is_attribution_event": None,
            "language": person.language,
            "library": "amplitude-ts/2.16.1",
            "location_lat": None,
            "location_lng": None,
            "os_name": person.device[2],
            "os_version": person.device[3],
            "partner_id": None,
            "paying": None,
            "plan": {},
            "platform": "Web",
            "processed_time": _text(sent.processed),
            "region": person.place.region,
            "sample_rate": None,
            "server_received_time": uploaded,
            "server_upload_time": _text(sent.server_upload),
            "session_id": moment.session_id,
            "source_id": None,
            "start_version": None,
            "user_creation_time": None,
            "user_id": person.user_id,
            "user_properties": moment.user_properties,
            "uuid": _uuid(f"{key}/{sent.server_upload}"),
            "version_name": None,
        }
        text = _encode(event | sent.changes)
        text = text if text.isascii() else _NOT_ASCII.sub(_escape, text.decode()).encode()
        return Line(sent.server_upload, text, person.amplitude_id, person.device_id.encode())


def events(hour: str, seed: int = SEED, project: int = PROJECT, events_per_day: int = EVENTS_PER_DAY) -> list[bytes]:
    """The exported lines of an hour `YYYY-MM-DDTHH`, part after part."""
    traffic, at = Traffic(seed, project, events_per_day), hours.named(hour)
    return [line for part in range(traffic.parts(at)) for line in traffic.lines(at, part)]


def truth(hour: str, seed: int = SEED, project: int = PROJECT, events_per_day: int = EVENTS_PER_DAY) -> set[str]:
    """The uuids of an hour `YYYY-MM-DDTHH`."""
    return {msgspec.json.decode(line)["uuid"] for line in events(hour, seed, project, events_per_day)}


def _uploads(rng: Random, visit: Visit, arrived: int | None = None) -> list[Sent]:
    """Batches of one to five events, sent 1.0 to 2.9 s after the last one (or at `arrived`)."""
    sent: list[Sent] = []
    batch: list[Moment] = []
    for moment, following in zip(visit.moments, [*visit.moments[1:], None], strict=True):
        batch.append(moment)
        goes_on = following and (following.at - moment.at < 1000 or moment.event_type == visits.END)
        if goes_on and len(batch) < 5:  # a session_end travels with the start that caused it
            continue
        client = arrived or max(one.at for one in batch) + round(1000 * rng.triangular(1.0, 2.95, 1.4))
        server, processed = _server_clocks(rng, client)
        made = [Sent(one, client, server, processed) for one in batch]
        for place in range(1, len(made)):  # events of one millisecond stand the other way round
            if made[place].moment.at == made[place - 1].moment.at:
                made[place - 1 : place + 1] = made[place], made[place - 1]
        sent += made
        batch = []
    if visit.replayed:
        sent.append(_replay_captured(rng, visit.moments[-1]))
    return sent


def _server_clocks(rng: Random, client: int) -> tuple[int, int]:
    """server_upload 2 to 28 ms after the client's upload, processed 0.1 to 9.8 s after that (both log-normal)."""
    server = client + min(max(round(rng.lognormvariate(math.log(3.4), 0.5)), 2), 28)
    return server, server + min(max(round(rng.lognormvariate(math.log(1100), 0.6)), 96), 9756)


def _replay_captured(rng: Random, last: Moment) -> Sent:
    """A server's event inside a live session: event_id begins at 0 again, the location is 0.0 and not null."""
    replay = {
        "[Amplitude] Session Replay ID": visits.replay_id(last.person, last.session_id),
        "[Amplitude] Session Replay Library": "standalone/1.",
    }
    moment = last._replace(event_type=visits.REPLAY, properties=replay, event_id=0, at=last.at + 5, updated=False)
    client = moment.at + 51_000
    changes = {
        "library": "amplitude-java/1.10.3",
        "location_lat": 0.0,
        "location_lng": 0.0,
        "data": _data(moment) | {"path": "/batch"},
    }
    return Sent(moment, client, *_server_clocks(rng, client), changes)


def _server_event(rng: Random, person: people.Person, clock: int) -> list[Sent]:
    """An event that no browser sent: outside of any session, without device and `$insert_id`."""
    properties = {"video": "Level of detail, part 2", "minutes": rng.randint(1, 40)}
    moment = Moment(clock, "Data Skills Video", properties, rng.randrange(10**8, 10**9), -1, person, {})
    unknown = (
        "$insert_id",
        "device_family",
        "device_type",
        "ip_address",
        "language",
        "os_name",
        "os_version",
        "platform",
    )
    changes = dict.fromkeys(unknown) | {"library": "http/1.0"}
    return [Sent(moment, clock + 900, *_server_clocks(rng, clock + 900), changes)]


def _ahead(sent: list[Sent], days: int) -> list[Sent]:
    """The device's clock ran ahead and was put right before the upload: future event_time, future session_id."""
    shift = days * 24 * HOUR_MS
    return [
        replace(one, moment=one.moment._replace(at=one.moment.at + shift, session_id=one.moment.session_id + shift))
        for one in sent
    ]


def _copied(line: Line, copy: int) -> Line:
    """The same visit by somebody else: device, amplitude_id, `$insert_id`s and uuids begin with the copy's number."""
    prefix, amplitude_id = b"%08x" % copy, line.amplitude_id + copy * ORIGINALS * STRIDE
    text = line.text.replace(line.device_id, prefix + line.device_id[8:])
    text = text.replace(b'"amplitude_id":%d' % line.amplitude_id, b'"amplitude_id":%d' % amplitude_id, 1)
    uuid = text.rindex(b'"uuid":"') + 8
    text = text[:uuid] + prefix + text[uuid + 8 :]
    if text.startswith(b'{"$insert_id":"'):
        text = text[:15] + prefix + text[23:]
    return Line(line.server_upload, text, amplitude_id, line.device_id, copy)


def _data(moment: Moment) -> dict[str, Any]:
    updated = {"user_properties_updated": True} if moment.updated else {}
    return {"path": "/2/httpapi", **updated, "group_first_event": {}, "group_ids": {}}


def _odd(roll: float) -> str | None:
    for name, share in ODD.items():
        roll -= share
        if roll < 0:
            return name
    return None


def _amplitude_id(hour: datetime, number: int) -> int:
    """12 digits; those of one hour lie close together, older ones lower."""
    return int(hour.timestamp()) // 3600 * 1_850_000 + number * STRIDE


def _uuid(key: str) -> str:
    text = hashlib.md5(key.encode()).hexdigest()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def _ms(hour: datetime) -> int:
    return int(hour.timestamp()) * 1000


def _hour(ms: int) -> datetime:
    return _EPOCH + timedelta(hours=ms // HOUR_MS)


def _text(ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(" ", "microseconds")[:26]


def _escape(found: re.Match[str]) -> str:
    """Non-ASCII as the export writes it: upper-case \\uXXXX, pairs above the basic plane."""
    units = found.group().encode("utf-16-be")
    return "".join(f"\\u{units[at]:02X}{units[at + 1]:02X}" for at in range(0, len(units), 2))
