"""The store: the document, its history and the subscriptions to it, moved by one call.

    prepare(op) → plan → commit → history → apply → match → Committed

All of it is synchronous and pure; `submit` does both at once. Nothing can come between the check of
a write and its effect, between its effect and the list of who must hear of it, or between two
writes: that is what makes one order for all, and why a subscriber that registers between two calls
can miss nothing and see nothing twice. All that may fail is decided in `plan`, before anything
moves: a refused write leaves no trace.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from triode.store.change import Change, Edit, Position, Rearranged
from triode.store.checksum import Checksum
from triode.store.deadlines import Deadlines
from triode.store.document import Document
from triode.store.expected import require_expected
from triode.store.expiry import carry_out, in_effect, plan_expire
from triode.store.history import MAX_CHANGE_BYTES, History, Kept
from triode.store.index import Event, Index, Selection
from triode.store.keeper import Keeper
from triode.store.lineage import Lineage
from triode.store.operation import (
    Batch,
    Conflict,
    Expire,
    Full,
    Invalid,
    NotFound,
    Operation,
    Set,
    has_ttl,
)
from triode.store.outcomes import Outcomes
from triode.store.patch import MAX_OPS
from triode.store.plan import BELOW
from triode.store.push_key import push_key
from triode.store.records import Records
from triode.store.replay import Replay
from triode.store.splice import Splice
from triode.store.touched import Touched, Touches
from triode.store.value import weigh
from triode.store.work import FREE, TooCostly

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from triode.store.filter import Filter
    from triode.store.plan import Mark
    from triode.store.value import Json
    from triode.store.work import Work


class Committed(Struct, frozen=True):
    """What one accepted write did: its change and, in order, the events it owes to each selection
    it touched.
    """

    change: Change
    matched: list[tuple[Selection, list[Event]]]


class Prepared(Struct, frozen=True):
    """A write that was planned on the document as it was at `seq`."""

    seq: int
    edits: tuple[Edit, ...]
    grown: int
    swollen: int
    kept: Kept
    # Long arrays that are replaced by others with the same elements.
    left: tuple[Json, ...] = ()
    # What it says of deadlines.
    marks: tuple[Mark, ...] = ()


_CONDITION_STEPS: Final = 3
# Dropping less than this takes under a millisecond.
LARGE_BYTES: Final = 128 * 1024
LONG_ELEMENTS: Final = 100_000


def _long_ones(edits: Sequence[Edit]) -> Iterator[Json]:
    """Of each array that was rearranged the list that it was, if it is long. The history keeps what
    was cut out of it and no more, so it would be freed with the write, three million elements in
    10 ms.
    """
    for edit in edits:
        before: Any = edit.before
        if type(edit) is Rearranged and len(before) > LONG_ELEMENTS:
            yield before


class Store:
    """One JSON document with its recent history and its subscription index.

    `bytes` is about what the document takes as JSON, `footprint` in memory; a write that would make
    them grow beyond `max_bytes` and `max_footprint` is refused. `epoch` names this log; it must be
    new whenever changes could have been lost (a restart of a log in memory). `history_items` and
    `history_bytes` bound what is kept for resuming.
    """

    def __init__(
        self,
        root: Json,
        *,
        epoch: str,
        history_items: int,
        history_bytes: int,
        max_bytes: int | None = None,
    ) -> None:
        self.document = Document(root)
        self.bytes, self.footprint = weigh(root)
        self.max_bytes = max_bytes
        self.max_footprint: int | None = None
        self.history = History(max_items=history_items, max_bytes=history_bytes)
        self.touched = Touched()
        self.outcomes = Outcomes()
        self.records = Records()
        self.deadlines = Deadlines()
        # The time of the log: the latest that an entry had. It does not run back.
        self.time_ms = 0
        # Only of a log: there is nothing to compare a document in memory with.
        self.checksum: Checksum | None = None
        self.index = Index()
        self.lineage = Lineage(epoch)
        self.epoch = epoch
        self.seq = 0
        # To be taken apart by `dismantle`, see there. Unbounded, but each was part of the document,
        # or of the plan of one write.
        self.discarded: deque[Json] = deque()

    @property
    def position(self) -> Position:
        """Where the log stands: the position of the last change."""
        return Position(self.epoch, self.seq)

    def restore(
        self,
        root: Json,
        seq: int,
        lineage: Lineage,
        *,
        size: int,
        footprint: int,
        touches: Touches,
        outcomes: Outcomes,
        records: Records,
        deadlines: Deadlines,
        time_ms: int,
        checksum: Checksum,
    ) -> None:
        """Go on from what was kept: the document as it was after the change `seq`, what it was
        counted to take as text and in memory, what was touched before, how writes with a key
        ended, the server's records, what ends when, the time of the log, and the checksum. Nobody
        may be subscribed.
        """
        self.document = Document(root)
        self.bytes, self.footprint = size, footprint
        self.touched = Touched(touches)
        self.outcomes = outcomes
        self.records = records
        deadlines.most = self.deadlines.most
        self.deadlines, self.time_ms = deadlines, time_ms
        self.checksum = checksum
        history = self.history
        self.history = History(history.max_items, history.max_bytes, start_seq=seq)
        self.lineage, self.epoch, self.seq = lineage, lineage.epoch, seq

    def pushed_key(self, seq: int, nth: int = 0) -> str:
        """The name that the change `seq` gave to what it pushed; `nth` of an atomic batch."""
        # Without a log numbers begin anew with the next process, and the document may not.
        return push_key(seq, nth, "" if self.checksum is not None else self.epoch)

    def _next_push_key(self, nth: int) -> str:
        return self.pushed_key(self.seq + 1, nth)

    def begin_log(self, lineage: Lineage) -> None:
        """The changes to come stand in a log, which is empty: the document is what it begins
        with.
        """
        assert self.seq == 0
        self.lineage, self.epoch = lineage, lineage.epoch
        self.checksum = Checksum()

    def go_on_as(self, lineage: Lineage) -> None:
        """The changes to come have another epoch, in the same log."""
        self.lineage, self.epoch = lineage, lineage.epoch

    def seq_of(self, position: Position) -> int | None:
        """The number of the change that a position names; None when it is none of this log."""
        return self.lineage.seq_of(position, self.seq)

    def skip(self, *, time_ms: int) -> None:
        """What stands in the log was a refused write, or none: it has its number, and changes
        nothing.
        """
        self.commit(Prepared(self.seq, (), 0, 0, ((), 0)), time_ms=time_ms)

    def submit(
        self, op: Operation, *, time_ms: int, work: Work = FREE, matching: Work = FREE
    ) -> Committed:
        """Apply one write and say what it changed for whom.

        Raises `WriteError` (see `store.operation`) when the write is refused, and `TooCostly`; the
        document is then as it was.
        """
        return self.commit(self.prepare(op, work), time_ms=time_ms, matching=matching)

    def prepare(self, op: Operation, work: Work, weighing: Work | None = None) -> Prepared:
        """All of a write that may take long, or fail. Nothing has happened yet.

        Whether it is refused depends on `work` and on nothing that differs between processes. What
        the history will keep of it does: so that has a budget of its own, `weighing`, and what does
        not fit is not kept. Without `weighing` it is charged to `work` as well.

        It holds for `commit` as long as no other write comes between. Raises as `submit` does. If
        others run meanwhile, the document has to be pinned.
        """
        if type(op) is Batch and len(op.ops) > MAX_OPS:
            raise Invalid((), f"more than {MAX_OPS} operations in one batch")
        if op.if_position is not None or op.if_value is not None or type(op) is Batch:
            self._check_conditions(op, work)
        made: list[Json] = []
        try:
            return self._prepared(op, work, weighing, made)
        except BaseException:
            self.discarded += made
            raise

    def _prepared(
        self, op: Operation, work: Work, weighing: Work | None, made: list[Json]
    ) -> Prepared:
        seq = self.seq
        document, deadlines = self.document, self.deadlines
        # Most have no ttl, and are no batch, of which each part may have one.
        ends = op.ttl_ms is not None or (type(op) is Batch and has_ttl(op))
        marks: list[Mark] | None = [] if ends or len(deadlines) else None
        if type(op) is Expire:
            planned, grown, swollen = plan_expire(document.root, deadlines, op, work)
            marks = [(edit.path, BELOW) for edit in planned]
        else:
            planned, grown, swollen = document.weighed_plan(
                op, work, made, self._next_push_key, marks
            )
        edits = tuple(planned)
        told = in_effect(deadlines, marks, work) if marks else ()
        if self.max_bytes is not None and grown > 0 and self.bytes + grown > self.max_bytes:
            raise Full(
                op.path,
                f"the document would take {self.bytes + grown} bytes; {self.max_bytes} are allowed",
            )
        held, most = self.footprint + swollen, self.max_footprint
        if most is not None and swollen > 0 and held > most:
            raise Full(
                op.path, f"the document would take {held} bytes of memory; it may take {most}"
            )
        try:
            kept = self.history.weigh(edits, work if weighing is None else weighing)
        except TooCostly:
            if weighing is None:
                raise
            kept = edits, MAX_CHANGE_BYTES + 1
        left = () if type(op) is Set else tuple(_long_ones(edits))
        return Prepared(seq, edits, grown, swollen, kept, left, told)

    def commit(
        self,
        prepared: Prepared,
        *,
        time_ms: int,
        matching: Work = FREE,
        evaluating: Work | None = None,
    ) -> Committed:
        """Do what was prepared: in one step, and it cannot fail.

        `matching` is what may be spent on finding who is concerned, `evaluating` on filters that
        have to be evaluated for it (else it comes out of `matching`): see `Index.match`.
        """
        assert prepared.seq == self.seq, "another write came between"
        document = self.document
        edits = prepared.edits
        change = Change(Position(self.epoch, self.seq + 1), time_ms, edits)
        checksum = self.checksum
        if checksum is not None:
            checksum = checksum.after(
                self.seq + 1, edits, prepared.grown, prepared.swollen, prepared.marks
            )
        gone = self.history.append(change, prepared.kept)
        matched: list[tuple[Selection, list[Event]]] = []
        keep = Keeper() if len(edits) > 1 else None
        done = 0
        try:
            for edit in edits:
                document.apply(edit)
                done += 1
                found = self.index.match(document.root, edit, matching, evaluating)
                if keep is not None and edit is not edits[-1]:
                    found = [(selection, keep(events)) for selection, events in found]
                matched += found
        except BaseException:
            # A fault of ours, or no memory: nobody was told yet, so nothing has happened.
            self._undo(change, done)
            raise
        self.bytes += prepared.grown
        if prepared.swollen:
            # An estimate on both sides of the sum, so it may drift.
            self.footprint = max(0, self.footprint + prepared.swollen)
        self.seq += 1
        self.time_ms = max(self.time_ms, time_ms)
        if prepared.marks:
            carry_out(self.deadlines, document.root, prepared.marks, self.time_ms)
        one = len(edits) == 1
        self.touched.add(self.seq, (edits[0].path,) if one else tuple([e.path for e in edits]))
        self.checksum = checksum
        if gone:
            self._discard(gone)
        if prepared.left:
            self.discarded += prepared.left
        return Committed(change, matched)

    def _undo(self, change: Change, done: int) -> None:
        for edit in reversed(change.edits[:done]):
            self.document.apply(Edit(edit.path, edit.after, edit.before))
        self.history.take_back(change)
        for selection in self.index:
            if selection.evaluated is not None:
                selection.evaluated.forget()

    def can_resume(self, position: Position | None) -> bool:
        """Whether all that came after `position` is still known: only then may a stream go on
        from there.
        """
        seq = None if position is None else self.seq_of(position)
        return seq is not None and self.history.covers(seq)

    def missed(self, filters: Sequence[Filter], position: Position) -> Replay:
        """What each of `filters` is owed for the changes after `position`.

        Call only where `can_resume(position)`.
        """
        return Replay(self.history, filters, position.seq, self.touched)

    def forget_history(self) -> None:
        """Let go of the recent changes, when memory is short. Who resumes gets a snapshot."""
        self._discard(self.history.forget())

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

    def _check_conditions(self, op: Operation, work: Work) -> None:
        if isinstance(op, Batch):
            for part in op.ops:
                self._check_conditions(part, work)
        if op.if_value is not None:
            require_expected(self.document.root, op, op.if_value, work)
        position = op.if_position
        if position is None:
            return
        work.charge(_CONDITION_STEPS)
        try:
            path = self.document.resolve(op.path)
        except NotFound:
            path = op.path  # not there yet; `create` may make it
        seq = self.seq_of(position)
        if seq is None or self.touched.since(path, seq) is not False:
            raise Conflict(
                op.path,
                f"the place has changed since {position}, or that is too long ago to tell: "
                "read it again and retry with the new position",
            )
