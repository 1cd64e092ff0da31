"""How long to wait between two attempts: exponential, capped, jittered, reset by a success."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

# 2 ** 62 seconds are past any cap; the exponent needs one too, or it overflows a float in the end.
_MAX_DOUBLINGS: Final = 62


class Backoff:
    """The delays of one client, in seconds.

    `draw` gives a number between 0 and 1, and with it where in its range a delay lies: of those who
    lost their server at one instant, no two come back at one.
    """

    def __init__(
        self,
        first_s: float,
        most_s: float,
        jitter: float,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._jitter = jitter
        self._draw = draw
        self.failures = 0

    def next_s(self) -> float:
        """The delay after one more failure."""
        doublings = min(self.failures, _MAX_DOUBLINGS)
        self.failures += 1
        delay_s = min(self._most_s, self._first_s * 2.0**doublings)
        return delay_s * (1 - self._jitter * self._draw())

    def reset(self) -> None:
        """It worked: the next failure is a first one."""
        self.failures = 0
