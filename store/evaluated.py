"""Filters that the trie cannot follow: descent, slices, negative indexes, JSONPath.

Such a filter remembers which places it selected. When an edit may concern it, it is evaluated
again and the two sets are compared: what is gone is a delete, what is new an update with its whole
value. A place that stays selected is sent if the edit wrote at or above it; an edit *inside* it
goes out as it is, once, however many selected places contain it.

How much is evaluated again:
  - nothing, if a scalar takes the place of a scalar and the filter never looks at values;
  - the subtree of the edit, if each step of the filter looks at one key or index alone (names,
    wildcards, descent): then what is selected elsewhere cannot have changed;
  - else everything.

Selected places may lie inside each other here (`..name`, `$..*`), and then membership is not
always something that updates and deletes can say: a subscriber sets an update inside the value
that it holds above, without learning that the inner place became a selected one. In those cases
(`_inexpressible`) the subscriber gets a snapshot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from triode.store.event import Event, as_it_is
from triode.store.filter import Conditions, Descent, Elements, FilterError, Index, Members, Name
from triode.store.value import MISSING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from triode.store.change import Edit
    from triode.store.filter import Filter, Segment
    from triode.store.path import Path
    from triode.store.value import Json, Missing


class Evaluated:
    """One such filter and the places it selects. `evaluations` counts those of everything.

    `refused` says why it cannot be evaluated now; None: it can.
    """

    __slots__ = ("_filter", "_local", "_looks_at_values", "_places", "evaluations", "refused")

    def __init__(self, filter: Filter, root: Json) -> None:
        """Evaluate it for the first time. Raises FilterError if that would cost too much."""
        self._filter = filter
        self._looks_at_values = _looks_at_values(filter)
        self._local = filter.segments if all(map(_is_local, filter.segments or [None])) else None
        self.evaluations = 1
        self.refused: str | None = None
        self._places: set[Path] = {path for path, _ in filter.select(root)}

    def refresh(self, root: Json, edit: Edit) -> list[Event]:
        """What the edit, which `root` already shows, is for this filter's subscribers.

        An evaluation that is refused because the document has become too big for it gives a
        `failed`, once; the first one that works again gives a snapshot.
        """
        if self.refused is not None:
            return self._heal(root)
        places = self._places
        if not self._looks_at_values and _scalar_for_scalar(edit):
            written = edit.path in places or _within(edit.path, places)
            return [as_it_is(edit.path, edit.after)] if written else []
        if self._local is not None:
            was = set(_select_below(self._local, edit.path, edit.before))
            now = _select_below(self._local, edit.path, edit.after)
        else:
            self.evaluations += 1
            was = places.copy()
            try:
                now = dict(self._filter.select(root))
            except FilterError as refused:
                self.refused = refused.detail
                return [Event("failed", (), refused.detail)]
        gone, new = was - now.keys(), now.keys() - was
        # In place, and by what changed: there may be many more that did not.
        places -= gone
        if _inexpressible(places, gone, new, was & now.keys()):
            places |= new
            return [Event("snapshot", (), list(dict(self._filter.select(root)).items()))]
        events = _events(edit, places, gone, new, now)
        places |= new
        return events

    def renew(self, root: Json) -> None:
        """Forget what was remembered: the edits since then have been taken back."""
        self.refused = self.refused or "it could not be evaluated"
        self._heal(root)

    def _heal(self, root: Json) -> list[Event]:
        self.evaluations += 1
        try:
            selected = dict(self._filter.select(root))
        except FilterError:
            return []
        self.refused = None
        self._places = set(selected)
        return [Event("snapshot", (), list(selected.items()))]


def _events(
    edit: Edit, kept: set[Path], gone: set[Path], new: set[Path], now: dict[Path, Json]
) -> list[Event]:
    """Of `now` those are sent that are new or in the written subtree. `kept` are all that stay."""
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
    sent = {path for path in now if path in new or (not repeated and path[:depth] == edit.path)}
    # Replacing a place replaces the selected ones inside it too. (New ones are never inside.)
    events += [
        Event("update", path, value)
        for path, value in now.items()
        if path in sent and not _within(path, sent)
    ]
    return events


def _inexpressible(
    kept: set[Path], gone: set[Path], new: set[Path], touched: Iterable[Path]
) -> bool:
    """Whether updates and deletes would leave the subscriber's map of places wrong.

    A new place inside a selected one would be set there and get no entry of its own. A delete
    inside a place that stays would remove it from that one's value. A delete around a place
    that stays (one of `touched`, then) would take that with it.
    """
    return (
        any(_within(path, kept) or _within(path, new) for path in new)
        or any(_within(path, kept) for path in gone)
        or (bool(gone) and any(_within(path, gone) for path in touched))
    )


def _select_below(
    segments: tuple[Segment, ...], place: Path, value: Json | Missing
) -> dict[Path, Json]:
    """What local segments select in the subtree `value` at `place`: like the whole, cut to it.

    A state is the number of segments behind us on the way to a place; a descent stays in its
    own while it searches.
    """
    if value is MISSING:
        return {}
    states = {0}
    for step in place:
        states = {after for state in states for after in _step(segments, state, step)}
    found: dict[Path, Json] = {}
    for state in sorted(states):
        nodes: Iterable[tuple[Path, Json]] = ((place, value),)
        for segment in segments[state:]:
            nodes = segment.select(nodes)
        found.update(nodes)
    return found


def _step(segments: tuple[Segment, ...], state: int, step: str | int) -> tuple[int, ...]:
    if state == len(segments):
        return ()
    match segments[state]:
        case Name(key=wanted) | Index(i=wanted):
            taken = step == wanted
        case Elements():
            taken = isinstance(step, int)
        case Members():
            taken = isinstance(step, str)
        case Descent(key=key):
            return (state, state + 1) if step == key else (state,)
        case _:
            raise TypeError(f"not local: {segments[state]!r}")
    return (state + 1,) if taken else ()


def _is_local(segment: Segment | None) -> bool:
    return isinstance(segment, Name | Elements | Members | Descent) or (
        isinstance(segment, Index) and segment.i >= 0
    )


def _order(path: Path) -> list[tuple[bool, int, str]]:
    """Sorts places in a way that does not depend on hashing: indexes by number, names by text."""
    return [(False, step, "") if isinstance(step, int) else (True, 0, step) for step in path]


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
