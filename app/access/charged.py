"""Work that is charged by the processor's clock, to whoever asked for it.

For what comes in many small pieces, none of which is worth a meter, and is a lot in sum.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from triode.limits.cpu_share import STEPS_A_SECOND

if TYPE_CHECKING:
    from triode.app.access.gate import Gate
    from triode.limits.principal import Principal

T = TypeVar("T")

_clock = time.thread_time


class Bill:
    """What one request has taken by now, in steps, charged to `principal`."""

    __slots__ = ("_gate", "_principal", "steps")

    def __init__(self, gate: Gate, principal: Principal) -> None:
        self._gate = gate
        self._principal = principal
        self.steps = 0.0

    def pay(self, work: Coroutine[Any, Any, T]) -> Charged[T]:
        """To be awaited: does the work and puts it on the bill. Raises what it raises."""
        return Charged(self, work)

    def charged(self) -> float:
        """What everybody has been charged for so far."""
        return self._gate.cpu.charged

    def add(self, steps: float) -> None:
        """So much more was taken."""
        self.steps += steps
        self._gate.charge_work(self._principal, steps)


class Charged(Generic[T]):
    """One piece of work, without what others do while it waits, and without what it has been
    charged for while it ran. Cancelled, what it took until then is charged.
    """

    __slots__ = ("_bill", "_work")

    def __init__(self, bill: Bill, work: Coroutine[Any, Any, T]) -> None:
        self._bill = bill
        self._work = work

    def __await__(self) -> Generator[Any, Any, T]:
        bill, work = self._bill, self._work
        sent: Any = None
        taken = 0.0
        try:
            while True:
                charged, begun_s = bill.charged(), _clock()
                try:
                    asked = work.send(sent)
                except StopIteration as done:
                    result: T = done.value
                    return result
                finally:
                    steps = (_clock() - begun_s) * STEPS_A_SECOND
                    taken += max(0.0, steps - (bill.charged() - charged))
                # Trio throws nothing in here: what it raises, Cancelled too, comes as what is sent.
                sent = yield asked
        finally:
            bill.add(taken)
