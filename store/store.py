"""The store: the document, its log of changes and the subscriptions to it, moved by one call.

    submit(op) → plan → log → apply → match → Committed

The whole of `submit` is synchronous and pure. Nothing can come between the check of a write and
its effect, between its effect and the list of who must hear of it, or between two writes: that is
what makes one order for all, and why a subscriber that registers between two calls can miss
nothing and see nothing twice. All that may fail is decided in `plan`, before anything moves: a
refused write leaves no trace.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from triode.store.change import Change, Edit, Position
from triode.store.document import Document
from triode.store.history import History
from triode.store.index import Event, Index, Selection
from triode.store.operation import Batch, Conflict, NotFound, Operation
from triode.store.replay import Replay
from triode.store.splice import Splice
from triode.store.value import approx_bytes, copy_deep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.store.filter import Filter
    from triode.store.value import Json


class Committed(NamedTuple):
    """What one accepted write did: its change and, in order, the events it owes to each selection
    it touched.
    """

    change: Change
    matched: list[tuple[Selection, list[Event]]]


# Larger values are not copied: the hub sends a snapshot instead of so large an event.
KEPT_BYTES: Final = 512 * 1024
# Dropping less than this takes under a millisecond.
LARGE_BYTES: Final = 128 * 1024


def _kept(events: list[Event]) -> list[Event]:
    """Events that stay as they are while later edits of the same change go into their values."""
    return [
        event._replace(value=copy_deep(event.value))
        if isinstance(event.value, dict | list)
        and event.kind == "update"
        and approx_bytes(event.value, limit=KEPT_BYTES) < KEPT_BYTES
        else event
        for event in events
    ]


class Store:
    """One JSON document with its recent history and its subscription index.

    `epoch` names this log; it must be new whenever changes could have been lost (a restart of a
    log in memory). `history_items` and `history_bytes` bound what is kept for resuming.
    """

    def __init__(self, root: Json, *, epoch: str, history_items: int, history_bytes: int) -> None:
        self.document = Document(root)
        self.history = History(max_items=history_items, max_bytes=history_bytes)
        self.index = Index()
        self.epoch = epoch
        self.seq = 0
        # To be taken apart by `dismantle`, see there. Unbounded, but each was part of the document.
        self.discarded: deque[Json] = deque()

    @property
    def position(self) -> Position:
        """Where the log stands: the position of the last change."""
        return Position(self.epoch, self.seq)

    def submit(self, op: Operation, *, time_ms: int) -> Committed:
        """Apply one write and say what it changed for whom.

        Raises `WriteError` (see `store.operation`) when the write is refused; the document is
        then as it was.
        """
        self._check_conditions(op)
        document = self.document
        edits = document.plan(op)
        change = Change(Position(self.epoch, self.seq + 1), time_ms, tuple(edits))
        gone = self.history.append(change)
        matched: list[tuple[Selection, list[Event]]] = []
        done = 0
        try:
            for edit in edits:
                document.apply(edit)
                done += 1
                found = self.index.match(document.root, edit)
                if edit is not edits[-1]:
                    found = [(selection, _kept(events)) for selection, events in found]
                matched += found
        except BaseException:
            # A fault of ours, or no memory: nobody was told yet, so nothing has happened.
            self._undo(change, done)
            raise
        self.seq += 1
        self._discard(gone)
        return Committed(change, matched)

    def _undo(self, change: Change, done: int) -> None:
        for edit in reversed(change.edits[:done]):
            self.document.apply(Edit(edit.path, edit.after, edit.before))
        self.history.take_back(change)
        for selection in self.index:
            if selection.evaluated is not None:
                selection.evaluated.renew(self.document.root)

    def can_resume(self, position: Position | None) -> bool:
        """Whether all that came after `position` is still known: only then may a stream go on
        from there.
        """
        return (
            position is not None
            and position.epoch == self.epoch
            and position.seq <= self.seq
            and self.history.covers(position.seq)
        )

    def missed(self, filters: Sequence[Filter], position: Position) -> Replay:
        """What each of `filters` is owed for the changes after `position`.

        Call only where `can_resume(position)`.
        """
        return Replay(self.history, filters, position.seq)

    def _discard(self, gone: list[Change]) -> None:
        """Old values that are large are left to `discarded`, for whoever takes them apart."""
        if self.history.gone_bytes < LARGE_BYTES:
            return
        for change in gone:
            for edit in change.edits:
                before: Any = edit.before
                if type(before) is Splice:
                    before = before.removed
                if isinstance(before, dict | list):
                    self.discarded.append(before)

    def _check_conditions(self, op: Operation) -> None:
        if isinstance(op, Batch):
            for part in op.ops:
                self._check_conditions(part)
        position = op.if_position
        if position is None:
            return
        try:
            path = self.document.resolve(op.path)
        except NotFound:
            path = op.path  # not there yet; `create` may make it
        known = position.epoch == self.epoch and position.seq <= self.seq
        if not known or self.history.touched_since(path, position.seq) is not False:
            raise Conflict(
                op.path,
                f"the place has changed since {position}, or that is too long ago to tell: "
                "read it again and retry with the new position",
            )
