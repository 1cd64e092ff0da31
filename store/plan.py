"""From operations to edits, without touching the document.

A plan is a list of edits in sequence. As long as nothing reads what it has written, it is only that
list; the first operation that looks at the tree after an edit makes a draft of it (`store.draft`).

Arrays that were rearranged --------------------------- Removing or inserting an element is an
edit of the whole array, and the elements live on in the new list. The first such edit of a plan
leaves it to the history to keep what it needs of the old list; later ones, whose old list is the
draft's, copy it deeply. A patch of a thousand insertions into one array must not make a thousand
copies. So an edit that rearranged its array stays open: later edits at or below the array are
folded into it (its `after` becomes what the draft holds in the end), until an edit above it
closes it. The order among the edits that remain is no matter, because open ones lie beside each
other.

A plan of more than `MAX_EDITS` edits becomes one, at the place that all of them lie at or below: to
tell all who watch of ten thousand edits one by one would hold everybody up.

What may be copied in one plan is bounded: thirty `copy` operations of the root into itself would be
a billion values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec.structs import replace

from triode.store.change import ELEMENT_BYTES, Edit, Rearranged, Whole, growth
from triode.store.draft import Draft
from triode.store.json_type import MISSING
from triode.store.open_arrays import OpenArrays
from triode.store.operation import Invalid
from triode.store.push_key import push_key
from triode.store.resolve import get
from triode.store.untracked import WIDE, untrack
from triode.store.value import copy_measured, copy_one, weigh
from triode.store.work import FREE

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.store.json_type import Json, Missing
    from triode.store.path import Path
    from triode.store.work import Work

# What a write says of how long a place stays: see `store.expiry`.
Mark: TypeAlias = "tuple[Path, int]"
# Of a place that was replaced or removed.
BELOW: Final = -2
# Of one that was written, and stays for ever.
NO_END: Final = -1

# A path has at most 256 segments and a decoded value is at most 256 deep, so writes reach this and
# no more; only copies within the document could go on. It is below the interpreter's recursion
# limit, to which msgspec is subject as well.
MAX_DEPTH: Final = 512
# Values. The first copy of a plan may be of any size, as the document may be.
MAX_COPIED: Final = 1_000_000
# To apply so many and to match them takes some 5 ms.
MAX_EDITS: Final = 1000
# For an edit, beside what it copies and weighs; an estimate, not measured yet.
_EDIT_STEPS: Final = 3
# Elements that move by one place when another is put before them.
_MOVED: Final = 4096


class Plan:
    """The edits so far on `root`, which is never mutated. `edits` is final after `finish`.

    `grown` is by how many bytes the document grows as JSON, `swollen` in memory: see `weigh`.
    `made` is given all copies, so that whoever drops the plan can free them little by little.
    `push_key` names what is pushed, by its number within the plan.
    """

    __slots__ = (
        "_copied",
        "_draft",
        "_folded",
        "_number",
        "_open",
        "_pending",
        "_push_key",
        "_pushed",
        "_root",
        "edits",
        "grown",
        "made",
        "marks",
        "swollen",
        "work",
    )

    def __init__(
        self,
        root: Json,
        work: Work = FREE,
        made: list[Json] | None = None,
        push_key: Callable[[int], str] = push_key,
        marks: list[Mark] | None = None,
    ) -> None:
        self.edits: list[Edit] = []
        # What it says of deadlines; None: there are none.
        self.marks = marks
        self.made = made
        self.grown = 0
        self.swollen = 0
        self.work = work
        self._root = root
        self._draft: Draft | None = None
        self._pending: list[Edit] = []
        self._open: OpenArrays | None = None  # made when needed: few plans move elements
        self._number: dict[Path, int] = {}
        self._folded: set[Path] = set()
        self._copied = 0
        self._push_key = push_key
        self._pushed = 0

    @property
    def root(self) -> Json:
        """The tree as the edits so far leave it. Do not mutate; stable until the next edit."""
        if self._draft is None and not self._pending:
            return self._root
        return self._drafted().root

    def record(self, edit: Edit) -> None:
        """Add an edit that moves no elements; place and `before` were read from `root`."""
        self.work.charge(_EDIT_STEPS)
        grown, swollen = growth(edit, self.work)
        self.grown += grown
        self.swollen += swollen
        if self.marks is not None:
            self.marks.append((edit.path, BELOW))
        # Within an array that was rearranged: what the open edit puts there is in the end what the
        # draft holds, so this one is told with it.
        if self._open and self._fold(self._open, edit.path):
            self._drafted().replace(edit.path, edit.after)
            return
        self.edits.append(edit)
        self._pending.append(edit)

    def next_push_key(self) -> str:
        """The name of the next member that this plan pushes."""
        self._pushed += 1
        return self._push_key(self._pushed - 1)

    @property
    def last_push_key(self) -> str:
        """The name that it gave last."""
        return self._push_key(self._pushed - 1)

    def remove(self, path: Path, before: Json) -> None:
        """Remove the value at an actual path. Raises Invalid for the root."""
        if not path:
            raise Invalid(path, "the root cannot be removed")
        index = path[-1]
        if type(index) is int:
            text, taken = weigh(before, self.work)
            self.grown -= text
            self.swollen -= taken + ELEMENT_BYTES
            self._rearrange(path[:-1], index, MISSING)
        else:
            self.record(Edit(path, before, MISSING))

    def insert(self, path: Path, value: Json) -> None:
        """Insert into an array, before the element at an actual path."""
        index = path[-1]
        assert type(index) is int
        # Weighed here: `growth` is of edits that move nothing, and this one is of the whole array.
        text, taken = weigh(value, self.work)
        self.grown += text
        self.swollen += taken + ELEMENT_BYTES
        self._rearrange(path[:-1], index, value)

    def copied(self, value: Json, path: Path) -> Json:
        """A deep copy of `value` for `path`. Raises Invalid when it is too much or too deep."""
        copy, values, depth = copy_measured(value, self.work, self.made)
        if len(path) + depth > MAX_DEPTH:
            raise Invalid(path, f"the document would be nested deeper than {MAX_DEPTH}")
        if self._copied and self._copied + values > MAX_COPIED:
            raise Invalid(path, f"it would copy more than {MAX_COPIED} values")
        self._copied += values
        return copy

    def finish(self) -> list[Edit]:
        """The edits. The plan must not be used any more."""
        if len(self.edits) > MAX_EDITS:
            return self._as_one()
        # A copy: `_close` takes each out of it.
        for path in list(self._number):
            self._close(path)
        return self.edits

    def _as_one(self) -> list[Edit]:
        # The longest beginning that all paths share.
        path = self.edits[0].path
        for edit in self.edits:
            self.work.charge(1)
            while path != edit.path[: len(path)]:
                path = path[:-1]
        before, after = get(self._root, path), self._drafted().get(path)
        return [] if before is after is MISSING else [Whole(path, before, after)]

    def _rearrange(self, path: Path, index: int, value: Json | Missing) -> None:
        self.work.charge(_EDIT_STEPS)
        if self._open and self._fold(self._open, path):
            draft = self._drafted()
            array = draft.own(path)
            # All that stands behind the place moves by one.
            self.work.charge((len(array) - index) // _MOVED)
            if value is MISSING:
                draft.replace((*path, index), MISSING)
            else:
                array.insert(index, value)
            return
        alone = self._draft is None and not self._pending
        before: Any = get(self.root, path)
        after = copy_one(before, self.work)
        if value is MISSING:
            del after[index]
        else:
            after.insert(index, value)
        if len(after) > WIDE:
            untrack(after)
        if self._open is None:
            self._open = OpenArrays()
        self._open.add(path)
        self._number[path] = len(self.edits)
        if alone:
            edit: Edit = Rearranged(path, before, after)
        else:  # the draft may go on writing into these elements
            edit = Edit(path, self.copied(before, path), after)
        self.edits.append(edit)
        self._pending.append(edit)

    def _drafted(self) -> Draft:
        # Only when somebody looks: most plans are one edit, and nothing reads what it has written.
        draft = self._draft
        if draft is None:
            draft = self._draft = Draft(self._root, self.work)
        self.work.charge(len(self._pending))
        for edit in self._pending:
            draft.replace(edit.path, edit.after)
        self._pending.clear()
        return draft

    def _fold(self, open_arrays: OpenArrays, path: Path) -> bool:
        """Whether an edit at `path` belongs to an open one. If not, close those below it."""
        open_one = open_arrays.above(path)
        if open_one is not None:
            self._folded.add(open_one)
            return True
        for below in open_arrays.take_below(path):
            self._close(below)
        return False

    def _close(self, path: Path) -> None:
        number = self._number.pop(path)
        if path not in self._folded:
            return
        self._folded.discard(path)
        # Stable from here on: the edit above takes this value out of the draft, which then lets go.
        self.edits[number] = replace(self.edits[number], after=self._drafted().get(path))
