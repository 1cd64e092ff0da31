"""Many clients at once: which ones a request means, and going through them without keeping the
others waiting.
"""

from __future__ import annotations

from heapq import nlargest
from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.service.client_info import backlog, parting, portrait, state_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence

    from triode.app.delivery.hub import Hub
    from triode.app.delivery.subscriber import Client
    from triode.app.runtime.clock import Clock

# So many clients are looked at, or ended, between two checkpoints: about a millisecond.
YIELD_CLIENTS: Final = 100


def select(hub: Hub, ids: Sequence[str], tags: Mapping[str, str]) -> list[Client]:
    """The clients that have one of `ids`, if any are given, and carry all of `tags`. No selector
    selects nobody.
    """
    if not ids:
        return hub.tags.select(tags)
    found = [hub.clients[id] for id in dict.fromkeys(ids) if id in hub.clients]
    if not tags:
        return found
    carriers = set(hub.tags.select(tags))
    return [client for client in found if client in carriers]


async def paced(clients: Iterable[Client]) -> AsyncGenerator[Client, None]:
    """Those of `clients` that are still there when their turn comes, with checkpoints between."""
    for index, client in enumerate(list(clients), start=1):
        if client.end is None:
            yield client
        if index % YIELD_CLIENTS == 0:
            await trio.lowlevel.checkpoint()


async def portraits(hub: Hub, clients: Iterable[Client]) -> list[dict[str, Any]]:
    """What an admin sees of each."""
    now = trio.current_time()
    return [portrait(client, hub.tags, now) async for client in paced(clients)]


async def furthest_behind(hub: Hub, limit: int, *, flowing: bool) -> list[Client]:
    """The clients that are furthest behind, the worst first; those that flow only if `flowing`."""
    now = trio.current_time()
    found = [
        (backlog(client, now), index, client)
        async for index, client in _numbered(hub.clients.values())
        if flowing or state_of(client) != "flowing"
    ]
    return [client for *_, client in nlargest(limit, found)]


async def _numbered(clients: Iterable[Client]) -> AsyncIterator[tuple[int, Client]]:
    # The older one first where two are equally far behind; clients themselves have no order.
    index = 0
    async for client in paced(clients):
        index -= 1
        yield index, client


def ends_log(hub: Hub, clock: Clock) -> list[dict[str, Any]]:
    """The ends that have come last, the newest first."""
    now, now_ms = trio.current_time(), clock.unix_ms()
    return [parting(ended, now, now_ms) for ended in reversed(hub.ended)]
