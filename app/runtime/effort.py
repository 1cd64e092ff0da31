"""What one connection has cost lately, and what follows from it.

Trio runs all tasks that are ready, then looks for what has come, and so on: nobody hears anything
new before each of them has had its step. A hundred peers with as many milliseconds of cheap
requests would make everybody wait for a hundred steps. So who is *light* has a short step at once,
and who is not stands in the line of all long work (`app/runtime/turns.py`), in which one has its
turn in each round. However many are heavy, a light one waits for one of them.
"""

from __future__ import annotations

from typing import Final

import trio

# A connection stays light while it takes less than this part of all time, or so much at once.
FREE_SHARE: Final = 0.25
FREE_S: Final = 0.005
# However much it has taken, it is light again after a tenth of a second.
MOST_S: Final = 0.03
# No step of one counts for more: it was not the connection that kept the process from running.
MOST_OF_STEP_S: Final = 0.002


class Effort:
    """Of one connection."""

    __slots__ = ("_at", "_taken_s")

    def __init__(self) -> None:
        self._at = 0.0
        self._taken_s = 0.0

    def is_light(self, now: float) -> bool:
        """Whether it need not wait for its turn."""
        return self._taken_s - (now - self._at) * FREE_SHARE < FREE_S

    def add(self, since: float) -> None:
        """It has worked in one step since then (`trio.current_time`)."""
        now = trio.current_time()
        rest = max(0.0, self._taken_s - (since - self._at) * FREE_SHARE)
        self._taken_s = min(MOST_S, rest + min(MOST_OF_STEP_S, now - since))
        self._at = now
