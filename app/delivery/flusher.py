"""The flusher: the one task that writes to flowing clients.

Publishing only marks the groups that are owed something. The flusher takes all that are marked and
flushes them; what is published meanwhile is its next pass. Idle, an event leaves at once; under
load the passes grow and their cost per event falls. It lets other tasks run after every
`YIELD_CLIENTS` writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from triode.app.wire.frame import Frame

YIELD_CLIENTS: Final = 100
# What may be published between two passes before publishers have to wait.
PASS_BYTES: Final = 256 * 1024


class Flushed(Protocol):
    """A group, as the flusher sees it. `dirty`: it is marked."""

    dirty: bool

    def flush(self) -> int:
        """Write out all that is owed. Says how many clients were written to."""


class Flusher:
    """Groups to be flushed, and the loop that does it."""

    def __init__(self) -> None:
        self.runs = False
        # Whether publishers should wait (`room`) before they publish more.
        self.full = False
        self._dirty: list[Flushed] = []
        self._idle = trio.lowlevel.ParkingLot()
        self._full = trio.lowlevel.ParkingLot()
        self._pass_bytes = 0

    async def run(self) -> None:
        """Flush until cancelled."""
        self.runs = True
        try:
            while True:
                if not self._dirty:
                    # Nothing is owed: what was published during the last pass went with it.
                    self._begin_pass()
                    self._full.unpark_all()
                    await self._idle.park()
                await self._pass()
        finally:
            self.runs = False

    async def _pass(self) -> None:
        # Swapped, not emptied: what is published at a checkpoint below marks its group anew and
        # belongs to the next pass, else a busy publisher would keep this one going for ever.
        dirty, self._dirty = self._dirty, []
        self._begin_pass()
        written = 0
        for group in dirty:
            written += group.flush()
            # Counted in writes, not in groups: it is the system calls that take the time.
            if written >= YIELD_CLIENTS:
                written = 0
                await trio.lowlevel.checkpoint()
        self._full.unpark_all()
        # A pass without a write, or a short one, has had no checkpoint yet.
        await trio.lowlevel.checkpoint()

    def mark(self, group: Flushed) -> None:
        """This group is owed something: flush it in the next pass."""
        group.dirty = True
        if not self._dirty:  # else it has been woken, or looks again after its pass
            self._idle.unpark_all()
        self._dirty.append(group)

    def count(self, frame: Frame) -> None:
        """A frame is owed to a group. It counts once, however many groups and clients get it.
        Only `Group` calls this, where the frame is put down: so what counts is always flushed.
        """
        frame.is_counted = True
        self._pass_bytes += frame.size
        if self._pass_bytes > PASS_BYTES:
            self.full = True

    def _begin_pass(self) -> None:
        self._pass_bytes = 0
        self.full = False

    async def room(self) -> None:
        """The one place where publishers wait, before they publish: while more is published than
        one pass should carry. They wait for the flusher, never for a client. A checkpoint only when
        there is a wait.
        """
        while self.full:
            await self._full.park()
