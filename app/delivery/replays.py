"""The short replays of this moment, for all who come back together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from triode.app.wire.frame import Frame

# Each at most FRAME_BYTES.
REPLAYS_KEPT: Final = 64


class Replays:
    """The short replays of this moment: when many were cut off together, they come back together,
    from the same position and with the same filters. All is forgotten with the next change.
    """

    def __init__(self) -> None:
        self._seq = -1
        self._frames: dict[tuple[object, ...], list[Frame]] = {}

    def get(self, seq: int, key: tuple[object, ...]) -> list[Frame] | None:
        """What was replayed for this key, if the document is still at `seq`."""
        return self._frames.get(key) if seq == self._seq else None

    def put(self, seq: int, key: tuple[object, ...], frames: list[Frame]) -> None:
        """Remember a replay, while there is room."""
        if seq != self._seq:
            self._seq, self._frames = seq, {}
        if len(self._frames) < REPLAYS_KEPT:
            self._frames[key] = frames
