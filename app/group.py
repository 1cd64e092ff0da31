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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.source import Audience

if TYPE_CHECKING:
    from app.client import Client
    from app.frame import Frame, Kind
    from app.hub import Hub
    from app.source import Source

SIZE: Final = 256


class Particulars:
    """How one member's due differs from the group's: where it starts, its own frames, the indexes
    it does not get.
    """

    __slots__ = ("omitted", "own", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.own: list[tuple[int, Frame]] = []
        self.omitted: set[int] = set()

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


class Group:
    """Clients of one `kind` that hear exactly the same `sources`."""

    __slots__ = ("dirty", "flowing", "frames", "hub", "kind", "particulars", "slow", "sources")

    def __init__(self, hub: Hub, kind: Kind, sources: frozenset[Source]) -> None:
        self.hub = hub
        self.kind = kind
        self.sources = sources
        self.flowing: dict[Client, None] = {}
        self.slow: dict[Client, None] = {}
        self.frames: list[Frame] = []
        self.particulars: dict[Client, Particulars] = {}
        self.dirty = False

    @property
    def bare_messages(self) -> bool:
        """Whether room messages come without their position: a browser keeps one id for an event
        stream, and where the stream also carries the document it has to stay the document's.
        """
        return self.kind == "sse" and any(isinstance(s, Audience) for s in self.sources)

    def __len__(self) -> int:
        return len(self.flowing) + len(self.slow)

    def append(self, frame: Frame) -> None:
        """Owe a frame to every member."""
        self.frames.append(frame)
        if not self.dirty:
            self.hub.flusher.mark(self)

    def push(self, client: Client, frame: Frame) -> None:
        """Owe a frame to one member, after all that it is owed already."""
        self._of(client).own.append((len(self.frames), frame))
        if not self.dirty:
            self.hub.flusher.mark(self)

    def omit_last(self, client: Client) -> None:
        """The frame appended last is not for this member."""
        self._of(client).omitted.add(len(self.frames) - 1)

    def add(self, client: Client) -> None:
        """Take a member; it is owed what comes from now on."""
        if self.frames:
            self.particulars[client] = Particulars(len(self.frames))
        (self.flowing if client.outbox is None else self.slow)[client] = None
        client.group = self

    def remove(self, client: Client) -> list[Frame]:
        """Let a member go, with what it is still owed."""
        self.flowing.pop(client, None)
        self.slow.pop(client, None)
        client.group = None
        own = self.particulars.pop(client, None)
        return list(self.frames) if own is None else own.due(self.frames)

    def flush(self) -> int:
        """Write out all that is owed to all. Says how many clients were written to."""
        frames, particulars = self.frames, self.particulars
        self.dirty = False
        self.frames = []
        if particulars:
            self.particulars = {}
        writers = self.hub.writers
        failed: list[tuple[Client, list[Frame], int]] = []
        if any(frame.data == b"" for frame in frames):
            # A feed: only a writer can send it.
            failed += [(c, frames, 0) for c in self.flowing if c not in particulars]
        elif frames and self.flowing:
            data = frames[0].data if len(frames) == 1 else b"".join([f.data for f in frames])
            size = len(data)
            for client in self.flowing:
                if client in particulars:
                    continue
                try:
                    sent = client.send_now(data)  # type: ignore[misc] # a flowing client has it
                except BlockingIOError:
                    sent = 0
                except OSError:
                    sent = -1
                if sent != size:
                    failed.append((client, frames, sent))
            writers.count_sent(len(self.flowing) - len(failed), len(frames), size)
        for client, own in particulars.items():
            if client in self.flowing:
                self._write(client, own.due(frames), failed)
        for client in list(self.slow):
            own_or_none = particulars.get(client)
            writers.enqueue(client, frames if own_or_none is None else own_or_none.due(frames))
        for client, due, sent in failed:
            writers.stalled(client, due, sent)
        return len(self.flowing) + len(self.slow)

    def _write(
        self, client: Client, due: list[Frame], failed: list[tuple[Client, list[Frame], int]]
    ) -> None:
        if any(frame.data == b"" for frame in due):  # a feed: only a writer can send it
            failed.append((client, due, 0))
            return
        data = b"".join([frame.data for frame in due])
        if not data:
            return
        try:
            sent = client.send_now(data)  # type: ignore[misc] # a flowing client has it
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = -1
        if sent != len(data):
            failed.append((client, due, sent))
        else:
            self.hub.writers.count_sent(1, len(due), sent)

    def _of(self, client: Client) -> Particulars:
        own = self.particulars.get(client)
        if own is None:
            own = self.particulars[client] = Particulars(0)
        return own
