"""How the history keeps a rearranged array: by what was cut out, not by the whole array.

The elements of an array that was rearranged live on in the new one and are written to, so the old
array as a whole would have to be copied deeply to be kept. But an insertion or a removal leaves
what stands before and behind it as it was: to undo it, a few elements suffice.
"""

from __future__ import annotations

from itertools import compress, count
from operator import is_not
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from triode.store.value import copy_measured
from triode.store.work import FREE

if TYPE_CHECKING:
    from triode.store.json_type import Json
    from triode.store.work import Work

# How many elements a step is worth, and how many are compared in one go.
_COMPARED: Final = 64
_SLICE: Final = 16_384


class Splice(NamedTuple):
    """From `start` on, `added` elements stand where `removed` stood."""

    start: int
    removed: list[Json]
    added: int

    def undone(self, after: list[Any]) -> list[Any]:
        """The array as it was before, from how it was after; a new list."""
        return [*after[: self.start], *self.removed, *after[self.start + self.added :]]


def splice(before: list[Any], after: list[Any], work: Work = FREE) -> Splice:
    """What makes `after` of `before`, found by the identity of their elements.

    O(length), some 20 ns an element. What was removed and is there no more is kept as it is; where
    something was put in its place, the two may share parts, so it is copied.
    """
    shorter = min(len(before), len(after))
    start = _first_different(before, after, shorter, work)
    end = _last_different(before, after, shorter - start, work)
    removed = before[start : len(before) - end]
    added = len(after) - start - end
    if added:
        removed = [copy_measured(value, work)[0] for value in removed]
    return Splice(start, removed, added)


def _first_different(one: list[Any], other: list[Any], most: int, work: Work) -> int:
    """The number of elements that are the same at the front, `most` of them."""
    for at in range(0, most, _SLICE):
        end = min(at + _SLICE, most)
        work.charge(1 + (end - at) // _COMPARED)
        differs = map(is_not, one[at:end], other[at:end])
        found = next(compress(count(at), differs), None)
        if found is not None:
            return found
    return most


def _last_different(one: list[Any], other: list[Any], most: int, work: Work) -> int:
    """The same at the back."""
    for at in range(0, most, _SLICE):
        size = min(_SLICE, most - at)
        work.charge(1 + size // _COMPARED)
        begin, other_begin = len(one) - at - size, len(other) - at - size
        differs = map(
            is_not,
            reversed(one[begin : begin + size]),
            reversed(other[other_begin : other_begin + size]),
        )
        found = next(compress(count(at), differs), None)
        if found is not None:
            return found
    return most
