"""The backlog: the bytes of all frames that wait for slow clients, or are being written to them.

A frame is one object however many clients it waits for, so it is counted once, from the first that
holds it to the last that lets go of it. Exact at every moment: the ledger reads it, and whoever
ends clients for want of memory sees what that has freed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triode.app.wire.frame import Frame


class Backlog:
    """What all outboxes hold together."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0

    def hold(self, frame: Frame) -> None:
        """One more outbox holds this frame."""
        body = frame.whole or frame
        if not body.holders:
            self.bytes += body.size
        body.holders += 1

    def let_go(self, frame: Frame) -> None:
        """One outbox less."""
        body = frame.whole or frame
        body.holders -= 1
        if not body.holders:
            self.bytes -= body.size
