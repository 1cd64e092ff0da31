"""Rounds of Trio's loop, counted: how often others could run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio


@dataclass
class Rounds:
    """How many there were."""

    seen: int = 0


@asynccontextmanager
async def counted_rounds() -> AsyncIterator[Rounds]:
    """Count them until the end of the block."""
    rounds = Rounds()

    async def bystander() -> None:
        while True:
            rounds.seen += 1
            await trio.lowlevel.checkpoint()

    # Holds the one who counts; cancelled at the end.
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bystander)
        yield rounds
        nursery.cancel_scope.cancel()
