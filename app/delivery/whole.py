"""Which changes are too much to be told event by event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.store.value import approx_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triode.store.event import Event
    from triode.store.trie import Selection

# More than this of one change for one filter is not encoded at once: it would take milliseconds.
EVENTS_AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 256 * 1024


def told_whole(matched: Iterable[tuple[Selection, list[Event]]]) -> set[Selection]:
    """The selections for which a change, all its edits together, is too much to be encoded in one
    step, or is a snapshot anyhow. They get one that is made piece by piece, for all together.
    """
    whole: set[Selection] = set()
    left: dict[Selection, tuple[int, int]] = {}
    for selection, events in matched:
        if events[0].kind == "snapshot":  # it comes alone
            whole.add(selection)
        if selection in whole:
            continue
        count, room = left.get(selection, (EVENTS_AT_ONCE, BYTES_AT_ONCE))
        count -= len(events)
        if count >= 0:
            room = _room_after(events, room)
        if count < 0 or room <= 0:
            whole.add(selection)
        else:
            left[selection] = (count, room)
    return whole


def _room_after(events: list[Event], room: int) -> int:
    """What is left of so many bytes when these events are encoded."""
    for event in events:
        value = event.value
        if type(value) is dict or type(value) is list:
            room -= approx_bytes(value, limit=room)
        elif type(value) is str:
            room -= len(value)
        if room <= 0:
            break
    return room
