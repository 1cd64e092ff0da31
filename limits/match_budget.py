"""How much of one write may go into filters that have to be evaluated.

A write waits for them, and so does whoever hears of it. So it is less the more writes there are:
together they take at most a fifth of the time.
"""

from __future__ import annotations

from math import exp
from typing import Final

from triode.limits.cpu_share import STEPS_A_SECOND
from triode.limits.meter import Meter

SHARE: Final = 0.2
# Over about so long the writes are counted: a burst is not yet a high rate.
OVER_S: Final = 1.0


class MatchBudget:
    """`most` steps for a write that comes alone. Time is an argument, in milliseconds."""

    __slots__ = ("_at_ms", "_writes", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._at_ms = 0
        self._writes = 0.0  # of the last moment, older ones count for less

    def take(self, now_ms: int) -> Meter:
        """The budget of a write that comes now."""
        passed_s = max(0, now_ms - self._at_ms) / 1000
        self._at_ms = now_ms
        self._writes = 1 + self._writes * exp(-passed_s / OVER_S)
        return Meter(min(self.most, int(SHARE * STEPS_A_SECOND * OVER_S / self._writes)))
