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

    def sync(self) -> None:
        """Take over the machine's wall clock: it is slewed and set while we run."""
        self._offset_s = time.time() - trio.current_time()

    def unix_s(self) -> float:
        """Seconds since 1970."""
        return trio.current_time() + self._offset_s

    def unix_ms(self) -> int:
        """Milliseconds since 1970, as events carry it."""
        return int((trio.current_time() + self._offset_s) * 1000)
