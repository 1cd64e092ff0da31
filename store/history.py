"""The most recent changes, bounded in number and bytes: what a client can resume from.

Without gaps: the changes here are those with the sequence numbers after `_floor`, up to the last. A
change too large to keep, or a gap in the numbers, makes everything before it unreachable, so the
history begins anew behind it.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from triode.store.change import Edit, Rearranged, Whole
from triode.store.footprint import footprint
from triode.store.json_type import MISSING
from triode.store.splice import Splice, splice
from triode.store.touched import Touched
from triode.store.value import copy_deep

if TYPE_CHECKING:
    from triode.store.change import Change
    from triode.store.path import Path

# What the objects of a change and of an edit take beside paths and values (CPython, 64 bit).
_CHANGE_BYTES: Final = 270
_EDIT_BYTES: Final = 90
_PATH_BYTES: Final = 56
_SPLICE_BYTES: Final = 100
# Weighing that much takes some 5 ms, and everybody waits: a larger change is not kept.
MAX_CHANGE_BYTES: Final = 4 * 1024 * 1024


class History:
    """At most `max_items` changes and `max_bytes` of memory; `start_seq` is the last one before."""

    def __init__(self, max_items: int, max_bytes: int, *, start_seq: int = 0) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.gone_bytes = 0  # what the last `append` let go of, roughly
        self._bytes = 0
        self._changes: deque[tuple[Change, int]] = deque()
        self._touched = Touched()
        self._floor = start_seq

    @property
    def bytes(self) -> int:
        """The memory that the changes held take, within a fifth."""
        return self._bytes + self._touched.bytes

    @property
    def items(self) -> int:
        """The number of changes held."""
        return len(self._changes)

    @property
    def oldest_seq(self) -> int:
        """The sequence number of the oldest change held, or of the next one when none is."""
        return self._floor + 1

    @property
    def last_seq(self) -> int:
        """The sequence number of the newest change known, held or not."""
        return self._floor + len(self._changes)

    def append(self, change: Change) -> list[Change]:
        """Keep a change; returns those that had to go (or the change itself, if it is too large).

        Dropping large ones at once takes long: see `dismantle`.
        """
        gone: list[Change] = []
        held = self.bytes
        if change.position.seq != self.last_seq + 1:
            self._clear(gone, change.position.seq - 1)
        most = min(self.max_bytes, MAX_CHANGE_BYTES)
        kinds = set(map(type, change.edits))
        if Rearranged in kinds:
            change = change._replace(edits=tuple(map(_spliced, change.edits)))
        cost = most + 1 if Whole in kinds else _cost(change, most)
        if cost > most:
            self._clear(gone, change.position.seq)
            gone.append(change)
            self.gone_bytes = held + cost
            return gone
        self._changes.append((change, cost))
        self._bytes += cost
        self._touched.add(change.position.seq, change.edits)
        touched = self._touched
        while len(self._changes) > self.max_items or self._bytes + touched.bytes > self.max_bytes:
            oldest, freed = self._changes.popleft()
            self._bytes -= freed
            self._floor += 1
            touched.forget(self._floor, oldest.edits)
            gone.append(oldest)
        self.gone_bytes = held + cost - self.bytes
        return gone

    def take_back(self, change: Change) -> None:
        """The change appended last did not happen. The history begins anew: what it said about
        places that were touched before cannot be had back.
        """
        self._clear([], change.position.seq - 1)

    def covers(self, seq: int) -> bool:
        """Whether all changes after `seq` are here. Not so for a `seq` that has not been yet."""
        return self._floor <= seq <= self.last_seq

    def since(self, seq: int) -> list[Change]:
        """The changes after `seq`, oldest first. Raises ValueError if it is not covered."""
        if not self.covers(seq):
            raise ValueError(f"changes after {seq} are not all here")
        return [change for change, _ in islice(self._changes, seq - self._floor, None)]

    def touched_since(self, path: Path, seq: int) -> bool | None:
        """Whether an edit after `seq` was at, above or below an actual path. None: not known."""
        if not self.covers(seq):
            return None
        return self._touched.since(path, seq)

    def forget(self) -> list[Change]:
        """Let go of all changes; returns them. Nobody can resume from before this moment."""
        gone: list[Change] = []
        self.gone_bytes = self.bytes
        self._clear(gone, self.last_seq)
        return gone

    def _clear(self, gone: list[Change], floor: int) -> None:
        gone.extend(change for change, _ in self._changes)
        self._changes.clear()
        self._touched.clear()
        self._bytes = 0
        self._floor = floor


def _spliced(edit: Edit) -> Edit:
    """The edit as it is kept: see `store.splice`."""
    if type(edit) is not Rearranged:
        return edit
    before: Any = edit.before
    after: Any = edit.after
    # A later step of the same patch may have put something else in the array's place.
    kept: Any = splice(before, after) if type(after) is list else copy_deep(before)
    return Edit(edit.path, kept, None)


def _cost(change: Change, limit: int) -> int:
    """The memory a change keeps; stops counting soon after `limit`."""
    cost = _CHANGE_BYTES
    last: Path = ()
    for edit in change.edits:
        path = edit.path
        cost += _EDIT_BYTES + _PATH_BYTES + 8 * len(path)
        shares = True
        for depth, segment in enumerate(path):
            # The paths of one merge or patch begin with the same objects.
            shares = shares and depth < len(last) and segment is last[depth]
            if not shares and (isinstance(segment, int) or len(segment) > 1):
                cost += getsizeof(segment)
        last = path
        if edit.before is not MISSING:
            before: Any = edit.before
            if type(before) is Splice:
                cost += _SPLICE_BYTES
                before = before.removed
            cost += footprint(before, limit=limit)
        if cost > limit:
            break
    return cost
