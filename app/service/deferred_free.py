"""Disposal: large values that are no longer needed are freed a little at a time.

Dropping the last reference to a document of 200 MB holds everybody up for a second.
"""

from __future__ import annotations

from sys import getrefcount
from typing import TYPE_CHECKING, Final

import trio

from triode.app.runtime.decoding import large
from triode.store.value import dismantle

if TYPE_CHECKING:
    from triode.store.store import Store
    from triode.store.value import Json

LOOK_EVERY_S: Final = 0.25


async def dispose(store: Store) -> None:
    """Take apart what the store has discarded, and large values that only we hold, until
    cancelled; others run after each step.
    """
    discarded = store.discarded
    values: list[Json] = []
    large.set(values)
    try:
        while True:
            await trio.sleep(LOOK_EVERY_S)
            discarded += _take_unused(values)
            while discarded:
                for _ in dismantle(discarded.popleft()):
                    await trio.lowlevel.checkpoint()
    finally:
        large.set(None)


def _take_unused(values: list[Json]) -> list[Json]:
    """Take out those that nobody else holds. Others are part of the document, or in hand."""
    # Of each value the list has a reference, and the call.
    unused = [number for number in range(len(values)) if getrefcount(values[number]) == 2]
    return [values.pop(number) for number in reversed(unused)]
