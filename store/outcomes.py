"""What became of the writes that carried a key: so that one that is sent again is not done again.

A key is its sender's name for one write. The table is part of the replicated state: an entry of the
log changes it, and nothing else does, so every process that applies the same log gives the same
answers. What is kept is how it ended and when, not the words of a refusal.

It is bounded by numbers that are a part of the log's format, as those of `touched` are: a process
that kept more or less would decide differently.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

KEPT: Final = 100_000
KEPT_MS: Final = 10 * 60 * 1000

DONE: Final = 200
# Refused for now, or for a fault of ours: the same key may be tried again.
FIRST_TRANSIENT: Final = 500

# At most so many go when one comes: all 100 000 at once would hold everybody up.
GONE_AT_ONCE: Final = 100

# CPython, 64 bit; a test holds it to what it measures: a name, an outcome, and its place in the
# dict.
_OUTCOME_BYTES: Final = 370


class Key(Struct, frozen=True):
    """`name` stands for the key and whose it is, `asked` for what was asked for with it. Both are
    digests: they have one length, and tell nobody what the key was.
    """

    name: str
    asked: str


class Outcome(NamedTuple):
    """How a write ended: `status` is DONE or that of its refusal. `seq` is its number in the log,
    `time_ms` its time there.
    """

    seq: int
    time_ms: int
    status: int
    asked: str


class Outcomes:
    """The outcomes of the last writes that had a key. Times only grow."""

    __slots__ = ("_table",)

    def __init__(self, kept: Iterable[tuple[str, Outcome]] = ()) -> None:
        """`kept` as `rows` gave it, in that order."""
        self._table: dict[str, Outcome] = dict(kept)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def bytes(self) -> int:
        """About the memory that it takes."""
        return len(self._table) * _OUTCOME_BYTES

    def rows(self) -> Mapping[str, Outcome]:
        """All that is kept, oldest first; it stays as it is now."""
        return self._table.copy()

    def find(self, key: Key, time_ms: int) -> Outcome | None:
        """How the write with this key ended, if that is known at this time."""
        found = self._table.get(key.name)
        return None if found is None or time_ms - found.time_ms > KEPT_MS else found

    def add(self, key: Key, seq: int, time_ms: int, status: int) -> None:
        """A write with this key has been decided, which was not known yet."""
        table = self._table
        # One whose time is over goes to the end, where it belongs now.
        table.pop(key.name, None)
        if status < FIRST_TRANSIENT:
            table[key.name] = Outcome(seq, time_ms, status, key.asked)
        for name in list(islice(self._gone(time_ms), GONE_AT_ONCE)):
            del table[name]

    def _gone(self, time_ms: int) -> Iterator[str]:
        """Those that are too old or too many, from the front."""
        too_many = len(self._table) - KEPT
        for number, (name, outcome) in enumerate(self._table.items()):
            if number >= too_many and time_ms - outcome.time_ms <= KEPT_MS:
                return
            yield name
