"""Shutdown: how all clients are sent away before the server ends, without a stampede after it.

Each is told a time of its own to come back after, see `return_times`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from triode.app.service.return_times import ReturnTimes
from triode.app.wire import end_reasons

if TYPE_CHECKING:
    from triode.app.service.triode import Triode

YIELD_CLIENTS: Final = 100
# Between looks at what still hangs at the end.
CUT_EVERY_S: Final = 0.2


async def say_goodbye(triode: Triode) -> None:
    """End every client; what each is owed goes out before its goodbye. Nobody new is taken."""
    triode.draining = True
    triode.hub.rooms.keep_many()
    clients = list(triode.hub.clients.values())
    times = ReturnTimes(triode.settings, clients, restart=True)
    for index, client in enumerate(clients):
        triode.hub.end(client, end_reasons.RESTART, retry_ms=times.next_ms(client))
        if index % YIELD_CLIENTS == YIELD_CLIENTS - 1:
            await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


async def end_with_hypercorn(triode: Triode) -> None:
    """When Hypercorn's end begins: goodbye to all, and no hanging for those who do not take it.
    Runs until cancelled.
    """
    graceful_s = await triode.hypercorn.wait_terminated()
    if triode.draining:
        return
    deadline = trio.current_time() + min(triode.settings.drain_s, graceful_s)
    await say_goodbye(triode)
    await trio.sleep_until(deadline)
    while True:
        triode.hypercorn.cut(math.inf)
        await trio.sleep(CUT_EVERY_S)
