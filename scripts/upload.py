"""Task `upload`: puts parts into S3 under content-addressed keys, then publishes each hour's version in the ledger."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import logging
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
from isal import igzip

from scripts import __version__
from scripts.pipeline.entry import as_command
from scripts.pipeline.errors import ConfigurationError, DamagedError, PipelineError
from scripts.pipeline.hour_ledger import HourLedger
from scripts.pipeline.object_store import Slice, StoredObject, sha256_of
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
THREADS = 4


class Tar:
    """parts.tar, read in place. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._where: dict[str, tuple[int, int]] = {}
        if path.stat().st_size == 0:
            return
        try:
            with tarfile.open(path, "r:") as tar:
                self._where = {member.name: (member.offset_data, member.size) for member in tar}
        except tarfile.TarError as error:
            raise DamagedError(f"{path.name} is not a tar file: {error}. Replay the run from the start.") from None

    @contextmanager
    def member(self, folder: str, key: str) -> Iterator[BinaryIO]:
        """The bytes that go to an object key: member `<folder>/<last name of the key>`."""
        name = f"{folder}/{key.rsplit('/', 1)[-1]}"
        if name not in self._where:
            raise DamagedError(f"{self._path.name} lacks {name}. Replay the run from the start.")
        with self._path.open("rb") as file:
            yield cast("BinaryIO", Slice(file, *self._where[name]))


def uuid_numbers(stream: BinaryIO) -> set[int]:
    """Distinct uuids of a part (gzip of NDJSON), each as the lower 64 bits of its MD5: their sum is the uuid digest."""
    decoder = msgspec.json.Decoder(_Uuid)
    numbers = set()
    with igzip.IGzipFile(fileobj=stream) as lines:  # type: ignore[no-untyped-call]
        for line in lines:
            if line.isspace():  # no row, for Snowflake too
                continue
            uuid = decoder.decode(line).uuid
            digest = hashlib.md5(uuid.encode(), usedforsecurity=False).digest()
            numbers.add(int.from_bytes(digest[8:], "big"))
    return numbers


class _Uuid(msgspec.Struct):
    uuid: str


