"""Frames too big to be encoded at once. And what may be done to any frames that wait."""

from __future__ import annotations

from collections import deque
from copy import copy
from typing import TYPE_CHECKING, Final

from triode.app.delivery.room import Room
from triode.app.delivery.unevaluated import Refused
from triode.app.wire.frame import FRAME_BYTES, Frame, VerbatimFrame, without_id
from triode.app.wire.source import PAST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from triode.app.wire.frame import Kind
    from triode.app.wire.source import Source

# What a lazy frame counts in a queue: its bytes are made when there is room, but it may hold a pin,
# so that only a few may wait at once; what follows it has to find room too.
LAZY_BYTES: Final = FRAME_BYTES // 2
# Of what the quickest reader of a shared lazy frame has had encoded, at most so much is kept for
# the others.
KEPT_BYTES: Final = 16 * FRAME_BYTES


class LazyFrame(Frame):
    """A frame too big to be encoded at once: its bytes come in pieces when there is room for them.
    For one client.
    """

    __slots__ = ("_source",)

    is_lazy = True

    def __init__(
        self,
        pieces: Iterator[bytes],
        source: Source | None = None,
        seq: int = 0,
        size: int = 0,
        count: int = 1,
    ) -> None:
        super().__init__(b"", source, seq, count=count)
        self.size = size
        self._source = pieces

    def pieces(self) -> Iterator[bytes]:
        """What is left of it, a piece at a time; an empty one is a pause."""
        return self._source


class SharedLazyFrame(LazyFrame):
    """A lazy frame that many clients may read, each at its own pace.

    The last pieces that the quickest has had encoded are kept for the others. Who is further behind
    has its own encoded from there on: one that hardly reads must not make us keep all of it. `kept`
    is their bytes.
    """

    __slots__ = ("_again", "_first", "_made", "_pin", "_share", "kept")

    def __init__(
        self,
        again: Callable[[], Iterator[bytes]],
        pin: Iterator[object],
        source: Source | None = None,
        seq: int = 0,
        *,
        share: Callable[[], int] = lambda: KEPT_BYTES,
    ) -> None:
        """`again` makes all pieces, the same each time, as long as there is `pin`. `share` says how
        many bytes it may keep now.
        """
        super().__init__(again(), source, seq, LAZY_BYTES)
        self._again = again
        self._pin = pin
        self._made: deque[bytes] = deque()
        self._first = 0  # the number of the first piece in there
        self._share = share
        self.kept = 0

    @property
    def is_whole(self) -> bool:
        """Whether who begins to read now finds all that was encoded."""
        return not self._first

    def pieces(self) -> Iterator[bytes]:
        """All bytes from the start, a piece at a time; an empty one is a pause."""
        number = 0
        while number >= self._first:
            if number < self._first + len(self._made):
                yield self._made[number - self._first]
            else:
                piece = next(self._source, None)
                if piece is None:
                    return
                self._keep(piece)
                yield piece
            number += 1
        for index, piece in enumerate(self._again()):
            yield b"" if index < number else piece

    def _keep(self, piece: bytes) -> None:
        self._made.append(piece)
        self.kept += len(piece)
        self.keep_at_most(min(KEPT_BYTES, self._share()))

    def keep_at_most(self, size: int) -> None:
        """Let go of the oldest pieces. Who has not read them yet has its own encoded."""
        while self.kept > size:
            self.kept -= len(self._made.popleft())
            self._first += 1


class VerbatimLazyFrame(LazyFrame):
    """A lazy frame that always goes out as it is: as `VerbatimFrame`."""

    __slots__ = ()


class _BareLazyFrame(LazyFrame):
    """Another lazy frame without its positions."""

    __slots__ = ("_whole",)

    def __init__(self, whole: LazyFrame, kind: Kind) -> None:
        bare = (_bare(piece, kind) for piece in whole.pieces())
        super().__init__(bare, whole.source, whole.seq, whole.size, whole.count)
        self._whole = whole

    def pieces(self) -> Iterator[bytes]:
        yield from self._source
        self.count = self._whole.count  # of a replay it is known only now


def _bare(piece: bytes, kind: Kind) -> bytes:
    return piece if not piece or type(piece) is Refused else without_id(piece, kind)


def without_positions(frame: Frame, kind: Kind) -> Frame:
    """The same frame for a client that must not be told a position now. Made once: where one is
    behind, many are.
    """
    if isinstance(frame, VerbatimFrame | VerbatimLazyFrame):
        return frame
    if isinstance(frame, LazyFrame):
        return _BareLazyFrame(frame, kind)
    if frame.bare is None:
        data = without_id(frame.data, kind)
        frame.bare = Frame(data, frame.source, frame.seq, place=frame.place, count=frame.count)
    return frame.bare


def undroppable(frame: Frame) -> Frame:
    """The same frame, but that no policy is about."""
    return _of(frame, None)


def past(frame: Frame) -> Frame:
    """The same frame, of a source that the client has left: lost, it is no gap of what it may hear
    of that source later.
    """
    return _of(frame, PAST)


def _of(frame: Frame, source: Source | None) -> Frame:
    if isinstance(frame.source, Room):  # its position is of the room
        same: Frame = VerbatimFrame(frame.data, source, frame.seq, count=frame.count)
    elif isinstance(frame, LazyFrame):  # others may read it too
        return LazyFrame(frame.pieces(), source, frame.seq, frame.size, frame.count)
    else:
        same = copy(frame)
        same.source = source
        same.bare = None
        same.holders = 0
    same.whole = frame.whole or frame
    return same


def joined(frames: list[Frame], *, verbatim: bool = False) -> Frame:
    """Control frames as one, which takes one place in a queue: a lazy frame if one of them is lazy,
    or if they are much in all. `verbatim`: it goes out as it is, whatever positions it has.
    """
    if len(frames) == 1:
        return frames[0]
    count = sum(frame.count for frame in frames)
    size = sum(frame.size for frame in frames)
    if size > FRAME_BYTES or any(isinstance(frame, LazyFrame) for frame in frames):
        feed = VerbatimLazyFrame if verbatim else LazyFrame
        return feed(_chained(frames), size=min(size, LAZY_BYTES), count=count)
    whole = VerbatimFrame if verbatim else Frame
    return whole(b"".join([frame.data for frame in frames]), count=count)


def _chained(frames: list[Frame]) -> Iterator[bytes]:
    for frame in frames:
        if isinstance(frame, LazyFrame):
            yield from frame.pieces()
        else:
            yield frame.data
