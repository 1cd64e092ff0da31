"""Filters that no trie can follow: descent, slices, negative indexes, JSONPath.

Such a filter remembers which places it selected. When an edit may concern it, it is evaluated
again and the two sets are compared: what is gone is a delete, what is new an update with its whole
value. A place that stays selected is sent if the edit wrote at or above it; an edit *inside* it
goes out as it is, once, however many selected places contain it.

Selected places may lie inside each other here (`..name`, `$..*`), and then membership is not
always something that updates and deletes can say: a subscriber sets an update inside the value
that it holds above, without learning that the inner place became a selected one. In those cases
(`_inexpressible`) the subscriber gets a snapshot. With one exception that needs no evaluation:
where a scalar takes the place of a scalar, a filter that never looks at values selects what it
selected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.event import Event, as_it_is
from store.filter import Conditions, FilterError
from store.value import MISSING

if TYPE_CHECKING:
    from collections.abc import Container

    from store.change import Edit
    from store.filter import Filter
    from store.path import Path
    from store.value import Json


class Evaluated:
    """One such filter and the places it selects."""

    __slots__ = ("_filter", "_looks_at_values", "_places")

    def __init__(self, filter: Filter, root: Json) -> None:
        """Evaluate it for the first time. Raises FilterError if that would cost too much."""
        self._filter = filter
        self._looks_at_values = _looks_at_values(filter)
        # None: not known, because the last evaluation was refused.
        self._places: set[Path] | None = {path for path, _ in filter.select(root)}

    def refresh(self, root: Json, edit: Edit) -> list[Event]:
        """What the edit, which `root` already shows, is for this filter's subscribers.

        Cost: one evaluation, except for a scalar in a scalar's place (the edit's depth). An
        evaluation that is refused because the document has become too big for it gives a `failed`,
        once; the first one that works again gives a snapshot.
        """
        was = self._places
        if was is not None and not self._looks_at_values and _scalar_for_scalar(edit):
            written = edit.path in was or _within(edit.path, was)
            return [as_it_is(edit.path, edit.after)] if written else []
        try:
            selected = dict(self._filter.select(root))
        except FilterError as refused:
            self._places = None
            return [] if was is None else [Event("failed", (), refused.detail)]
        now = self._places = set(selected)
        if was is None or _inexpressible(was, now):
            return [Event("snapshot", (), list(selected.items()))]
        return _events(edit, was, selected)


def _events(edit: Edit, was: set[Path], selected: dict[Path, Json]) -> list[Event]:
    gone = was - selected.keys()
    kept = was & selected.keys()
    events = [
        Event("delete", path, MISSING)
        for path in sorted(gone, key=_order)
        if not _within(path, gone)  # it goes with the outer one
    ]
    repeated = _within(edit.path, kept)
    if repeated:
        # Before the updates: a new place that holds the edit has its value already appended.
        events.append(as_it_is(edit.path, edit.after))
    depth = len(edit.path)
    sent = {
        path
        for path in selected
        if path not in kept or (not repeated and path[:depth] == edit.path)
    }
    # Replacing a place replaces the selected ones inside it too. (New ones are never inside.)
    events += [
        Event("update", path, value)
        for path, value in selected.items()
        if path in sent and not _within(path, sent)
    ]
    return events


def _order(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts places in a way that does not depend on hashing: indexes by number, names by text."""
    return [(False, step, "") if isinstance(step, int) else (True, 0, step) for step in path]


def _inexpressible(was: set[Path], now: set[Path]) -> bool:
    """Whether updates and deletes would leave the subscriber's map of places wrong.

    A new place inside a selected one would be set there and get no entry of its own. A delete
    inside a place that stays would remove it from that one's value. A delete around a place
    that stays would take that with it.
    """
    if was == now:
        return False
    gone, kept = was - now, was & now
    return (
        any(_within(path, now) for path in now - was)
        or any(_within(path, kept) for path in gone)
        or (bool(gone) and any(_within(path, gone) for path in kept))
    )


def _within(path: Path, places: Container[Path]) -> bool:
    """Whether one of the places lies strictly above."""
    return any(path[:depth] in places for depth in range(len(path)))


def _scalar_for_scalar(edit: Edit) -> bool:
    before, after = edit.before, edit.after
    return not (
        before is MISSING
        or after is MISSING
        or isinstance(before, dict | list)
        or isinstance(after, dict | list)
    )


def _looks_at_values(filter: Filter) -> bool:
    """Whether more than the shape of the document decides (never wrongly False)."""
    if filter.segments is None:
        # RFC 9535 has one selector that looks at values, `?`; in a quoted name it is a false alarm.
        return "?" in filter.text
    return any(isinstance(segment, Conditions) for segment in filter.segments)
