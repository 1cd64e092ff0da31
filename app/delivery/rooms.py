"""The rooms of a server: who is in which, the messages to them, and what they remember.

A room comes into being with its first member and vanishes with its last. But a client whose
connection broke is nobody's member for a moment, and may have been the only one. So an empty room
is kept for `EMPTY_S`, also if nothing was said in it yet: who returns in time finds the same log,
and in it what was said meanwhile. To everyone else it is gone.

What is remembered is bounded for each room, in items and bytes, and in bytes for all together:
beyond that the room forgets in which nothing has been said for the longest time.

Where several Triodes share a log, what is said stands there, and each hears all of it (`follow`,
`hear`): in one order, under the numbers of the log. So a room need have no members here to remember
for those who come from another Triode.

Everything here is synchronous, like the hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.delivery.lazy_frame import LAZY_BYTES, VerbatimLazyFrame
from triode.app.delivery.room import KeptRoom, Message, Room
from triode.app.wire.frame import FRAME_BYTES, Frame, VerbatimFrame, message_frame
from triode.app.wire.refusal import Refusal
from triode.store.change import Position
from triode.store.value import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from triode.app.delivery.group import Group
    from triode.app.delivery.ports import HubPort
    from triode.app.delivery.subscriber import Client
    from triode.app.wire.frame import Kind
    from triode.store.said import Say

# For how long, and how many, rooms without members are kept.
EMPTY_S: Final = 60.0
EMPTY_ROOMS: Final = 1000
# While a server ends, and after it has begun, all are without members for a moment.
RESTART_ROOMS: Final = 20_000
# What one room may remember of `room_history_bytes`, so that one cannot make all others forget.
SHARE: Final = 16
# What a message to several rooms may take in all of them together: each has a copy that names it.
MOST_BYTES: Final = 8 * 1024 * 1024


class Rooms(dict[str, "Room[Client]"]):
    """The rooms that have members, by name."""

    def __init__(self, hub: HubPort) -> None:
        super().__init__()
        self._hub = hub
        # Rooms without members and when they were left, the one left first at the front.
        self._left: dict[str, tuple[Room[Client], float]] = {}
        self._many_until = 0.0
        # Messages have the numbers of a log that is shared: of rooms that are not known here, all
        # that came after this one.
        self._floor: int | None = None
        # How many clients are in how many rooms, counted together.
        self.memberships = 0
        # Rooms that remember something, the one where nothing was said for longest at the front.
        self._logs: dict[Room[Client], None] = {}
        # Told of each message before anybody hears it, and of each new room (None).
        self.recorder: Callable[[Room[Client], Message | None], None] | None = None
        self.log_bytes = 0

    # ── who is in which ─────────────────────────────────────────────────────────────────────────

    def enter(self, client: Client, name: str) -> Room[Client]:
        """Make a client a member. The room comes into being, or comes back, with its first one."""
        room = self.get(name)
        if room is None:
            room = self[name] = self._return(name) or self._new(name)
        self.memberships += client not in room.members
        room.members[client] = None
        return room

    def _new(self, name: str) -> Room[Client]:
        room: Room[Client] = Room(name)
        room.seq = room.floor = self._floor or 0
        if self.recorder is not None:
            self.recorder(room, None)
        return room

    def exit(self, client: Client, room: Room[Client]) -> None:
        """A client is no member any more. A room without members vanishes."""
        self.memberships -= client in room.members
        room.members.pop(client, None)
        if room.members or self.pop(room.name, None) is None:
            return
        if not self._hub.settings.room_history and self._floor is None:
            return  # there is nothing to come back to
        now = trio.current_time()
        self._left[room.name] = (room, now)
        self.sweep(now)

    def sweep(self, now: float) -> None:
        """Forget the rooms that have been empty for long, and those that are too many."""
        shared = self._floor is not None
        most = RESTART_ROOMS if shared or now < self._many_until else EMPTY_ROOMS
        for name, (room, left_at) in list(self._left.items()):
            # On another Triode it may have members for as long as they like.
            if (shared or now - left_at < EMPTY_S) and len(self._left) <= most:
                return
            del self._left[name]
            self._forget(room)
            if self._floor is not None:
                self._floor = max(self._floor, room.seq)

    @property
    def count(self) -> int:
        """Rooms that are kept, with members or without."""
        return len(self) + len(self._left)

    def _return(self, name: str) -> Room[Client] | None:
        """A room that was left not long ago."""
        self.sweep(trio.current_time())
        room, _ = self._left.pop(name, (None, 0.0))
        return room

    def _known(self, name: str) -> Room[Client] | None:
        """A room with members, or one that remembers."""
        return self.get(name) or self._left.get(name, (None,))[0]

    # ── over a restart ──────────────────────────────────────────────────────────────────────────

    def keep_many(self) -> None:
        """All clients are away for a moment: their rooms are not forgotten for being many."""
        self._many_until = trio.current_time() + EMPTY_S

    def kept(self) -> Iterator[tuple[str, KeptRoom]]:
        """The name of each room, and what `restore` makes it of."""
        if not self._hub.settings.room_history:
            return
        rooms = [*(room for room, _ in self._left.values()), *self.values()]
        for room in rooms[-RESTART_ROOMS:]:
            log = [(each.seq, each.body.decode(), *each[2:]) for each in room.log or ()]
            yield room.name, KeptRoom(room.epoch, room.seq, log)

    def restore(self, name: str, kept: KeptRoom) -> None:
        """A room as it was, without members yet: as if all had just left it."""
        self.keep_many()
        room: Room[Client] = Room(name)
        room.epoch, room.seq = kept.epoch, kept.seq - len(kept.log)
        room.floor = room.seq
        self._left[name] = (room, trio.current_time())
        for seq, body, omitted, told in kept.log:
            room.number()
            self._remember(room, Message(seq, body.encode(), omitted, told))

    # ── several Triodes ─────────────────────────────────────────────────────────────────────────

    def follow(self, seq: int) -> None:
        """From here on messages come out of a shared log, behind its entry `seq`, and have its
        numbers. Nothing of before is remembered. Nobody may be in a room.
        """
        assert not self
        for room, _ in self._left.values():
            self._forget(room)
        self._left.clear()
        self._floor = seq

    @property
    def are_shared(self) -> bool:
        """Whether other Triodes have the same rooms."""
        return self._floor is not None

    def hear(self, message: Say, seq: int) -> int:
        """A message has come out of the log, under this number. Says how many members hear it
        here.
        """
        omit = None if message.omitted is None else self._hub.clients.get(message.omitted)
        rooms = [self._found(name) for name in message.rooms]
        members = encode(message.body)
        return self._send(rooms, members, message.omitted, omit, seq)

    def _found(self, name: str) -> Room[Client]:
        """A room, with members here or without; those that were not heard of for longest go."""
        room = self.get(name)
        if room is None:
            now = trio.current_time()
            left = self._left.pop(name, None)
            room = self._new(name) if left is None else left[0]
            self._left[name] = (room, now)
            self.sweep(now)
        return room

    # ── messages ────────────────────────────────────────────────────────────────────────────────

    def send(self, names: Iterable[str], body: dict[str, Any], *, omit: Client | None) -> int:
        """Owe a message to all in the rooms, each once and `omit` not at all. Says how many that
        is. `body` has its members, but for `room`. Raises `Refusal` 413.
        """
        rooms = [room for name in dict.fromkeys(names) if (room := self._known(name)) is not None]
        members = encode(body)  # once, however many rooms it goes to
        require_few(len(rooms), len(members))
        return self._send(rooms, members, None if omit is None else omit.id, omit, None)

    def _send(
        self,
        rooms: list[Room[Client]],
        members: bytes,
        omitted: str | None,
        omit: Client | None,
        seq: int | None,
    ) -> int:
        told = tuple(room.name for room in rooms)
        if len(rooms) == 1:
            return self._send_to_all(rooms[0], members, omitted, omit, seq)
        heard: set[Client] = set() if omit is None else {omit}
        for room in rooms:
            frame_for = self._publish(room, members, omitted, told, seq)
            for client in room.members:
                if client not in heard and client.group is not None:
                    client.group.push(client, frame_for(client.group))
            heard.update(room.members)
        return len(heard) - (omit is not None)

    def _send_to_all(
        self,
        room: Room[Client],
        members: bytes,
        omitted: str | None,
        omit: Client | None,
        seq: int | None,
    ) -> int:
        frame_for = self._publish(room, members, omitted, (room.name,), seq)
        for group in room.groups:
            group.append(frame_for(group))
            if omit is not None and omit.group is group:
                omit.group.omit_last(omit)
        return len(room.members) - (omit is not None and omit in room.members)

    def _publish(
        self,
        room: Room[Client],
        members: bytes,
        omitted: str | None,
        told: tuple[str, ...],
        seq: int | None,
    ) -> Callable[[Group[Client]], Frame]:
        """Number and remember a message. Gives what makes its frame for a group, each once."""
        encoded = b'{"room":%b,%b' % (encode(room.name), members[1:])
        message = Message(room.number(seq), encoded, omitted, told)
        self._remember(room, message)
        if self.recorder is not None:
            self.recorder(room, message)
        position = str(self.position(room, message.seq))
        frames: dict[tuple[Kind, bool], Frame] = {}

        def frame_for(group: Group[Client]) -> Frame:
            variant = (group.kind, group.bare_messages)
            frame = frames.get(variant)
            if frame is None:
                id = None if group.bare_messages else position
                data = message_frame(group.kind, encoded, id)
                frame = frames[variant] = Frame(data, room, message.seq)
            return frame

        return frame_for

    # ── what rooms remember ─────────────────────────────────────────────────────────────────────

    def position(self, room: Room[Client], seq: int | None = None) -> Position:
        """A position in the log of a room; by default where it stands now."""
        if self._floor is not None:
            store = self._hub.store
            return Position(store.epoch, store.seq if seq is None else seq)
        return Position(self._epoch(room), room.seq if seq is None else seq)

    def _seq_of(self, room: Room[Client], since: Position) -> int | None:
        """The number by which the room knows a position; None if it knows not all that came
        after it.
        """
        if self._floor is not None:
            seq = self._hub.store.seq_of(since)
            return seq if seq is not None and room.covers(seq) else None
        known = since.epoch == self._epoch(room) and room.covers(since.seq)
        return since.seq if known and since.seq <= room.seq else None

    def missed(
        self, kind: Kind, sinces: Mapping[Room[Client], Position | None], *, was: str | None = None
    ) -> dict[Room[Client], list[Frame]]:
        """What was said in rooms after positions, as frames. Rooms of which that can't be told are
        left out.

        What went to several of the rooms comes once. A client that `was` another before does not
        hear what that one sent without hearing it.
        """
        known = {
            room: seq
            for room, since in sinces.items()
            if since is not None and (seq := self._seq_of(room, since)) is not None
        }
        heard_in = _first_of({room.name for room in known})
        return {room: self._frames(kind, room, seq, heard_in, was) for room, seq in known.items()}

    def _frames(
        self,
        kind: Kind,
        room: Room[Client],
        seq: int,
        heard_in: Callable[[Message], str],
        was: str | None,
    ) -> list[Frame]:
        messages = [
            message
            for message in room.since(seq)
            if heard_in(message) == room.name
            and (message.omitted is None or message.omitted != was)
        ]
        if not messages:
            return []
        frames = (
            message_frame(kind, message.body, str(self.position(room, message.seq)))
            for message in messages
        )
        count = len(messages)
        if sum(len(message.body) for message in messages) <= FRAME_BYTES:
            return [VerbatimFrame(b"".join(frames), count=count)]
        # Until they are taken they are those that the room remembers too, and no copies.
        return [VerbatimLazyFrame(_batches(frames), size=LAZY_BYTES, count=count)]

    def _epoch(self, room: Room[Client]) -> str:
        return f"{self._hub.store.epoch}-{room.epoch}"

    def _remember(self, room: Room[Client], message: Message) -> None:
        settings = self._hub.settings
        if not settings.room_history:
            room.forget()
            return
        self.log_bytes -= room.bytes
        room.remember(message, settings.room_history, settings.room_history_bytes // SHARE)
        self.log_bytes += room.bytes
        self._logs.pop(room, None)
        self._logs[room] = None
        while self.log_bytes > settings.room_history_bytes:
            self._forget(next(iter(self._logs)))

    def _forget(self, room: Room[Client]) -> None:
        self._logs.pop(room, None)
        self.log_bytes -= room.bytes
        room.forget()


def require_few(rooms: int, size: int) -> None:
    """Raises `Refusal` 413 for a message of so many bytes to too many rooms."""
    if rooms > 1 and rooms * size > MOST_BYTES:
        most = MOST_BYTES // rooms
        raise Refusal(
            413,
            f"a message to {rooms} rooms may have {most} bytes; send it to fewer at once",
            extra={"limit": most},
        )


def _first_of(names: set[str]) -> Callable[[Message], str]:
    """Which of these rooms a message is heard in: the first one that it was told. That is searched
    for once, for all rooms that have the message.
    """
    known: dict[int, str] = {}

    def first(message: Message) -> str:
        told = message.told
        # While the rooms remember their messages, no other tuple has this identity.
        found = known.get(id(told))
        if found is None:
            found = known[id(told)] = next(name for name in told if name in names)
        return found

    return first


def _batches(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Joined to pieces of about `FRAME_BYTES`."""
    batch: list[bytes] = []
    size = 0
    for data in frames:
        batch.append(data)
        size += len(data)
        if size >= FRAME_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)
