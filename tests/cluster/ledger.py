"""What writers were answered, and whether it is so: nothing acknowledged is missing, nothing is
there twice, nothing that was surely refused is there, and all nodes have the same.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import trio

from tests.cluster.waiting import until
from triode.app.service.triode import Triode
from triode.app.wire.refusal import Refusal
from triode.store.operation import Append, Set


class Ledger:
    """Each write appends a name of its own to `.all`, at one of several nodes in turn."""

    def __init__(self, *nodes: Triode) -> None:
        self.nodes = list(nodes)
        self.acknowledged: dict[str, str] = {}
        self.refused: set[str] = set()
        self.unknown: set[str] = set()
        self._names = itertools.count()
        self._stop = False

    async def begin(self) -> None:
        """The place that is written to."""
        await self.nodes[0].write(Set(("all",), []))

    async def write(self) -> None:
        """One write; keeps what it was answered."""
        number = next(self._names)
        name = f"w{number}"
        try:
            position = await self.nodes[number % len(self.nodes)].write(Append(("all",), name))
            self.acknowledged[name] = str(position)
        except Refusal as refusal:
            is_known = refusal.title != "Outcome unknown"
            (self.refused if is_known else self.unknown).add(name)

    async def run(
        self, writers: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write until told to stop."""

        async def writer() -> None:
            while not self._stop:
                await self.write()
                await trio.sleep(0.002)

        async with trio.open_nursery() as nursery:
            for _ in range(writers):
                nursery.start_soon(writer)
            task_status.started()

    def stop(self) -> None:
        """No more are begun."""
        self._stop = True

    async def wait_for(self, more: int) -> None:
        """Until so many more were acknowledged."""
        wanted = len(self.acknowledged) + more
        await until(lambda: len(self.acknowledged) >= wanted)

    async def check(self) -> None:
        """Of all nodes, when they have come to one position."""
        nodes = self.nodes
        await until(lambda: len({node.store.position for node in nodes}) == 1)
        assert len({str(node.store.checksum) for node in nodes}) == 1
        roots = [node.store.document.root for node in nodes]
        assert all(root == roots[0] for root in roots)
        root: Any = roots[0]
        there = Counter(root["all"])
        assert not [name for name in self.acknowledged if not there[name]], "acknowledged, and lost"
        assert not [name for name in self.refused if there[name]], "refused, and there"
        assert set(there.values()) <= {1}, "twice"
        positions = list(self.acknowledged.values())
        assert len(set(positions)) == len(positions), "one position, two writes"
