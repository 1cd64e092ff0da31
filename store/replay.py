"""What a subscriber missed: the events of past changes, as a live subscriber got them then.

The log keeps of each edit its path and what was there before. What came after is not kept: it went
into the document and was written on. But it is all there to be had: undoing the edits from the
newest to the oldest, on a draft of the document, brings each `after` to light as it was in its
moment, and ends at the document that the subscriber last saw. From there the edits are done again,
past a private index that holds just this subscriber's filters. So a replay cannot differ from
what was sent live, except in the order of an object's members (an undone removal puts its member
last), which in JSON means nothing.

Cost: only edits that can concern the filters are undone and redone; a draft copies a container
the first time it writes into it. A filter that must be evaluated for each edit (slices, JSONPath)
costs a whole evaluation each; live that is spread over time, here it is not. So their number is
bounded, and beyond that a snapshot is the cheaper answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from msgspec.structs import replace

from triode.store.change import Edit
from triode.store.document import Draft
from triode.store.evaluated import STALE
from triode.store.event import Event
from triode.store.index import Index
from triode.store.splice import Splice
from triode.store.value import MISSING, copy_deep
from triode.store.work import FREE, TooCostly

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from triode.store.change import Change, Position
    from triode.store.filter import Filter
    from triode.store.history import History
    from triode.store.path import Path
    from triode.store.touched import Touched
    from triode.store.trie import Selection
    from triode.store.value import Json
    from triode.store.work import Work


MAX_EVALUATIONS: Final = 200
UNDO_AT_ONCE: Final = 100
# Changes that are looked at in a slice, and what that takes; beside it an edit that may concern
# somebody.
SIFT_AT_ONCE: Final = 512
SIFT_STEPS: Final = 256
EDIT_STEPS: Final = 1


class Replayed(NamedTuple):
    """The events, never none, that one change was for one filter. `time_ms` is the change's."""

    position: Position
    time_ms: int
    filter: Filter
    events: list[Event]


class Replay:
    """What `filters` are owed for the changes after `seq`; nothing is done yet.

    `edits` is how many edits will be undone and redone, as far as that is known (`sift`);
    `evaluates` whether a filter among them is evaluated for that, which can fail. Raises ValueError
    if `history` does not cover `seq`. `touched`, when given, knows where nothing has changed.
    """

    def __init__(
        self,
        history: History,
        filters: Sequence[Filter],
        seq: int,
        touched: Touched | None = None,
    ) -> None:
        if not history.covers(seq):
            raise ValueError(f"the history does not reach back to {seq}")
        self._filters = list(dict.fromkeys(filters))
        self.edits = 0
        self.evaluates = not all(filter.indexable for filter in filters)
        # Places that nothing has touched need no look at the changes: most who come back.
        subtrees = {_subtree(filter) for filter in filters}
        if touched is not None:
            subtrees = {path for path in subtrees if touched.since(path, seq) is not False}
        self._sieve = _Sieve(subtrees)
        self._changes = history.since(seq) if subtrees else []
        self._sifted = 0
        self._steps: list[_Step] = []

    def sift(self, work: Work) -> None:
        """Find the edits that concern the filters. Raises TooCostly: then some are found, and
        `run` finds the others.
        """
        for _ in self._sifting(work):
            pass

    def _sifting(self, work: Work) -> Iterator[None]:
        for at in range(self._sifted, len(self._changes)):
            if at % SIFT_AT_ONCE == 0:
                yield
                work.charge(SIFT_STEPS)
            change = self._changes[at]
            edits = self._sieve.likely(change.edits)
            if edits:
                work.charge(EDIT_STEPS * len(edits))
                edits = [edit for edit in edits if self._sieve.holds(edit.path)]
            if edits:
                self._steps.append((change, edits))
                self.edits += len(edits)
            self._sifted = at + 1
        self._changes = []
        self._sifted = 0

    def run(
        self, root: Json, *, max_evaluations: int = MAX_EVALUATIONS, work: Work = FREE
    ) -> Iterator[list[Replayed]]:
        """The events each filter is owed, a change at a time, and between that and before it often
        an empty list, so that the work can be spread: it comes after a millisecond at most.

        `root` is the document as it was when this was made; it has to stay so to the end (`pin`).
        Within a change the events are in the order of `filters`; a filter given twice counts once.
        The values are stable until the next step. Raises TooCostly if it would take more than
        `max_evaluations`, or more than `work` for all of them: the subscriber then needs a
        snapshot.
        """
        for _ in self._sifting(FREE):
            yield []
        draft = Draft(root)
        undone: list[_Step] = []
        for number, step in enumerate(reversed(self._steps)):
            undone.append(_undo(draft, step))
            if number % UNDO_AT_ONCE == UNDO_AT_ONCE - 1:
                yield []
        past = Draft(draft.root)
        index = Index()
        chosen = {filter: index.add(filter, past.root, work) for filter in self._filters}
        if any(each.evaluated is not None and each.evaluated.is_stale for each in chosen.values()):
            raise TooCostly(work.left, work.left + 1)
        for change, edits in reversed(undone):
            events = _redo(past, index, edits, work)
            yield [
                Replayed(change.position, change.time_ms, filter, events[selection])
                for filter, selection in chosen.items()
                if selection in events
            ]
            evaluations = _evaluations(chosen.values())
            if evaluations > max_evaluations:
                raise TooCostly(max_evaluations, evaluations)


