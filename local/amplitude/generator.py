"""A seeded day of website traffic as the Export API would hand it out, and the truth about it.

Every hour is a pure function of seed, project, volume and hour: asked twice, it gives the same bytes. Each visitor of
each hour has an own random number, so that a visit can be made without the others, and a device that returns finds the
visit it made months ago.

What the measured day did not show comes at fixed places and rates: on Sundays hour 05 has no data; on Mondays hours
13 and 15 come in two parts (any hour does above 100,000 events); repeats of a `$insert_id` older than its 7 days,
events of a server (session_id -1), merged users, clocks in the future and two visitors with one session_id are rare.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec

from local.amplitude import hours, people, visits
from local.amplitude.visits import HOUR_MS, Moment, Visit

PROJECT, SEED, EVENTS_PER_DAY = 100100, 1, 1000
# Share of a day's events per UTC hour, in thousandths: bytes of a measured Thursday.
HOURLY = (28, 14, 23, 71, 32, 16, 33, 20, 50, 76, 37, 34, 69, 97, 58, 97, 32, 19, 31, 19, 34, 71, 13, 25)
EVENTS_PER_VISITOR = 2.75
PART_EVENTS = 100_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


@dataclass(frozen=True)
class Sent:
    """One exported event: what the client made and the clocks of its way (epoch ms)."""

    moment: Moment
    client_upload: int
    server_upload: int
    processed: int
    returning: bool = False
    changes: dict[str, Any] = field(default_factory=dict)  # exported keys that differ from a browser's


@dataclass
class Traffic:
    """The website's traffic. `lines` are exported events, one JSON object each."""

    seed: int = SEED
    project: int = PROJECT
    events_per_day: int = EVENTS_PER_DAY

    @property
    def name(self) -> str:
        return f"traffic-{self.project}-{self.seed}-{self.events_per_day}-v1"

    def parts(self, hour: datetime) -> int:
        if (hour.weekday(), hour.hour) == (6, 5) or not self.visitors(hour):
            return 0
        volume = math.ceil(self.visitors(hour) * EVENTS_PER_VISITOR / PART_EVENTS)
        return max(volume, 2) if (hour.weekday(), hour.hour) in {(0, 13), (0, 15)} else volume

    def lines(self, hour: datetime, part: int) -> list[bytes]:
        """The events of one part, not sorted by any clock: shards one after the other, old users first."""
        parts = self.parts(hour)
        began = _ms(hour)
        rng = self._rng(hour, -1)
        shards = rng.randint(3, 6)
        keyed: list[tuple[int, int, int, Sent]] = []
        for sent in self._sent(hour, parts, part):
            if began <= sent.server_upload < began + HOUR_MS:
                shard = 0 if sent.returning else 1 + sent.moment.person.amplitude_id // 37 % shards
                keyed.append((shard, sent.server_upload, len(keyed), sent))
        keyed.sort(key=lambda entry: entry[:3])
        return [self._line(sent) for *_, sent in keyed]

    def visitors(self, hour: datetime) -> int:
        """How many visits begin in an hour."""
        day = self._rng(hour.replace(hour=0), -2)
        weekend = 0.8 if hour.weekday() > 4 else 1.08
        mean = self.events_per_day * HOURLY[hour.hour] / 1000 / EVENTS_PER_VISITOR
        return round(mean * weekend * day.uniform(0.94, 1.06) * self._rng(hour, -3).uniform(0.85, 1.15))

    def _sent(self, hour: datetime, parts: int, part: int) -> Iterator[Sent]:
        """What visits of this hour and the one before sent; a visit is over within the hour after its own."""
        for begun in (hour - hours.HOUR, hour):
            for number in range(part, self.visitors(begun), parts):
                yield from self.visit(begun, number)

    def visit(self, hour: datetime, number: int) -> list[Sent]:
        """All that one visitor of an hour sent."""
        rng = self._rng(hour, number)
        clock = _ms(hour) + rng.randrange(HOUR_MS)
        roll = rng.random()
        if roll < 0.87:
            return _uploads(rng, self._new(rng, hour, number, clock, roll / 0.87))
        before = self._earlier(rng, clock)
        return _uploads(rng, visits.return_visit(rng, before, clock), returning=True) if before else []

    def _new(self, rng: Random, hour: datetime, number: int, clock: int, roll: float) -> Visit:
        """A first visit: 19 % bots, 25 % redirected, 33 % from a search, 10 % direct (of all visitors)."""
        amplitude_id = int(hour.timestamp()) // 3600 * 1_850_000 + number * 37 + rng.randrange(37)
        if roll < 0.19 / 0.87:
            return visits.bot_visit(rng, people.bot(rng, amplitude_id), clock)
        if roll < 0.44 / 0.87:
            return visits.first_visit(rng, people.visitor(rng, amplitude_id, None), clock, redirected=True)
        referrer = None
        if roll < 0.77 / 0.87:
            sites = (people.SEARCH_A, people.SEARCH_B, people.OTHER_SITE, people.AI_CHAT)
            referrer = rng.choices(sites, (80, 14, 3, 3))[0]
        return visits.first_visit(rng, people.visitor(rng, amplitude_id, referrer), clock, redirected=False)

    def _earlier(self, rng: Random, clock: int) -> Visit | None:
        """A human's first visit of one hour to 240 days ago (log-uniform)."""
        age = HOUR_MS * math.exp(rng.random() * math.log(240 * 24))
        hour = _hour(clock - round(age)) - hours.HOUR
        count = self.visitors(hour)
        for number in range(rng.randrange(count), count) if count else ():
            own = self._rng(hour, number)
            began, roll = _ms(hour) + own.randrange(HOUR_MS), own.random()
            if 0.19 <= roll < 0.87:
                return self._new(own, hour, number, began, roll / 0.87)
        return None

    def _rng(self, hour: datetime, number: int) -> Random:
        return Random(f"{self.seed}/{self.project}/{int(hour.timestamp()) // 3600}/{number}")

    def _line(self, sent: Sent) -> bytes:
        moment, person = sent.moment, sent.moment.person
        rng = Random(f"{self.seed}/{person.amplitude_id}/{moment.session_id}/{moment.event_id}/{sent.server_upload}")
        at = _text(moment.at)
        uploaded = _text(sent.client_upload)
        data: dict[str, Any] = {"path": "/2/httpapi"}
        if moment.updated:
            data["user_properties_updated"] = True
        event = {
            "$insert_id": people.uuid(rng),
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
            "data": data | {"group_first_event": {}, "group_ids": {}},
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
            "uuid": people.uuid(rng),
            "version_name": None,
        }
        line = _encode(event | sent.changes)
        return line if line.isascii() else _NOT_ASCII.sub(_escape, line.decode()).encode()


