"""Disposal: large values that are no longer needed are freed a little at a time.

Dropping the last reference to a document of 200 MB holds everybody up for a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from triode.store.value import dismantle

if TYPE_CHECKING:
    from triode.store.store import Store

LOOK_EVERY_S: Final = 0.25


async def dispose(store: Store) -> None:
    """Take apart what the store has discarded, until cancelled; others run after each step."""
    discarded = store.discarded
    while True:
        await trio.sleep(LOOK_EVERY_S)
        while discarded:
            for _ in dismantle(discarded.popleft()):
                await trio.lowlevel.checkpoint()
