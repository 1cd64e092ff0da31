"""Bystanders: healthy subscribers beside a hostile client, who must not notice it.

    async with bystanders(server, api) as healthy:
        ...                       # be hostile
    assert healthy.ticks > ...

Inside, a number in the document is counted up, each time as soon as all of them have seen the last:
every change has to reach each of them, in order, and within `LATENCY_S`.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import AsyncIterator

import trio

from .clients import TRANSPORTS, Api, Watch, watch
from .server import Server

# Not to wait for anybody's deadline, which is 10 s and more; generous, for busy machines.
LATENCY_S = 5.0


class Bystanders:
    """How they fared: `ticks` rounds, the slowest of which took `slowest_s` seconds."""

    def __init__(self) -> None:
        self.ticks = 0
        self.slowest_s = 0.0
        self._ending = False

    async def more(self, ticks: int) -> None:
        """Wait for so many rounds more."""
        wanted = self.ticks + ticks
        with trio.fail_after(LATENCY_S * ticks):
            while self.ticks < wanted:  # noqa: ASYNC110 # rounds take what they take
                await trio.sleep(0.001)

    def end(self) -> None:
        """This round is the last. (Cut off within a request, httpx would leave warnings.)"""
        self._ending = True

    async def _live(self, api: Api, watches: list[Watch]) -> None:
        while not self._ending:
            began = time.monotonic()
            self.ticks += 1
            with trio.move_on_after(2 * LATENCY_S) as scope:
                await api.put(".tick", self.ticks)
                for one in watches:
                    frame = await one.next(math.inf)
                    assert frame["type"] == "update", frame
                    assert frame["value"] == self.ticks, "each change, in order"
            assert not scope.cancelled_caught, "they wait for others"
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)


@contextlib.asynccontextmanager
async def bystanders(server: Server, api: Api) -> AsyncIterator[Bystanders]:
    """Watch `.tick` on both transports for as long as the context lasts."""
    healthy = Bystanders()
    await api.put(".tick", 0)
    async with contextlib.AsyncExitStack() as stack:
        watches = [
            await stack.enter_async_context(watch(server, transport, ".tick"))
            for transport in TRANSPORTS
        ]
        for one in watches:
            assert await one.snapshot() == [{"path": ".tick", "value": 0}]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(healthy._live, api, watches)  # noqa: ASYNC113 # the next line waits for it
            await healthy.more(3)
            yield healthy
            await healthy.more(3)
            healthy.end()
    assert healthy.slowest_s < LATENCY_S, healthy.slowest_s
