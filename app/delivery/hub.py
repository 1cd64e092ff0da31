"""The hub: who is connected, what each hears, and what each is owed.

    publish → group.append → (mark) → flusher → group.flush → socket
                                                           ↘ would block → outbox → writer → socket

Everything here is synchronous, so registration, snapshot and publishing see one another whole, and
all see one order. What waits is elsewhere: the flusher writes to those who take it (`flusher`), the
writers to those who do not (`slow_writer`).
"""

from __future__ import annotations

import logging
import secrets
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.delivery import life, overflow
from triode.app.delivery.audience import Audience
from triode.app.delivery.backlog import Backlog
from triode.app.delivery.direct_message import DirectFrame
from triode.app.delivery.fan_out import fan_out
from triode.app.delivery.flusher import Flusher
from triode.app.delivery.group import SIZE, Group
from triode.app.delivery.lazy_frame import past
from triode.app.delivery.rooms import Rooms
from triode.app.delivery.shelf import Shelf
from triode.app.delivery.slow_writer import SlowWriters
from triode.app.delivery.subscriber import Client, Lane, Subscription
from triode.app.delivery.tag import Tags
from triode.app.runtime.turns import allowance
from triode.app.wire import end_reasons
from triode.app.wire.frame import Frame, control
from triode.app.wire.source import Source
from triode.store.work import FREE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from triode.app.config.settings import Settings
    from triode.app.delivery.room import Room
    from triode.app.runtime.metrics import Metrics
    from triode.app.wire.end_reasons import End, Ended, How
    from triode.app.wire.frame import Kind
    from triode.limits.policy import Policy
    from triode.limits.principal import Principal
    from triode.store.filter import Filter
    from triode.store.store import Committed, Store
    from triode.store.work import Work

log = logging.getLogger("triode")

# How many of the ends that have come are remembered, for `/stats`.
ENDS_KEPT: Final = 200


