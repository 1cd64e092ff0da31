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
from triode.store.event import Event
from triode.store.index import Index
from triode.store.splice import Splice
from triode.store.value import MISSING, copy_deep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from triode.store.change import Change, Position
    from triode.store.filter import Filter
    from triode.store.history import History
    from triode.store.path import Path
    from triode.store.trie import Selection
    from triode.store.value import Json


MAX_EVALUATIONS: Final = 200
UNDO_AT_ONCE: Final = 100


class TooCostly(ValueError):
    """The replay would evaluate filters too often."""


class Replayed(NamedTuple):
    """The events, never none, that one change was for one filter. `time_ms` is the change's."""

    position: Position
    time_ms: int
    filter: Filter
    events: list[Event]


class Replay:
    """What `filters` are owed for the changes after `seq`; nothing is done yet but looking.

    `edits` is how many edits will be undone and redone, `evaluates` whether a filter among them is
    evaluated for that, which can fail. Raises ValueError if `history` does not cover `seq`.
    """

    def __init__(self, history: History, filters: Sequence[Filter], seq: int) -> None:
        if not history.covers(seq):
            raise ValueError(f"the history does not reach back to {seq}")
        self._filters = list(dict.fromkeys(filters))
        self._steps = _concerning(history.since(seq), filters)
        self.edits = sum(len(edits) for _, edits in self._steps)
        self.evaluates = not all(filter.indexable for filter in filters)

    def run(
        self, root: Json, *, max_evaluations: int = MAX_EVALUATIONS
    ) -> Iterator[list[Replayed]]:
        """The events each filter is owed, a change at a time, and between that and before it often
        an empty list, so that the work can be spread: it comes after a millisecond at most.

        `root` is the document as it was when this was made; it has to stay so to the end (`pin`).
        Within a change the events are in the order of `filters`; a filter given twice counts once.
        The values are stable until the next step. Raises TooCostly if it would take more than
        `max_evaluations`, and FilterError if a filter could not be evaluated then; both are
        ValueErrors. The subscriber then needs a snapshot.
        """
        draft = Draft(root)
        undone: list[_Step] = []
        for number, step in enumerate(reversed(self._steps)):
            undone.append(_undo(draft, step))
            if number % UNDO_AT_ONCE == UNDO_AT_ONCE - 1:
                yield []
        past = Draft(draft.root)
        index = Index()
        chosen = {filter: index.add(filter, past.root) for filter in self._filters}
        for change, edits in reversed(undone):
            events = _redo(past, index, edits)
            yield [
                Replayed(change.position, change.time_ms, filter, events[selection])
                for filter, selection in chosen.items()
                if selection in events
            ]
            if _evaluations(chosen.values()) > max_evaluations:
                raise TooCostly(f"more than {max_evaluations} evaluations")


def replay(
    root: Json,
    history: History,
    filters: Sequence[Filter],
    seq: int,
    *,
    max_evaluations: int = MAX_EVALUATIONS,
) -> list[Replayed]:
    """All of a `Replay` at once."""
    run = Replay(history, filters, seq).run(root, max_evaluations=max_evaluations)
    return [replayed for part in run for replayed in part]


def _evaluations(selections: Iterable[Selection]) -> int:
    evaluated = (selection.evaluated for selection in selections)
    return sum(each.evaluations for each in evaluated if each is not None)


_Step = tuple["Change", list["Edit"]]


def _concerning(changes: Iterable[Change], filters: Iterable[Filter]) -> list[_Step]:
    """The changes with those of their edits that lie above, at or below what a filter can see, if
    there are any.
    """
    subtrees = {_subtree(filter) for filter in filters}
    around = {path[:depth] for path in subtrees for depth in range(len(path) + 1)}
    concerning = (
        (
            change,
            [
                edit
                for edit in change.edits
                if edit.path in around
                or any(edit.path[:depth] in subtrees for depth in range(len(edit.path)))
            ],
        )
        for change in changes
    )
    return [step for step in concerning if step[1]]


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


def _redo(draft: Draft, index: Index, edits: list[Edit]) -> dict[Selection, list[Event]]:
    found: dict[Selection, list[Event]] = {}
    for edit in edits:
        draft.replace(edit.path, edit.after)
        for selection, events in index.match(draft.root, edit):
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
