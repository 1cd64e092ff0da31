"""A shared log in memory: several Triodes of one process write to it, each through a view."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from triode.app.log.log import Batch, NodeGone, Opened, Snapshot, Standing
from triode.app.log.memory import MemoryLog
from triode.store.change import Position
from triode.store.lineage import Lineage


class SharedMemory(MemoryLog):
    """What the views have in common."""

    def __init__(self) -> None:
        super().__init__(Lineage("e0"))
        self.writers: list[View] = []
        self.savers: list[View] = []
        self.told: dict[str, bytes] = {}
        self.come = trio.lowlevel.ParkingLot()


class NoPost:
    """Nobody can be asked."""

    waiting_bytes = 0

    async def ask(self, node: str, question: bytes, within_s: float) -> bytes:
        await trio.lowlevel.checkpoint()
        raise NodeGone(node)

    async def run(self, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        await trio.sleep_forever()


class View(MemoryLog):
    """The log as one process has it. While `is_held`, it hears nothing of what is written."""

    def __init__(self, memory: SharedMemory) -> None:
        super().__init__(Lineage("e0"))
        self._memory = memory
        memory.savers.append(self)
        self._taken = 0
        self.is_held = False

    @property
    def is_shared(self) -> bool:
        return True

    async def open(self) -> Opened:
        if not self._memory._open:
            await self._memory.open()
        self._taken = len(self._memory.writers)
        memory = self._memory
        return Opened(memory._lineage, 0, memory._last, list(memory._whole)[::-1])

    async def append(self, data: bytes, count: int) -> None:
        memory = self._memory
        await memory.append(data, count)
        memory.writers.append(self)
        memory.come.unpark_all()

    def take(self) -> Batch | None:
        memory = self._memory
        if self.is_held or self._taken >= len(memory._batches):
            return None
        batch, writer = memory._batches[self._taken], memory.writers[self._taken]
        self._taken += 1
        return batch._replace(is_own=writer is self)

    async def news(self) -> None:
        while self.is_held or self._taken >= len(self._memory._batches):
            await self._memory.come.park()

    async def read(self, since: int) -> list[Batch]:
        return await self._memory.read(since)

    async def begin_snapshot(self, seq: int) -> int:
        return await self._memory.begin_snapshot(seq)

    async def add_piece(self, snapshot: int, data: bytes) -> None:
        await self._memory.add_piece(snapshot, data)

    async def finish_snapshot(self, snapshot: int) -> None:
        # Two stay; the log stays whole, so that the views' places in it do.
        batches = self._memory._batches
        await self._memory.finish_snapshot(snapshot)
        self._memory._batches = batches

    async def read_piece(self, snapshot: int, number: int) -> bytes:
        return await self._memory.read_piece(snapshot, number)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    # What only a server has: this one never goes, and nothing of it is lost.

    async def run(self) -> None:
        await trio.sleep_forever()

    async def open_again(self) -> Opened:
        return await self.open()

    def begin_at(self, snapshot: Snapshot | None) -> None:
        first = 0 if snapshot is None else snapshot.seq
        self._taken = sum(batch.last <= first for batch in self._memory._batches)

    def begin_failed(self) -> None:
        raise AssertionError("there is nothing that could fail")

    async def finish_seed(self, snapshot: int) -> None:
        raise AssertionError("nobody wants one")

    def seed_failed(self) -> None:
        raise AssertionError("nobody wants one")

    @property
    def is_seeding(self) -> bool:
        return False

    @property
    def node(self) -> str:
        return f"node{id(self)}"

    @property
    def is_live(self) -> bool:
        return True

    @property
    def standing(self) -> Standing:
        nodes = [view.node for view in self._memory.savers]
        saver = nodes[0]
        return Standing("memory", "open", "", 1, self._memory._last, nodes, saver, 0, 0, 0.0)

    @property
    def post(self) -> NoPost:
        return NoPost()

    async def tell(self, text: bytes) -> dict[str, bytes]:
        await trio.lowlevel.checkpoint()
        self._memory.told[self.node] = text
        return dict(self._memory.told)

    async def end(self) -> Position:
        while self.is_held:
            await self._memory.come.park()
        return Position(self._memory._lineage.epoch, self._memory._last)

    @property
    def is_saver(self) -> bool:
        return self._memory.savers[:1] == [self]

    @property
    def needs_snapshot(self) -> bool:
        return False

    def hold(self) -> None:
        """From now on it hears nothing."""
        self.is_held = True

    def let_go(self) -> None:
        """It hears all again."""
        self.is_held = False
        self._memory.come.unpark_all()
