"""Direct messages: from one sender to one client, by its id.

Members of a room know each other's ids, so anybody may be written to by strangers. What one sender
may have waiting for one client is bounded, and so is that of all senders together. What finds no
room is dropped, which its sender is told: the client neither loses anything of its own by it, nor
ends.
"""

from __future__ import annotations

from typing import Final

from triode.app.wire.frame import VerbatimFrame

# So many senders may fill what each of them may have waiting.
SENDERS: Final = 4


class DirectFrame(VerbatimFrame):
    """One direct message. `sender` is what its sender is counted by."""

    __slots__ = ("sender",)

    def __init__(self, data: bytes, sender: str) -> None:
        super().__init__(data)
        self.sender = sender


class Directs:
    """The direct messages that wait somewhere: how many, and how large, by sender too."""

    __slots__ = ("_of", "bytes", "items")

    def __init__(self) -> None:
        self.items = 0
        self.bytes = 0
        self._of: dict[str, tuple[int, int]] = {}

    def add(self, frame: DirectFrame) -> None:
        """One more waits."""
        self.items += 1
        self.bytes += frame.size
        items, size = self.of(frame.sender)
        self._of[frame.sender] = (items + 1, size + frame.size)

    def remove(self, frame: DirectFrame) -> None:
        """One waits no longer."""
        self.items -= 1
        self.bytes -= frame.size
        items, size = self._of.pop(frame.sender)
        if items > 1:
            self._of[frame.sender] = (items - 1, size - frame.size)

    def of(self, sender: str) -> tuple[int, int]:
        """How many of this sender wait, and their bytes."""
        return self._of.get(sender, (0, 0))
