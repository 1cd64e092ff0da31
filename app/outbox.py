"""The outbox: what a slow client has not taken yet, in a bounded Trio memory channel.

Two bounds hold at once, items and bytes; what finds no room is refused and the caller applies the
subscriber's policy. Control frames (answers, `gap`, `closing`) and feeds (snapshots in pieces)
have room of their own in the same channel, so their order among the data holds and no data can
crowd them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from app.frame import Frame, without_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.frame import Kind
    from app.source import Source

# Answers to commands come one for one, and a session stops reading commands while its client is
# behind, so this is reached only by a peer that ignores every answer.
CONTROL_ITEMS: Final = 64


class Feed(Frame):
    """A frame too big to be encoded at once: its bytes come in pieces when there is room for them.

    Many clients may read one feed, each at its own pace. What the quickest has had encoded is kept
    for the others until the last of them is done.
    """

    __slots__ = ("__weakref__", "_made", "_source")

    def __init__(
        self,
        pieces: Iterator[bytes],
        source: Source | None = None,
        seq: int = 0,
        size: int = 0,
    ) -> None:
        super().__init__(b"", source, seq)
        self.size = size
        self._source = pieces
        self._made: list[bytes] = []

    def pieces(self) -> Iterator[bytes]:
        """All bytes from the start, a piece at a time."""
        made = self._made
        index = 0
        while True:
            while index < len(made):
                yield made[index]
                index += 1
            piece = next(self._source, None)
            if piece is None:
                return
            made.append(piece)


def without_positions(frame: Frame, kind: Kind) -> Frame:
    """The same frame for a client that must not be told a position now."""
    if isinstance(frame, Feed):
        bare = (without_id(piece, kind) for piece in frame.pieces())
        return Feed(bare, frame.source, frame.seq, frame.size)
    return Frame(without_id(frame.data, kind), frame.source, frame.seq)


def joined(frames: list[Frame]) -> Frame:
    """Control frames as one, which counts once in a queue: a feed if there is a feed among them."""
    if len(frames) == 1:
        return frames[0]
    if any(isinstance(frame, Feed) for frame in frames):
        return Feed(_chained(frames))
    return Frame(b"".join([frame.data for frame in frames]))


def _chained(frames: list[Frame]) -> Iterator[bytes]:
    for frame in frames:
        if isinstance(frame, Feed):
            yield from frame.pieces()
        else:
            yield frame.data


class Outbox:
    """A bounded queue of frames for one client.

    `max_items` and `max_bytes` bound the data; one frame alone is always taken, however large,
    since it could never be delivered otherwise.
    """

    __slots__ = ("_in", "_out", "bytes", "items", "max_bytes", "max_items", "oldest_at")

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._in, self._out = trio.open_memory_channel[Frame](max_items + CONTROL_ITEMS)
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.items = 0
        self.bytes = 0
        self.oldest_at = 0.0

    def put(self, frame: Frame, now: float) -> bool:
        """Take a frame if there is room. False: there is none, and nothing was changed."""
        size = frame.size
        if frame.source is not None:
            if self.items and (self.items >= self.max_items or self.bytes + size > self.max_bytes):
                return False
            self.items += 1
        try:
            self._in.send_nowait(frame)
        except trio.WouldBlock:
            return False
        if self.bytes == 0:
            self.oldest_at = now
        self.bytes += size
        return True

    def take_nowait(self, max_bytes: int) -> list[Frame]:
        """All that waits, up to about `max_bytes` and at most one feed, which then comes last.
        Empty: nothing waits.
        """
        taken: list[Frame] = []
        size = 0
        while size < max_bytes:
            try:
                frame = self._out.receive_nowait()
            except trio.WouldBlock:
                break
            self._forget(frame)
            taken.append(frame)
            size += frame.size
            if isinstance(frame, Feed):
                break
        return taken

    async def take(self, max_bytes: int) -> list[Frame]:
        """As `take_nowait`, but wait until there is something. Nothing is lost on cancellation."""
        first = await self._out.receive()
        self._forget(first)
        if isinstance(first, Feed):
            return [first]
        return [first, *self.take_nowait(max_bytes - first.size)]

    def close(self) -> None:
        """Throw away what waits. Whoever waits in `take` gets `trio.ClosedResourceError`."""
        self._out.close()  # first, or whoever waits would get the end of the channel
        self._in.close()
        self.items = self.bytes = 0

    def _forget(self, frame: Frame) -> None:
        self.bytes -= frame.size
        if frame.source is not None:
            self.items -= 1
