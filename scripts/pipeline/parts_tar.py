"""Reads members of parts.tar in place, without unpacking them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from scripts.pipeline.errors import DamagedError
from scripts.pipeline.records import Part


class Members:
    """Bytes for objects: members of parts.tar, read in place, and files. Safe to use from several threads."""

    def __init__(self, tar: Path | None = None) -> None:
        self._where: dict[str, tuple[Path, int, int]] = {}
        if tar is None or tar.stat().st_size == 0:
            return
        try:
            with tarfile.open(tar, "r:") as members:
                self._where = {member.name: (tar, member.offset_data, member.size) for member in members}
        except tarfile.TarError as error:
            raise DamagedError(f"{tar.name} is not a tar file: {error}. Replay the run from the start.") from None

    @contextmanager
    def member(self, folder: str, key: str) -> Iterator[BinaryIO]:
        """The bytes that go to an object key: member `<folder>/<last name of the key>`."""
        name = _member_name(folder, key)
        if name not in self._where:
            raise DamagedError(f"what was extracted lacks {name}. Replay the run from the start.")
        path, offset, size = self._where[name]
        with path.open("rb") as file:
            yield cast("BinaryIO", Slice(file, offset, size))

    def add(self, folder: str, key: str, path: Path) -> None:
        """A file of its own in place of a tar member."""
        self._where[_member_name(folder, key)] = (path, 0, path.stat().st_size)

    def keep_original(self, part: Part) -> None:
        """The part's bytes also go to quarantine, under the same last name."""
        self._where[_member_name("quarantine", part.key)] = self._where[_member_name("parts", part.key)]


def _member_name(folder: str, key: str) -> str:
    return f"{folder}/{key.rsplit('/', 1)[-1]}"


class Slice(io.RawIOBase):
    """`size` bytes of a file from `offset`, as a file of their own (a tar member, without unpacking it)."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._offset + self._at)
        data = self._file.read(min(len(buffer), max(0, self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
