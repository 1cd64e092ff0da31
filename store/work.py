"""What work costs, as the document's functions see it.

A function that loops over what a client chose takes a `Work` and charges it *before* each piece:
for every node, element, member, comparison, byte class and copied value alike. One step is about a
microsecond of CPython on a small machine.

`limits.meter.Meter` is the real one. `FREE` is for code that nobody outside can reach.
"""

from __future__ import annotations

from typing import Final, Protocol


class TooCostly(Exception):
    """A request asked for more work than its budget. Nothing was changed.

    `limit` and `cost` are steps: what was allowed, and what was asked for when it was refused.
    """

    def __init__(self, limit: int, cost: int) -> None:
        super().__init__(f"it needs more work than one request may cause: over {limit} steps")
        self.limit = limit
        self.cost = cost


class Work(Protocol):
    """What is charged for work. `left` is how many steps may still be charged."""

    left: int

    def charge(self, steps: int) -> None:
        """Take `steps` off the budget, before the work is done. Raises `TooCostly`."""


class _Free:
    left = 1 << 62

    def charge(self, steps: int) -> None:
        pass


FREE: Final[Work] = _Free()
