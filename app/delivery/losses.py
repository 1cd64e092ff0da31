"""Losses: what a slow client is owed beyond what its queue holds, once that has been full.

    gaps      of these sources so many events are lost; it is told, and what it watches is sent anew
    latest    of these filters it gets the newest value of each place that has changed
    left      it has lost something of these sources, and then left them: nothing to tell

Losses are settled in one step when the queue is empty (`resync.resync`). Until then nothing
that the client is sent may carry a position: a position says that all up to it has arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from triode.app.delivery.audience import Audience

if TYPE_CHECKING:
    from triode.app.delivery.rest import Rest
    from triode.app.wire.frame import Place
    from triode.app.wire.source import Source
    from triode.store.change import Position
    from triode.store.path import Path


class Replaced(NamedTuple):
    """The document was replaced by another one: after this position of the old, and so many writes
    are not there any more.
    """

    after: Position
    lost: int


class Gap:
    """What one client has lost of one source and has not been told yet."""

    __slots__ = ("first", "last", "missed", "reason", "replaced", "skipped")

    def __init__(
        self, first: int, last: int, missed: int, reason: str, replaced: Replaced | None = None
    ) -> None:
        self.first = first
        self.last = last
        self.missed = missed
        self.reason = reason
        self.replaced = replaced
        # What its audience had counted when it began to count for this client too, see `rest`.
        self.skipped: int | None = None

    def lose(self, seq: int, events: int = 1) -> None:
        """More of it is lost; the last at `seq`."""
        self.first = min(self.first, seq)
        self.missed += events
        self.last = max(self.last, seq)

    def settle(self, rest: Rest) -> None:
        """Add what the audience has counted for this client."""
        if self.skipped is not None and rest.skipped > self.skipped:
            self.lose(rest.last, rest.skipped - self.skipped)
            self.skipped = rest.skipped


class Pending:
    """A place that has changed: in so many events, at last then, and whether it is gone."""

    __slots__ = ("events", "gone", "time_ms")

    def __init__(self, place: Place, events: int) -> None:
        self.events = events
        self.gone = place.gone
        self.time_ms = place.time_ms


class Latest:
    """The places of one filter whose newest values are owed, in the order of their last change.

    No value is kept: it is read from the document when there is room for it. So a place stands for
    all that is inside of it, and a value that is replaced costs nothing.

    Elements of arrays keep the place in the order that their first change gave them: those that
    were appended must arrive as they were.
    """

    __slots__ = ("_depths", "events", "first", "last", "places")

    def __init__(self, first: int) -> None:
        self.places: dict[Path, Pending] = {}
        self.events = 0
        self.first = first
        self.last = first
        self._depths: set[int] = set()

    def take(self, place: Place, seq: int) -> int:
        """One more event. Says how many it makes superfluous."""
        self.events += 1
        self.last = seq
        above = self._above(place.path)
        if above is not None:
            self._renew(above, place.time_ms, self.places[above].gone, events=1)
            return 1
        inner = self._take_inner(place.path)
        events = 1 + sum(pending.events for pending in inner)
        if place.path in self.places:
            self._renew(place.path, place.time_ms, place.gone, events)
            return len(inner) + 1
        self.places[place.path] = Pending(place, events)
        self._depths.add(len(place.path))
        return len(inner)

    def _renew(self, path: Path, time_ms: int, gone: bool, events: int) -> None:
        pending = self.places[path]
        pending.events += events
        pending.gone, pending.time_ms = gone, time_ms
        if path and type(path[-1]) is str:
            del self.places[path]
            self.places[path] = pending

    def _above(self, path: Path) -> Path | None:
        """The place that this one lies in, and whose value will hold its."""
        for depth in self._depths:
            if depth < len(path):
                pending = self.places.get(path[:depth])
                if pending is not None and not pending.gone:
                    return path[:depth]
        return None

    def _take_inner(self, path: Path) -> list[Pending]:
        """Take out the places inside this one."""
        depth = len(path)
        if all(known <= depth for known in self._depths):
            return []
        inner = [p for p in self.places if len(p) > depth and p[:depth] == path]
        return [self.places.pop(p) for p in inner]


class Losses:
    """All that one client is owed beyond its queue."""

    __slots__ = ("gaps", "latest", "left", "rings")

    def __init__(self) -> None:
        # Who is cut off before the answer resumes with them: until then no position may be told.
        self.left: set[Source] = set()
        self.gaps: dict[Source, Gap] = {}
        self.latest: dict[Audience, Latest] = {}
        # Sources whose frames wait in the outbox's ring.
        self.rings: set[Source] = set()

    def __bool__(self) -> bool:
        return bool(self.gaps or self.latest or self.rings or self.left)

    def holds(self, source: Source) -> bool:
        """Whether what comes of this source has to wait for the settlement too."""
        return (
            source in self.gaps
            or source in self.latest
            or source in self.rings
            or source in self.left
        )

    def lose(self, source: Source, seq: int, reason: str) -> None:
        """One event of this source is lost."""
        gap = self.gaps.get(source)
        if gap is None:
            gap = self.gaps[source] = Gap(seq, seq, 0, reason)
        gap.lose(seq)

    def leave(self, source: Source) -> None:
        """The client does not hear this source any more."""
        self.left.add(source)
        self.gaps.pop(source, None)
        self.rings.discard(source)
        if isinstance(source, Audience):
            self.latest.pop(source, None)
