"""The backlog: the bytes of all frames that wait for slow clients, or are being written to them.

A frame is one object however many clients it waits for, so it is counted once, from the first that
holds it to the last that lets go of it. So is a piece that was made for those who are written to,
while it is written. Exact at every moment: the ledger reads it, and whoever ends clients for want
of memory sees what that has freed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.app.wire.frame import Frame


class Backlog:
    """What all outboxes hold together."""

    __slots__ = ("_pieces", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        # By identity, how many write it; it lives as long as somebody does.
        self._pieces: dict[int, int] = {}

    def hold(self, frame: Frame) -> None:
        """One more outbox holds this frame."""
        body = frame.whole or frame
        if not body.holders and not body.is_lazy:
            self.bytes += body.size
        body.holders += 1

    def let_go(self, frame: Frame) -> None:
        """One outbox less."""
        body = frame.whole or frame
        body.holders -= 1
        if not body.holders and not body.is_lazy:
            self.bytes -= body.size

    @contextmanager
    def writing(self, piece: bytes) -> Iterator[None]:
        """A piece that was made when there was room for it is held until it is out."""
        key = id(piece)
        if key not in self._pieces:
            self.bytes += len(piece)
        self._pieces[key] = self._pieces.get(key, 0) + 1
        try:
            yield
        finally:
            self._pieces[key] -= 1
            if not self._pieces[key]:
                del self._pieces[key]
                self.bytes -= len(piece)
