"""The most recent changes, bounded in number and bytes: what a client can resume from.

Without gaps: the changes here are all those after `_floor`, up to the last. What changed nothing (a
refused write, a message) has its number, and is not kept. A change too large to keep, or a gap in
the numbers, makes everything before it unreachable, so the history begins anew behind it.
"""

from __future__ import annotations

from collections import deque
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from triode.store.change import Change, Edit, Rearranged, Whole
from triode.store.footprint import footprint
from triode.store.json_type import MISSING
from triode.store.splice import Splice, splice
from triode.store.value import copy_measured
from triode.store.work import FREE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.store.path import Path
    from triode.store.work import Work

# The edits of a change as they are kept, and the memory that they take.
Kept: TypeAlias = "tuple[tuple[Edit, ...], int]"

# What the objects of a change and of an edit take beside paths and values (CPython, 64 bit).
_CHANGE_BYTES: Final = 270
_EDIT_BYTES: Final = 90
_PATH_BYTES: Final = 56
_SPLICE_BYTES: Final = 100
# `getsizeof` of most texts and integers, which is slow to ask.
_TEXT_BYTES: Final = getsizeof("")
_INT_BYTES: Final = getsizeof(1)
_DIGIT: Final = 1 << 30
_ONE_EDIT: Final = _CHANGE_BYTES + _EDIT_BYTES + _PATH_BYTES
# A larger change is not kept.
MAX_CHANGE_BYTES: Final = 4 * 1024 * 1024
# For an edit that is weighed, beside the value that was there.
_WEIGH_STEPS: Final = 1


class History:
    """At most `max_items` changes and `max_bytes` of memory; `start_seq` is the last one before."""

    def __init__(self, max_items: int, max_bytes: int, *, start_seq: int = 0) -> None:
        self.max_items = max_items
        self.max_bytes = max_bytes
        self.gone_bytes = 0  # what the last `append` let go of, roughly
        self._bytes = 0
        self._changes: deque[tuple[Change, int]] = deque()
        self._floor = start_seq
        self._last = start_seq

    @property
    def bytes(self) -> int:
        """The memory that the changes held take, within a fifth."""
        return self._bytes

    @property
    def items(self) -> int:
        """The number of changes held."""
        return len(self._changes)

    @property
    def last_seq(self) -> int:
        """The sequence number of the newest change known, held or not."""
        return self._last

    def weigh(self, edits: Sequence[Edit], work: Work = FREE) -> Kept:
        """What will be kept of a change with these edits, which have not happened yet, and the
        memory that it will take. Raises TooCostly.
        """
        limit = min(self.max_bytes, MAX_CHANGE_BYTES)
        if len(edits) != 1 or type(edits[0]) is not Edit:
            return _weigh(edits, limit, work)
        [edit] = edits  # most changes
        path, before = edit.path, edit.before
        cost = _ONE_EDIT + 8 * len(path)
        if type(before) is int and -_DIGIT < before < _DIGIT:
            cost += 0 if -6 < before < 257 else _INT_BYTES  # as `_name`
        elif before is not MISSING:
            cost += _weight(before, limit, work)
        for segment in path:
            # As `_name`, without a call for what most segments are.
            if type(segment) is str and segment.isascii():
                cost += _TEXT_BYTES + len(segment) if len(segment) > 1 else 0
            else:
                cost += _name(segment)
        return (edit,), cost

    def append(self, change: Change, kept: Kept | None = None) -> list[Change]:
        """Keep a change; returns those that had to go (or the change itself, if it is too large).

        `kept` is what `weigh` said before. Dropping large ones at once takes long: see `dismantle`.
        """
        gone: list[Change] = []
        seq = change.position.seq
        held = self._bytes
        # A gap in the numbers: who resumes from before it would miss what was never here.
        if seq != self._last + 1:
            self._clear(gone, seq - 1)
        self._last = seq
        edits, cost = self.weigh(change.edits) if kept is None else kept
        # A refused write, or a message: its number counts, and there is nothing to send again.
        if not edits:
            self.gone_bytes = held - self._bytes
            return gone
        if edits is not change.edits:
            change = Change(change.position, change.time_ms, edits)
        most = self.max_bytes
        # Not kept: one alone may be as large as the document, and would push all others out. And
        # without it all that is older is of no use: nobody can go on from there.
        if cost > most or cost > MAX_CHANGE_BYTES:
            self._clear(gone, seq)
            gone.append(change)
            self.gone_bytes = held + cost
            return gone
        self._changes.append((change, cost))
        self._bytes += cost
        while len(self._changes) > self.max_items or self._bytes > most:
            oldest, freed = self._changes.popleft()
            self._bytes -= freed
            # Who has seen the one that goes misses nothing yet.
            self._floor = oldest.position.seq
            gone.append(oldest)
        self.gone_bytes = held + cost - self._bytes
        return gone

    def take_back(self, change: Change) -> None:
        """The change appended last did not happen. What went to make room for it cannot be had
        back: the history begins anew.
        """
        self._clear([], change.position.seq - 1)

    def covers(self, seq: int) -> bool:
        """Whether all changes after `seq` are here. Not so for a `seq` that has not been yet."""
        return self._floor <= seq <= self.last_seq

    def since(self, seq: int) -> list[Change]:
        """The changes after `seq`, oldest first. Raises ValueError if it is not covered."""
        if not self.covers(seq):
            raise ValueError(f"changes after {seq} are not all here")
        found: list[Change] = []
        # From the end: who resumes has missed little, as a rule.
        for change, _ in reversed(self._changes):
            if change.position.seq <= seq:
                break
            found.append(change)
        found.reverse()
        return found

    def forget(self) -> list[Change]:
        """Let go of all changes; returns them. Nobody can resume from before this moment."""
        gone: list[Change] = []
        self.gone_bytes = self.bytes
        self._clear(gone, self.last_seq)
        return gone

    def _clear(self, gone: list[Change], floor: int) -> None:
        gone.extend(change for change, _ in self._changes)
        self._changes.clear()
        self._bytes = 0
        self._floor = self._last = floor


