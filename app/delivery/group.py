"""A group: clients of one transport that get the same frames, written to together.

Theory of operation. Publishing appends a frame to each group that hears the source; nothing is
written yet. A flush joins what the group has gathered once, and writes the same bytes to every
flowing member: one `send` a client however many frames there are. Slow members get the frames one
by one into their outboxes.

Not all members are owed the same at every moment. One that joined between two flushes is owed
only the frames from then on; an answer to a command belongs to one client alone; a sender does
not hear its own message. Such *particulars* are kept beside the frames, by index, so that a
client's own order is exact: what it is owed is the group's frames from `start` on, with its own
frames put in at their places and the omitted ones left out.

`flush` never waits and never raises for a client's sake; a client that can't be written to is
handed to the hub. A group has at most `SIZE` members (a fuller one is another group with the same
sources), which bounds one flush to a few milliseconds.

What each member has been sent is known exactly without counting for each: the group counts what it
writes to all that flow, once a flush, and a client's own count is the difference to that while it
is among them. So it is lowered by the group's when it begins to flow here, raised when it ceases
to, and corrected for what a flush did not bring to it as to the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from triode.app.delivery.direct_message import DirectFrame, Directs
from triode.app.wire.chunks import chunked
from triode.app.wire.compression import on_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.app.delivery.flusher import Flusher
    from triode.app.runtime.metrics import Metrics
    from triode.app.wire.chunks import Chunks
    from triode.app.wire.frame import Frame, Kind
    from triode.app.wire.source import Source

# A send takes some 5 microseconds: a flush of one group stays below two milliseconds.
SIZE: Final = 256


class Member(Protocol):
    """A client, as its group sees it."""

    group: Any
    sent: int
    sent_bytes: int

    @property
    def outbox(self) -> object | None:
        """None: it flows."""

    @property
    def chunks(self) -> Chunks | None:
        """See `subscriber.Lane`. Between the flushes of one that flows the last one is whole."""

    @property
    def send_now(self) -> Callable[[bytes], int] | None:
        """See `subscriber.Lane`; one that flows has it."""


M = TypeVar("M", bound=Member)
C = TypeVar("C", bound=Member, contravariant=True)


class SlowSide(Protocol[C]):
    """Who takes over the members that cannot be written to at once."""

    def enqueue(self, client: C, frames: list[Frame]) -> None:
        """Let them wait for a slow one."""

    def lose_all(self, client: C, source: Source, frames: list[Frame]) -> bool:
        """Lose them, if that is all that would become of them."""

    def stalled(self, client: C, due: list[Frame], sent: int) -> None:
        """One that flowed took only `sent` bytes of them."""


class Owner(Protocol[C]):
    """The hub, as a group sees it."""

    @property
    def flusher(self) -> Flusher:
        """Writes to those that flow."""

    @property
    def writers(self) -> SlowSide[C]:
        """Write to the others."""

    @property
    def metrics(self) -> Metrics:
        """What is sent is counted here."""


def events_in(frames: list[Frame]) -> int:
    """How many events they hold."""
    return sum([frame.count for frame in frames])


class Particulars:
    """How one member's due differs from the group's: where it starts, its own frames, the indexes
    it does not get.
    """

    __slots__ = ("directs", "omitted", "own", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.own: list[tuple[int, Frame]] = []
        self.omitted: set[int] = set()
        # What others send to it alone, see `direct_message`.
        self.directs: Directs | None = None

    def due(self, frames: list[Frame]) -> list[Frame]:
        """What this member is owed of `frames`, in order."""
        due: list[Frame] = []
        at = self.start
        for index, frame in [*self.own, (len(frames), None)]:
            if self.omitted:
                due += [frames[i] for i in range(at, index) if i not in self.omitted]
            else:
                due += frames[at:index]
            at = max(at, index)
            if frame is not None:
                due.append(frame)
        return due


class Group(Generic[M]):
    """Clients of one `kind` that hear exactly the same `sources`; `deflate_from`, `max_event`, and
    whether they are sent chunks, is that of all.
    """

    __slots__ = (
        "chunked",
        "deflate_from",
        "dirty",
        "flowing",
        "frames",
        "hub",
        "kind",
        "max_event",
        "particulars",
        "sent",
        "sent_bytes",
        "slow",
        "sources",
    )

    def __init__(
        self,
        hub: Owner[M],
        kind: Kind,
        sources: frozenset[Source],
        deflate_from: int = 0,
        chunked: bool = False,
        max_event: int = 0,
    ) -> None:
        self.hub = hub
        self.kind = kind
        self.deflate_from = deflate_from
        self.chunked = chunked
        self.max_event = max_event
        self.sources = sources
        # Dicts as ordered sets: who joined first is written to first, in every flush alike.
        self.flowing: dict[M, None] = {}
        self.slow: dict[M, None] = {}
        self.frames: list[Frame] = []
        self.particulars: dict[M, Particulars] = {}
        self.dirty = False
        self.sent = 0
        self.sent_bytes = 0

    @property
    def bare_messages(self) -> bool:
        """Whether room messages come without their position: a browser keeps one id for an event
        stream, so that it can only be a room's where the stream carries nothing else.
        """
        return self.kind == "sse" and len(self.sources) > 1

    def __len__(self) -> int:
        return len(self.flowing) + len(self.slow)

    def append(self, frame: Frame) -> None:
        """Owe a frame to every member."""
        self.frames.append(frame)
        # Many groups get the same frame: it is published once.
        if not frame.is_counted:
            self.hub.flusher.count(frame)
        if not self.dirty:
            self.hub.flusher.mark(self)

    def push(self, client: M, frame: Frame) -> None:
        """Owe a frame to one member, after all that it is owed already."""
        particulars = self.particulars.get(client)
        if particulars is None:
            particulars = self.particulars[client] = Particulars(0)
        # Beside the group's frames, not among them: those are joined once for all.
        particulars.own.append((len(self.frames), frame))
        if type(frame) is DirectFrame:
            if particulars.directs is None:
                particulars.directs = Directs()
            particulars.directs.add(frame)
        if not frame.is_counted:
            self.hub.flusher.count(frame)
        if not self.dirty:
            self.hub.flusher.mark(self)

    def omit_last(self, client: M) -> None:
        """The frame appended last is not for this member."""
        self.particulars.setdefault(client, Particulars(0)).omitted.add(len(self.frames) - 1)

    def add(self, client: M) -> None:
        """Take a member; it is owed what comes from now on."""
        # What waits for the flush was published before it came.
        if self.frames:
            self.particulars[client] = Particulars(len(self.frames))
        client.group = self
        if client.outbox is None:
            self._begin(client)
        else:
            self.slow[client] = None

    def remove(self, client: M) -> list[Frame]:
        """Let a member go, with what it is still owed."""
        if client in self.flowing:
            self._cease(client)
        else:
            self.slow.pop(client, None)
        # Before anything is pushed to it again: what has no group is owed nothing.
        client.group = None
        # The caller's to push again elsewhere: whoever changes its group loses nothing by that.
        own = self.particulars.pop(client, None)
        return list(self.frames) if own is None else own.due(self.frames)

    def flow(self, client: M) -> None:
        """A slow member takes what it is owed at once again."""
        # Its outbox is empty, so nothing older can come behind.
        del self.slow[client]
        self._begin(client)

    def stall(self, client: M) -> None:
        """A flowing member does not take all: it has an outbox from now on."""
        self._cease(client)
        self.slow[client] = None

    def sent_to(self, client: M) -> tuple[int, int]:
        """How many events, and bytes, a member has been sent since it connected."""
        if client not in self.flowing:
            return client.sent, client.sent_bytes
        return client.sent + self.sent, client.sent_bytes + self.sent_bytes

    def _begin(self, client: M) -> None:
        # From here on its own count is a difference to the group's, see above.
        self.flowing[client] = None
        client.sent -= self.sent
        client.sent_bytes -= self.sent_bytes

    def _cease(self, client: M) -> None:
        del self.flowing[client]
        client.sent += self.sent
        client.sent_bytes += self.sent_bytes

    def flush(self) -> int:
        """Write out all that is owed to all. Says how many clients were written to."""
        # Taken before anything is written: a write that fails may end a client, which publishes to
        # others, and to this group.
        frames, particulars = self.frames, self.particulars
        self.dirty = False
        self.frames = []
        if particulars:  # a new one only where it is needed: most flushes have none
            self.particulars = {}
        writers = self.hub.writers
        failed: list[tuple[M, list[Frame], int]] = []
        count = size = 0  # what each flowing member without particulars is sent
        if any(frame.is_lazy for frame in frames):
            # A lazy frame: only a writer can send it.
            failed += [(c, frames, 0) for c in self.flowing if c not in particulars]
        elif frames and self.flowing:
            data = self._on_wire(frames)
            if self.chunked:
                data = chunked(data)
            count, size = events_in(frames), len(data)
            # The loop of a fan-out, two million times a second: no call but the system's. Nobody is
            # taken out of `flowing` here, so failures are gathered and looked at behind it.
            for client in self.flowing:
                if client in particulars:
                    continue
                try:
                    sent = client.send_now(data)  # type: ignore[misc] # a flowing client has it
                except BlockingIOError:
                    sent = 0
                except OSError:
                    sent = -1  # lost, which `stalled` tells from slow
                if sent != size:
                    failed.append((client, frames, sent))
            # Who has particulars is counted where it is written to, who failed by its writer.
            others = sum(client in self.flowing for client in particulars) if particulars else 0
            self._count_sent(len(self.flowing) - others - len(failed), count, size)
            self.sent += count
            self.sent_bytes += size
        for client, own in particulars.items():
            if client in self.flowing:
                # The group has counted what it sent to all. This one is counted by itself.
                client.sent -= count
                client.sent_bytes -= size
                self._write(client, own.due(frames), failed)
        for client, due, _ in failed:
            # By identity: `due` of somebody with particulars is a list of its own, counted already.
            if due is frames:
                client.sent -= count
                client.sent_bytes -= size
        # First those who are slow already. `stalled` makes new ones, who would get it all twice.
        self._enqueue(frames, particulars)
        for client, due, sent in failed:
            writers.stalled(client, due, sent)
        return len(self.flowing) + len(self.slow)

    def _enqueue(self, frames: list[Frame], particulars: dict[M, Particulars]) -> None:
        """Put what is owed to the slow members into their outboxes."""
        # Where all is of one source, what a full outbox would lose can be lost without queueing it.
        source = frames[0].source if frames and self.slow else None
        if source is not None and any(f.source is not source or f.is_lazy for f in frames):
            source = None
        # A copy: a full outbox may end its client, which leaves the group.
        for client in list(self.slow):
            own = particulars.get(client)
            if own is not None:
                self.hub.writers.enqueue(client, own.due(frames))
            # Most of a crowd that is frozen.
            elif source is None or not self.hub.writers.lose_all(client, source, frames):
                self.hub.writers.enqueue(client, frames)

    def _write(self, client: M, due: list[Frame], failed: list[tuple[M, list[Frame], int]]) -> None:
        if any(frame.is_lazy for frame in due):  # a lazy frame: only a writer can send it
            failed.append((client, due, 0))
            return
        data = self._on_wire(due)
        if not data:  # all that was owed was left out for it: its own message
            return
        framed = data if client.chunks is None else client.chunks.framed(data)
        try:
            sent = client.send_now(framed)  # type: ignore[misc] # a flowing client has it
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = -1
        # Lost, slow and half written are one case here: the writers tell them apart.
        # Not tried again here: a part may be out, and the rest has to follow it before anything
        # else does. That is a writer's work.
        if sent != len(framed):
            failed.append((client, due, sent))
        else:
            if client.chunks is not None:
                client.chunks.put(data)
            events = events_in(due)
            client.sent += events
            client.sent_bytes += sent
            self._count_sent(1, events, sent)

    def _count_sent(self, clients: int, events: int, size: int) -> None:
        metrics = self.hub.metrics
        metrics.events_total += clients * events
        metrics.bytes_out += clients * size

    def _on_wire(self, frames: list[Frame]) -> bytes:
        least = self.deflate_from
        # Without compression the attribute is read in place: it saves a call for each frame.
        return b"".join(
            [on_wire(frame, least) for frame in frames] if least else [f.data for f in frames]
        )
