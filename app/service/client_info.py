"""What an admin sees of a client: who it is, what it hears, how far behind it is.

All is read off the client at this moment; nothing is kept for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from triode.app.delivery.subscriber import Client
    from triode.app.delivery.tag import Tags
    from triode.app.wire.end_reasons import Ended
    from triode.app.wire.frame import Kind

State = Literal["flowing", "slow", "healing"]

TRANSPORTS: Final[dict[Kind, str]] = {"sse": "sse", "ws": "websocket"}


def state_of(client: Client) -> State:
    """`healing`: it is owed more than its queue holds, and is not repaired yet. `slow`: it is owed
    what its connection has not taken. Else it flows.
    """
    if client.losses:
        return "healing"
    outbox = client.outbox
    if client.writing or (outbox is not None and outbox.bytes):
        return "slow"
    return "flowing"


def backlog(client: Client, now: float) -> tuple[int, int, float, bool]:
    """How far behind it is, for sorting: bytes that wait, events lost, seconds that something has
    waited, and whether something is on its way.
    """
    outbox = client.outbox
    waits = 0 if outbox is None else outbox.bytes
    return waits, dropped(client), oldest_s(client, now), client.writing


def drops_of(client: Client) -> dict[str, int]:
    """How many events it has lost since it connected, by reason."""
    return dict(client.drops or {})


def dropped(client: Client) -> int:
    """How many events it has lost since it connected."""
    return sum(drops_of(client).values())


def oldest_s(client: Client, now: float) -> float:
    """For how many seconds something has waited for it; 0 when nothing does."""
    outbox = client.outbox
    return now - outbox.oldest_at if outbox is not None and outbox.bytes else 0.0


def portrait(client: Client, tags: Tags[Client], now: float) -> dict[str, Any]:
    """A client as JSON. `now` is Trio's time."""
    outbox = client.outbox
    group = client.group
    sent, sent_bytes = (client.sent, client.sent_bytes) if group is None else group.sent_to(client)
    return {
        "client": client.id,
        "transport": TRANSPORTS[client.kind],
        "lane": client.lane.name,
        "ip": client.ip,
        "name": None if client.principal.source == "anonymous" else client.principal.name,
        "tags": tags.of(client),
        "rooms": list(client.rooms),
        "filters": [
            {"filter": text, "policy": subscription.policy.value}
            for text, subscription in client.subscriptions.items()
        ],
        "state": state_of(client),
        "queued": 0 if outbox is None else outbox.items,
        "queued_bytes": 0 if outbox is None else outbox.bytes,
        "oldest_s": round(oldest_s(client, now), 3),
        "connected_s": round(now - client.connected_at, 3),
        "sent": sent,
        "sent_bytes": sent_bytes,
        "dropped": dropped(client),
        "drops": drops_of(client),
        "heals": client.heals,
    }


def parting(ended: Ended, now: float, now_ms: int) -> dict[str, Any]:
    """A line of the log of ends as JSON; `now` and `now_ms` are the same moment on Trio's clock
    and in Unix milliseconds.
    """
    return {
        "time": now_ms - round((now - ended.at) * 1000),
        "client": ended.client,
        "transport": TRANSPORTS[ended.kind],
        "reason": ended.reason,
        "ip": ended.ip,
    }
