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

from store.change import Edit
from store.document import Draft
from store.event import Event
from store.index import Index
from store.splice import Splice
from store.value import MISSING, copy_deep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from store.change import Change, Position
    from store.filter import Filter
    from store.history import History
    from store.path import Path
    from store.selection import Selection
    from store.value import Json


MAX_EVALUATIONS: Final = 200


class TooCostly(ValueError):
    """The replay would evaluate filters too often."""


class Replayed(NamedTuple):
    """The events, never none, that one change was for one filter. `time_ms` is the change's."""

    position: Position
    time_ms: int
    filter: Filter
    events: list[Event]


def replay(
    root: Json,
    history: History,
    filters: Sequence[Filter],
    seq: int,
    *,
    max_evaluations: int = MAX_EVALUATIONS,
) -> list[Replayed]:
    """The events each filter is owed for the changes after `seq`, in the order of the changes.

    Within a change in the order of `filters`; a filter given twice counts once. `root` is the
    document now and stays as it is. The values are stable until it is written to again.
    Raises ValueError if `history` does not cover `seq` or (TooCostly) it would take more than
    `max_evaluations`, and FilterError if a filter could not be evaluated then. FilterError is a
    ValueError too. The subscriber then needs a snapshot.
    """
    if not history.covers(seq):
        raise ValueError(f"the history does not reach back to {seq}")
    draft = Draft(root)
    steps = _undo(draft, _concerning(history.since(seq), filters))
    past = Draft(draft.root)
    index = Index()
    chosen = {filter: index.add(filter, past.root) for filter in dict.fromkeys(filters)}
    replayed: list[Replayed] = []
    for change, edits in steps:
        events = _redo(past, index, edits)
        replayed += [
            Replayed(change.position, change.time_ms, filter, events[selection])
            for filter, selection in chosen.items()
            if selection in events
        ]
        if _evaluations(chosen.values()) > max_evaluations:
            raise TooCostly(f"more than {max_evaluations} evaluations")
    return replayed


def _evaluations(selections: Iterable[Selection]) -> int:
    evaluated = (selection.evaluated for selection in selections)
    return sum(each.evaluations for each in evaluated if each is not None)


_Step = tuple["Change", list["Edit"]]


def _concerning(changes: Iterable[Change], filters: Iterable[Filter]) -> list[_Step]:
    """The changes with those of their edits that lie above, at or below what a filter can see."""
    subtrees = {_subtree(filter) for filter in filters}
    around = {path[:depth] for path in subtrees for depth in range(len(path) + 1)}
    return [
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
    ]


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


def _undo(draft: Draft, steps: list[_Step]) -> list[_Step]:
    """Take the edits back, newest first. Returns them with each `after` as it was then."""
    undone: list[_Step] = []
    for change, edits in reversed(steps):
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
        undone.append((change, recovered[::-1]))
    return undone[::-1]


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
        return event._replace(value=[(path, copy_deep(value)) for path, value in items])
    if event.value is MISSING or event.path[: len(edit.path)] == edit.path:
        return event  # nothing, or (a part of) `after`
    return event._replace(value=copy_deep(event.value))
