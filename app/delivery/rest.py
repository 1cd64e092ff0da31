"""The rest of a filter: for how long it is not evaluated, and what happened meanwhile.

A filter that does not fit into the budget of a write is evaluated for a snapshot, in turns. Then it
rests, for several times as long as that took: so it has a small part of the time, however much is
written. One that takes more than any request may rests longer each time that it is refused, until
it is not. While a filter rests, each write that may concern it is only counted.

Whoever watches it loses such a write (`unevaluated.Skipped`), is told of it with the next snapshot,
and until then gets no position. That is said to each of them once; from then on it is enough to
count here.
"""

from __future__ import annotations

import math
from typing import Final

from triode.limits.cpu_share import STEPS_A_SECOND

TOO_COSTLY: Final = "too_costly"
# How many times as long as it takes to be evaluated it rests.
TIMES: Final = 20
# Until a snapshot that has just been ordered is made, no other one is.
ORDERED_S: Final = 1.0
FIRST_PAUSE_S: Final = 1.0


class Rest:
    """Of one audience's filter. `until` is Trio's time. `skipped` is how many writes have been
    counted here, the last of them `last`. `is_known`: all who watch know that they lose these.
    `is_ordered`: a snapshot was ordered because it was stale, not because somebody came.
    """

    __slots__ = ("is_known", "is_ordered", "is_refused", "last", "pause_s", "skipped", "until")

    def __init__(self) -> None:
        self.until = -math.inf
        self.pause_s = 0.0
        self.is_ordered = False
        self.is_refused = False
        self.skipped = 0
        self.last = 0
        self.is_known = False

    def ordered(self, now: float) -> None:
        """A snapshot is about to be made, as it is stale."""
        self.is_ordered = True
        self.until = now + ORDERED_S

    def evaluated(self, steps: int, now: float) -> None:
        """A snapshot has been evaluated, and took so much."""
        self.is_refused = False
        self.pause_s = 0.0
        if self.is_ordered:
            self.is_ordered = False
            self.until = now + TIMES * steps / STEPS_A_SECOND

    def refused(self, now: float, max_pause_s: float) -> None:
        """It has taken more than a request may. (Several snapshots at once may say so.)"""
        if self.is_refused and now < self.until:
            return
        self.is_refused = True
        self.is_ordered = False
        self.pause_s = min(max_pause_s, max(FIRST_PAUSE_S, 2 * self.pause_s))
        self.until = now + self.pause_s

    def skip(self, seq: int) -> None:
        """One more write that may concern it."""
        self.skipped += 1
        self.last = seq
