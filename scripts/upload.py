"""Task `upload`: puts parts into S3 under content-addressed keys, then publishes each hour's version in the ledger."""

from __future__ import annotations

import argparse
import gzip
import logging
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from scripts import __version__
from scripts.pipeline import part_lines
from scripts.pipeline.entry import as_command
from scripts.pipeline.errors import ConfigurationError, DamagedError, PipelineError, RetriableError
from scripts.pipeline.hour_ledger import HourEntry, HourLedger
from scripts.pipeline.hours import parse_hour
from scripts.pipeline.object_store import CONFLICT_TRIES, SHA256, StoredObject, sha256_of
from scripts.pipeline.parts_tar import Members
from scripts.pipeline.records import (
    Manifest,
    ManifestLine,
    Part,
    UploadedLine,
    UploadedPart,
    Version,
    read_lines,
    write_lines,
)
from scripts.pipeline.settings import BucketSettings, load

log = logging.getLogger("pipeline")
# Reasons of a plan line for which `load` is asked about loaded versions too: the landing table may be another by now.
CHECKED_AGAIN = {"forced", "restore"}
THREADS = 8  # an answer of S3 takes tens of milliseconds


class Uploader:
    """Uploads hours of one manifest. Every method may be repeated, run by two runs at once, or be killed anywhere:
    parts go first, the version after them, markers last.
    """

    def __init__(self, ledger: HourLedger, members: Members, work: Path, rehearsal: datetime | None = None) -> None:
        self._ledger = ledger
        self._store = ledger.store
        self._members = members
        self._work = work  # for parts that events are taken out of
        self._rehearsal = rehearsal  # its clock, in place of the export's
        self._there: Collection[str] = ()  # parts that lay in S3 when the run began: asked about, not sent again

    def survey(self, hours: Iterable[str]) -> dict[str, HourEntry]:
        """Lists ledger and parts of these hours, so that no hour has to ask for itself."""
        days = [parse_hour(hour).date() for hour in hours]
        if not days:
            return {}
        self._there = self._ledger.parts(min(days), max(days))
        return self._ledger.entries(min(days), max(days))

    def hour(self, line: ManifestLine, entry: HourEntry) -> tuple[list[UploadedLine], Counter[str]]:
        """Publishes the export of an hour, if there is one, and lists every version of it that must be loaded.

        `entry` may be out of date: a number that was taken meanwhile is noticed, later ones are their own run's.
        """
        counts: Counter[str] = Counter()
        own = None
        try:
            if line.manifest is not None and line.outcome in {"exported", "empty"}:
                entry, own = self._publish(line.hour, line.manifest, entry, counts)
                self._ledger.mark_rechecked(line.hour, self._rehearsal or _moment(line.manifest.exported_at))
            return self._to_load(entry, own, counts, again=line.reason in CHECKED_AGAIN), counts
        except ConfigurationError:
            raise
        except PipelineError as error:
            log.error("%s: %s", line.hour, error)  # noqa: TRY400 (the message is the whole story)
            counts["hours_failed"] += 1
            return [UploadedLine(hour=line.hour, version=line.version, parts=[], error=str(error))], counts

    def _to_load(
        self, entry: HourEntry, own: Version | None, counts: Counter[str], *, again: bool
    ) -> list[UploadedLine]:
        """`again`: also what was loaded once, because the landing table may have been lost since."""
        lines = []
        loaded = entry.versions & entry.loaded if again else set()
        for number in sorted({*entry.unloaded, *loaded}):
            if number in loaded and self._ledger.is_replaced(entry.hour, number):
                continue
            version = own if own and own.version == number else self._ledger.read(entry.hour, number)
            parts = [
                UploadedPart(key=part.key, rows=part.rows, uploaded_at=part.uploaded_at)
                for part in version.manifest.parts
                if part.key
            ]
            if parts:
                lines.append(UploadedLine(hour=entry.hour, version=number, parts=parts))
            else:
                self._ledger.mark_empty(entry.hour, number)
                counts["hours_empty"] += 1
        return lines

    def _publish(
        self, hour: str, exported: Manifest, entry: HourEntry, counts: Counter[str]
    ) -> tuple[HourEntry, Version | None]:
        """Writes a new version unless the newest one holds the same uuids, or a newer export brought them all.

        Returns the hour as it is then, and the version if one was written.
        """
        for _ in range(CONFLICT_TRIES):
            earlier = list(self._ledger.versions(entry))
            newest = earlier[-1] if earlier else None
            md5s = part_lines.banned(earlier)
            manifest = self.without(hour, exported, md5s) if md5s else exported
            if newest and _same(newest.manifest, manifest) and self._restored(newest.manifest, manifest, counts):
                counts["exports_unchanged"] += 1
                return entry, None
            version = self.compared(entry, manifest, earlier)
            if newest and version.new == 0 and manifest.exported_at < newest.manifest.exported_at:
                counts["exports_unchanged"] += 1  # an old export, uploaded late
                return entry, None
            if written := self.write(version, counts):
                entry.versions.add(written.version)
                return entry, written
            entry = self._ledger.entry(hour)  # another run published this number meanwhile: compare with that one
        raise RetriableError(
            f"version {version.version} is taken and not there, {CONFLICT_TRIES} times. Replay the run."
        )

    def write(self, version: Version, counts: Counter[str]) -> Version | None:
        """Puts the parts of a version, then publishes it. None: another run has published this number."""
        parts = [self.put_part(part, counts) for part in version.manifest.parts]
        manifest = msgspec.structs.replace(version.manifest, parts=parts)
        version = msgspec.structs.replace(version, manifest=manifest, written_at=_utc_text(datetime.now(UTC)))
        if not self._ledger.publish(version):
            return None
        late = version.new if version.version > 1 else 0
        counts.update(versions=1, events_new=version.new, events_late=late, events_gone=version.gone)
        if version.version > 1:
            level = logging.WARNING if version.gone else logging.INFO
            facts = (version.hour, version.version, version.new, version.gone)
            log.log(level, "%s: version %d, %d events new, %d gone from Amplitude (kept here)", *facts)
        return version

    def _restored(self, newest: Manifest, manifest: Manifest, counts: Counter[str]) -> bool:
        """Whether all parts of the newest version lie in S3, after lost ones that this export holds were put again."""
        own = {part.key: part for part in manifest.parts}
        lost = [part.key for part in newest.parts if part.key and self._store.head(part.key) is None]
        if any(key not in own for key in lost):
            return False
        for key in lost:
            self.put_part(own[key], counts)
        return True

    def without(self, hour: str, manifest: Manifest, md5s: set[str]) -> Manifest:
        """The export without events that were taken out by hand; it takes the originals along for quarantine."""
        parts, numbers = [], set[int]()
        for part in manifest.parts:
            cleaned = self._cleaned(hour, part, md5s) if part.key else None
            parts.append(cleaned or part)
            numbers |= self._numbers([cleaned or part])
        rows = sum(part.rows for part in parts)
        return msgspec.structs.replace(
            manifest, parts=parts, uuids=len(numbers), repeats=rows - len(numbers), digest=str(sum(numbers))
        )

    def fetched(self, manifest: Manifest, versions: Iterable[Version]) -> Manifest:
        """The manifest with its own parts and those of `versions` that hold events it lacks, all read from S3."""
        known: set[int] = set()
        parts: dict[str, Part] = {}
        own = [part for part in manifest.parts if part.key]
        others = [part for version in versions for part in version.manifest.parts if part.key]
        for part in own + others:
            if part.key in parts:
                continue
            self._fetch("parts", part.key)
            numbers = self._numbers([part])
            if part in own or numbers - known:
                parts[part.key] = part
                known |= numbers
        whole_bad = [part for part in manifest.parts if not part.key]
        for part in (*parts.values(), *whole_bad):
            if part.quarantine_key:
                self._fetch("quarantine", part.quarantine_key)
        return msgspec.structs.replace(manifest, parts=[*parts.values(), *whole_bad])

    def _fetch(self, folder: str, key: str) -> None:
        path = self._work / f"{folder}-{key.rsplit('/', 1)[-1]}"
        with self._store.reading(key) as body, path.open("wb") as file:
            shutil.copyfileobj(body, file)
        self._members.add(folder, key, path)

    def _cleaned(self, hour: str, part: Part, md5s: set[str]) -> Part | None:
        target = self._work / f"{part.key.rsplit('/', 1)[-1]}.cleaned"
        with self._members.member("parts", part.key) as content:
            cleaned = part_lines.without(part, content, md5s, parse_hour(hour), target)
        if cleaned is None:
            return None
        if cleaned.key:
            self._members.add("parts", cleaned.key, target)
        if not part.quarantine_key:
            self._members.keep_original(part)
        return cleaned

    def _numbers(self, parts: Iterable[Part]) -> set[int]:
        """The uuids of parts of this export, as `part_lines.uuid_number`."""
        numbers: set[int] = set()
        for part in parts:
            if part.key:
                with self._members.member("parts", part.key) as content:
                    numbers |= part_lines.uuid_numbers(content)
        return numbers

    def compared(
        self, entry: HourEntry, manifest: Manifest, earlier: list[Version], replaces: Sequence[int] = ()
    ) -> Version:
        """The next version of the hour, with what it adds to all earlier ones and lacks of them."""
        version = Version(
            hour=entry.hour,
            version=entry.next_version,
            manifest=manifest,
            written_at="",
            tool=__version__,
            new=manifest.uuids,
            union_uuids=manifest.uuids,
            union_digest=manifest.digest,
            replaces=list(replaces),
        )
        if not earlier:
            return version
        newest = earlier[-1]
        if _same(newest.manifest, manifest):
            return msgspec.structs.replace(
                version, new=0, gone=newest.gone, union_uuids=newest.union_uuids, union_digest=newest.union_digest
            )
        own = self._numbers(manifest.parts)
        before = self._numbers_before([*earlier, version])
        union = own | before
        return msgspec.structs.replace(
            version,
            new=len(own - before),
            gone=len(before - own),
            union_uuids=len(union),
            union_digest=str(sum(union)),
        )

    def _numbers_before(self, versions: list[Version]) -> set[int]:
        """The uuids of all versions but the last, without the events that kept a replaced version from loading."""
        replaced = {number for version in versions for number in version.replaces}
        refused = {part_lines.uuid_number(md5) for md5 in part_lines.banned(versions)}
        read: dict[str, set[int]] = {}
        before: set[int] = set()
        for version in versions[:-1]:
            for key in (part.key for part in version.manifest.parts if part.key):
                if key not in read:
                    read[key] = self._stored_numbers(version.hour, key)
                before |= read[key] - refused if version.version in replaced else read[key]
        return before

    def _stored_numbers(self, hour: str, key: str) -> set[int]:
        if self._store.head(key) is None:
            log.warning("%s: %s is gone from S3; its uuids are missing in the comparison", hour, key)
            return set()
        with self._store.reading(key) as content:
            return part_lines.uuid_numbers(content)

    def put_part(self, part: Part, counts: Counter[str]) -> Part:
        """Puts a part and the untouched original beside it; returns the part as it lies in S3."""
        if part.quarantine_key:
            self._put("quarantine", part.quarantine_key, None, part, counts)
        if not part.key:
            return part
        stored = self._put("parts", part.key, part.sha256, part, counts)
        return msgspec.structs.replace(
            part, sha256=stored.sha256, bytes=stored.bytes, uploaded_at=_utc_text(stored.modified)
        )

    def _put(self, folder: str, key: str, expected: str | None, part: Part, counts: Counter[str]) -> StoredObject:
        """Puts one object unless it is there. Raises DamagedError rather than overwrite other bytes."""
        with self._members.member(folder, key) as stream:
            sha256 = sha256_of(stream)
            size = stream.tell()
            if expected is not None and sha256 != expected:
                raise DamagedError(f"the tar member of {key} is not what was extracted. Replay the run from the start.")
            stored = self._store.head(key) if key in self._there else None
            if stored is None and self._store.create(key, stream, {"member": part.member, SHA256: sha256}):
                counts.update(objects=1, bytes=size)
                return StoredObject(key, size, sha256, datetime.now(UTC))
            stored = stored or self._store.head(key)
            if stored is None:
                raise RetriableError(f"{key} was there and is gone. Replay the run.")
            if not stored.sha256:
                with self._store.reading(key) as body:
                    stored = StoredObject(key, stored.bytes, sha256_of(body), stored.modified)
            counts["objects_kept"] += 1
            cleaned = folder == "parts" and part.quarantine_key
            if (stored.sha256, stored.bytes) == (sha256, size) or (cleaned and self._same_lines(key)):
                return stored
        message = (
            f"{key} holds other bytes than this export. Nothing was overwritten. "
            "Find out who wrote it (S3 access log), move it away, then replay the run."
        )
        raise DamagedError(message)

    def _same_lines(self, key: str) -> bool:
        """A cleaned part is named by its lines: another version of gzip may have packed the same ones."""
        with self._members.member("parts", key) as own, self._store.reading(key) as other:
            lines = sha256_of(gzip.GzipFile(fileobj=own))
            try:
                return sha256_of(gzip.GzipFile(fileobj=other)) == lines
            except (gzip.BadGzipFile, EOFError, zlib.error):  # whatever it is, it is no part
                return False


