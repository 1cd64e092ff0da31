"""The shelf: what has been encoded, and is kept for those who ask for the same next.

    replays    short ones, of this moment: many who were cut off together come back together
    snapshots  small ones, those made last
    feeds      of big snapshots that somebody reads: the pieces made last, for those behind him

All of it can be made again, so it can be let go of at any time. It stands in the ledger.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

if TYPE_CHECKING:
    from triode.app.delivery.lazy_frame import SharedLazyFrame
    from triode.app.wire.frame import Frame

# So many replays and so many snapshots are kept, each at most FRAME_BYTES.
REPLAYS_KEPT: Final = 64
SNAPSHOTS_KEPT: Final = 64
# What all feeds together may keep.
FEEDS_BYTES: Final = 32 * 1024 * 1024


class Replays:
    """The short replays of this moment. All is forgotten with the next change."""

    def __init__(self) -> None:
        self._seq = -1
        self._frames: dict[tuple[object, ...], list[Frame]] = {}

    def get(self, seq: int, key: tuple[object, ...]) -> list[Frame] | None:
        """What was replayed for this key, if the document is still at `seq`."""
        return self._frames.get(key) if seq == self._seq else None

    def put(self, seq: int, key: tuple[object, ...], frames: list[Frame]) -> None:
        """Remember a replay, while there is room."""
        if seq != self._seq:
            self._seq, self._frames = seq, {}
        if len(self._frames) < REPLAYS_KEPT:
            self._frames[key] = frames

    def clear(self) -> None:
        """Forget all."""
        self._frames = {}

    @property
    def bytes(self) -> int:
        """What waits for somebody too is in the backlog."""
        return sum(f.size for frames in self._frames.values() for f in frames if not f.holders)


class Shelf:
    """All of it, for one hub."""

    def __init__(self) -> None:
        self.replays = Replays()
        # What keeps the last snapshots in memory; their audiences know them.
        self.snapshots: deque[Frame] = deque(maxlen=SNAPSHOTS_KEPT)
        self.feeds: WeakSet[SharedLazyFrame] = WeakSet()

    @property
    def bytes(self) -> int:
        """What is kept only here."""
        snapshots = sum(frame.size for frame in self.snapshots if not frame.holders)
        return self.replays.bytes + snapshots + sum(feed.kept for feed in self.feeds)

    def feed_share(self) -> int:
        """What one lazy frame may keep, of all that are there now."""
        return FEEDS_BYTES // max(1, len(self.feeds))

    def settle(self) -> int:
        """Let no lazy frame keep more than its share, which was larger when there were fewer. Says
        what is kept then.
        """
        share = self.feed_share()
        for feed in self.feeds:
            feed.keep_at_most(share)
        return self.bytes

    def clear(self) -> None:
        """Let go of all."""
        self.replays.clear()
        self.snapshots.clear()
        for feed in self.feeds:
            feed.keep_at_most(0)
