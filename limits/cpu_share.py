"""Who costs how much: CPU time by key, and when a key has had its share of a minute.

One number per key, the *mark*: the time at which all that it has caused is paid off. What is caused
moves it on, at the pace at which a share is paid: of `share_s` a minute, a second of work moves it
by `60 / share_s` seconds. A key whose mark lies more than a minute ahead is over its share, until
that is no more so. Work is charged when it is done, so that a key may be far over it.

The map is bounded. Whose mark has passed is like one never seen; when the map is full of others,
those who owe least are forgotten first.
"""

from __future__ import annotations

from heapq import nlargest, nsmallest
from typing import Final

MINUTE_S: Final = 60.0
STEPS_A_SECOND: Final = 1_000_000
MAX_KEYS: Final = 10_000


class CpuShares:
    """Steps of work (see `limits.meter`) by key. `share_s` seconds of a minute are one's share; 0:
    nobody is ever over it, and all is only counted.
    """

    __slots__ = ("_pace", "charged", "is_off", "marks", "max_keys")

    def __init__(self, share_s: float, *, max_keys: int = MAX_KEYS) -> None:
        # A key that is not here owes nothing.
        self.marks: dict[str, float] = {}
        # All steps so far, whoever caused them.
        self.charged = 0.0
        self.max_keys = max_keys
        self.set_share(share_s)

    def set_share(self, share_s: float) -> None:
        """Change the share of everybody, for what is caused from now on."""
        self.is_off = share_s <= 0
        # Counted against a whole minute, where there is no share.
        self._pace = MINUTE_S / (share_s if share_s > 0 else MINUTE_S) / STEPS_A_SECOND

    def __len__(self) -> int:
        """How many keys owe something, or did not long ago."""
        return len(self.marks)

    def charge(self, key: str, steps: float, now: float) -> None:
        """This key has caused so much work."""
        self.charged += steps
        if key not in self.marks and len(self.marks) >= self.max_keys:
            self._make_room(now)
        self.marks[key] = max(now, self.marks.get(key, now)) + steps * self._pace

    def wait_s(self, key: str, now: float) -> float:
        """How long it is until this key is within its share again; 0 when it is."""
        if self.is_off:
            return 0.0
        mark = self.marks.get(key)
        return 0.0 if mark is None else max(0.0, mark - now - MINUTE_S)

    def dearest(self, count: int, now: float) -> list[tuple[str, float]]:
        """Those who owe most, and how many seconds of work."""
        owed = [(key, mark - now) for key, mark in self.marks.items() if mark > now]
        a_second = self._pace * STEPS_A_SECOND
        return [(key, due / a_second) for key, due in nlargest(count, owed, key=_due)]

    def sweep(self, now: float) -> None:
        """Forget who owes nothing."""
        for key in [key for key, mark in self.marks.items() if mark <= now]:
            del self.marks[key]

    def _make_room(self, now: float) -> None:
        self.sweep(now)
        if len(self.marks) >= self.max_keys:
            for key, _ in nsmallest(1 + self.max_keys // 8, self.marks.items(), key=_due):
                del self.marks[key]


def _due(owed: tuple[str, float]) -> float:
    return owed[1]
