"""What tests of a cluster wait for, with a bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

PATIENCE_S: Final = 45.0


async def until(done: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
    """Wait until it is so."""
    with trio.fail_after(within_s):
        while not done():  # noqa: ASYNC110 # servers and other processes set no event
            await trio.sleep(0.01)
