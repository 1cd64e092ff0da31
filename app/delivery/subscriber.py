"""A client: one SSE or WebSocket connection, seen from the hub.

A client is *flowing* or *slow* (docs/design.md 5). Flowing: the flusher writes straight to its
socket;
it has no outbox and no task but the one that waits for its bytes. Slow: its socket would not take
all, so what is owed waits in an outbox, and a writer drains it. A client whose lane cannot be
written to directly (ASGI, TLS) is always slow.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from triode.limits.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.app.delivery.audience import Audience
    from triode.app.delivery.group import Group
    from triode.app.delivery.losses import Losses
    from triode.app.delivery.outbox import Outbox
    from triode.app.delivery.room import Room
    from triode.app.wire.chunks import Chunks
    from triode.app.wire.end_reasons import End
    from triode.app.wire.frame import Kind
    from triode.limits.admission import ClientTicket
    from triode.limits.principal import Principal
    from triode.limits.rate import Buckets


_NEVER: Final = -math.inf
_SECRET_KEY: Final = secrets.token_bytes(32)


class Lane(Protocol):
    """What carries a client's bytes. One per connection; the hub and the session know no more of
    it than this.
    """

    # "native", or "asgi" where another server stands between the socket and us.
    name: str

    # The smallest frame to be compressed; 0: none, the client has not agreed to it.
    deflate_from: int

    # The chunks of its body, where it is us who make them.
    chunks: Chunks | None

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


class Lease:
    """For how long a stream goes on unless its client says that it is still there: `seconds` from
    the last time it did. `until` is Trio's time.
    """

    __slots__ = ("seconds", "until")

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds = seconds
        self.until = now + seconds

    def renew(self, now: float) -> None:
        """The client is still there."""
        self.until = now + self.seconds


class Client:
    """The hub's record of one connection. Made by `Hub.open`; its state is `life`'s."""

    __slots__ = (
        "active_at",
        "chunks",
        "connected_at",
        "deflate_from",
        "drops",
        "end",
        "group",
        "heal_wait_s",
        "healed_at",
        "heals",
        "id",
        "ip",
        "is_browser_stream",
        "is_gone",
        "kind",
        "lane",
        "lease",
        "losses",
        "max_event",
        "outbox",
        "pingable",
        "pinged_at",
        "policy",
        "principal",
        "rates",
        "rests_until",
        "rooms",
        "sees_heartbeats",
        "send_now",
        "sent",
        "sent_bytes",
        "subscriptions",
        "ticket",
        "warn_at",
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
        self.deflate_from = lane.deflate_from
        self.chunks = lane.chunks
        self.principal = principal
        self.ip = ip
        self.connected_at = now
        self.active_at = now
        self.pinged_at = now
        self.group: Group[Client] | None = None
        self.outbox: Outbox | None = None
        self.writing = False
        self.pingable = lane.send_now is not None or kind == "sse"
        self.warned: Principal | None = None
        self.warn_at = 0.0  # Unix time
        self.rates: Buckets | None = None
        self.ticket: ClientTicket | None = None
        self.end: End | None = None
        self.is_gone = False
        self.lease: Lease | None = None
        # A native EventSource, or as good as: it may not survive a port that is shut.
        self.is_browser_stream = False
        # As events: a browser shows a page no comments.
        self.sees_heartbeats = False
        # The longest event of the document that it takes, in bytes, a power of two; 0: any.
        self.max_event = 0
        # By reason; None until something is dropped.
        self.drops: dict[str, int] | None = None
        # Of messages in rooms; a filter has its own.
        self.policy = Policy.DROP_NEWEST
        self.subscriptions: dict[str, Subscription] = {}
        self.rooms: dict[str, Room[Client]] = {}
        # While it flows, its group counts too: see `Group.sent_to`.
        self.sent = 0
        self.sent_bytes = 0
        self.losses: Losses | None = None
        self.heals = 0
        self.healed_at = _NEVER
        self.heal_wait_s = 0.0
        # Until then nothing is evaluated for it: it has had its share of the processor.
        self.rests_until = -math.inf

    @property
    def secret(self) -> str:
        """Told to this connection alone, once: it proves who opened it. Others may know the id.

        Not kept for each client, but made of its id with a key of this process.
        """
        digest = hashlib.blake2b(self.id.encode(), key=_SECRET_KEY, digest_size=16).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def has_ended(self) -> bool:
        """Whether the hub has forgotten it. (A call, because what was None before an `await` need
        not be after it.)
        """
        return self.end is not None

    @property
    def state(self) -> str:
        """Where in its life it is, see `life`."""
        if self.end is not None:
            return "gone" if self.is_gone else "finishing"
        if self.group is None:
            return "new"
        if self.losses:
            return "healing"
        return "flowing" if self.outbox is None else "slow"

    def __repr__(self) -> str:
        return f"<Client {self.id} {self.kind} {self.state}>"
