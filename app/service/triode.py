"""Triode itself: one object that holds the parts and is handed to whoever needs them.

    Triode
    ├ store     the document, its history, the subscription index    (pure)
    ├ gate      tokens, rights, rates, places
    ├ hub       connections, delivery
    ├ metrics   what is counted
    └ run()     the services: flusher, heartbeat, sweeps, demo data

Every write ends in `commit`, whether it came by HTTP, by WebSocket, from the log or from the Python
code that embeds Triode.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from triode.app.access.gate import Gate
from triode.app.access.write_rights import cost_refusal, refusal_of
from triode.app.delivery.hub import Hub
from triode.app.log.kinds import log_of
from triode.app.runtime.build import version
from triode.app.runtime.clock import Clock
from triode.app.runtime.epoch import new_epoch
from triode.app.runtime.metrics import Metrics
from triode.app.runtime.progress import Progress
from triode.app.runtime.turns import in_turns
from triode.app.service import messages
from triode.app.service.cluster import Cluster
from triode.app.service.decision import decide, first_answer, note, status_of, work_limit
from triode.app.service.holdings import open_ledger
from triode.app.service.hypercorn_wires import HypercornWires
from triode.app.service.journal import Journal
from triode.app.service.messages import Published, Saying
from triode.app.service.peers import Peers
from triode.app.service.reach import check_reach
from triode.app.service.token_records import record_kept
from triode.app.wire.refusal import Refusal, bad_request
from triode.limits.match_budget import MatchBudget
from triode.limits.meter import Meter
from triode.limits.principal import OWNER, Principal
from triode.limits.token import Tokens
from triode.store.operation import Operation, Set, WriteError
from triode.store.outcomes import DONE
from triode.store.path import parse_path
from triode.store.store import Store
from triode.store.value import JsonError, check
from triode.store.work import FREE, TooCostly

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from triode.app.access.gate import Authorize
    from triode.app.config.settings import Settings
    from triode.app.config.socket_route import SocketRoute
    from triode.app.delivery.subscriber import Client
    from triode.app.log.log import Log
    from triode.app.runtime.worker import Worker
    from triode.store.change import Position
    from triode.store.outcomes import Key
    from triode.store.store import Prepared
    from triode.store.value import Json
    from triode.store.work import Work

log = logging.getLogger("triode")

# What a write may take without waiting for its turn.
AT_ONCE_STEPS = 500
# A long write is planned anew when the embedding code has written in the meantime.
ATTEMPTS = 8


class Triode:
    """A document and everyone who watches it. Make it anywhere; its services run inside `run`."""

    def __init__(
        self,
        settings: Settings,
        root: Json | None = None,
        *,
        authorize: Authorize | None = None,
        log: Log | None = None,
    ) -> None:
        """`root` is the document to begin with. `log` keeps all writes, in place of the folder of
        the settings; what it holds already stands in place of `root`. `authorize(head)` is asked
        who makes a request, on HTTP, event streams and WebSockets alike, in place of Triode's own
        tokens; it gives a `Principal`, or gives or raises a `Refusal`.
        """
        self.settings = settings
        self.version = version()
        self.metrics = Metrics()
        self.store = Store(
            {} if root is None else root,
            epoch=new_epoch(),
            history_items=settings.history_items,
            history_bytes=settings.history_bytes,
            max_bytes=settings.max_document_bytes,
        )
        self.store.deadlines.most = settings.max_deadlines
        self._long = trio.StrictFIFOLock()
        self._writing = trio.StrictFIFOLock()
        self.clock = Clock()
        self.tokens = Tokens()
        self.gate = Gate(settings, self.tokens, self.metrics, self.clock, authorize)
        self.hub = Hub(settings, self.store, self.metrics)
        # One for all of them: each is planned in one step.
        self._at_once = Meter(AT_ONCE_STEPS)
        self._match_budget = MatchBudget(settings.match_work)
        self.hypercorn = HypercornWires()
        self.ledger = open_ledger(settings, self.hub, self.store, self.tokens)
        self.bodies = self.ledger.accounts["bodies"]
        self.messages = self.ledger.accounts["messages"]
        if log is None:
            log = log_of(settings)
        self.journal = None if log is None else Journal(self, log)
        # Those who share the log.
        self.cluster: Cluster | None = None
        self.peers: Peers | None = None
        if self.journal is not None and self.journal.shared is not None:
            self.cluster = Cluster(self, self.journal, self.journal.shared)
            self.peers = Peers(self, self.journal.shared)
            post = self.journal.shared.post
            self.ledger.account("letters", 0, read=lambda: post.waiting_bytes)
        # Where it is served, for people: `HOST:PORT`.
        self.listens = ""
        # Which it is of several processes that share a port.
        self.worker: Worker | None = None
        # For servers of our own: signals of a host application are its matter.
        self.on_hangup: Callable[[], Awaitable[None]] | None = None
        # Of the start: a long log takes a while.
        self.progress = Progress()
        self.boot_s = 0.0
        self.started_at = 0.0
        self.draining = False
        self.ready = False

    # ── the document ────────────────────────────────────────────────────────────────────────────

    async def write(
        self, op: Operation, principal: Principal = OWNER, key: Key | None = None
    ) -> Position:
        """Apply one write and hand its events over; its position in the log. One that was sent
        before with the same `key` is not done again: it is answered as it was then.

        Waits while the flusher has much to do, and for longer writes that came before; a long one
        gives way to all others while it is planned. After cancellation it has either not been done
        or is done whole. Raises `Refusal`: 403 without the right, 404, 409, 412, 422, 507 as the
        store says, 422 with `limit` and `cost` when it takes more work than a request may.
        """
        if self.journal is not None:
            return await self.journal.write(op, principal, key)
        if not principal.grant.reaches_all:
            await check_reach(principal.grant, op, self.settings.max_work)
        if self.hub.flusher.full:
            await self.hub.flusher.room()
        if key is not None:
            return await self._write_once(op, principal, key)
        try:
            if not self._writing.locked():
                return self._write_at_once(op, principal)
            async with self._writing:
                return self._write_at_once(op, principal)
        except TooCostly:
            pass
        # What a long write has planned holds only as long as nobody else writes. Those that are
        # short wait for one long write at most: the next one queues up behind them.
        async with self._long, self._writing:
            return await self._write_in_turns(op, principal)

    async def _write_once(self, op: Operation, principal: Principal, key: Key) -> Position:
        """As `write` without a log. Another one with the same key waits for its turn."""
        try:
            async with self._writing:
                with self._answering(key) as first:
                    return first or self._write_at_once(op, principal)
        except TooCostly:
            pass
        async with self._long, self._writing:
            with self._answering(key) as first:
                return first or await self._write_in_turns(op, principal)

    @contextmanager
    def _answering(self, key: Key) -> Iterator[Position | None]:
        """What a write with this key was answered before; else keep what becomes of it in the
        block. Raises `Refusal`.
        """
        store, time_ms = self.store, self.clock.unix_ms()
        first = first_answer(store, key, time_ms)
        if first is not None:
            yield first
            return
        try:
            yield None
        except Refusal as refusal:
            note(store, key, status_of(refusal), time_ms)
            raise
        note(store, key, DONE, time_ms)

    def _write_at_once(self, op: Operation, principal: Principal) -> Position:
        work = self._at_once
        work.left = AT_ONCE_STEPS
        return self.commit(self.prepare(op, principal, work), self.clock.unix_ms())

    async def _write_in_turns(self, op: Operation, principal: Principal) -> Position:
        store, limit = self.store, work_limit(op, self.settings.max_work)
        prepare = partial(self.prepare_long, op, principal)
        for _ in range(ATTEMPTS):
            with store.document.pin() as root:
                seq = store.seq
                try:
                    prepared = await in_turns(limit, prepare, alone=True)
                except TooCostly as error:
                    raise await self.refuse_cost(op, principal, root, error) from error
                except Refusal:
                    if seq == store.seq:
                        raise
                    continue
            if seq == store.seq:
                return self.commit(prepared, self.clock.unix_ms())
            # The code that embeds us has written in the meantime (`write_nowait`).
        raise Refusal(503, "the document changes faster than this write can be planned; try again")

    def write_nowait(self, op: Operation, principal: Principal = OWNER) -> Position:
        """As `write`, in one step, whatever it takes. For code that can't wait; bound what you
        write with it. There is no such thing where a log is kept: that takes its time.
        """
        if self.journal is not None:
            raise RuntimeError("with a log (--data) every write waits for it: use `write`")
        return self.commit(self.prepare(op, principal, FREE), self.clock.unix_ms())

    async def refuse_cost(
        self, op: Operation, principal: Principal, root: Json, error: TooCostly
    ) -> Refusal:
        """The answer to a write that took more work than it may; `root` is still as it was."""
        self.metrics.writes_failed += 1
        refuse = partial(cost_refusal, principal.grant, root, op, error)
        return await in_turns(error.limit, refuse, alone=True)

    def prepare_long(self, op: Operation, principal: Principal, meter: Meter) -> Prepared:
        """As `prepare`; for what takes long."""
        weighing = meter.again()
        try:
            return self.prepare(op, principal, meter, weighing)
        finally:
            self.gate.charge_work(principal, meter.spent + weighing.spent)

    def prepare(
        self, op: Operation, principal: Principal, work: Work, weighing: Work | None = None
    ) -> Prepared:
        """A write, decided and ready for `commit`. Raises `Refusal` and `TooCostly`."""
        grant = principal.grant
        try:
            return decide(self.store, op, grant, work, weighing)
        except WriteError as error:
            # In no variable: through its traceback it would hold itself, and the value that was to
            # be written, until the garbage collector comes.
            raise self._failed(
                refusal_of(grant, self.store.document.root, op, error, work)
            ) from error

    def _failed(self, refusal: Refusal) -> Refusal:
        self.metrics.writes_failed += 1
        return refusal

    def commit(self, prepared: Prepared, time_ms: int) -> Position:
        """Do what was prepared, and owe its events to whoever watches. In one step."""
        # Nobody watches: nothing is spent on that.
        index = self.store.index
        matching = Meter(self.settings.match_work) if index.bytes else FREE
        evaluating = self._match_budget.take(time_ms) if index.evaluated else None
        committed = self.store.commit(
            prepared, time_ms=time_ms, matching=matching, evaluating=evaluating
        )
        self.metrics.writes_total += 1
        if committed.matched:
            self.hub.deliver(committed, evaluating)
        return committed.change.position

    def record_kept(self, name: str, value: dict[str, Any] | None) -> None:
        """A record of the server's is another one from now on."""
        record_kept(self.tokens, self.hub, name, value)

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
        no message may have, 403 without the right to a room, or to write to that client, 413 for a
        large one to many rooms. With a shared log (`--log`) rooms are not this process's alone:
        there `say` speaks to them.
        """
        said = Saying(principal, sender, event, data, echo=echo)
        return messages.publish(self, said, rooms=rooms, to=to, tags=tags)

    async def say(
        self,
        rooms: list[str],
        event: str = "message",
        data: Json = None,
        principal: Principal = OWNER,
        *,
        sender: Client | None = None,
        echo: bool = False,
    ) -> Published:
        """As `publish`, to rooms, also where several Triodes share a log: then it is done when it
        is in there, and `reached` counts the clients of this one. Cancelled, it may be said all the
        same. Raises `Refusal` as `publish` does, and 503 and 507 as `write`.
        """
        return await messages.say(
            self, self.journal, Saying(principal, sender, event, data, echo=echo), rooms
        )
