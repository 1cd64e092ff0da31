"""Direct messages: from one sender to one client, by its id.

Members of a room know each other's ids, so anybody may be written to by strangers. What one sender
may have waiting for one client is bounded, and so is that of all senders together. What finds no
room is dropped, which its sender is told: the client neither loses anything of its own by it, nor
ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.app.wire.frame import VerbatimFrame

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.app.delivery.subscriber import Client

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


def has_room(settings: Settings, client: Client, sender: str, size: int) -> bool:
    """Whether a client has room for one more message of this sender. One alone always has."""
    particulars = None if client.group is None else client.group.particulars.get(client)
    waiting = [
        holder.directs
        for holder in (client.outbox, particulars)
        if holder is not None and holder.directs is not None
    ]
    items = sum(directs.items for directs in waiting)
    if not items:
        return True
    total = size + sum(directs.bytes for directs in waiting)
    own = [directs.of(sender) for directs in waiting]
    return (
        sum(count for count, _ in own) < settings.direct_items
        and size + sum(held for _, held in own) <= settings.queue_bytes
        and items < SENDERS * settings.direct_items
        and total <= SENDERS * settings.queue_bytes
    )
