"""A node without a document: what it has is the list of batches that it has applied."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio

from triode.app.log.log import Alive, Anew, Batch, LogError, SeedWanted, Snapshot
from triode.app.log.shared.valkey import ValkeyLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.app.config.log_address import LogAddress


class LogNode:
    """`applied` in the order of the log; `reasons` for which it began anew."""

    def __init__(self, address: LogAddress) -> None:
        self.log = ValkeyLog(address)
        self.applied: list[str] = []
        self.reasons: list[str] = []
        self.seq = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started when it has what the log has a snapshot of."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.log.run)
                await self._open()
                task_status.started()
                await self._follow()
        finally:
            with trio.CancelScope(shield=True):
                # A few seconds at most.
                await self.log.aclose()

    async def _open(self) -> None:
        opened = await self.log.open()
        if not opened.snapshots:
            await self._save(self.log.finish_snapshot)
            opened = await self.log.open_again()
        await self._begin(opened.snapshots)

    async def _follow(self) -> None:
        while True:
            await self.log.news()
            while (news := self.log.take()) is not None:
                await self._take(news)

    async def _begin(self, snapshots: Sequence[Snapshot]) -> None:
        newest = snapshots[0]
        self.applied = json.loads(await self.log.read_piece(newest.id, 0))
        self.seq = newest.seq
        self.log.begin_at(newest)

    async def _save(self, finish: Any) -> None:
        number = await self.log.begin_snapshot(self.seq)
        await self.log.add_piece(number, json.dumps(self.applied).encode())
        await finish(number)

    async def _take(self, news: object) -> None:
        match news:
            case Batch():
                self.applied.append(news.data.decode())
                self.seq = news.last
            case Anew():
                self.reasons.append(news.reason)
                try:
                    await self._begin(news.snapshots)
                except LogError:
                    self.log.begin_failed()
            case SeedWanted():
                try:
                    await self._save(self.log.finish_seed)
                except LogError:
                    self.log.seed_failed()
            case Alive() | _:
                pass