class Hub:
    """All connections and the delivery to them."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        self.settings = settings
        self.store = store
        self.metrics = metrics
        self.clients: dict[str, Client] = {}
        self.clients_peak = 0
        self.rooms = Rooms(self)
        self.tags: Tags[Client] = Tags()
        # Those that still take members, by what makes their bytes differ.
        self._groups: dict[tuple[Kind, int, bool, int, frozenset[Source]], Group[Client]] = {}
        self.ended: deque[Ended] = deque(maxlen=ENDS_KEPT)
        self.flusher = Flusher()
        self.backlog = Backlog()
        self.writers = SlowWriters(self)
        self.shelf = Shelf()
        # What clients are told of the log while it is not in reach.
        self.status: dict[str, Any] | None = None
        # Of several servers with one document each has a name: clients' ids begin with it, so that
        # they are one client's everywhere, and it can be found.
        self.node = ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver until cancelled. Its nursery holds the writers of slow clients; both end with
        it.
        """
        async with trio.open_nursery() as nursery:
            self.writers.nursery = nursery
            task_status.started()
            try:
                await self.flusher.run()
            finally:
                # A writer started in a nursery that closes would raise in whoever publishes.
                self.writers.nursery = None

    # ── who is connected ────────────────────────────────────────────────────────────────────────

    def open(
        self, kind: Kind, lane: Lane, principal: Principal, ip: str, tags: dict[str, str]
    ) -> Client:
        """Register a connection. It hears nothing yet but what is pushed to it."""
        # Not to be guessed: who knows an id may write to that client, if they share a room.
        client = Client(
            f"c_{self.node}{secrets.token_urlsafe(16)}",
            kind,
            lane,
            principal,
            ip,
            trio.current_time(),
        )
        if tags:
            self.tags.update(client, tags)
        life.begin(self, client)
        self.clients_peak = max(self.clients_peak, len(self.clients))
        self.metrics.connections_total[kind] += 1
        return client

    def end(
        self,
        client: Client,
        reason: End,
        how: How = "goodbye",
        *,
        retry_ms: int = 1000,
        goodbye: bytes | None = None,
    ) -> None:
        """End a client, see `life.end`."""
        life.end(self, client, reason, how, retry_ms=retry_ms, goodbye=goodbye)

    def forget(self, client: Client) -> list[Frame]:
        """Take a client out of every registry. What it is still owed. Only `life` calls it."""
        due = self._unplace(client)
        for subscription in client.subscriptions.values():
            self._release(subscription.audience)
        client.subscriptions = {}
        for room in client.rooms.values():
            self.rooms.exit(client, room)
        client.rooms = {}
        self.tags.remove(client)
        del self.clients[client.id]
        return due

    # ── what each hears ─────────────────────────────────────────────────────────────────────────

    def subscribe(self, client: Client, wanted: list[tuple[Filter, Policy]]) -> list[Audience]:
        """Register filters for a client; it hears their changes from this moment. Empty: the client
        has ended by that.
        """
        # Filters that it has already, maybe with another policy: what waits of them was queued
        # under the old one, and comes before the answer.
        again = [s.audience for f, _ in wanted if (s := client.subscriptions.get(f.text))]
        for known in again:
            if not self._part(client, known):
                return []  # it has ended by that
        audiences: list[Audience] = []
        # One allowance for all: a hundred filters of one request must not cost a hundred.
        index = self.store.index
        is_new = any(not one.indexable and one.text not in index for one, _ in wanted)
        work = allowance(self.settings.match_work) if is_new else FREE
        for parsed, policy in wanted:
            old = client.subscriptions.get(parsed.text)
            if old is None:
                selection = index.add(parsed, self.store.document.root, work)
                if selection.watchers is None:
                    selection.watchers = Audience(selection)
                audience: Audience = selection.watchers
            else:
                audience = old.audience
            overflow.hear(client, audience)
            # The newcomer has been told nothing yet, so the next stale write is told to all again.
            audience.rest.is_known = False
            client.subscriptions[parsed.text] = Subscription(audience, policy)
            audiences.append(audience)
        self._replace(client, again)
        return audiences

    def unsubscribe(self, client: Client, text: str) -> bool:
        """Take a filter away: nothing for it is sent from now on. False: it was not there."""
        subscription = client.subscriptions.get(text)
        if subscription is None:
            return False
        if self._part(client, subscription.audience):
            del client.subscriptions[text]
            self._replace(client, [subscription.audience])
            self._release(subscription.audience)
        return True

    def join(self, client: Client, name: str) -> Room[Client]:
        """Put a client into a room; the room comes into being with its first member."""
        room = client.rooms.get(name)
        if room is None:
            room = client.rooms[name] = self.rooms.enter(client, name)
            overflow.hear(client, room)
            self._replace(client)
        return room

    def leave(self, client: Client, name: str) -> Room[Client] | None:
        """Take a client out of a room; an empty room vanishes. None: it was not in it."""
        room = client.rooms.get(name)
        # `_part` may end the client, which takes it out of all rooms: then there is nothing to do.
        if room is not None and self._part(client, room):
            del client.rooms[name]
            self._replace(client, [room])
            self.rooms.exit(client, room)
        return room

    def _part(self, client: Client, source: Source) -> bool:
        """Before a client leaves a source: what it is owed of it so far comes before the answer,
        and has nothing to do with what it may hear of it later. False: it has ended by that.
        """
        # One that flows has no queue: what it is owed moves to its next group with `_replace`.
        if client.outbox is not None and client.group is not None:
            client.group.flush()
            if client.end is None:
                overflow.part(client, source)
        return client.end is None

    def _release(self, audience: Audience) -> None:
        self.store.index.remove(audience.selection)
        if audience.selection.references == 0:
            # They hold one another: without this both would wait for the garbage collector.
            audience.selection.watchers = None

    def place(self, client: Client) -> None:
        """Put a client into the group of all that it hears."""
        sources: frozenset[Source] = frozenset(
            [s.audience for s in client.subscriptions.values()] + list(client.rooms.values())
        )
        # All that makes the bytes differ. The members of a group get the same text: else each event
        # had to be encoded and joined for each of them.
        chunked = client.chunks is not None
        key = (client.kind, client.deflate_from, chunked, client.max_event, sources)
        group = self._groups.get(key)
        # A full one is forgotten here and lives on in its sources, until its last member leaves.
        if group is None or len(group) >= SIZE:
            group = self._groups[key] = Group(
                self, client.kind, sources, client.deflate_from, chunked, client.max_event
            )
            for source in sources:
                source.groups[group] = None
        group.add(client)

    def _unplace(self, client: Client) -> list[Frame]:
        group = client.group
        assert group is not None
        due = group.remove(client)
        # One that hears nothing is kept: each newcomer begins there.
        if not len(group) and group.sources:
            for source in group.sources:
                source.groups.pop(group, None)
            key = (group.kind, group.deflate_from, group.chunked, group.max_event, group.sources)
            # Not when it was full once: another one has its place.
            if self._groups.get(key) is group:
                del self._groups[key]
        return due

    def _replace(self, client: Client, parted: Sequence[Source] = ()) -> None:
        """Move a client to the group of its present sources. What it was owed goes with it, also of
        the sources that it has left (`parted`): that comes before the answer that says so, and
        positions after it count on it.
        """
        due = self._unplace(client)
        self.place(client)
        for frame in due:
            self.push(client, past(frame) if frame.source in parted else frame)

    # ── publishing ──────────────────────────────────────────────────────────────────────────────

    def deliver(self, committed: Committed, evaluating: Work | None = None) -> None:
        """Owe the events of one change to all who watch. Only the last frame of a change that a
        client gets carries the position (see `frame`). What is left of `evaluating` may be spent
        on filters that have to be evaluated.

        If that fails, all who watch end: what they missed they get when they resume.
        """
        try:
            fan_out(self, committed, evaluating)
        except Exception:
            # Not raised: the write has happened, and whoever made it is to be told so.
            log.exception("the events of %s could not be delivered", committed.change.position)
            audiences = {selection.watchers for selection, _ in committed.matched}
            # Listed first: each that ends leaves its groups, and may take them along.
            groups = [group for audience in audiences - {None} for group in audience.groups]
            for client in [c for group in groups for c in (*group.flowing, *group.slow)]:
                self.end(client, end_reasons.FAULT)

    def push(self, client: Client, frame: Frame) -> None:
        """Owe a frame to one client, after all it is owed already. Nothing happens when it has
        gone.
        """
        if client.group is not None:
            client.group.push(client, frame)

    def send(self, clients: Iterable[Client], encode: Callable[[Kind], Frame]) -> int:
        """Owe one frame to each of several clients, encoded once for each transport. Says how many
        they are.
        """
        members: dict[Group[Client], list[Client]] = {}
        for client in clients:
            if client.group is not None:
                members.setdefault(client.group, []).append(client)
        frames: dict[Kind, Frame] = {}
        for group, meant in members.items():
            frame = frames.get(group.kind)
            if frame is None:
                frame = frames[group.kind] = encode(group.kind)
            # A frame of the group is joined once for all; one of each member is joined for each.
            if len(meant) == len(group):
                group.append(frame)
            else:
                for client in meant:
                    group.push(client, frame)
        return sum(map(len, members.values()))

    def direct(self, client: Client, data: bytes, sender: str) -> bool:
        """Owe a message to one client. False: too much of this sender waits for it already; the
        message is dropped, and counted.
        """
        for last in (False, True):
            if client.group is None:
                return False
            if overflow.takes_direct(self, client, sender, len(data)):
                self.push(client, DirectFrame(data, sender))
                return True
            if not last:
                client.group.flush()  # what came in this moment may only wait for its turn
        overflow.lose_direct(self, client)
        return False

    def tell(self, client: Client, event: str, body: dict[str, Any]) -> None:
        """Push a control event."""
        if client.group is not None:
            client.group.push(client, Frame(control(client.kind, event, body)))
