"""The replies that a server owes on one connection."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triode.app.log.shared.calls import Call


class Owed:
    """`since` when there was none, in seconds; `asks` of them are of `attach`."""

    def __init__(self) -> None:
        self.since = inf
        self.asks = 0
        self._calls = 0

    def call(self, call: Call, now: float) -> None:
        """This one is made."""
        self._calls += 1
        self.asks += call.script == "attach"
        self.since = min(self.since, now)

    def answer(self, now: float) -> None:
        """One came."""
        self._calls -= 1
        self.since = now if self._calls else inf
