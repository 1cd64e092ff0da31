"""The drain: how all clients are sent away before the server ends, without a stampede after it.

Each is told a time of its own to come back after, drawn evenly from a window that grows with their
number: so many come back in a second, however many they are.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final

import trio

from triode.app.wire import end_reasons

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.app.service.triode import Triode

# Time for the next server to be there.
RETRY_MIN_MS: Final = 500
WINDOW_MIN_MS: Final = 1000
YIELD_CLIENTS: Final = 100
# Between looks at what still hangs at the end.
CUT_EVERY_S: Final = 0.2


def retry_window_ms(settings: Settings, clients: int) -> float:
    """The length of the window in which so many clients come back."""
    return max(float(WINDOW_MIN_MS), clients * settings.retry_spread_s * 1000)


async def say_goodbye(triode: Triode) -> None:
    """End every client; what each is owed goes out before its goodbye. Nobody new is taken."""
    triode.draining = True
    clients = list(triode.hub.clients.values())
    window_ms = retry_window_ms(triode.settings, len(clients))
    for index, client in enumerate(clients):
        retry_ms = RETRY_MIN_MS + round(random.uniform(0, window_ms))  # noqa: S311 # spreads a herd
        triode.hub.end(client, end_reasons.RESTART, retry_ms=retry_ms)
        if index % YIELD_CLIENTS == YIELD_CLIENTS - 1:
            await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


async def end_with_hypercorn(triode: Triode) -> None:
    """When Hypercorn's end begins: goodbye to all, and no hanging for those who do not take it.
    Runs until cancelled.
    """
    graceful_s = await triode.below.wait_terminated()
    if triode.draining:
        return
    deadline = trio.current_time() + min(triode.settings.drain_s, graceful_s)
    await say_goodbye(triode)
    await trio.sleep_until(deadline)
    while True:
        triode.below.cut(math.inf)
        await trio.sleep(CUT_EVERY_S)