def _weigh(edits: Sequence[Edit], limit: int, work: Work) -> Kept:
    """Stops counting soon after `limit`."""
    cost = _CHANGE_BYTES
    kept = list(edits)
    last: Path = ()
    for number, edit in enumerate(edits):
        work.charge(_WEIGH_STEPS)
        # Its `before` holds only until the next write: weighed so that it is not kept.
        if type(edit) is Whole:
            cost += limit
            break
        if type(edit) is Rearranged:
            edit = kept[number] = _spliced(edit, work)
        path = edit.path
        cost += _EDIT_BYTES + _PATH_BYTES + 8 * len(path)
        shares = True
        for depth, segment in enumerate(path):
            # The paths of one merge or patch begin with the same objects.
            shares = shares and depth < len(last) and segment is last[depth]
            if not shares:
                cost += _name(segment)
        last = path
        cost += _weight(edit.before, limit, work)
        if cost > limit:
            break
    return tuple(kept), cost


def _weight(before: Any, limit: int, work: Work) -> int:
    kind = type(before)
    # The two commonest first, without the walk that a container needs.
    if kind is str or kind is int:
        return _name(before)
    if before is MISSING:
        return 0
    if kind is Splice:
        return _SPLICE_BYTES + footprint(before.removed, limit=limit, work=work)
    return footprint(before, limit=limit, work=work)


def _name(scalar: str | int) -> int:
    """What a text or an integer takes. CPython has short texts and small numbers once for all."""
    if isinstance(scalar, int):
        if -6 < scalar < 257:
            return 0
        return _INT_BYTES if -_DIGIT < scalar < _DIGIT else getsizeof(scalar)
    if not scalar.isascii():
        return getsizeof(scalar)
    length = len(scalar)
    return _TEXT_BYTES + length if length > 1 else 0


def _spliced(edit: Edit, work: Work) -> Edit:
    """The edit as it is kept: see `store.splice`."""
    before: Any = edit.before
    after: Any = edit.after
    # A later step of the same patch may have put something else in the array's place.
    if type(after) is not list:
        return Edit(edit.path, copy_measured(before, work)[0], None)
    kept: Any = splice(before, after, work)
    return Edit(edit.path, kept, None)
