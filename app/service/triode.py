"""Triode itself: one object that holds the parts and is handed to whoever needs them.

    Triode
    ├ store     the document, its log, the subscription index        (pure)
    ├ gate      tokens, rights, rates, places
    ├ hub       connections, delivery
    ├ metrics   what is counted
    └ run()     the services: flusher, pulse, sweeps, demo data

`write` is the one way into the document, for HTTP, for WebSocket and for the Python code that
embeds Triode.
"""

from __future__ import annotations

import logging
import secrets
import string
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

from triode.app.access.access import Gate
from triode.app.access.write_rights import refusal_of, require_operation
from triode.app.delivery.hub import Hub
from triode.app.runtime.clock import Clock
from triode.app.runtime.metrics import Metrics
from triode.app.service.below import Below
from triode.app.service.holdings import open_ledger
from triode.app.wire.frame import Frame, control
from triode.app.wire.refusal import Refusal, bad_request, forbidden
from triode.app.wire.stream_request import check_event
from triode.limits.meter import Meter
from triode.limits.principal import OWNER, Principal
from triode.limits.token import Tokens
from triode.store.operation import Operation, Set, WriteError
from triode.store.path import parse_path
from triode.store.store import Store
from triode.store.value import JsonError, check

if TYPE_CHECKING:
    from triode.app.access.access import Authorize
    from triode.app.config.settings import Settings
    from triode.app.config.socket_route import SocketRoute
    from triode.app.delivery.subscriber import Client
    from triode.store.change import Position
    from triode.store.value import Json

log = logging.getLogger("triode")

# A document may have grown deeper than any one body, see `store.plan`.
LOADED_DEPTH = 512
EPOCH_CHARS = string.ascii_lowercase + string.digits


class Published(NamedTuple):
    """What became of a message: how many clients it `reached`, and for how many it was `dropped`
    because too much waits for them.
    """

    reached: int
    dropped: int = 0


def version() -> str:
    """The installed version; `0+source` when run from a checkout that is not installed."""
    try:
        return metadata.version("triode")
    except metadata.PackageNotFoundError:
        return "0+source"


class Triode:
    """A document and everyone who watches it. Make it anywhere; its services run inside `run`."""

    def __init__(
        self,
        settings: Settings,
        root: Json | None = None,
        *,
        authorize: Authorize | None = None,
    ) -> None:
        """`root` is the document to begin with. `authorize(head)` is asked who makes a request, on
        HTTP, event streams and WebSockets alike, in place of Triode's own tokens; it gives a
        `Principal`, or gives or raises a `Refusal`.
        """
        self.settings = settings
        self.version = version()
        self.metrics = Metrics()
        epoch = "".join(secrets.choice(EPOCH_CHARS) for _ in range(6))
        self.store = Store(
            {} if root is None else root,
            epoch=epoch,
            history_items=settings.history_items,
            history_bytes=settings.history_bytes,
        )
        self.clock = Clock()
        self.tokens = Tokens()
        self.gate = Gate(settings, self.tokens, self.metrics, self.clock, authorize)
        self.hub = Hub(settings, self.store, self.metrics)
        self.below = Below()
        self.ledger = open_ledger(settings, self.hub, self.store)
        self.bodies = self.ledger.accounts["bodies"]
        self.messages = self.ledger.accounts["messages"]
        self.started_at = 0.0
        self.draining = False
        self.ready = False

    # ── the document ────────────────────────────────────────────────────────────────────────────

    async def write(self, op: Operation, principal: Principal = OWNER) -> Position:
        """Apply one write and hand its events over; its position in the log.

        Waits only while the flusher has much to do; the write itself is one step, so after
        cancellation it has either not been tried or is done. Raises `Refusal`: 403 without the
        right, 404, 409, 412, 422 as the store says.
        """
        await self.hub.flusher.room()
        return self.write_nowait(op, principal)  # noqa: ASYNC910 # what need not wait does not; the lanes have the checkpoints

    def write_nowait(self, op: Operation, principal: Principal = OWNER) -> Position:
        """As `write`, without waiting for the flusher. For code that can't wait; bound what you
        write with it.
        """
        grant, root = principal.grant, self.store.document.root
        require_operation(grant, root, op)
        try:
            committed = self.store.submit(
                op, time_ms=self.clock.unix_ms(), matching=Meter(self.settings.match_work)
            )
        except WriteError as error:
            self.metrics.writes_failed += 1
            raise refusal_of(grant, root, op, error) from error
        self.metrics.writes_total += 1
        self.hub.deliver(committed)
        return committed.change.position

    async def set(self, path: str, value: Json, *, create: bool = True) -> Position:
        """Set the value at a path, from your own code. Missing parents are made. Raises
        `Refusal`.
        """
        try:
            check(value, max_depth=self.settings.max_depth)
        except JsonError as error:
            raise bad_request(f"not JSON: {error.detail}") from error
        return await self.write(Set(parse_path(path), value, create=create))

    # ── streams ─────────────────────────────────────────────────────────────────────────────────

    def route_of(self, path: str) -> tuple[SocketRoute | None, dict[str, str]]:
        """The extra WebSocket route that a path belongs to, and the tags that it gives to its
        clients; None for `/ws` and `/events`.
        """
        for route in self.settings.sockets:
            tags = route.match(path)
            if tags is not None:
                return route, tags
        return None, {}

    def going_away(self) -> Refusal:
        """The answer to a newcomer while the server shuts down."""
        retry_s = 1 + secrets.randbelow(5)
        return Refusal(
            503,
            f"the server is shutting down; retry in {retry_s} s",
            extra={"retry_after": retry_s},
            headers={"Retry-After": str(retry_s)},
            close=1012,
        )

    # ── messages ────────────────────────────────────────────────────────────────────────────────

    def publish(
        self,
        principal: Principal = OWNER,
        *,
        rooms: list[str] | None = None,
        to: str | None = None,
        tags: dict[str, str] | None = None,
        event: str = "message",
        data: Json = None,
        sender: Client | None = None,
        echo: bool = False,
    ) -> Published:
        """Send a message to rooms, to one client or to all that carry `tags`; each client once.

        The `sender` itself does not hear it unless `echo`. Raises `Refusal`: 400 for a name that
        no message may have, 403 without the right to a room, or to write to that client.
        """
        body: dict[str, Any] = {
            "event": check_event(event),
            "data": data,
            "from": sender.id if sender is not None else principal.name,
            "time": self.clock.unix_ms(),
        }
        for name in rooms or ():
            self.gate.require_room(principal, name)
        omit = None if echo else sender
        hub = self.hub
        client = None if to is None else hub.clients.get(to)
        if client is not None:
            self._require_company(principal, sender, client)
        self.metrics.messages_published += 1
        if rooms:
            return Published(hub.rooms.send(rooms, body, omit=omit))
        body = {"room": None} | body
        if to is None:
            who = [client for client in hub.tags.select(tags or {}) if client is not omit]
            reached = hub.send(who, lambda kind: Frame(control(kind, "message", body)))
            return Published(reached)
        if client is None or client is omit:
            return Published(0)
        told = hub.direct(client, control(client.kind, "message", body), principal.key)
        return Published(int(told), int(not told))

    def _require_company(self, principal: Principal, sender: Client | None, client: Client) -> None:
        """Raises `Refusal` 403 unless a client may be written to: by admins, by itself, and by
        those in a room with it.
        """
        if principal.grant.admin or sender is client:
            return
        if sender is None or not sender.rooms.keys() & client.rooms.keys():
            raise forbidden("you may only write to clients in a room with you; join one of theirs")
