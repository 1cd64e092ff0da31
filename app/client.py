"""A client: one SSE or WebSocket connection, seen from the hub.

A client is *flowing* or *slow* (DESIGN.md 4). Flowing: the flusher writes straight to its socket;
it has no outbox and no task but the one that waits for its bytes. Slow: its socket would not take
all, so what is owed waits in an outbox, and a writer drains it. A client whose lane cannot be
written to directly (ASGI, TLS) is always slow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.ends import End
    from app.frame import Kind
    from app.group import Group
    from app.outbox import Outbox
    from app.room import Room
    from app.source import Audience, Source
    from limits.admission import ClientTicket
    from limits.policy import Policy
    from limits.principal import Principal
    from limits.rate import Buckets


class Lane(Protocol):
    """What carries a client's bytes. One per connection; the hub and the session know no more of
    it than this.
    """

    # Writes without waiting and says how many bytes went, or raises BlockingIOError (none went)
    # or OSError (it is lost). None: this lane can only be written to by waiting.
    send_now: Callable[[bytes], int] | None

    async def send_all(self, data: bytes) -> None:
        """Write all or raise `trio.BrokenResourceError`; has a deadline of its own. A cut write
        breaks the lane.
        """

    def wake(self) -> None:
        """The client has ended: make whoever waits on this lane look."""

    def abort(self) -> None:
        """Drop the connection at once, whatever waits. Idempotent."""


class Subscription(NamedTuple):
    """One filter of one client."""

    audience: Audience
    policy: Policy


class Gap:
    """What one client has lost of one source and has not been told yet."""

    __slots__ = ("first", "last", "missed", "reason")

    def __init__(self, seq: int, reason: str) -> None:
        self.missed = 0
        self.first = seq
        self.last = seq
        self.reason = reason


class Client:
    """The hub's record of one connection. Made by `Hub.open`, forgotten by `Hub.close`."""

    __slots__ = (
        "active_at",
        "connected_at",
        "drops",
        "end",
        "gaps",
        "group",
        "id",
        "ip",
        "kind",
        "lane",
        "outbox",
        "pingable",
        "pinged_at",
        "principal",
        "rates",
        "rooms",
        "send_now",
        "subscriptions",
        "ticket",
        "warned",
        "writing",
    )

    def __init__(
        self, id: str, kind: Kind, lane: Lane, principal: Principal, ip: str, now: float
    ) -> None:
        self.id = id
        self.kind = kind
        self.lane = lane
        self.send_now = lane.send_now
        self.principal = principal
        self.ip = ip
        self.connected_at = now
        self.active_at = now
        self.pinged_at = now
        self.group: Group | None = None
        self.outbox: Outbox | None = None
        self.writing = False
        self.pingable = lane.send_now is not None or kind == "sse"
        self.warned: Principal | None = None
        self.rates: Buckets | None = None
        self.ticket: ClientTicket | None = None
        self.end: End | None = None
        self.drops = 0
        self.subscriptions: dict[str, Subscription] = {}
        self.rooms: dict[str, Room] = {}
        self.gaps: dict[Source, Gap] | None = None

    def has_ended(self) -> bool:
        """Whether the hub has forgotten it. (A call, because what was None before an `await` need
        not be after it.)
        """
        return self.end is not None

    def __repr__(self) -> str:
        return f"<Client {self.id} {self.kind}>"
