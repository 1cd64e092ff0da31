"""Many who each want a moment: how much of one pass of the event loop they may have together.

Trio runs all tasks that are ready, then looks for what has come, and so on: nobody hears anything
new before each of them has had its step. A hundred peers with as many milliseconds of cheap
requests would make everybody wait for a hundred steps. So who works on what a peer chose to send
asks for a `moment` first, and says afterwards what it `took`: once `PASS_S` are taken, the others
wait for a later pass.

Who is alone, or among few, never waits.
"""

from __future__ import annotations

import random
from typing import Final

import trio

# Of each pass, for all of them together.
PASS_S: Final = 0.003
# Between looks of one who waits; they grow, so that a thousand who wait cost little.
PAUSE_MIN_S: Final = 0.001
PAUSE_MAX_S: Final = 0.032


class _Pace(trio.abc.Instrument):
    """What has been taken of this pass, and which it is."""

    taken_s = 0.0
    number = 0

    def after_io_wait(self, timeout: float) -> None:
        """A pass begins."""
        self.taken_s = 0.0
        self.number += 1


_running: Final[trio.lowlevel.RunVar[_Pace]] = trio.lowlevel.RunVar("pace")


def _pace() -> _Pace:
    try:
        return _running.get()
    except LookupError:
        pace = _Pace()
        trio.lowlevel.add_instrument(pace)
        _running.set(pace)
        return pace


async def moment() -> int:
    """Wait until there is time for you; what to tell `took` then. Does not wait, and is no
    checkpoint, when there is.
    """
    pace = _pace()
    if pace.taken_s >= PASS_S:
        await trio.lowlevel.checkpoint()
    pause_s = PAUSE_MIN_S
    while pace.taken_s >= PASS_S:
        await trio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 # spreads those who wait
        pause_s = min(2 * pause_s, PAUSE_MAX_S)
    return pace.number  # noqa: ASYNC910 # who has a moment does not wait


def took(moment: int, since: float) -> None:
    """Your moment has lasted since then (`trio.current_time`), unless it has waited for something:
    then it was short.
    """
    pace = _pace()
    if moment == pace.number:
        pace.taken_s += trio.current_time() - since