def replay(
    root: Json,
    history: History,
    filters: Sequence[Filter],
    seq: int,
    *,
    max_evaluations: int = MAX_EVALUATIONS,
    touched: Touched | None = None,
) -> list[Replayed]:
    """All of a `Replay` at once."""
    run = Replay(history, filters, seq, touched).run(root, max_evaluations=max_evaluations)
    return [replayed for part in run for replayed in part]


def _evaluations(selections: Iterable[Selection]) -> int:
    evaluated = (selection.evaluated for selection in selections)
    return sum(each.evaluations for each in evaluated if each is not None)


_Step = tuple["Change", list["Edit"]]


class _Sieve:
    """Which edits lie above, at or below what a filter can see."""

    def __init__(self, subtrees: set[Path]) -> None:
        self._subtrees = subtrees
        self._around = {path[:depth] for path in subtrees for depth in range(len(path) + 1)}
        self._firsts = None if () in subtrees else {path[0] for path in subtrees}

    def likely(self, edits: Sequence[Edit]) -> list[Edit]:
        """Those that may be among them: a quick look, for most changes concern somebody else."""
        firsts = self._firsts
        if firsts is None:
            return list(edits)
        return [edit for edit in edits if not edit.path or edit.path[0] in firsts]

    def holds(self, path: Path) -> bool:
        """Whether an edit at `path` is among them."""
        subtrees = self._subtrees
        return path in self._around or any(path[:depth] in subtrees for depth in range(len(path)))


def _subtree(filter: Filter) -> Path:
    """The names that all selected places begin with.

    Not the indexes: an array's length is one for all its elements, so edits of its other elements
    cannot be left out when those of one are undone.
    """
    prefix = filter.prefix
    for depth, step in enumerate(prefix):
        if isinstance(step, int):
            return prefix[:depth]
    return prefix


def _undo(draft: Draft, step: _Step) -> _Step:
    """Take the edits of a change back, newest first. Returns it with each `after` as it was."""
    change, edits = step
    recovered: list[Edit] = []
    for edit in reversed(edits):
        # From here on nothing writes to this value: the draft lets go of it, and `_redo`'s
        # draft copies what it writes into.
        after = MISSING if edit.after is MISSING else draft.get(edit.path)
        before: Any = edit.before
        if type(before) is Splice:
            before = before.undone(cast("list[Any]", after))
        recovered.append(Edit(edit.path, before, after))
        draft.replace(edit.path, before)
    return change, recovered[::-1]


def _redo(
    draft: Draft, index: Index, edits: list[Edit], work: Work
) -> dict[Selection, list[Event]]:
    found: dict[Selection, list[Event]] = {}
    for edit in edits:
        draft.replace(edit.path, edit.after)
        for selection, events in index.match(draft.root, edit, work):
            if STALE in events:
                raise TooCostly(work.left, work.left + 1)
            found.setdefault(selection, []).extend(_stable(event, edit) for event in events)
    return found


def _stable(event: Event, edit: Edit) -> Event:
    """The event with a value that later edits do not reach: only the draft's own are copied."""
    if event.kind == "snapshot":
        items = cast("list[tuple[Path, Json]]", event.value)
        return replace(event, value=[(path, copy_deep(value)) for path, value in items])
    if event.value is MISSING or event.path[: len(edit.path)] == edit.path:
        return event  # nothing, or (a part of) `after`
    return replace(event, value=copy_deep(event.value))
