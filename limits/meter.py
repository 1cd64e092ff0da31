"""The meter: how much work one request, command or write may still cause.

One step is about a microsecond. A meter bounds a whole request (`limit`), and it tells when a turn
is over: each `turn` steps it calls `pause`, which may let others run (see `app.runtime.turns`). A
meter without `pause` never gives way: then `limit` bounds how long the loop is held.
"""

from __future__ import annotations

from collections.abc import Callable

from triode.store.work import TooCostly

# How long one may hold the loop before others get their turn.
TURN_STEPS = 2_000


class Meter:
    """The budget of one request. Not to be shared between requests."""

    __slots__ = ("_mark", "_pause", "_turn", "left", "limit")

    def __init__(
        self, limit: int, *, pause: Callable[[], None] | None = None, turn: int = TURN_STEPS
    ) -> None:
        self.limit = limit
        self.left = limit
        self._pause = pause
        self._turn = turn
        # One comparison a charge: the mark is where something has to happen next.
        self._mark = 0 if pause is None else max(0, limit - turn)

    @property
    def spent(self) -> int:
        """Steps charged so far, a refused charge included."""
        return self.limit - self.left

    def again(self) -> Meter:
        """A meter with the whole budget once more, which gives way as this one does."""
        return Meter(self.limit, pause=self._pause, turn=self._turn)

    def charge(self, steps: int) -> None:
        """Take `steps` off the budget, before the work is done. Raises `TooCostly`."""
        self.left -= steps
        if self.left < self._mark:
            self._reached()

    def _reached(self) -> None:
        if self.left < 0:
            raise TooCostly(self.limit, self.spent)
        if self._pause is not None:
            self._mark = max(0, self.left - self._turn)
            self._pause()
