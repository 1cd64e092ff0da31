"""What a write did: the edits, in sequence, and where in the log they stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from triode.store.json_type import MISSING, Json, Missing
from triode.store.path import Path
from triode.store.value import weigh

if TYPE_CHECKING:
    from triode.store.work import Work

# A double holds integers exactly up to here, and so does every client's `Number`.
MAX_SEQ: Final = 2**53

# What a container takes for one more.
_MEMBER_BYTES: Final = 40
ELEMENT_BYTES: Final = 9

_POSITION = re.compile(r"([A-Za-z0-9_-]{1,64}):(0|[1-9][0-9]{0,15})")


class Position(Struct, frozen=True):
    """A place in the log.

    `epoch` is new whenever the log could have been lost; `seq` counts changes from 1.
    """

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


def parse_position(text: str) -> Position | None:
    """Read `EPOCH:SEQ`. None when malformed: a position from outside is never more than a hint."""
    found = _POSITION.fullmatch(text)
    if found is None:
        return None
    seq = int(found[2])
    return Position(found[1], seq) if seq <= MAX_SEQ else None


class Edit(Struct, frozen=True):
    """One place replaced, created (`before` is MISSING) or removed (`after` is MISSING).

    A last segment equal to the array's length appends. What moves elements of an array is an edit
    of the array itself, from the old list to the new one. `before` is detached and never mutated
    again: the history keeps it. `after` is part of the living document and may be mutated by later
    writes: encode it at once, or copy it.
    """

    path: Path
    before: Json | Missing
    after: Json | Missing


class Rearranged(Edit, frozen=True):
    """An edit of an array whose elements live on in the new one: `before` and `after` are lists
    that share them, so `before` holds only until the next write. The history keeps a splice of it.
    """


class Whole(Edit, frozen=True):
    """An edit that stands for many others below its path. `before` and `after` share what did not
    change, so `before` holds only until the next write. The history cannot keep it: it begins anew.
    """


class Change(Struct, frozen=True):
    """One applied write. Its `edits` happened in this order, each on what the last one left."""

    position: Position
    time_ms: int
    edits: tuple[Edit, ...]


def growth(edit: Edit, work: Work) -> tuple[int, int]:
    """By how many bytes the document grows by an edit that moves no elements: as JSON, and in
    memory.
    """
    path, before, after = edit.path, edit.before, edit.after
    if type(before) is int and type(after) is int:
        return 0, 0
    text, taken = weigh(after, work)
    less, freed = weigh(before, work)
    grown, swollen = text - less, taken - freed
    if path and (before is MISSING) is not (after is MISSING):
        sign = 1 if before is MISSING else -1
        if type(path[-1]) is str:
            name, taken = weigh(path[-1])
            grown += sign * name
            swollen += sign * (taken + _MEMBER_BYTES)
        else:
            swollen += sign * ELEMENT_BYTES
    return grown, swollen
