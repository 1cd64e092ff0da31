"""Resuming: exactly what a client has missed since a position, or the answer that it can't be had.

A short absence is replayed at once. A long one would take a tenth of a second and megabytes, for
each of all that come back after a restart of their network: it is replayed as the client takes it,
from the document as it was when the client came (a pin), in turns. Its positions come with it, so
whoever is cut off in the middle resumes from there, and a client that died of a replay does not get
the same one again.

A replay may be far longer than the state that it leads to. After `resume_bytes` the rest is only
counted, told as a `gap`, and resynced with a snapshot.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

from triode.app.delivery.lazy_frame import LAZY_BYTES, LazyFrame
from triode.app.delivery.snapshot import snapshot_pieces
from triode.app.runtime.turns import steps
from triode.app.wire.frame import FRAME_BYTES, Frame, control
from triode.app.wire.max_event import event_frames
from triode.limits.meter import Meter
from triode.store.change import Position
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from triode.app.delivery.audience import Audience
    from triode.app.delivery.ports import HubPort
    from triode.app.wire.frame import Kind
    from triode.app.wire.stream_request import StreamRequest
    from triode.store.filter import Filter
    from triode.store.replay import Replay, Replayed
    from triode.store.value import Json
    from triode.store.work import Work

# So many edits are replayed at once: about 5 ms.
EDITS_AT_ONCE: Final = 500
# Between two checkpoints of a longer one: about 1 ms.
CHANGES_AT_ONCE: Final = 100
# What may be spent at once on looking through the history: a default one is within it if little of
# it is about the same members of the document.
SIFTING_STEPS: Final = 6_000
# And on finding what each edit was for the filters.
MATCHING_STEPS: Final = 6_000
# A long one gives way to others, however long it is: `resume_bytes` bounds what is told.
ANY: Final = 1 << 60


def missed(
    hub: HubPort,
    kind: Kind,
    audiences: Sequence[Audience],
    request: StreamRequest,
    *,
    ids: bool = True,
    most: int = 0,
) -> list[Frame] | None:
    """The frames missed since the position that was asked for; None when it can't be resumed from
    there. Without `ids` only the present position is told, at the end. `most` is the `max_event` of
    who asks.
    """
    since = request.since
    if since is None or not audiences or not hub.store.can_resume(since):
        return None
    filters = [audience.selection.filter for audience in audiences]
    key = (kind, ids, most, since.seq, *[filter.text for filter in filters])
    known = hub.shelf.replays.get(hub.store.seq, key)
    if known is not None:
        return known
    replay = hub.store.missed(filters, since)
    may_be_long = not replay.evaluates
    replayer = Replayer(hub, kind, audiences, replay, ids=ids, most=most)
    try:
        replay.sift(Meter(SIFTING_STEPS))
        is_long = replay.edits > EDITS_AT_ONCE
    except TooCostly:
        is_long = True
    try:
        frame = None if is_long else _at_once(replayer, since, FRAME_BYTES if may_be_long else None)
    except TooCostly:
        frame = None
    if frame is None:
        # One that is evaluated may fail on the way, when it is too late to say so.
        return [Missed(replayer, since)] if may_be_long else None
    frames = [frame] if frame.size else []
    if frame.size <= FRAME_BYTES:
        hub.shelf.replays.put(hub.store.seq, key, frames)
    return frames


def _at_once(replayer: Replayer, since: Position, max_bytes: int | None) -> Frame | None:
    """A short replay as one frame; None if it has more than `max_bytes`. Raises TooCostly."""
    made: list[bytes] = []
    size = count = 0
    for data, events in replayer.pieces(since, Meter(MATCHING_STEPS)):
        made.append(data)
        size += len(data)
        count += events
        if max_bytes is not None and size > max_bytes:
            return None
    return Frame(b"".join(made), count=count)


class Missed(LazyFrame):
    """The events that a client missed, as it takes them. For this client alone."""

    __slots__ = ("_run",)

    def __init__(self, replayer: Replayer, since: Position) -> None:
        super().__init__(iter(()), size=LAZY_BYTES, count=0)
        self._run = steps(ANY, partial(replayer.pieces, since), (b"", 0))
        # A pause, and the pin: it is of now, not of when a writer comes to it.
        for _ in range(2):
            next(self._run)

    def pieces(self) -> Iterator[bytes]:
        """What is left of it, a piece at a time; an empty one is a pause."""
        for data, events in self._run:
            self.count += events
            yield data


class Replayer:
    """Makes the pieces of one client's replay, each with the number of events in it. It knows
    nothing of who reads them: a cycle would hold the pin for longer than the client is there.
    """

    def __init__(
        self,
        hub: HubPort,
        kind: Kind,
        audiences: Sequence[Audience],
        replay: Replay,
        *,
        ids: bool,
        most: int,
    ) -> None:
        self._store = hub.store
        self._max_bytes = hub.settings.resume_bytes
        self._kind = kind
        self._audiences = audiences
        self._by_filter: dict[Filter, Audience] = {a.selection.filter: a for a in audiences}
        self._ids = ids
        self._most = most
        self._now = hub.store.position
        self._replay = replay
        self._pause = 1 if replay.evaluates else CHANGES_AT_ONCE

    def pieces(self, reached: Position, work: Work) -> Iterator[tuple[bytes, int]]:
        """All that came after `reached`. The first piece is empty, and pins the document."""
        with self._store.document.pin() as root:
            yield b"", 0
            sent, pauses = 0, 0
            batch: list[bytes] = []
            size = 0
            rest: Counter[Filter] = Counter()
            for part in self._replay.run(root, work=work):
                if sent > self._max_bytes:
                    rest.update({each.filter: len(each.events) for each in part})
                elif part:
                    frames = self._frames(part)
                    reached = part[0].position
                    batch += frames
                    size += sum(map(len, frames))
                pauses += 1
                if size >= FRAME_BYTES or pauses >= self._pause or not part:
                    yield b"".join(batch), len(batch)
                    sent += size
                    batch, size, pauses = [], 0, 0
            yield b"".join(batch), len(batch)
            for data in self._healed(root, rest, reached):
                yield data, 1

    def _frames(self, part: list[Replayed]) -> list[bytes]:
        """The events of one change; the last has the position."""
        position = part[0].position
        told = self._ids or position == self._now
        left = sum(len(each.events) for each in part)
        frames: list[bytes] = []
        for each in part:
            name = self._by_filter[each.filter].filter_json
            for event in each.events:
                left -= 1
                id = str(position).encode() if told and not left else None
                frames += event_frames(self._kind, event, each.time_ms, name, id, self._most)
        return frames

    def _healed(self, root: Json, rest: Counter[Filter], after: Position) -> Iterator[bytes]:
        """The end of a replay that was too long."""
        for filter, missed in rest.items():
            body = {
                "filter": filter.text,
                "missed": missed,
                "after": str(after),
                "to": str(self._now),
                "reason": "resume_too_long",
            }
            yield control(self._kind, "gap", body)
        left = len(rest)
        for audience in self._audiences:
            if audience.selection.filter in rest:
                left -= 1
                id = None if left else str(self._now).encode()
                yield from snapshot_pieces(root, audience, self._kind, id, most=self._most)
