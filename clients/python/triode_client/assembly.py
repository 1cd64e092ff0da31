"""What a filter selects, put together from the server's events.

The state is a map from selected path to value. A snapshot replaces it. An `update` at a known path
replaces that value; inside one it sets that place (an index equal to the length appends); anywhere
else it is a new entry; entries below it are replaced by what it holds. A `delete` removes likewise.

What was handed out never changes afterwards: a program may keep it, compare it, show it. So a
container is copied before it is changed, once after each time the state was handed out, and only
those on the way to the place (path copying); where nobody looks nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from .fetch import Fetch, value_in
from .path import Path, parse_path

# Any JSON value: None, bool, int, float, str, list, dict.
Json = Any

# Ids of containers that may be changed in place; forgetting them costs copies, nothing else.
_MAX_OWN: Final = 10_000


class Missing:
    """The type of `MISSING`, which is false."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


# Where a place has no value: JSON's null is one, and is None.
MISSING: Final = Missing()


class Assembly:
    """The state of one filter.

    `update` and `delete` return whether the event fitted: one that does not was sent twice, or
    something before it was lost.
    """

    def __init__(self, *, nested: bool = False) -> None:
        # Selected places may lie inside one another (`..name`): a delete may find nothing left.
        self._nested = nested
        self._items: dict[str, Json] = {}
        self._texts: dict[Path, str] = {}
        # How many steps the known paths have; most often the same for all.
        self._deepest = 0
        # None of these has been handed out. An id may be that of a container that is gone, and
        # of a new one by now: that one has not been handed out either.
        self._own: set[int] = set()

    def hand_out(self) -> Mapping[str, Json]:
        """The state as it is now, path to value. It stays as it is: later events change others."""
        self._own.clear()
        return MappingProxyType(self._items)

    def replace(self, items: Iterable[Mapping[str, Json]]) -> None:
        """A whole snapshot: items of `path` and `value`."""
        self._items = {item["path"]: value_in(item) for item in items}
        self._texts = {parse_path(text): text for text in self._items}
        self._deepest = max(map(len, self._texts), default=0)
        self._own.clear()

    def update(self, text: str, value: Json) -> bool:
        """The place has this value now."""
        path = parse_path(text)
        inside, fits = False, True
        for depth in range(len(path)):
            known = self._texts.get(path[:depth])
            if known is not None:
                inside = True
                fits = self._set(known, path[depth:], value) and fits
        for below in self._at_or_below(path):
            replaced = look(value, below[len(path) :])
            if isinstance(replaced, Fetch):
                replaced = Fetch(self._texts[below])
            if replaced is MISSING:
                self._remove(below)
            else:
                self._own_items()[self._texts[below]] = replaced
        if not inside and path not in self._texts:
            self._own_items()[text] = value
            self._texts[path] = text
            self._deepest = max(self._deepest, len(path))
        return fits

    def delete(self, text: str) -> bool:
        """The place is gone, or is no longer selected."""
        path = parse_path(text)
        gone: list[bool] = []
        for depth in range(len(path)):
            known = self._texts.get(path[:depth])
            if known is not None:
                gone.append(self._unset(known, path[depth:]))
        for below in self._at_or_below(path):
            self._remove(below)
            gone.append(True)
        return self._nested or (any(gone) and all(gone))

    def _at_or_below(self, path: Path) -> list[Path]:
        if self._deepest > len(path):
            return [known for known in self._texts if known[: len(path)] == path]
        return [path] if path in self._texts else []

    def _remove(self, path: Path) -> None:
        del self._own_items()[self._texts.pop(path)]

    def _set(self, known: str, steps: Path, value: Json) -> bool:
        *way, last = steps
        holder = look(self._items[known], way)
        if isinstance(holder, dict) and isinstance(last, str):
            self._writable(known, way)[last] = value
        elif isinstance(holder, list) and isinstance(last, int) and last <= len(holder):
            self._writable(known, way)[last : last + 1] = [value]
        else:
            return isinstance(holder, Fetch)
        return True

    def _unset(self, known: str, steps: Path) -> bool:
        *way, last = steps
        holder = look(self._items[known], way)
        if isinstance(holder, Fetch):
            return True
        # Of an array only the last element: a removal that moves others is a change of the array.
        is_last = isinstance(holder, list) and last == len(holder) - 1
        if not is_last and not (isinstance(holder, dict) and last in holder):
            return False
        del self._writable(known, way)[last]
        return True

    def _own_items(self) -> dict[str, Json]:
        if id(self._items) not in self._own:
            self._items = dict(self._items)
            self._note_own(self._items)
        return self._items

    def _writable(self, known: str, way: Iterable[str | int]) -> Any:
        """The container at the end of the way, it and all above it copied unless that was done."""
        holder: Any = self._own_items()
        for step in (known, *way):
            child = holder[step]
            if id(child) not in self._own:
                child = holder[step] = child.copy()
                self._note_own(child)
            holder = child
        return holder

    def _note_own(self, container: dict[str, Json] | list[Json]) -> None:
        if len(self._own) >= _MAX_OWN:
            self._own.clear()
        self._own.add(id(container))


def look(value: Json, steps: Iterable[str | int]) -> Json | Missing:
    """What is at the end of the steps: `MISSING` when there is no such place, a `Fetch` when it is
    in a value that was not sent.
    """
    for step in steps:
        if isinstance(value, Fetch):
            return value
        in_object = isinstance(value, dict) and isinstance(step, str) and step in value
        in_array = isinstance(value, list) and isinstance(step, int) and step < len(value)
        if not in_object and not in_array:
            return MISSING
        value = value[step]
    return value
