"""The outbox: what a slow client has not taken yet, in a bounded Trio memory channel.

Two bounds hold at once, items and bytes; what finds no room is refused and the caller applies the
subscriber's policy. Control frames (answers, `gap`, `closing`) and lazy frames (snapshots in
pieces) have room of their own in the same channel, so their order among the data holds and no data
can crowd them out.

A channel is first in, first out, and that is what most of this is. For the policies that would
rather lose what is old, the channel is emptied once, when it is first full (`sift`): the frames
whose oldest may go wait in the *ring* from then on, which is within the same bounds.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from triode.app.delivery.backlog import Backlog
from triode.app.delivery.direct_message import DirectFrame, Directs
from triode.app.delivery.lazy_frame import LazyFrame
from triode.app.wire.frame import FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.app.wire.frame import Frame

# Answers to commands come one for one, and a session stops reading commands while its client is
# behind, so this is reached only by a peer that ignores every answer.
CONTROL_ITEMS: Final = 64
# Of big ones: messages that others send to this client alone, or what an admin sends.
CONTROL_BYTES: Final = CONTROL_ITEMS * FRAME_BYTES


class Outbox:
    """A bounded queue of frames for one client.

    `max_items` and `max_bytes` bound the data; one frame alone is always taken, however large,
    since it could never be delivered otherwise. `items` and `bytes` is all that waits, `queued` the
    frames of it that are in the channel. `in_hand` is the bytes of what was taken last: it is being
    written, and counts against `max_bytes` until more is taken. `oldest_at` is when the oldest of
    what has not been delivered came, if there is any.
    """

    __slots__ = (
        "_backlog",
        "_control_bytes",
        "_in",
        "_is_closed",
        "_out",
        "_progress",
        "_taken",
        "bytes",
        "directs",
        "in_hand",
        "items",
        "max_bytes",
        "max_items",
        "oldest_at",
        "queued",
        "ring",
    )

    def __init__(
        self, max_items: int, max_bytes: int, max_directs: int = 0, backlog: Backlog | None = None
    ) -> None:
        places = max_items + CONTROL_ITEMS + max_directs
        channel = trio.open_memory_channel["tuple[Frame, float]"](places)
        self._in, self._out = channel
        self._progress = trio.lowlevel.ParkingLot()
        self._backlog = backlog or Backlog()
        self._is_closed = False
        self._taken: list[Frame] = []
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.items = 0
        self.bytes = 0
        # Counted here, as the channel's own statistics leave out what it has handed to a task that
        # waits in `take` and has not run yet.
        self.queued = 0
        self.in_hand = 0
        self.oldest_at = 0.0
        self._control_bytes = 0
        # Those that others send to it: they have room of their own, see `direct_message`.
        self.directs: Directs | None = None
        self.ring: deque[Frame] = deque()

    def put(self, frame: Frame, now: float) -> bool:
        """Take a frame if there is room. False: there is none, and nothing was changed."""
        if not (self._has_room_for_control(frame) if frame.source is None else self._admits(frame)):
            return False
        try:
            self._in.send_nowait((frame, now))
        except trio.WouldBlock:
            return False
        if not self.bytes:
            self.oldest_at = now
        self.queued += 1
        self._count(frame)
        return True

    def has_room(self, frame: Frame) -> bool:
        """Whether one more frame of data is within the bounds."""
        # What is in hand counts: it is held until it is written, however long that takes.
        room = self.max_bytes - self._own_bytes - self.in_hand
        if frame.size <= room:
            return self.items < self.max_items
        return not self.items and room >= 0

    def _admits(self, frame: Frame) -> bool:
        # Of the control frames' own places in the channel data may take half, at the most: what
        # was data and may not be dropped any more can fill the others.
        queued = self.queued - self._directs
        return self.has_room(frame) and queued < self.max_items + CONTROL_ITEMS // 2

    @property
    def _directs(self) -> int:
        return 0 if self.directs is None else self.directs.items

    @property
    def _own_bytes(self) -> int:
        # Without what others have sent to it: they could else make it lose what it watches.
        return self.bytes if self.directs is None else self.bytes - self.directs.bytes

    def _has_room_for_control(self, frame: Frame) -> bool:
        if type(frame) is DirectFrame:
            return True  # whoever put it down has looked, see `overflow.takes_direct`
        queued = self.queued - self._directs
        if queued >= self.max_items + CONTROL_ITEMS:
            return False
        # Answers are small, and taken while there are places: who is not told one has to end.
        return frame.size <= FRAME_BYTES or self._control_bytes <= CONTROL_BYTES

    def keep(self, frame: Frame) -> None:
        """Put a frame into the ring, where there is room (`has_room`)."""
        self.ring.append(frame)
        self._count(frame)

    def evict(self) -> Frame | None:
        """Take the oldest frame out of the ring, to make room."""
        if not self.ring:
            return None
        frame = self.ring.popleft()
        self._forget(frame)
        return frame

    def empty_ring(self) -> list[Frame]:
        """Take all frames out of the ring."""
        frames = list(self.ring)
        self.ring.clear()
        for frame in frames:
            self._forget(frame)
        return frames

    def sift(self, sieve: Callable[[Frame], Frame | None]) -> None:
        """Pass all that waits in the channel through `sieve`, which says what stays there in place
        of each frame.
        """
        waiting: list[tuple[Frame, float]] = []
        while True:
            try:
                frame, at = self._out.receive_nowait()
            except trio.WouldBlock:
                break
            self._forget(frame)
            waiting.append((frame, at))
        self.queued -= len(waiting)  # one may have been handed over, and not be taken yet
        for frame, at in waiting:
            staying = sieve(frame)
            # There is room: so many have just been taken out, and no checkpoint came between.
            if staying is not None:
                self._in.send_nowait((staying, at))
                self.queued += 1
                self._count(staying)

    def take_nowait(self, max_bytes: int) -> list[Frame]:
        """All that waits, up to about `max_bytes` and at most one lazy frame, which then comes
        last. Empty: nothing waits. What was taken before is written.
        """
        # Only now: that its writer asks for more says that what it had is out.
        self._let_go()
        return self._take([], max_bytes)

    def _take(self, taken: list[Frame], max_bytes: int) -> list[Frame]:
        size = sum(frame.size for frame in taken)
        while size < max_bytes:
            try:
                frame, at = self._out.receive_nowait()
            except trio.WouldBlock:
                break
            if not taken:
                self.oldest_at = at
            self.queued -= 1
            self._uncount(frame)
            taken.append(frame)
            size += frame.size
            # Its pieces are made while it is written, and what came after it must wait for them.
            if isinstance(frame, LazyFrame):
                break
        self._taken = taken
        # Of a lazy frame nothing is made before there is room for it.
        self.in_hand = sum(frame.size for frame in taken if not frame.is_lazy)
        return taken

    @property
    def is_behind(self) -> bool:
        """Whether so much waits that nothing should be done for the client that adds to it."""
        # `items` has those of the ring too, which are not in the channel. Half of their places: the
        # others are for the answers to what is under way, and data may be there (`_admits`).
        controls = self.queued - self.items - self._directs + len(self.ring)
        return self._own_bytes > self.max_bytes or controls > CONTROL_ITEMS // 2

    async def progress(self) -> None:
        """Wait until some of what waits is taken, or thrown away."""
        await self._progress.park()

    async def take(self, max_bytes: int) -> list[Frame]:
        """As `take_nowait`, but wait until there is something. Nothing is lost on cancellation."""
        self._let_go()
        first, at = await self._out.receive()
        if self._is_closed:  # since it was handed over
            self._backlog.let_go(first)
            raise trio.ClosedResourceError
        self.queued -= 1
        self._uncount(first)
        self.oldest_at = at
        return self._take([first], 0 if isinstance(first, LazyFrame) else max_bytes)

    def wake(self) -> None:
        """Let whoever waits for progress look at its client."""
        self._progress.unpark_all()

    def close(self) -> None:
        """Throw away what waits. Whoever waits in `take` gets `trio.ClosedResourceError`."""
        self._is_closed = True
        self._let_go()
        with suppress(trio.WouldBlock):
            while True:
                self._backlog.let_go(self._out.receive_nowait()[0])
        self._out.close()  # first, or whoever waits would get the end of the channel
        self._in.close()
        self._progress.unpark_all()
        for frame in self.ring:
            self._backlog.let_go(frame)
        self.ring.clear()
        self.items = self.bytes = self.queued = self._control_bytes = 0
        self.directs = None

    def _let_go(self) -> None:
        """What was taken is not held any more."""
        for frame in self._taken:
            self._backlog.let_go(frame)
        self._taken = []
        self.in_hand = 0

    def forget(self, frame: Frame) -> None:
        """A frame of the ring goes another way."""
        self.ring.remove(frame)
        self._forget(frame)

    def _count(self, frame: Frame) -> None:
        self._backlog.hold(frame)
        self.bytes += frame.size
        if type(frame) is DirectFrame:
            if self.directs is None:
                self.directs = Directs()
            self.directs.add(frame)
        elif frame.source is None:
            self._control_bytes += frame.size
        else:
            self.items += 1

    def _forget(self, frame: Frame) -> None:
        self._uncount(frame)
        self._backlog.let_go(frame)

    def _uncount(self, frame: Frame) -> None:
        self._progress.unpark_all()
        self.bytes -= frame.size
        if type(frame) is DirectFrame:
            assert self.directs is not None
            self.directs.remove(frame)
        elif frame.source is None:
            self._control_bytes -= frame.size
        else:
            self.items -= 1
