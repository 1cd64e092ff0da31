"""What was sent, and what became of it as far as its sender was told."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.behaviour.api import sequence
from tests.crash.operations import Write


class Violation(AssertionError):
    """Something that was promised does not hold."""


class Ledger:
    """All writes of a run, over any number of restarts."""

    def __init__(self) -> None:
        self.answered: dict[int, Write] = {}
        self.refused: dict[int, Write] = {}
        self.unanswered: dict[int, Write] = {}
        self.newest = 0
        self.epoch = ""
        self.statuses: Counter[int] = Counter()
        self.settled = 0
        self.lost = 0

    def send(self, write: Write) -> None:
        """It is about to be sent."""
        write.after = self.newest
        self.unanswered[write.label] = write

    def answer(self, write: Write, position: str) -> int:
        """It was answered with a position. Raises `Violation`."""
        epoch, seq = position.rpartition(":")[0], sequence(position)
        self.epoch = self.epoch or epoch
        if epoch != self.epoch:
            raise Violation(f"{write} was answered {position}: the epoch was {self.epoch}")
        if seq <= write.after:
            raise Violation(f"{write} got {seq}, but {write.after} was answered before it was sent")
        if (other := self.answered.get(seq)) is not None:
            raise Violation(f"{write} and {other} both got {seq}")
        del self.unanswered[write.label]
        self.answered[seq] = write
        self.newest = max(self.newest, seq)
        return seq

    def refuse(self, write: Write, status: int) -> None:
        """It was refused. 503 says that it is not known whether it was done."""
        self.statuses[status] += 1
        if status != 503:
            del self.unanswered[write.label]
            self.refused[write.label] = write

    def take(self, write: Write, answer: dict[str, Any]) -> int | None:
        """The answer of a WebSocket or of a line; its number if it was done."""
        if answer["type"] == "ok":
            position = answer["id"] if "id" in answer else answer["positions"][0]
            return self.answer(write, position)
        self.refuse(write, answer["status"])
        return None
