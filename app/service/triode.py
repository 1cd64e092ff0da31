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
from typing import TYPE_CHECKING, Any

import trio

from triode.app.access.access import Gate
from triode.app.access.write_rights import refusal_of, require_operation
from triode.app.delivery.hub import Hub
from triode.app.runtime.clock import Clock
from triode.app.runtime.metrics import Metrics, watch_loop
from triode.app.service import stream_start
from triode.app.service.below import Below
from triode.app.service.deferred_free import dispose
from triode.app.service.execute import execute
from triode.app.service.heartbeat import pulse
from triode.app.wire import end_reasons
from triode.app.wire.frame import Frame, control
from triode.app.wire.refusal import Refusal, bad_request, forbidden, unauthorized
from triode.limits.admission import Full
from triode.limits.grant import FULL
from triode.limits.principal import Principal, TokenRefused
from triode.limits.token import Tokens
from triode.store.filter import covers
from triode.store.operation import Operation, Set, WriteError
from triode.store.path import parse_path
from triode.store.store import Store
from triode.store.value import JsonError, check, decode_steps

if TYPE_CHECKING:
    from pathlib import Path

    from quart_trio import QuartTrio

    from triode.app.access.access import Authorize
    from triode.app.config.settings import Settings
    from triode.app.config.socket_route import SocketRoute
    from triode.app.delivery.subscriber import Client, Lane
    from triode.app.net.request_head import Head
    from triode.app.wire.frame import Kind
    from triode.app.wire.stream_request import StreamRequest
    from triode.store.change import Position
    from triode.store.value import Json

log = logging.getLogger("triode")

