"""Where a shared log ends, and when all of that is carried out here.

A Triode of several trails the log by some milliseconds. What has to see all that was written before
asks the server where the log ends, and waits until that is here.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import trio

from triode.app.service.decision import decide
from triode.app.wire.refusal import Refusal
from triode.store.operation import WriteError
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.app.log.log import SharedLog
    from triode.app.service.applier import Applier
    from triode.limits.meter import Meter
    from triode.limits.principal import Principal
    from triode.store.change import Position
    from triode.store.operation import Operation

# Fewer are under way: a write that would be refused is found out before it is logged. With more, to
# try each of them twice would cost more than the entries.
SURE_ITEMS: Final = 16


class Counts(Protocol):
    """The journal, as far as it matters here."""

    under_way: int


class LogEnd:
    """Of one journal, which says how many writes are under way."""

    def __init__(self, triode: Applier, shared: SharedLog, journal: Counts) -> None:
        self._triode = triode
        self._shared = shared
        self._journal = journal
        # Writes of this process, in all.
        self._decided = 0
        # Reads that waited for a position, and those of them that waited in vain.
        self.waits = self.waits_in_vain = 0
        # Told when something was.
        self.carried_out: Callable[[], object] = bool
        self._carried = trio.lowlevel.ParkingLot()

    def done(self, count: int) -> None:
        """So many of those that were under way are decided, or come to nothing."""
        self._decided += count
        self.moved()

    def moved(self) -> None:
        """A batch was carried out, or the log has another epoch."""
        self.carried_out()
        self._carried.unpark_all()

    async def reach(self, position: Position | None = None) -> bool:
        """Wait until all is carried out here that the log has by now, and what was submitted here
        before; or, of a position, that it is reached. False: not within `position_wait`.
        """
        store, mine = self._triode.store, self._decided + self._journal.under_way
        with trio.move_on_after(self._triode.settings.position_wait_s):
            end = await self._shared.end()
            while not (store.lineage.knows(end.epoch) and store.seq >= end.seq):
                if position is not None and store.seq_of(position) is not None:
                    return True
                await self._carried.park()
            while position is None and self._decided < mine:
                await self._carried.park()
            return True
        return False

    async def refuse(self, op: Operation, principal: Principal, meter: Meter) -> None:
        """Raises `Refusal` for a write that will surely be refused: it need not be in the log."""
        if self._journal.under_way >= SURE_ITEMS or not self._shared.is_live:
            return
        if self._is_refused(op, principal, meter) and await self.reach():
            with suppress(TooCostly):
                self._triode.prepare(op, principal, meter.again())

    def _is_refused(self, op: Operation, principal: Principal, meter: Meter) -> bool:
        try:
            decide(self._triode.store, op, principal.grant, meter)
        except Exception as error:
            # Anything else is a long one, or a fault: it comes again, and is logged there.
            return isinstance(error, Refusal | WriteError)
        return False