class Uploader:
    """Uploads hours of one manifest. Every method may be repeated, run by two runs at once, or be killed anywhere:
    parts go first, the version after them, markers last.
    """

    def __init__(self, ledger: HourLedger, tar: Tar, rehearsal: datetime | None) -> None:
        self._ledger = ledger
        self._rehearsal = rehearsal  # its clock, in place of the export's
        self._store = ledger.store
        self._tar = tar

    def hour(self, line: ManifestLine) -> tuple[list[UploadedLine], Counter[str]]:
        """Publishes the export of an hour, if there is one, and lists every version of it that must be loaded."""
        counts: Counter[str] = Counter()
        try:
            if line.manifest is not None and line.outcome in {"exported", "empty"}:
                self._publish(line.hour, line.manifest, counts)
                self._ledger.mark_rechecked(line.hour, self._rehearsal or _moment(line.manifest.exported_at))
            return self._to_load(line.hour, counts), counts
        except ConfigurationError:
            raise
        except PipelineError as error:
            log.error("%s: %s", line.hour, error)  # noqa: TRY400 (the message is the whole story)
            counts["errors"] += 1
            return [UploadedLine(hour=line.hour, version=line.version, parts=[], error=str(error))], counts

    def _to_load(self, hour: str, counts: Counter[str]) -> list[UploadedLine]:
        lines = []
        for number in self._ledger.entry(hour).unloaded:
            parts = [
                UploadedPart(key=part.key, rows=part.rows, uploaded_at=part.uploaded_at)
                for part in self._ledger.read(hour, number).manifest.parts
                if part.key
            ]
            if parts:
                lines.append(UploadedLine(hour=hour, version=number, parts=parts))
            else:
                self._ledger.mark_empty(hour, number)
                counts["empty"] += 1
        return lines

    def _publish(self, hour: str, manifest: Manifest, counts: Counter[str]) -> None:
        """Writes a new version unless the newest one holds the same uuids, or a newer export brought them all."""
        while True:
            entry = self._ledger.entry(hour)
            earlier = list(self._ledger.versions(entry))
            newest = earlier[-1] if earlier else None
            if newest and _same(newest.manifest, manifest) and self._restored(newest.manifest, manifest, counts):
                counts["unchanged"] += 1
                return
            version = self._compared(hour, manifest, earlier)
            if newest and version.new == 0 and manifest.exported_at < newest.manifest.exported_at:
                counts["unchanged"] += 1  # an old export, uploaded late
                return
            parts = [self._put_part(part, counts) for part in manifest.parts]
            version = msgspec.structs.replace(version, manifest=msgspec.structs.replace(manifest, parts=parts))
            if self._ledger.publish(version):
                counts.update(versions=1, new=version.new, gone=version.gone)
                if earlier:
                    log.info("%s: version %d, new %d, gone %d", hour, version.version, version.new, version.gone)
                return
            # Another run published this number meanwhile: compare with that one.

    def _restored(self, newest: Manifest, manifest: Manifest, counts: Counter[str]) -> bool:
        """Whether all parts of the newest version lie in S3, after lost ones that this export holds were put again."""
        own = {part.key: part for part in manifest.parts}
        lost = [part.key for part in newest.parts if part.key and self._store.head(part.key) is None]
        if any(key not in own for key in lost):
            return False
        for key in lost:
            self._put_part(own[key], counts)
        return True

    def _compared(self, hour: str, manifest: Manifest, earlier: list[Version]) -> Version:
        """The next version of the hour, with what it adds to all earlier ones and lacks of them."""
        version = Version(
            hour=hour,
            version=len(earlier) + 1,
            manifest=manifest,
            written_at=_utc_text(datetime.now(UTC)),
            tool=__version__,
            new=manifest.uuids,
            union_uuids=manifest.uuids,
            union_digest=manifest.digest,
        )
        if not earlier:
            return version
        newest = earlier[-1]
        if _same(newest.manifest, manifest):
            return msgspec.structs.replace(
                version, new=0, gone=newest.gone, union_uuids=newest.union_uuids, union_digest=newest.union_digest
            )
        own: set[int] = set()
        for part in manifest.parts:
            if part.key:
                with self._tar.member("parts", part.key) as stream:
                    own |= uuid_numbers(stream)
        before: set[int] = set()
        for key in {part.key for old in earlier for part in old.manifest.parts if part.key}:
            if self._store.head(key) is None:
                log.warning("%s: %s is gone from S3; its uuids are missing in the comparison", hour, key)
                continue
            with self._store.reading(key) as stream:
                before |= uuid_numbers(stream)
        union = own | before
        return msgspec.structs.replace(
            version,
            new=len(own - before),
            gone=len(before - own),
            union_uuids=len(union),
            union_digest=str(sum(union)),
        )

    def _put_part(self, part: Part, counts: Counter[str]) -> Part:
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
        with self._tar.member(folder, key) as stream:
            sha256 = sha256_of(stream)
            size = stream.tell()
            if expected is not None and sha256 != expected:
                raise DamagedError(f"the tar member of {key} is not what was extracted. Replay the run from the start.")
            stored = self._store.head(key)
            if stored is None:
                stored = StoredObject(key, size, sha256, datetime.now(UTC))
                stream.seek(0)
                self._store.put(key, stream, sha256, {"member": part.member})
                counts.update(objects=1, bytes=size)
                return stored
            if not stored.sha256:
                with self._store.reading(key) as body:
                    stored = StoredObject(key, stored.bytes, sha256_of(body), stored.modified)
            counts["skipped"] += 1
            if (stored.sha256, stored.bytes) == (sha256, size) or (part.quarantine_key and self._same_lines(key)):
                return stored
        message = (
            f"{key} holds other bytes than this export. Nothing was overwritten. "
            "Find out who wrote it (S3 access log), move it away, then replay the run."
        )
        raise DamagedError(message)

    def _same_lines(self, key: str) -> bool:
        """A cleaned part is named by its lines: another version of gzip may have packed the same ones."""
        with self._tar.member("parts", key) as own, self._store.reading(key) as other:
            return sha256_of(gzip.GzipFile(fileobj=own)) == sha256_of(gzip.GzipFile(fileobj=other))


def _same(one: Manifest, other: Manifest) -> bool:
    return (one.digest, one.uuids) == (other.digest, other.uuids)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _utc_text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def run(*, manifest: Path, parts: Path, output: Path) -> dict[str, int]:
    """Uploads every exported hour and lists what must be loaded. An hour that fails becomes a line with its error.

    Raises ConfigurationError (bucket, keys, rights, clock), which stops the run. Returns counts: objects and bytes
    put, objects skipped, versions written, exports unchanged, empty hours, new and gone uuids, errors, hours to load.
    """
    settings = load(BucketSettings)
    uploader = Uploader(HourLedger(settings), Tar(parts), settings.pipeline_now)
    lines = list(read_lines(manifest, ManifestLine))
    counts: Counter[str] = Counter()

    def results() -> Iterable[UploadedLine]:
        with ThreadPoolExecutor(THREADS) as pool:
            for to_load, hour_counts in pool.map(uploader.hour, lines):
                counts.update(hour_counts)
                counts["hours"] += any(not line.error for line in to_load)
                yield from to_load

    write_lines(output, results())
    names = ("hours", "objects", "skipped", "bytes", "versions", "unchanged", "empty", "new", "gone", "errors")
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
