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

TICK_S: Final = 0.1
# A full collection comes this often, or sooner when so much is new: in passes of the middle
# generation, which are 7 700 new containers each and take a full collection 0.3 to 2 ms.
USUAL_S: Final = 2.0
SOME_PASSES: Final = 1
# More is put aside without a look. Counted in what is new, not in what is allocated: blocks are as
# many as before where a million arrays have come in the place of a million that were put aside, and
# to visit those took 265 ms.
MANY_PASSES: Final = 4
# So few blocks beside those of the modules are a document that has become small again.
FEW_BLOCKS: Final = 50_000
# More than what is imported, which is 150 000 and more.
MANY_BLOCKS: Final = 500_000
# After one that took longer, all that is left is put aside too. Where it may not be, the next one
# comes later: they are to take no more than this share of the time.
LONG_S: Final = 0.003
SHARE: Final = 0.001
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
        self._due_at = -math.inf
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
                passes = gc.get_count()[2]
                self.collect(passes, sys.getallocatedblocks(), trio.current_time())
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

    def collect(self, passes: int, blocks: int, now: float) -> None:
        """What is to be done now that there were so many passes since the last time, and so many
        blocks are allocated.
        """
        is_small_again = self._aside > self._modules and blocks - self._modules < FEW_BLOCKS
        if is_small_again and now > self._returned_at + RETURN_EVERY_S:
            self._returned_at = now
            gc.unfreeze()
            self._put_modules_aside()
        elif passes > MANY_PASSES:
            if not self._busy():
                self._put_aside(blocks)
        elif now >= self._due_at or (passes >= SOME_PASSES and self._due_at <= now + USUAL_S):
            self._collect(now)

    def _collect(self, now: float) -> None:
        begun_s = time.thread_time()
        gc.collect()
        taken_s = time.thread_time() - begun_s
        self._due_at = now + USUAL_S
        if taken_s <= LONG_S:
            return
        if self._busy():
            self._due_at = now + max(USUAL_S, taken_s / SHARE)
        else:
            self._put_aside(sys.getallocatedblocks())

    def _put_aside(self, blocks: int) -> None:
        gc.freeze()
        self._aside = blocks
