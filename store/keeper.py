"""Events that stay as they are while later edits of the same change go into their values."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from triode.store.event import Event
from triode.store.value import approx_bytes, copy_deep

# What is copied for the events of one change, in all. More is told by a snapshot.
KEPT_BYTES: Final = 512 * 1024


class Keeper:
    """Makes events stay as they are while later edits of the same change go into their values."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = KEPT_BYTES

    def __call__(self, events: list[Event]) -> list[Event]:
        for number, event in enumerate(events):
            value = event.value
            if event.kind != "update" or not isinstance(value, dict | list):
                continue
            # Once all is spent, even a small value makes a snapshot: it costs nothing here.
            size = 0 if self._left <= 0 else approx_bytes(value, limit=self._left)
            self._left -= size
            if self._left <= 0:
                return [Event("snapshot", (), [])]
            events[number] = replace(event, value=copy_deep(value))
        return events
