"""A file that holds the last of what was put into it, and outlives a `kill -9`.

It is mapped into memory: to put something into it is to copy it, without a call of the system and
without a wait. What a killed process had copied is in the file. What a cut of the power leaves of
it nobody knows: so it has a tag that says what it belongs to, and to which run of the machine.

A file that somebody else makes shorter is no longer used, and goes.

head    TAG (64 bytes), where the oldest record begins and the newest one ends (8 bytes each),
        counted from the first that was ever put into it
then    records, each SIZE and CRC-32 (4 bytes each) and as many bytes; the newest go in the place
        of the oldest
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TAG_BYTES: Final = 64
HEAD_BYTES: Final = TAG_BYTES + 16
RECORD_HEAD_BYTES: Final = 8
# It is not made where there is not so many times its size: others need the room more.
SPARE: Final = 4


class RingDamaged(ValueError):
    """What is there is not what was put in."""


class RingCut(OSError):
    """Somebody made the file shorter while it was in use."""


def carry_over(path: Path, size: int, tag: bytes) -> None:
    """Give the file another size, with the newest of its records that fit. Killed meanwhile, it is
    as it was. Nothing is done if it has that size, or is not there. Waits for the disk. Raises
    `RingDamaged`, and `OSError` (there is no room): then the file is gone.
    """
    try:
        old_size = path.stat().st_size - HEAD_BYTES
    except FileNotFoundError:
        return
    if old_size in (size, -HEAD_BYTES):
        return
    if old_size <= RECORD_HEAD_BYTES:
        raise RingDamaged("it was cut short")
    with closing(Ring(path, old_size, tag)) as old:
        beside = path.with_name(f"{path.name}.new")
        beside.unlink(missing_ok=True)  # of a process that was killed
        try:
            with closing(Ring(beside, size, tag)) as new:
                for record in old.records():
                    new.put(record)
            beside.replace(path)
        except OSError:
            path.unlink(missing_ok=True)  # it must not be believed when rooms have gone on
            raise
        finally:
            beside.unlink(missing_ok=True)


class Ring:
    """Not to be opened twice. All but opening it is a copy in memory."""

    def __init__(self, path: Path, size: int, tag: bytes) -> None:
        """Open it, or make it, with so many bytes for records. What is of another tag or size is
        thrown away. Waits for the disk. Raises `OSError`: there is no room, too.
        """
        assert len(tag) <= TAG_BYTES
        self._room = size
        self._path = path
        self._file = opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(opened).st_size != HEAD_BYTES + size:
                os.ftruncate(opened, 0)
                if shutil.disk_usage(path.parent).free < SPARE * size:
                    raise OSError(errno.ENOSPC, f"the disk is too full for {path}")
                # Not only its length: a full disk would end the process when it is written to.
                os.posix_fallocate(opened, 0, HEAD_BYTES + size)
            self._map = mmap.mmap(opened, HEAD_BYTES + size)
        except OSError:
            path.unlink()
            os.close(opened)
            raise
        self._begin, self._end = self._number(0), self._number(1)
        tag = tag.ljust(TAG_BYTES, b"\0")
        is_ours = self._map[:TAG_BYTES] == tag
        if not (is_ours and 0 <= self._end - self._begin <= size):
            self.clear()
            self._map[:TAG_BYTES] = tag

    def clear(self) -> None:
        """Throw all away."""
        self._begin = self._end = 0
        # One after the other: whenever it is killed, no more is said to be there than is.
        for place in (1, 0):
            self._note(place, 0)

    def records(self) -> Iterator[bytes]:
        """All that is there, the oldest first. Raises `RingDamaged`."""
        at, end = self._begin, self._end
        while at < end:
            size, checksum = self._size(at), self._read(at + 4, 4)
            body = at + RECORD_HEAD_BYTES
            at = body + size
            record = self._read(body, size) if at <= end else b""
            if at > end or _checksum(record) != checksum:
                raise RingDamaged("a record is not as it was written")
            yield record

    def put(self, record: bytes) -> None:
        """Put one in; the oldest go to make room. One that is larger than the ring is left out, and
        so are all before it. Raises `RingCut`; then the file is gone.
        """
        # To write behind the end of a mapped file kills the process. This is not sure (it may be
        # cut in the next moment), but cheap: a fifth of a microsecond.
        if os.lseek(self._file, 0, os.SEEK_END) != HEAD_BYTES + self._room:
            self._path.unlink(missing_ok=True)
            raise RingCut(errno.EIO, f"{self._path} was made shorter or longer while in use")
        size = RECORD_HEAD_BYTES + len(record)
        if size > self._room:
            self.clear()
            return
        end = self._end + size
        begin = self._begin
        while end - begin > self._room:
            begin += RECORD_HEAD_BYTES + self._size(begin)
        if begin != self._begin:
            self._begin = begin
            self._note(0, begin)
        self._write(self._end, len(record).to_bytes(4, "little") + _checksum(record))
        self._write(self._end + RECORD_HEAD_BYTES, record)
        # Last: killed before this, it has not been put in.
        self._end = end
        self._note(1, end)

    def close(self) -> None:
        """Let go of it."""
        self._map.close()
        os.close(self._file)

    def _number(self, place: int) -> int:
        at = TAG_BYTES + 8 * place
        return int.from_bytes(self._map[at : at + 8], "little")

    def _note(self, place: int, number: int) -> None:
        at = TAG_BYTES + 8 * place
        self._map[at : at + 8] = number.to_bytes(8, "little")

    def _size(self, at: int) -> int:
        return int.from_bytes(self._read(at, 4), "little")

    def _read(self, at: int, size: int) -> bytes:
        at = at % self._room
        first = min(size, self._room - at)
        data = self._map[HEAD_BYTES + at : HEAD_BYTES + at + first]
        return data + self._map[HEAD_BYTES : HEAD_BYTES + size - first]

    def _write(self, at: int, data: bytes) -> None:
        at = at % self._room
        first = min(len(data), self._room - at)
        self._map[HEAD_BYTES + at : HEAD_BYTES + at + first] = data[:first]
        if first < len(data):
            self._map[HEAD_BYTES : HEAD_BYTES + len(data) - first] = data[first:]


def _checksum(record: bytes) -> bytes:
    # Begun with 1: so zeros are no record.
    return crc32(record, 1).to_bytes(4, "little")
