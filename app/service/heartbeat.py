"""The heartbeat: one task for everything that happens to connections because time has passed.

Once a second it looks at every client: heartbeats, peers that are silent too long, tokens that
end. One task and a scan, rather than a timer a client: ten thousand clients take it a few
milliseconds, and cost no memory.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from triode.app.delivery.resync import due_at
from triode.app.service import filter_costs, holdings
from triode.app.wire import end_reasons
from triode.app.wire.frame import PING, SSE_HEARTBEAT, Frame, control, ws_frame

if TYPE_CHECKING:
    from triode.app.delivery.subscriber import Client
    from triode.app.service.triode import Triode

TICK_S: Final = 1.0
YIELD_CLIENTS: Final = 200
SWEEP_EVERY: Final = 60
# A client is told this long before its token ends, once.
EXPIRING_S: Final = 30.0

_PING: Final = ws_frame(PING, b"")


async def heartbeat(triode: Triode) -> None:
    """Beat until cancelled."""
    beat = 0
    while True:
        await trio.sleep(TICK_S)
        beat += 1
        if beat % SWEEP_EVERY == 0:
            _sweep(triode)
        holdings.settle(triode.ledger)
        filter_costs.settle(triode)
        now = trio.current_time()
        triode.hypercorn.cut(now - triode.settings.write_deadline_s)
        triode.hub.rooms.sweep(now)
        if triode.journal is not None:
            triode.journal.look()
        for index, client in enumerate(list(triode.hub.clients.values())):
            if client.end is None:
                _look_at(triode, client, now)
            if index % YIELD_CLIENTS == YIELD_CLIENTS - 1:
                await trio.lowlevel.checkpoint()


def _sweep(triode: Triode) -> None:
    triode.clock.sync()
    triode.tokens.sweep(triode.clock.unix_s())
    triode.gate.sweep(trio.current_time())


def _look_at(triode: Triode, client: Client, now: float) -> None:
    settings, hub = triode.settings, triode.hub
    principal = client.principal
    if principal.source != "anonymous":
        if not triode.gate.still_holds(principal):
            hub.end(client, end_reasons.TOKEN_ENDED)
            return
        if principal.expires_at is not None:
            in_s = principal.expires_at - triode.clock.unix_s()
            if client.warned is not principal:
                # One that was renewed for less than that is used for most of its time first, or
                # its client would be told, and renew it, each second.
                early_s = EXPIRING_S if client.warned is None else min(EXPIRING_S, in_s / 3)
                client.warned, client.warn_at = principal, principal.expires_at - early_s
            if client.warn_at <= triode.clock.unix_s():
                client.warn_at = math.inf
                hub.tell(client, "expiring", {"in_s": max(0, round(in_s))})
    if client.lease is not None and now >= client.lease.until:
        hub.end(client, end_reasons.LEASE)
        return
    if client.writing:
        # Its pongs may be a long time in coming, behind all that it has yet to take; that it takes
        # it is watched by the deadline of each write.
        client.active_at = now
    if client.kind == "ws" and client.pingable and now - client.active_at > settings.idle_s:
        hub.end(client, end_reasons.IDLE)
        return
    if client.losses and now >= due_at(client):
        hub.writers.resume(client)
    if now - client.pinged_at >= settings.heartbeat_s - TICK_S / 2 and not _is_fed(client):
        client.pinged_at = now
        if client.kind == "sse" or client.pingable:
            hub.push(client, Frame(_beat(triode, client), count=0))
            triode.metrics.heartbeats += 1


def _beat(triode: Triode, client: Client) -> bytes:
    if client.kind == "ws":
        return _PING
    if client.sees_heartbeats:
        return control("sse", "heartbeat", {"time": triode.clock.unix_ms()})
    return SSE_HEARTBEAT


def _is_fed(client: Client) -> bool:
    """Whether bytes are on their way to it already: they say what a heartbeat would. Behind a big
    snapshot heartbeats would only gather, until they were too many.
    """
    return client.writing or (client.outbox is not None and client.outbox.queued > 0)
