"""Filters that the trie cannot follow: descent, slices, negative indexes, JSONPath.

When an edit may concern such a filter, what it selected before and what it selects now are
compared: what is gone is a delete, what is new an update with its whole value. A place that stays
selected is sent if the edit wrote at or above it; an edit *inside* it goes out as it is, once,
however many selected places contain it.

How much is evaluated again:
  - nothing, if a scalar takes the place of a scalar and the filter never looks at values;
  - the subtree of the edit, if each step of the filter looks at one key or index alone (names,
    wildcards, descent): then what is selected elsewhere cannot have changed, and whether a place
    is selected can be told by its path: nothing is remembered;
  - else everything, and the places that were selected are remembered.

All filters together have a budget for each write. One that does not fit into it is *stale*: what
it selected is forgotten, and an empty snapshot (`STALE`) stands for what its subscribers are owed.
Who delivers makes that snapshot, when there is time. So what is remembered is bounded too: by what
can be evaluated within the budget of one write.

Selected places may lie inside each other here (`..name`, `$..*`), and then membership is not
always something that updates and deletes can say: a subscriber sets an update inside the value
that it holds above, without learning that the inner place became a selected one. In those cases
(`_inexpressible`) the subscriber gets a snapshot.
"""

from __future__ import annotations

from sys import getsizeof, maxsize
from typing import TYPE_CHECKING, Final

from triode.store.event import Event, as_it_is
from triode.store.filter import Conditions, Descent, Elements, Index, Members, Name
from triode.store.value import MISSING
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from triode.store.change import Edit
    from triode.store.filter import Filter, Segment
    from triode.store.path import Path
    from triode.store.segment import Node
    from triode.store.value import Json, Missing
    from triode.store.work import Work


# Something may have changed, and there was no time to see what.
STALE: Final = Event("snapshot", (), MISSING)
# One list for all: it is given out for each write to each filter that rests. Safe, as only updates
# are ever replaced in such a list (see `Store.commit`).
_ONLY_STALE: Final = [STALE]


# A place that was selected, or is, is hashed and looked up in several sets.
_COMPARE_STEPS: Final = 1


# Most places end with an index or go through one. Names are the document's own.
_INT_BYTES: Final = 32
# CPython gives small objects multiples of 16 bytes.
_ROUNDED: Final = 15


