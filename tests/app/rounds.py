"""Rounds of Trio's loop, counted: how often others could run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class Rounds(trio.abc.Instrument):
    """How many there were. Trio says it: a task that counts would be before or after the others of
    its round, by chance.
    """

    def __init__(self) -> None:
        self.seen = 0

    def after_io_wait(self, timeout: float) -> None:
        """A round begins."""
        self.seen += 1


@asynccontextmanager
async def counted_rounds() -> AsyncIterator[Rounds]:
    """Count them until the end of the block; somebody else always has something to do."""
    rounds = Rounds()

    async def bystander() -> None:
        while True:  # noqa: ASYNC110 # it waits for nothing
            await trio.lowlevel.checkpoint()

    trio.lowlevel.add_instrument(rounds)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bystander)
            yield rounds
            nursery.cancel_scope.cancel()
    finally:
        trio.lowlevel.remove_instrument(rounds)
