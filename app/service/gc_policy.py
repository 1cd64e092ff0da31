"""Python's garbage collector, kept from freezing the server when the document is big.

A full collection visits every container that lives: with a document of some hundred megabytes that
is seconds in which nobody is served, and JSON, having no cycles, holds nothing to be found. Python
starts one whenever enough has been allocated. So here full collections are ours to start: often,
while there is little to visit; and when much has come, it is first put aside with `gc.freeze`.

What is put aside is still freed when its last reference goes; only cycles among it stay. They can
only be of what was there at that moment, so it is a moment when no large body is being handled; and
when the document has become small again all is let back in.

For a process that is ours (`triode serve`); an embedding program decides for itself.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable
from typing import Final

import trio

TICK_S: Final = 2.0
# What a full collection visits in 1 to 10 ms, in blocks of memory (a container is several).
FEW_BLOCKS: Final = 50_000
# More than what is imported, which is 150 000 and more.
MANY_BLOCKS: Final = 500_000
# After one that took longer, all that is left is put aside too.
LONG_S: Final = 0.003
# All is let back in no more often: it takes a collection of everything, 15 to 40 ms.
RETURN_EVERY_S: Final = 3600.0
# So much of Python's own thresholds stays: the young generations; the last is for us.
NEVER: Final = 1_000_000_000


class Collector:
    """Full collections for as long as it runs. `busy` says that a large body is in hand."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._aside = 0
        self._modules = 0
        self._returned_at = -math.inf

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; then the collector is as it was before. Start it before anybody is
        let in: its beginning takes long.
        """
        before = gc.get_threshold()
        gc.set_threshold(before[0], before[1], NEVER)
        self._put_modules_aside()
        self._returned_at = trio.current_time()
        task_status.started()
        try:
            while True:
                await trio.sleep(TICK_S)
                self.collect(sys.getallocatedblocks(), trio.current_time())
        finally:
            gc.set_threshold(*before)
            gc.unfreeze()

    def _put_modules_aside(self) -> None:
        # What was imported stays for good: visiting it takes 15 ms on an idle machine and was seen
        # to take 90 ms on a busy one, every two seconds. A document that was read from a log is
        # there too: visiting 200 MB takes a second, and JSON has no cycles.
        if sys.getallocatedblocks() < MANY_BLOCKS:
            gc.collect()
        gc.freeze()
        self._modules = self._aside = sys.getallocatedblocks()

    def collect(self, blocks: int, now: float) -> None:
        """What is to be done now that so many blocks are allocated."""
        is_small_again = self._aside > self._modules and blocks - self._modules < FEW_BLOCKS
        if is_small_again and now > self._returned_at + RETURN_EVERY_S:
            self._returned_at = now
            gc.unfreeze()
            self._put_modules_aside()
        elif blocks - self._aside < FEW_BLOCKS:
            begun_s = time.thread_time()
            gc.collect()
            if time.thread_time() - begun_s > LONG_S and not self._busy():
                gc.freeze()
                self._aside = sys.getallocatedblocks()
        elif not self._busy():
            gc.freeze()
            self._aside = blocks
