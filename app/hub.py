"""The hub: who is connected, what each is owed, and the one task that writes it out.

    publish → group.append → (mark) → flusher → group.flush → socket
                                                           ↘ would block → outbox → writer → socket

Everything but the flusher and the writers is synchronous, so registration, snapshot and
publishing see one another whole. There is one flusher: it takes all groups that are owed
something and flushes them; what is published meanwhile is its next pass. Idle, an event leaves at
once; under load the passes grow and their cost per event falls. It lets other tasks run after
every `YIELD_CLIENTS` writes.

A client whose socket would not take all gets an outbox and a writer, a task in the hub's own
nursery, and leaves the flushing; when the outbox is empty it is first told of what was dropped
and healed, and then flows again. A write that is cut off may have sent part of a frame, so it
ends the connection.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

import trio

from app import ends
from app.client import Client, Gap, Lane, Subscription
from app.frame import Frame, control, document_frame, members_of, ws_close
from app.group import SIZE, Group
from app.outbox import Feed, Outbox
from app.room import Room
from app.snapshot import snapshot
from app.source import Audience, Source
from app.tag import Tags
from limits.policy import Policy
from store.change import Position
from store.index import Event
from store.value import approx_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.ends import End
    from app.frame import Kind
    from app.metrics import Metrics
    from app.settings import Settings
    from limits.principal import Principal
    from store.store import Committed, Store

YIELD_CLIENTS: Final = 100
# A writer joins up to this much into one write. Smaller than a socket's buffer, so a slow reader
# makes visible progress.
WRITE_BYTES: Final = 16 * 1024
# What may be published between two passes of the flusher before publishers have to wait for it.
PASS_BYTES: Final = 256 * 1024
# More than this of one change for one filter is not encoded at once: it would take milliseconds.
EVENTS_AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 256 * 1024


def bounded(events: list[Event]) -> list[Event]:
    """The events of one selection, or a snapshot in their stead when they are too much to be
    encoded in one step: that is made piece by piece, for all who get it together.
    """
    if len(events) <= EVENTS_AT_ONCE:
        room = BYTES_AT_ONCE
        for event in events:
            value = event.value
            if type(value) is dict or type(value) is list:
                room -= approx_bytes(value, limit=room)
            elif type(value) is str:
                room -= len(value)
            if room <= 0:
                break
        else:
            return events
    return [Event("snapshot", (), [])]


class Hub:
    """All connections and the delivery to them."""

    def __init__(self, settings: Settings, store: Store, metrics: Metrics) -> None:
        self.settings = settings
        self.store = store
        self.metrics = metrics
        self.clients: dict[str, Client] = {}
        self.rooms: dict[str, Room] = {}
        self.tags: Tags[Client] = Tags()
        self._groups: dict[tuple[Kind, frozenset[Source]], Group] = {}
        self._dirty: list[Group] = []
        self._idle = trio.lowlevel.ParkingLot()
        self._full = trio.lowlevel.ParkingLot()
        self._pass_bytes = 0
        self._nursery: trio.Nursery | None = None

    # ── the flusher ─────────────────────────────────────────────────────────────────────────────

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver until cancelled. Its nursery holds the writers of slow clients; both end with
        it.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._flush_forever()
            finally:
                self._nursery = None

    async def _flush_forever(self) -> None:
        while True:
            if not self._dirty:
                await self._idle.park()
            dirty, self._dirty = self._dirty, []
            self._pass_bytes = 0
            written = 0
            for group in dirty:
                written += group.flush()
                if written >= YIELD_CLIENTS:
                    written = 0
                    await trio.lowlevel.checkpoint()
            self._full.unpark_all()
            await trio.lowlevel.checkpoint()

    def mark(self, group: Group) -> None:
        """This group is owed something: flush it in the next pass."""
        group.dirty = True
        self._dirty.append(group)
        self._idle.unpark_all()

    async def room(self) -> None:  # noqa: ASYNC910 # waits only when there is something to wait for
        """Wait while more has been published than one pass of the flusher should carry:
        publishers wait for the flusher, never for a client. Always a checkpoint only when there
        is a wait.
        """
        while self.full:
            await self._full.park()

    @property
    def full(self) -> bool:
        """Whether publishers should wait (`room`) before they publish more."""
        return self._pass_bytes > PASS_BYTES

    @property
    def alive(self) -> bool:
        """Whether the flusher runs."""
        return self._nursery is not None

    def statistics(self) -> dict[str, int]:
        """How many clients, slow ones among them, groups and rooms there are."""
        groups = {client.group for client in self.clients.values()}
        slow = sum(c.outbox is not None and c.send_now is not None for c in self.clients.values())
        return {
            "clients": len(self.clients),
            "slow": slow,
            "groups": len(groups - {None}),
            "open_groups": len(self._groups),
            "rooms": len(self.rooms),
        }

    # ── who is connected ────────────────────────────────────────────────────────────────────────

    def open(
        self, kind: Kind, lane: Lane, principal: Principal, ip: str, tags: dict[str, str]
    ) -> Client:
        """Register a connection. It hears nothing yet but what is pushed to it."""
        client = Client(
            "c_" + secrets.token_urlsafe(16), kind, lane, principal, ip, trio.current_time()
        )
        self.clients[client.id] = client
        if tags:
            self.tags.update(client, tags)
        if lane.send_now is None:
            client.outbox = self._outbox()
        self._place(client)
        self.metrics.connections_total[kind] += 1
        return client

    def close(self, client: Client, end: End) -> None:
        """Forget a connection, at once and everywhere; what it was still owed is thrown away.
        Idempotent.
        """
        if self._leave_all(client, end) is None:
            return
        if client.outbox is not None:
            client.outbox.close()
        client.lane.wake()

    def finish(
        self, client: Client, end: End, *, retry_ms: int = 1000, goodbye: bytes | None = None
    ) -> None:
        """Say goodbye: send what is owed, then `closing` or the close frame, then end the
        connection. `goodbye` replaces what is said (the echo of a peer's close frame).

        It is out of every registry at once; its lane is woken when all is written or the write
        deadline has passed.
        """
        due = self._leave_all(client, end)
        if due is None:
            return
        if goodbye is None:
            goodbye = self._goodbye(client, end, retry_ms)
        due.append(Frame(goodbye))
        if client.outbox is None and client.send_now is not None:
            data = b"".join([frame.data for frame in due])
            try:
                sent = client.send_now(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = len(data)
            if sent == len(data):
                client.lane.wake()
                return
            self._stall(client, due, sent)
        else:
            self.enqueue(client, due)
            if client.send_now is None:
                client.lane.wake()

    def _goodbye(self, client: Client, end: End, retry_ms: int) -> bytes:
        if client.kind == "sse":
            return control("sse", "closing", {"reason": end.label, "retry_ms": retry_ms})
        reason = f'{{"retry_ms":{retry_ms}}}' if end.code == ends.RESTART.code else end.label
        return ws_close(end.code, reason)

    def _leave_all(self, client: Client, end: End) -> list[Frame] | None:
        """Take a client out of everything. What it is still owed, or None when it had already
        gone.
        """
        if client.end is not None:
            return None
        client.end = end
        due = self._unplace(client)
        for subscription in client.subscriptions.values():
            self._release(subscription.audience)
        client.subscriptions = {}
        for room in client.rooms.values():
            self._forget_member(room, client)
        client.rooms = {}
        self.tags.remove(client)
        del self.clients[client.id]
        if client.ticket is not None:
            client.ticket.release()
        self.metrics.ends[end.label] += 1
        return due

    # ── what each hears ─────────────────────────────────────────────────────────────────────────

    def subscribe(self, client: Client, texts: Iterable[tuple[str, Policy]]) -> list[Audience]:
        """Register filters for a client; it hears their changes from this moment. Malformed
        filters: `FilterError`, and then none is registered.
        """
        from store.filter import parse_filter

        wanted = [(parse_filter(text), policy) for text, policy in texts]
        audiences: list[Audience] = []
        for parsed, policy in wanted:
            old = client.subscriptions.get(parsed.text)
            if old is None:
                selection = self.store.index.add(parsed, self.store.document.root)
                if selection.watchers is None:
                    selection.watchers = Audience(selection)
                audience: Audience = selection.watchers
            else:
                audience = old.audience
            client.subscriptions[parsed.text] = Subscription(audience, policy)
            audiences.append(audience)
        self._replace(client)
        return audiences

    def unsubscribe(self, client: Client, text: str) -> bool:
        """Take a filter away: nothing for it is sent from now on. False: it was not there."""
        subscription = client.subscriptions.pop(text, None)
        if subscription is None:
            return False
        gone = subscription.audience
        if client.gaps is not None:
            client.gaps.pop(gone, None)
        self._replace(client, without=gone)
        self._release(gone)
        return True

    def join(self, client: Client, name: str) -> Room:
        """Put a client into a room; the room comes into being with its first member."""
        room = client.rooms.get(name)
        if room is None:
            room = self.rooms.get(name)
            if room is None:
                room = self.rooms[name] = Room(name)
            room.members[client] = None
            client.rooms[name] = room
            self._replace(client)
        return room

    def leave(self, client: Client, name: str) -> Room | None:
        """Take a client out of a room; an empty room vanishes. None: it was not in it."""
        room = client.rooms.pop(name, None)
        if room is not None:
            self._replace(client, without=room)
            self._forget_member(room, client)
        return room

    def _forget_member(self, room: Room, client: Client) -> None:
        room.members.pop(client, None)
        if not room.members:
            self.rooms.pop(room.name, None)

    def _release(self, audience: Audience) -> None:
        self.store.index.remove(audience.selection)
        if audience.selection.references == 0:
            audience.selection.watchers = None

    def _place(self, client: Client) -> None:
        sources: frozenset[Source] = frozenset(
            [s.audience for s in client.subscriptions.values()] + list(client.rooms.values())
        )
        key = (client.kind, sources)
        group = self._groups.get(key)
        if group is None or len(group) >= SIZE:
            group = self._groups[key] = Group(self, client.kind, sources)
            for source in sources:
                source.groups[group] = None
        group.add(client)

    def _unplace(self, client: Client) -> list[Frame]:
        group = client.group
        assert group is not None
        due = group.remove(client)
        if not len(group):
            for source in group.sources:
                source.groups.pop(group, None)
            key = (group.kind, group.sources)
            if self._groups.get(key) is group:
                del self._groups[key]
        return due

    def _replace(self, client: Client, *, without: Source | None = None) -> None:
        """Move a client to the group of its present sources; what it was owed goes with it, but
        for one source.
        """
        due = self._unplace(client)
        self._place(client)
        for frame in due:
            if frame.source is None or frame.source is not without:
                self.push(client, frame)

    # ── publishing ──────────────────────────────────────────────────────────────────────────────

    def deliver(self, committed: Committed) -> None:
        """Owe the events of one change to all who watch. Only the last frame of a change that a
        client gets carries the position (see `frame`).
        """
        matched = committed.matched
        if not matched:
            return
        change = committed.change
        position = str(change.position).encode()
        pairs: list[tuple[Audience, Event]] = []
        for selection, events in matched:
            audience: Audience | None = selection.watchers
            if audience is not None:
                pairs += [(audience, event) for event in bounded(events)]
        last: dict[Group, int] = {}
        for index, (audience, _) in enumerate(pairs):
            for group in audience.groups:
                last[group] = index
        known: object = None
        type_, members = "", b""
        for index, (audience, event) in enumerate(pairs):
            whole = event.kind == "snapshot"
            if event is not known and not whole:
                known = event
                type_, members = members_of(event, change.time_ms)
            encoded: dict[tuple[Kind, bool], Frame] = {}
            for group in audience.groups:
                kind, with_id = variant = (group.kind, last[group] == index)
                frame = encoded.get(variant)
                if frame is None:
                    if whole:
                        frame = snapshot(self.store, audience, kind, id=with_id, droppable=True)
                    else:
                        id = position if with_id else None
                        data = document_frame(kind, type_, audience.filter_json, members, id)
                        frame = Frame(data, audience, change.position.seq)
                    encoded[variant] = frame
                    self._pass_bytes += frame.size
                group.append(frame)

    def push(self, client: Client, frame: Frame) -> None:
        """Owe a frame to one client, after all it is owed already. Nothing happens when it has
        gone.
        """
        if client.group is not None:
            client.group.push(client, frame)

    def tell(self, client: Client, event: str, body: dict[str, Any]) -> None:
        """Push a control event."""
        self.push(client, Frame(control(client.kind, event, body)))

    def send_to_rooms(self, names: list[str], body: dict[str, Any], *, omit: Client | None) -> int:
        """Owe a message to all in the rooms, each once and `omit` not at all. Says how many that
        is.
        """
        rooms = [self.rooms[name] for name in dict.fromkeys(names) if name in self.rooms]
        if len(rooms) == 1:
            return self._send_to_room(rooms[0], body, omit)
        reached: set[Client] = set() if omit is None else {omit}
        for room in rooms:
            position = self._room_position(room, room.number())
            for client in room.members:
                if client not in reached:
                    data = control(client.kind, "message", body | {"room": room.name}, id=position)
                    self.push(client, Frame(data, room, room.seq))
            reached.update(room.members)
        return len(reached) - (omit is not None)

    def _send_to_room(self, room: Room, body: dict[str, Any], omit: Client | None) -> int:
        seq = room.number()
        position = self._room_position(room, seq)
        body = body | {"room": room.name}
        encoded: dict[tuple[Kind, bool], Frame] = {}
        for group in room.groups:
            # On SSE the browser keeps one id for the stream; where the stream also carries the
            # document, that one has to stay the document's position, or a reconnect could not
            # resume it.
            bare = group.kind == "sse" and any(isinstance(s, Audience) for s in group.sources)
            frame = encoded.get((group.kind, bare))
            if frame is None:
                data = control(group.kind, "message", body, id=None if bare else position)
                frame = encoded[group.kind, bare] = Frame(data, room, seq)
                self._pass_bytes += len(data)
            group.append(frame)
            if omit is not None and omit.group is group:
                group.omit_last(omit)
        return len(room.members) - (omit is not None and omit in room.members)

    def _room_position(self, room: Room, seq: int) -> str:
        return f"{self.store.epoch}-{room.epoch}:{seq}"

    # ── slow clients ────────────────────────────────────────────────────────────────────────────

    def count_sent(self, clients: int, frames: int, size: int) -> None:
        """The flusher wrote `frames` of together `size` bytes to each of so many clients."""
        self.metrics.events_total += clients * frames
        self.metrics.bytes_out += clients * size

    def stalled(self, client: Client, due: list[Frame], sent: int) -> None:
        """A flowing client's socket took only `sent` bytes of `due` (-1: it is lost)."""
        if client.end is not None:
            return
        if sent < 0:
            self.close(client, ends.CLIENT_LOST)
            client.lane.abort()
            return
        group = client.group
        assert group is not None
        del group.flowing[client]
        group.slow[client] = None
        self._stall(client, due, sent)

    def _stall(self, client: Client, due: list[Frame], sent: int) -> None:
        client.outbox = self._outbox()
        rest = list(due)
        while rest and (sent >= len(rest[0].data) > 0):
            sent -= len(rest.pop(0).data)
            self.metrics.events_total += 1
        if rest and sent:
            # The rest of a frame of which a part is out must follow whatever the bounds: it is
            # not droppable.
            rest[0] = Frame(rest[0].data[sent:])
        self.enqueue(client, rest)

    def enqueue(self, client: Client, frames: list[Frame]) -> None:
        """Put frames into a slow client's outbox; its policy says what happens without room."""
        outbox = client.outbox
        if outbox is None:
            return
        now = trio.current_time()
        for frame in frames:
            source = frame.source
            if source is None:
                if not outbox.put(frame, now):
                    self.metrics.drops["control", "answers_unread"] += 1
                    self.close(client, ends.SLOW)
                    client.lane.abort()
                    return
            elif (client.gaps is not None and source in client.gaps) or not outbox.put(frame, now):
                # After the first loss the source is healed as a whole: what still comes before
                # that is part of the gap.
                if self._policy(client, source) is Policy.DISCONNECT:
                    self.metrics.drops[Policy.DISCONNECT.value, "queue_full"] += 1
                    self.finish(client, ends.SLOW)
                    return
                self._drop(client, source, frame)
        if client.send_now is not None and not client.writing and self._nursery is not None:
            client.writing = True
            self._nursery.start_soon(self._write, client)

    def _policy(self, client: Client, source: Source) -> Policy:
        if isinstance(source, Audience):
            subscription = client.subscriptions.get(source.selection.filter.text)
            if subscription is not None:
                return subscription.policy
        return Policy.DROP_NEWEST

    def _drop(self, client: Client, source: Source, frame: Frame) -> None:
        if client.gaps is None:
            client.gaps = {}
        gap = client.gaps.get(source)
        if gap is None:
            gap = client.gaps[source] = Gap(frame.seq, "queue_full")
        gap.missed += 1
        gap.last = frame.seq
        client.drops += 1
        self.metrics.drops[self._policy(client, source).value, "queue_full"] += 1

    def _outbox(self) -> Outbox:
        return Outbox(self.settings.queue_items, self.settings.queue_bytes)

    def heal(self, client: Client) -> bool:
        """Announce to a client whose outbox is empty what it has lost, and queue the repair.
        False: nothing was lost.

        What its group is still owed is flushed first, so the snapshot comes after everything
        older than it.
        """
        if client.gaps is None or client.group is None:
            return False
        client.group.flush()
        gaps, client.gaps = client.gaps, None
        due: list[Frame] = []
        audiences = [source for source in gaps if isinstance(source, Audience)]
        for source, gap in gaps.items():
            due.append(Frame(self._gap(client, source, gap)))
        for audience in audiences:
            due.append(snapshot(self.store, audience, client.kind, id=audience is audiences[-1]))
        self.metrics.gaps_total += len(gaps)
        self.metrics.snapshots_total += len(audiences)
        self.enqueue(client, due)
        return True

    def _gap(self, client: Client, source: Source, gap: Gap) -> bytes:
        if isinstance(source, Audience):
            epoch = self.store.epoch
            body: dict[str, Any] = {"filter": source.selection.filter.text}
        else:
            assert isinstance(source, Room)
            epoch = f"{self.store.epoch}-{source.epoch}"
            body = {"room": source.name}
        body |= {
            "missed": gap.missed,
            "after": str(Position(epoch, gap.first - 1)),
            "to": str(Position(epoch, gap.last)),
            "reason": gap.reason,
        }
        return control(client.kind, "gap", body)

    async def _write(self, client: Client) -> None:  # noqa: ASYNC910 # waits only when there is something to wait for
        """A slow client's writer: drain its outbox, then let it flow again or end."""
        try:
            for data in self.drain(client):
                await client.lane.send_all(data)
                self.metrics.bytes_out += len(data)
        except trio.ClosedResourceError:
            pass
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            self.close(client, ends.WRITE_TIMEOUT)
            client.lane.abort()
        finally:
            client.writing = False
        if client.end is not None:
            client.lane.wake()

    def drain(self, client: Client) -> Iterator[bytes]:
        """What to write next to a slow client, piece by piece, until it flows again (or, on a
        lane without direct writes, until its outbox is empty for now).
        """
        while True:
            outbox = client.outbox
            if outbox is None:
                return
            try:
                frames = outbox.take_nowait(WRITE_BYTES)
            except trio.ClosedResourceError:
                return
            if frames:
                yield from self.pieces(frames)
            elif not self.heal(client):
                if client.send_now is not None and client.group is not None:
                    self._flow(client)
                return

    def pieces(self, frames: list[Frame]) -> Iterator[bytes]:
        """The bytes of frames taken from an outbox: joined, and a feed piece by piece."""
        self.metrics.events_total += len(frames)
        data = b"".join([frame.data for frame in frames])
        if len(data) <= 2 * WRITE_BYTES:
            if data:
                yield data
        else:  # one big frame, or the rest of one: in pieces, so that each has its own deadline
            for at in range(0, len(data), WRITE_BYTES):
                yield data[at : at + WRITE_BYTES]
        if isinstance(frames[-1], Feed):
            for piece in frames[-1].pieces():
                if piece:
                    yield piece

    def _flow(self, client: Client) -> None:
        group = client.group
        assert group is not None
        client.outbox = None
        del group.slow[client]
        group.flowing[client] = None
