"""A log in memory: for tests, and to see what a log costs without a disk."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from triode.app.log.log import Batch, LogRefused, Opened, Snapshot, require_joined

if TYPE_CHECKING:
    from triode.store.lineage import Lineage

READ_BYTES: Final = 1024 * 1024
SNAPSHOTS_KEPT: Final = 2


class MemoryLog:
    """Keeps all until the object is gone. It can be opened again after it was closed, as a file
    can be.
    """

    def __init__(self, lineage: Lineage) -> None:
        self._lineage = lineage
        self._batches: list[Batch] = []
        self._new: deque[Batch] = deque()
        self._last = 0
        self._whole: dict[Snapshot, list[bytes]] = {}
        self._making: tuple[Snapshot, list[bytes]] | None = None
        self._made = 0
        self._open = False

    async def open(self) -> Opened:
        """Raises `LogRefused` while it is open."""
        await trio.lowlevel.checkpoint()
        if self._open:
            raise LogRefused("this log is in use already")
        self._open = True
        self._making = None
        self._new.clear()
        floor = self._batches[0].first - 1 if self._batches else self._last
        return Opened(self._lineage, floor, self._last, list(self._whole)[::-1])

    @property
    def is_shared(self) -> bool:
        """It is this process's alone."""
        return False

    async def append(self, data: bytes, count: int) -> None:
        """Keep a batch."""
        await trio.lowlevel.checkpoint()
        assert self._open
        batch = Batch(self._last + 1, self._last + count, data)
        self._batches.append(batch)
        self._last = batch.last
        self._new.append(batch._replace(is_own=True))

    def take(self) -> Batch | None:
        """The next batch that was appended."""
        return self._new.popleft() if self._new else None

    async def news(self) -> None:
        """Nobody else writes."""
        await trio.sleep_forever()

    async def read(self, since: int) -> list[Batch]:
        """The next batches. Raises `LogRefused`."""
        await trio.lowlevel.checkpoint()
        found: list[Batch] = []
        size = 0
        for batch in self._batches:
            if batch.last > since:
                found.append(batch)
                size += len(batch.data)
                if size > READ_BYTES:
                    break
        require_joined(since, found)
        return found

    async def begin_snapshot(self, seq: int) -> int:
        """A new snapshot; its id."""
        await trio.lowlevel.checkpoint()
        self._made += 1
        self._making = Snapshot(self._made, seq, 0), []
        return self._made

    async def add_piece(self, snapshot: int, data: bytes) -> None:
        """Its next piece."""
        await trio.lowlevel.checkpoint()
        self._being_made(snapshot)[1].append(data)

    async def finish_snapshot(self, snapshot: int) -> None:
        """It is whole; older ones go, and the log before them."""
        await trio.lowlevel.checkpoint()
        begun, pieces = self._being_made(snapshot)
        self._whole[begun._replace(pieces=len(pieces))] = pieces
        self._making = None
        while len(self._whole) > SNAPSHOTS_KEPT:
            del self._whole[next(iter(self._whole))]
        oldest = next(iter(self._whole)).seq
        self._batches = [batch for batch in self._batches if batch.last > oldest]

    def _being_made(self, snapshot: int) -> tuple[Snapshot, list[bytes]]:
        assert self._making is not None
        assert self._making[0].id == snapshot
        return self._making

    async def read_piece(self, snapshot: int, number: int) -> bytes:
        """A piece, numbered from 0."""
        await trio.lowlevel.checkpoint()
        for whole, pieces in self._whole.items():
            if whole.id == snapshot:
                return pieces[number]
        raise LogRefused(f"there is no snapshot {snapshot}")

    async def floor(self) -> int:
        """The entries after this one can be read."""
        await trio.lowlevel.checkpoint()
        return self._batches[0].first - 1 if self._batches else self._last

    async def backup(self) -> int:
        """There is no such thing."""
        await trio.lowlevel.checkpoint()
        raise LogRefused("this log is in memory: there is no file of it")

    async def has_room(self) -> bool:
        """Always."""
        await trio.lowlevel.checkpoint()
        return True

    async def tidy(self) -> None:
        """There is nothing to do."""
        await trio.lowlevel.checkpoint()

    @property
    def bytes(self) -> int:
        """Of the batches after the newest snapshot."""
        newest = next(reversed(self._whole)).seq if self._whole else 0
        return sum(len(batch.data) for batch in self._batches if batch.last > newest)

    def disk_bytes(self) -> int:
        """Of all that is kept."""
        pieces = [piece for whole in self._whole.values() for piece in whole]
        return sum(map(len, pieces)) + sum(len(batch.data) for batch in self._batches)

    async def aclose(self) -> None:
        """It may be opened again."""
        self._open = False
        await trio.lowlevel.checkpoint()
