"""What became of the writes that carried a key: so that one that is sent again is not done again.

A key is its sender's name for one write. The table is part of the replicated state: an entry of the
log changes it, and nothing else does, so every process that applies the same log gives the same
answers. What is kept is how it ended and when, not the words of a refusal.

It is bounded by numbers that are a part of the log's format, as those of `touched` are: a process
that kept more or less would decide differently. When it is full, the sender with the most keys
loses its oldest one, so the many keys of one do not push out those of others. Who that is follows
from the rows and their order alone: a process that has read them from a snapshot chooses the same.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEPT: Final = 100_000
KEPT_MS: Final = 10 * 60 * 1000

DONE: Final = 200
# Refused for now, or for a fault of ours: the same key may be tried again.
FIRST_TRANSIENT: Final = 500

# At most so many go when one comes: all 100 000 at once would hold everybody up.
GONE_AT_ONCE: Final = 100

# CPython, 64 bit; a test holds them to what it measures: a name, an outcome, and its places in both
# tables; and what a sender takes.
_OUTCOME_BYTES: Final = 500
_SENDER_BYTES: Final = 530


class Key(Struct, frozen=True, omit_defaults=True):
    """`name` stands for the key and whose it is, `asked` for what was asked for with it. Both are
    digests: they have one length, and tell nobody what the key was. `by`: whose share it takes.
    """

    name: str
    asked: str
    by: str = ""


class Outcome(NamedTuple):
    """How a write ended: `status` is DONE or that of its refusal. `seq` is its number in the log,
    `time_ms` its time there; `by` as in `Key`.
    """

    seq: int
    time_ms: int
    status: int
    asked: str
    by: str = ""


class _Sender:
    """Whose keys these are, the oldest first. `rank` is its place among all senders: by the number
    of its keys, and of two with as many the one with the older key is above.
    """

    __slots__ = ("by", "names", "rank")

    def __init__(self, by: str) -> None:
        self.by = by
        self.names: OrderedDict[str, int] = OrderedDict()
        self.rank = (0, 0, by)

    def new_rank(self) -> tuple[int, int, str]:
        return len(self.names), -next(iter(self.names.values())), self.by


class Outcomes:
    """The outcomes of the last writes that had a key. Times only grow."""

    __slots__ = ("_ranks", "_senders", "_swept", "_table", "_unswept")

    def __init__(self, kept: Iterable[tuple[str, Outcome]] = ()) -> None:
        """`kept` as `rows` gave it, in that order."""
        self._table: dict[str, Outcome] = {}
        # The names in the order of the table, among some that have gone: `_swept`, then `_unswept`.
        # In the table itself the first one is found past the places of all that went before it, in
        # some 100 microseconds.
        self._swept: deque[tuple[str, int]] = deque()
        self._unswept: deque[tuple[str, int]] = deque()
        self._senders: dict[str, _Sender] = {}
        # Who has most stands at the end.
        self._ranks: list[tuple[int, int, str]] = []
        for name, outcome in kept:
            self._put(name, outcome)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def bytes(self) -> int:
        """About the memory that it takes."""
        return len(self._table) * _OUTCOME_BYTES + len(self._senders) * _SENDER_BYTES

    def rows(self) -> Mapping[str, Outcome]:
        """All that is kept, oldest first; it stays as it is now."""
        return self._table.copy()

    def find(self, key: Key, time_ms: int) -> Outcome | None:
        """How the write with this key ended, if that is known at this time."""
        found = self._table.get(key.name)
        return None if found is None or time_ms - found.time_ms > KEPT_MS else found

    def add(self, key: Key, seq: int, time_ms: int, status: int) -> None:
        """A write with this key has been decided, which was not known yet."""
        # One whose time is over goes to the end, where it belongs now.
        if key.name in self._table:
            self._drop(key.name)
        if status < FIRST_TRANSIENT:
            self._put(key.name, Outcome(seq, time_ms, status, key.asked, key.by))
        for _ in range(GONE_AT_ONCE):
            name = self._next_to_go(time_ms)
            if name is None:
                return
            self._drop(name)

    def _next_to_go(self, time_ms: int) -> str | None:
        """One that is too old; else, if there are too many, the oldest of who has most."""
        oldest = self._first()
        if oldest is not None and time_ms - self._table[oldest].time_ms > KEPT_MS:
            return oldest
        if len(self._table) <= KEPT:
            return None
        return next(iter(self._senders[self._ranks[-1][2]].names))

    def _first(self) -> str | None:
        """The oldest of all."""
        for names in (self._swept, self._unswept):
            while names:
                if self._is_there(*names[0]):
                    return names[0][0]
                names.popleft()
        return None

    def _is_there(self, name: str, seq: int) -> bool:
        found = self._table.get(name)
        return found is not None and found.seq == seq

    def _sweep(self) -> None:
        """Forget names that have gone; a few at a time, as there may be 100 000."""
        for _ in range(2):
            if not self._unswept:
                self._swept, self._unswept = self._unswept, self._swept
            one = self._unswept.popleft()
            if self._is_there(*one):
                self._swept.append(one)

    def _put(self, name: str, outcome: Outcome) -> None:
        self._table[name] = outcome
        self._unswept.append((name, outcome.seq))
        if len(self._swept) + len(self._unswept) > 2 * len(self._table):
            self._sweep()
        sender = self._senders.get(outcome.by)
        if sender is None:
            sender = self._senders[outcome.by] = _Sender(outcome.by)
        else:
            self._take_rank(sender)
        sender.names[name] = outcome.seq
        self._rank(sender)

    def _drop(self, name: str) -> None:
        sender = self._senders[self._table.pop(name).by]
        self._take_rank(sender)
        del sender.names[name]
        if sender.names:
            self._rank(sender)
        else:
            del self._senders[sender.by]

    def _rank(self, sender: _Sender) -> None:
        sender.rank = sender.new_rank()
        insort(self._ranks, sender.rank)

    def _take_rank(self, sender: _Sender) -> None:
        del self._ranks[bisect_left(self._ranks, sender.rank)]
