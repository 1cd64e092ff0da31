"""The herd, and what it goes through."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tests.herd.event_source import EventSource
from tests.herd.http2 import Http2EventSource

if TYPE_CHECKING:
    from tests.behaviour.server import Server

LOOK_S = 0.05


@dataclass(frozen=True)
class Return:
    """What became of a herd: how many came back, after how long, and what they were answered."""

    came: int
    closed: int
    half_s: float
    last_s: float
    away_s: float
    answers: Counter[str]


class Herd:
    """So many clients of one address."""

    def __init__(self, port: int, size: int, *, http2: bool = False) -> None:
        make = Http2EventSource if http2 else EventSource
        self.clients = [make(port, "/events?filter=.x") for _ in range(size)]

    @property
    def closed(self) -> int:
        """How many are closed for good."""
        return sum(one.state == "closed" for one in self.clients)

    def streams(self, least: int) -> int:
        """How many have had so many streams."""
        return sum(one.streams >= least for one in self.clients)

    async def all_have(self, streams: int, patience_s: float) -> list[float]:
        """Wait until all of them have had so many streams, but those that are closed for good;
        when each number of them had, in seconds from now. Shorter when the patience ends.
        """
        until = (began := trio.current_time()) + patience_s
        times: list[float] = []
        while len(times) + self.closed < len(self.clients) and trio.current_time() < until:
            await trio.sleep(LOOK_S)
            new = self.streams(streams) - len(times)
            times += [trio.current_time() - began] * new
        return times

    async def restart(self, server: Server, away_s: float, patience_s: float) -> Return:
        """Restart the server under them; it is away for so long."""
        before = [one.streams for one in self.clients]
        assert len(set(before)) == 1, "not all were there"
        for one in self.clients:
            one.answers.clear()
        began = trio.current_time()
        server.terminate()
        await trio.to_thread.run_sync(server.stop)
        await trio.sleep(away_s)
        await trio.to_thread.run_sync(server.start, server.port)
        waited = trio.current_time() - began
        times = [waited + at for at in await self.all_have(before[0] + 1, patience_s)]
        answers = sum((one.answers for one in self.clients), Counter[str]())
        half, last = (times[len(times) // 2], times[-1]) if times else (0.0, 0.0)
        return Return(len(times), self.closed, half, last, waited, answers)


@asynccontextmanager
async def herd(
    port: int, size: int, patience_s: float, *, http2: bool = False
) -> AsyncIterator[Herd]:
    """A herd whose every client is open."""
    those = Herd(port, size, http2=http2)
    # Holds the life of each client; cancelled at the end.
    async with trio.open_nursery() as lives:
        for one in those.clients:
            lives.start_soon(one.run)  # noqa: ASYNC113 # they begin in the wait below
        await those.all_have(1, patience_s)
        assert those.streams(1) == size, f"{those.streams(1)} of {size} came at all"
        yield those
        lives.cancel_scope.cancel()
