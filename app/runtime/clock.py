"""Wall-clock time that follows Trio's clock, so that a test's clock rules it too."""

from __future__ import annotations

import time

import trio


class Clock:
    """Unix time as an offset to `trio.current_time()`. Make it anywhere; `sync` and read it
    inside a Trio run.
    """

    def __init__(self) -> None:
        self._offset_s = 0.0
        self._current_time = trio.current_time

    def sync(self) -> None:
        """Take over the machine's wall clock: it is slewed and set while we run."""
        # The clock of this run itself: `trio.current_time` looks for it each time.
        self._current_time = trio.lowlevel.current_clock().current_time
        self._offset_s = time.time() - self._current_time()

    def unix_s(self) -> float:
        """Seconds since 1970."""
        return self._current_time() + self._offset_s

    def unix_ms(self) -> int:
        """Milliseconds since 1970, as events carry it."""
        return int((self._current_time() + self._offset_s) * 1000)
