"""The account of one filter or room of one connection: what was owed, what came, what was told."""

from __future__ import annotations

from dataclasses import dataclass, field

from .model import Stream


@dataclass
class Gap:
    """An announced loss: so many events of the changes after `after`, up to `to`."""

    missed: int
    after: int
    to: int


@dataclass
class Account:
    """What one filter or room of this connection was owed and got.

    `start` is the position from which events are owed, None until it is known; `at` the index of
    the next event that may come; `repaired` the index before which a snapshot stands for all.
    """

    name: str
    stream: Stream
    policy: str
    start: int | None = None
    begin: int = 0
    at: int = 0
    repaired: int = 0
    received: set[int] = field(default_factory=set)
    replaced: set[int] = field(default_factory=set)  # `latest`: for which a newer one has come
    gaps: list[Gap] = field(default_factory=list)
    hurt: bool = False  # a gap was announced and its snapshot has not come yet
    whole: bool = False  # a snapshot has ended
    leaving: bool = False  # it is being unsubscribed: what it still loses nobody has to tell
    left: bool = False

    def begins(self, seq: int) -> None:
        """Events of changes after `seq` are owed."""
        self.start = seq
        self.begin = self.at = self.repaired = self.stream.after(seq)

    @property
    def announced(self) -> int:
        """As lost, or as replaced by what came."""
        return sum(gap.missed for gap in self.gaps) + len(self.replaced)

    def matched(self) -> int:
        """How many events are owed until now."""
        return len(self.stream.events) - self.begin

    def missing(self, end: int) -> list[int]:
        """The indexes before `end` that have not come, nor a newer one in their stead."""
        come = self.received | self.replaced
        return [index for index in range(self.begin, end) if index not in come]

    def reached(self) -> int:
        """The index after the last event that has come or was announced."""
        to = max((self.stream.after(gap.to) for gap in self.gaps), default=0)
        return max(self.at, to, self.begin)
