"""Which positions of earlier epochs still name a state of this log.

An epoch ends when the log may have lost what came last: a restored backup, a power failure. The
new epoch goes on counting where the log stands. What is known of an earlier one is where it ended
in the log as it is now: up to there its numbers mean the same changes, beyond it they mean nothing.

    epoch a ended at 40, b ended at 55, now c
    a:40  is c:40          a:41  was lost          b:50  is c:50          x:3  is of another log
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from triode.store.change import Position

# Of so many ended epochs the ends are known. Who comes back from before them gets a snapshot.
KEPT: Final = 64


class Lineage(Struct, frozen=True):
    """The present epoch, and the positions at which earlier ones ended, the oldest first."""

    epoch: str
    ended: tuple[Position, ...] = ()

    def begin(self, epoch: str, seq: int) -> Lineage:
        """A new epoch, in a log whose last change is `seq`: less than before if some were lost."""
        ends = [*self.ended, Position(self.epoch, seq)]
        assert all(epoch != end.epoch for end in ends), "an epoch is named once"
        # What was lost was lost to the epochs before, too.
        capped = [Position(end.epoch, min(end.seq, seq)) for end in ends]
        return Lineage(epoch, tuple(capped[-KEPT:]))

    def knows(self, epoch: str) -> bool:
        """Whether it is the present epoch or one whose end is known."""
        return epoch == self.epoch or any(epoch == end.epoch for end in self.ended)

    def seq_of(self, position: Position, last_seq: int) -> int | None:
        """The number by which a position is known now; None: it is not a state of this log, whose
        last change is `last_seq`.
        """
        seq = position.seq
        if position.epoch == self.epoch:
            return seq if seq <= last_seq else None
        for end in self.ended:
            if end.epoch == position.epoch:
                return seq if seq <= end.seq else None
        return None
