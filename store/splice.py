"""How the history keeps a rearranged array: by what was cut out, not by the whole array.

The elements of an array that was rearranged live on in the new one and are written to, so the old
array as a whole would have to be copied deeply to be kept. But an insertion or a removal leaves
what stands before and behind it as it was: to undo it, a few elements suffice.
"""

from __future__ import annotations

from itertools import compress, count
from operator import is_not
from typing import TYPE_CHECKING, Any, NamedTuple

from triode.store.value import copy_measured
from triode.store.work import FREE

if TYPE_CHECKING:
    from triode.store.json_type import Json
    from triode.store.work import Work


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

    O(length), some 20 ns an element, charged by whoever asks. What was removed and is there no more is kept as it is; where
    something was put in its place, the two may share parts, so it is copied.
    """
    shorter = min(len(before), len(after))
    start = next(compress(count(), map(is_not, before, after)), shorter)
    end = next(compress(count(), map(is_not, reversed(before), reversed(after))), shorter)
    end = min(end, shorter - start)
    removed = before[start : len(before) - end]
    added = len(after) - start - end
    if added:
        removed = [copy_measured(value, work)[0] for value in removed]
    return Splice(start, removed, added)
