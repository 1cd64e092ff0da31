"""What stands in place of events, or of a snapshot, that a filter was not evaluated for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triode.app.wire.frame import Frame

if TYPE_CHECKING:
    from triode.app.delivery.audience import Audience


class Skipped(Frame):
    """In place of the events of one write for a filter that rests: whoever gets it has lost them.
    `skipped` is how many its audience had counted before.
    """

    __slots__ = ("skipped",)

    # It must not be joined with others: it is for `overflow`.
    is_lazy = True

    def __init__(self, audience: Audience, seq: int) -> None:
        super().__init__(b"", audience, seq)
        self.skipped = audience.rest.skipped


class Refused(bytes):
    """A piece of a lazy frame, in place of a snapshot that takes too much: the client is told."""

    audience: Audience