# A document may have grown deeper than any one body, see `store.plan`.
LOADED_DEPTH = 512
EPOCH_CHARS = string.ascii_lowercase + string.digits
OWNER = Principal(key="embedded", name="embedded", grant=FULL)


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
            committed = self.store.submit(op, time_ms=self.clock.unix_ms())
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

    async def execute(self, command: Any, principal: Principal = OWNER) -> dict[str, Any]:
        """Carry out a command of the wire (see `app.service.execute`)."""
        return await execute(self, principal, command)

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

    def open(
        self,
        kind: Kind,
        lane: Lane,
        head: Head,
        request: StreamRequest,
        principal: Principal,
        *,
        first: bytes = b"",
    ) -> Client:
        """Register a client and owe it `first` and its first events, in one step.

        Raises `Refusal` 503 when there is no place; then nothing is left behind.
        """
        ip = self.gate.address(head)
        ticket = self.gate.admit(ip, principal)
        client = self.hub.open(kind, lane, principal, ip, request.tags)
        client.ticket = ticket
        client.rates = self.gate.rates_of(request.route)
        if first:
            self.hub.push(client, Frame(first, count=0))
        try:
            stream_start.begin(self.hub, client, request, version=self.version)
        except BaseException:
            self.hub.end(client, end_reasons.FAULT, "silently")
            raise
        return client

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
    ) -> int:
        """Send a message to rooms, to one client or to all that carry `tags`; each client once.
        How many it reached.

        The `sender` itself does not hear it unless `echo`. Raises `Refusal` 403 without the right
        to a room.
        """
        body: dict[str, Any] = {
            "event": event,
            "data": data,
            "from": sender.id if sender is not None else principal.name,
            "time": self.clock.unix_ms(),
        }
        for name in rooms or ():
            self.gate.require_room(principal, name)
        if not rooms and principal.grant.rooms == ():
            self.gate.require_room(principal, to or "")
        self.metrics.messages_published += 1
        omit = None if echo else sender
        hub = self.hub
        if rooms:
            return hub.rooms.send(rooms, body, omit=omit)
        if to is not None:
            client = hub.clients.get(to)
            who = [] if client is None or client is omit else [client]
        else:
            who = [client for client in hub.tags.select(tags or {}) if client is not omit]
        body = {"room": None} | body
        return hub.send(who, lambda kind: Frame(control(kind, "message", body)))

    # ── tokens ──────────────────────────────────────────────────────────────────────────────────

    def renew(self, client_id: str, token: str, *, proof: str | None = None) -> Principal:
        """Give a living connection a new token from outside.

        Others may know the id of a client (members of its rooms do), so without `proof`, the
        connection's own token, only what cannot hurt it is done: the new token has to allow all
        that the connection carries and to hold at least as long. Raises `Refusal` 404 for an
        unknown client, 401 for a bad token, 403.
        """
        client = self.client_of(client_id)
        new = self._holder(token)
        owners = {client.principal.key} if client.principal.source != "anonymous" else {new.key}
        keys = {new.key} if proof is None else {new.key, self._holder(proof).key}
        if not owners & keys and not self._keeps(client, new):
            raise forbidden(
                "the new token has to allow what this stream carries, and to hold as long as its "
                "own; to change more, send the stream's own token as Authorization: Bearer"
            )
        return self._rebind(client, new)

    def client_of(self, client_id: str) -> Client:
        """A living connection. Raises `Refusal` 404."""
        client = self.hub.clients.get(client_id)
        if client is None:
            raise Refusal(
                404, "there is no such client here: it has gone, or its stream is elsewhere"
            )
        return client

    def keep_alive(self, client_id: str) -> None:
        """Renew the lease of a stream: its client is still there. Raises `Refusal` 404, and 409 for
        a stream without a lease.

        Whoever knows the id may do this. It is unguessable; and all that members of its rooms, who
        know it too, could do is keep a stream from ending that would end for its silence alone.
        """
        lease = self.client_of(client_id).lease
        if lease is None:
            raise Refusal(409, "this stream has no lease: open it with lease=SECONDS")
        lease.renew(trio.current_time())

    def _keeps(self, client: Client, new: Principal) -> bool:
        """Whether a connection loses nothing under another principal."""
        ends = client.principal.expires_at
        longer = new.expires_at is None or (ends is not None and new.expires_at >= ends)
        grant = new.grant
        reads = all(grant.may_read(text, covers) for text in client.subscriptions)
        return longer and reads and all(grant.may_room(name) for name in client.rooms)

    def _holder(self, token: str) -> Principal:
        try:
            return self.gate.principal_of(token)
        except TokenRefused as refused_token:
            raise unauthorized(refused_token.detail, error=refused_token.error) from refused_token

    def authenticate(self, client: Client, token: str) -> Principal:
        """Put a connection under another token. Raises `Refusal` 401; the old one then stays in
        force.
        """
        return self._rebind(client, self._holder(token))

    def _rebind(self, client: Client, principal: Principal) -> Principal:
        if client.ticket is not None:
            try:
                client.ticket.change_principal(principal.key)
            except Full as full:
                raise self.gate.no_place(full) from full
        client.principal = principal
        self._end_uncovered(client)
        return principal

    def _end_uncovered(self, client: Client) -> None:
        """End what the client's grant does not cover any more; a stream of which nothing is left
        ends as a whole.
        """
        grant, hub = client.principal.grant, self.hub
        texts = [text for text in client.subscriptions if not grant.may_read(text, covers)]
        rooms = [name for name in client.rooms if not grant.may_room(name)]
        for text in texts:
            hub.unsubscribe(client, text)
        for name in rooms:
            hub.leave(client, name)
        if client.kind == "sse" and (texts or rooms) and not (client.subscriptions or client.rooms):
            hub.end(client, end_reasons.NOT_ALLOWED)

    # ── life ────────────────────────────────────────────────────────────────────────────────────

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the services until cancelled. One nursery holds them all and ends with the first
        that fails.
        """
        self.clock.sync()
        self.started_at = trio.current_time()
        if self.settings.admin_token is not None:
            self.tokens.adopt(
                self.settings.admin_token, FULL, now=self.clock.unix_s(), label="admin"
            )
        try:
            if self.settings.load is not None:
                await self._load(self.settings.load)
            async with trio.open_nursery() as nursery:
                await nursery.start(self.hub.run)
                nursery.start_soon(pulse, self)
                nursery.start_soon(self.below.drain, self)
                nursery.start_soon(watch_loop, self.metrics)
                nursery.start_soon(dispose, self.store)
                if self.settings.demo:
                    from triode.app.service.demo import run as run_demo

                    nursery.start_soon(run_demo, self.write)
                self.ready = True
                task_status.started()
        finally:
            self.ready = False

    async def _load(self, path: Path) -> None:
        """Begin with the document in a file. Raises ValueError unless it holds JSON; OSError."""
        data = await trio.Path(path).read_bytes()
        log.info("loading %s, %.1f MB", path, len(data) / 1e6)
        steps = decode_steps(data, max_depth=LOADED_DEPTH)
        try:
            while True:
                next(steps)
                await trio.lowlevel.checkpoint()
        except StopIteration as done:
            self.write_nowait(Set((), done.value))
        except JsonError as error:
            raise ValueError(f"{path} cannot be loaded: {error.detail}") from error

    def attach(self, app: QuartTrio, url_prefix: str = "") -> None:
        """Register the blueprints on any Quart-Trio application, and run the services with it."""
        from triode.app.blueprints import all_blueprints

        for blueprint in all_blueprints(self):
            app.register_blueprint(blueprint, url_prefix=url_prefix or None)

        scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128 # `run` calls it
            with scope:
                await self.run(task_status=task_status)

        @app.before_serving
        async def start() -> None:
            await app.nursery.start(run)

        @app.after_serving
        async def stop() -> None:  # noqa: ASYNC910 # what need not wait does not; the lanes have the checkpoints
            scope.cancel()
