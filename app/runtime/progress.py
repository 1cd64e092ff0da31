"""How far long work has come, for those who ask meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Progress:
    """What is being done, and how much of it is done: `done` of `total` `unit`s. `total` is 0 while
    nobody knows.
    """

    __slots__ = ("done", "phase", "told", "total", "unit")

    def __init__(self, told: Callable[[Progress], None] | None = None) -> None:
        """`told` is called after each step."""
        self.phase = ""
        self.unit = ""
        self.done = self.total = 0
        self.told = told

    def __repr__(self) -> str:
        return f"<{self.phase or 'nothing'}: {self.done} of {self.total} {self.unit}>"

    def begin(self, phase: str, total: int = 0, unit: str = "") -> None:
        """Something else is done from here on."""
        self.phase, self.unit, self.done, self.total = phase, unit, 0, total
        self.step(0)

    def step(self, amount: int) -> None:
        """So much more is done."""
        self.done = min(self.done + amount, self.total)
        if self.told is not None:
            self.told(self)

    @property
    def percent(self) -> int:
        """Rounded down."""
        return 100 * self.done // self.total if self.total else 0

    def as_json(self) -> dict[str, Any]:
        """`{"phase": "redoing the log", "done": 4100, "total": 10000, "unit": "writes"}`."""
        return {
            "phase": self.phase,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "percent": self.percent,
        }