class Remembered:
    """The bytes of the places that all filters of one index remember. What would be more than
    `max_bytes` is not remembered: that filter is stale.
    """

    __slots__ = ("bytes", "max_bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self.max_bytes = maxsize


class Evaluated:
    """One such filter. `evaluations` counts those of everything; `cost` is what one takes, as far
    as that is known; `total` what all have taken, and all edits; `charged` how much of that
    somebody has been charged for, a free slot. `rests`, set from outside: nobody may hear of it for
    now, so it is not evaluated. `bytes` is what its places take, in memory.
    """

    __slots__ = (
        "_filter",
        "_local",
        "_looks_at_values",
        "_places",
        "_remembered",
        "bytes",
        "charged",
        "cost",
        "evaluations",
        "rests",
        "total",
    )

    def __init__(self, filter: Filter, remembered: Remembered | None = None) -> None:
        """Nothing is evaluated yet: it is stale until `renew`."""
        self._filter = filter
        self._remembered = remembered or Remembered()
        self.bytes = 0
        self._looks_at_values = _looks_at_values(filter)
        # JSONPath has no segments of ours: None stands for it, and is not local.
        self._local = filter.segments if all(map(_is_local, filter.segments or [None])) else None
        self._places: set[Path] | None = None
        self.cost = 0
        self.evaluations = 0
        self.total = 0
        self.charged = 0
        self.rests = False

    @property
    def is_stale(self) -> bool:
        """Whether it is not known what was selected, so that each edit gives a snapshot."""
        return self._local is None and self._places is None

    @property
    def places(self) -> int:
        """How many places are remembered."""
        return len(self._places or ())

    def renew(self, root: Json, work: Work) -> list[Node] | None:
        """Evaluate it, and remember what it selects. None: there are not enough steps left, and it
        is stale.
        """
        if self._local is not None:
            return None
        try:
            selected = self._select(root, work)
        except TooCostly:
            self._remember(None)
            return None
        self._remember(set(selected))
        return list(selected.items())

    def forget(self) -> None:
        """Forget what was remembered: it is not known what became of it."""
        self._remember(None)

    def _remember(self, places: set[Path] | None) -> None:
        held = 0
        if places:
            # An estimate from one of them, which does for a bound: to ask each is a call for each,
            # at every write. (`+` binds before `&`: this rounds up to a multiple of 16.)
            path = getsizeof(next(iter(places))) + _ROUNDED & ~_ROUNDED
            held = getsizeof(places) + len(places) * (path + _INT_BYTES)
            if self._remembered.bytes + held - self.bytes > self._remembered.max_bytes:
                # Stale, as one that is too dear: a part of the places would be worse than none.
                places, held = None, 0
        self._places = places
        self._remembered.bytes += held - self.bytes
        self.bytes = held

    def refresh(self, root: Json, edit: Edit, work: Work) -> list[Event]:
        """What the edit, which `root` already shows, is for this filter's subscribers."""
        left = work.left
        if self.rests:
            self.forget()
            return _ONLY_STALE
        if self._places is None and self._local is None and self.cost > left:
            return _ONLY_STALE  # as each write finds it that is too dear for one
        try:
            if self.is_stale:
                renewed = self.renew(root, work)
                return [STALE if renewed is None else Event("snapshot", (), renewed)]
            return self._refresh(root, edit, work)
        except TooCostly:
            # What it remembers has missed this edit. Compared with it, a later one would tell too
            # much or too little.
            self._remember(None)
            return [STALE]
        finally:
            # Also of what led to nothing: it was our time, and is charged to who watches.
            self.total += left - work.left

    def _refresh(self, root: Json, edit: Edit, work: Work) -> list[Event]:
        work.charge(1 + len(edit.path))
        # Now, and as a list: below, the places are replaced by those after the edit.
        above = self._selected_above(edit.path)
        if not self._looks_at_values and _scalar_for_scalar(edit):
            return [as_it_is(edit.path, edit.after)] if any(above) else []
        if self._local is not None:
            was = set(_select_below(self._local, edit.path, edit.before, work))
            now = _select_below(self._local, edit.path, edit.after, work)
            work.charge(_COMPARE_STEPS * (len(was) + len(now)))
            kept: Container[Path] = _Kept(above, was & now.keys())
        else:
            assert self._places is not None
            was = self._places
            now = self._select(root, work)
            work.charge(_COMPARE_STEPS * (len(was) + len(now)))
            self._remember(set(now))
            kept = was & now.keys()
        gone, new = was - now.keys(), now.keys() - was
        if _inexpressible(kept, gone, new, was & now.keys()):
            if self._local is not None:
                now = self._select(root, work)  # so far it was only what lies at the edit or below
            return [Event("snapshot", (), list(now.items()))]
        return _events(edit, kept, gone, new, now)

    def _select(self, root: Json, work: Work) -> dict[Path, Json]:
        """Raises TooCostly at once where it is known that the steps left will not do."""
        left = work.left
        # Else each write would spend all that is left on finding out the same again.
        if self.cost > left:
            raise TooCostly(left, self.cost)
        self.evaluations += 1
        try:
            selected = dict(self._filter.select(root, work))
        except TooCostly:
            # At least so much; who has really evaluated it says how much (see `learn`).
            self.cost = left + 1
            raise
        self.cost = left - work.left
        return selected

    def learn(self, cost: int) -> None:
        """Somebody has evaluated it, which took so many steps."""
        self.cost = cost
        self.total += cost

    def _selected_above(self, path: Path) -> list[bool]:
        """For each beginning of this path, itself included, whether it is selected."""
        if self._local is not None:
            return _accepted(self._local, path)
        assert self._places is not None
        return [path[:depth] in self._places for depth in range(len(path) + 1)]


class _Kept:
    """What stays selected, as far as it lies on the way to an edit or inside of it."""

    __slots__ = ("_above", "_inside")

    def __init__(self, above: list[bool], inside: Container[Path]) -> None:
        self._above = above
        self._inside = inside

    def __contains__(self, path: object) -> bool:
        assert isinstance(path, tuple)
        depth = len(path)
        # Above the edit nothing came or went: that a place there is selected is enough. The edit's
        # own place may have come or gone, so it is looked up among those inside.
        return self._above[depth] if depth < len(self._above) - 1 else path in self._inside


def _events(
    edit: Edit, kept: Container[Path], gone: set[Path], new: set[Path], now: dict[Path, Json]
) -> list[Event]:
    """Of `now` those are sent that are new or in the written subtree. `kept` are all that stay."""
    events = [
        Event("delete", path, MISSING)
        # A set's order depends on how texts are hashed, in each process in another way: two servers
        # with one log would tell it differently.
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
    kept: Container[Path], gone: set[Path], new: set[Path], touched: Iterable[Path]
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
    segments: tuple[Segment, ...], place: Path, value: Json | Missing, work: Work
) -> dict[Path, Json]:
    """What local segments select in the subtree `value` at `place`: like the whole, cut to it.

    A state is the number of segments behind us on the way to a place; a descent stays in its
    own while it searches.
    """
    if value is MISSING:
        return {}
    states = {0}
    for step in place:
        work.charge(len(states))
        states = {after for state in states for after in _step(segments, state, step)}
    found: dict[Path, Json] = {}
    # A descent may lead to a place in several ways, and each finds what lies below: `found` has it
    # once.
    for state in sorted(states):
        nodes: Iterable[tuple[Path, Json]] = ((place, value),)
        for segment in segments[state:]:
            nodes = segment.select(nodes, work)
        found.update(nodes)
    return found


def _accepted(segments: tuple[Segment, ...], path: Path) -> list[bool]:
    """For each beginning of the path, itself included, whether local segments select it if it is
    there.
    """
    states = {0}
    accepted = [not segments]
    for step in path:
        states = {after for state in states for after in _step(segments, state, step)}
        accepted.append(len(segments) in states)
    return accepted


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
            # Also where the name fits it goes on searching: `..a` selects `.a` and `.a.a`.
            return (state, state + 1) if step == key else (state,)
        case _:
            raise TypeError(f"not local: {segments[state]!r}")
    return (state + 1,) if taken else ()


def _is_local(segment: Segment | None) -> bool:
    # Not so a negative index and a slice, which may count from the end, nor a condition, which
    # looks at a member: an edit may then change what is selected beside it.
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
