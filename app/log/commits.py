"""How commits go: how many, and of late how many entries each had and how long it took."""

from __future__ import annotations

from collections import deque
from typing import Final

# Those of late.
RECENT: Final = 256


class Commits:
    """Counts of one run. Times are seconds."""

    __slots__ = ("entries", "last_at", "recent", "seconds", "total")

    def __init__(self) -> None:
        self.total = 0
        self.entries = 0
        self.seconds = 0.0
        self.last_at: float | None = None
        self.recent: deque[tuple[int, float]] = deque(maxlen=RECENT)

    def __repr__(self) -> str:
        return f"<{self.total} commits of {self.entries} entries>"

    def note(self, entries: int, began: float, ended: float) -> None:
        """One of so many entries is on the disk."""
        self.total += 1
        self.entries += entries
        self.seconds += ended - began
        self.last_at = ended
        self.recent.append((entries, ended - began))

    @property
    def group(self) -> float:
        """Entries of a commit, on average of late."""
        return sum(entries for entries, _ in self.recent) / max(len(self.recent), 1)

    def took(self, share: float) -> float:
        """The time that this share of the commits of late did not exceed; 0.5 is the median."""
        times = sorted(seconds for _, seconds in self.recent)
        return times[min(int(share * len(times)), len(times) - 1)] if times else 0.0