def _same(one: Manifest, other: Manifest) -> bool:
    return (one.digest, one.uuids) == (other.digest, other.uuids)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _utc_text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def run(*, manifest: Path, parts: Path, output: Path) -> dict[str, int]:
    """Uploads every exported hour and lists what must be loaded. An hour that fails becomes a line with its error.

    Raises ConfigurationError (bucket, keys, rights, clock), which stops the run. Returns counts: hours to
    load, empty and failed ones, versions written, exports unchanged, uuids that are new to their hour, that came with a
    later version and that are gone from it, objects and bytes put, objects that were there.
    """
    settings = load(BucketSettings)
    lines = list(read_lines(manifest, ManifestLine))
    counts: Counter[str] = Counter()

    def results() -> Iterable[UploadedLine]:
        with (
            tempfile.TemporaryDirectory(prefix="upload-", dir=output.resolve().parent) as work,
            ThreadPoolExecutor(THREADS) as pool,
        ):
            uploader = Uploader(HourLedger(settings), Members(parts), Path(work), settings.pipeline_now)
            entries = uploader.survey(line.hour for line in lines)
            known = (entries.get(line.hour, HourEntry(line.hour)) for line in lines)
            for to_load, hour_counts in pool.map(uploader.hour, lines, known):
                counts.update(hour_counts)
                counts["hours"] += any(not line.error for line in to_load)
                yield from to_load

    write_lines(output, results())
    names = (
        *("hours", "hours_empty", "hours_failed", "versions", "exports_unchanged"),
        *("events_new", "events_late", "events_gone", "objects", "objects_kept", "bytes"),
    )
    result = {name: counts[name] for name in names}
    log.info("upload: %s", ", ".join(f"{name} {value}" for name, value in result.items()))
    return result


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.upload", description=__doc__)
    parser.add_argument("--manifest", type=Path, default=Path("manifest.jsonl"), help="%(default)s, by extract")
    parser.add_argument("--parts", type=Path, default=Path("parts.tar"), help="%(default)s, by extract")
    parser.add_argument("--output", type=Path, default=Path("uploaded.jsonl"), help="file to write (%(default)s)")
    return as_command(run, **vars(parser.parse_args(argv)))


if __name__ == "__main__":
    raise SystemExit(main())
