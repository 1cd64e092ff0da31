"""Those who come back to a server that has just started: each place is taken once without a charge.

A server that ends tells its clients when to come back, and its successor knows none of them. All
who come from behind one address would be refused by the rate of that address, for having done what
they were told. So for a while after the start a stream that goes on from a position costs nothing,
as often as there are places, and half as often for one key, so that nobody can use up what others
need. Beyond that all are charged.
"""

from __future__ import annotations

import math


class Returning:
    """What is left of the places, for all and for each key."""

    __slots__ = ("_left", "_of_one", "_taken", "_until")

    def __init__(self) -> None:
        self._until = -math.inf
        self._left = self._of_one = 0
        self._taken: dict[str, int] = {}

    def begin(self, places: int, until: float) -> None:
        """The server has started: so many places are free of charge until then."""
        self._left = places
        self._of_one = max(1, places // 2)
        self._until = until

    def take(self, key: str, now: float) -> bool:
        """Whether one more stream that goes on costs this key nothing."""
        if now >= self._until or self._left <= 0:
            self._taken.clear()
            return False
        taken = self._taken.get(key, 0)
        if taken >= self._of_one:
            return False
        self._taken[key] = taken + 1
        self._left -= 1
        return True