def events(hour: str, seed: int = SEED, project: int = PROJECT, events_per_day: int = EVENTS_PER_DAY) -> list[bytes]:
    """The exported lines of an hour `YYYY-MM-DDTHH`, part after part."""
    traffic, at = Traffic(seed, project, events_per_day), hours.named(hour)
    return [line for part in range(traffic.parts(at)) for line in traffic.lines(at, part)]


def truth(hour: str, seed: int = SEED, project: int = PROJECT, events_per_day: int = EVENTS_PER_DAY) -> set[str]:
    """The uuids of an hour `YYYY-MM-DDTHH`."""
    return {msgspec.json.decode(line)["uuid"] for line in events(hour, seed, project, events_per_day)}


def _uploads(rng: Random, visit: Visit, returning: bool = False) -> list[Sent]:
    """Batches of one to five events, sent 1.0 to 2.9 s after the last one; then the clocks of the server."""
    sent: list[Sent] = []
    batch: list[Moment] = []
    for position, moment in enumerate(visit.moments):
        batch.append(moment)
        following = visit.moments[position + 1] if position + 1 < len(visit.moments) else None
        if following and following.at - batch[-1].at < 1000 and len(batch) < 5:
            continue
        if following and moment.event_type == visits.END:  # travels with the start that caused it
            continue
        client = max(moment.at for moment in batch) + round(1000 * rng.triangular(1.0, 2.95, 1.4))
        server = client + min(max(round(rng.lognormvariate(math.log(3.4), 0.5)), 2), 28)
        processed = server + min(max(round(rng.lognormvariate(math.log(1100), 0.6)), 96), 9756)
        sent += [Sent(one, client, server, processed, returning) for one in batch]
        batch = []
    return sent


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
