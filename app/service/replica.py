"""What stands in the log, carried out on the document: one write after the other, in the order of
the log, our own and those of others alike.

A write is decided only here, behind all that was logged before it. One that is refused has its
number in the log all the same, and changes nothing.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from triode.app.runtime.turns import TimedTurn, in_turns
from triode.app.service.decision import (
    begin_bounds,
    first_answer,
    keep_record,
    note,
    status_of,
    work_limit,
)
from triode.app.wire.refusal import Refusal
from triode.limits.meter import Meter
from triode.store.entry import Bounds
from triode.store.outcomes import DONE
from triode.store.records import Record
from triode.store.said import Say
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from triode.app.service.applier import Applier
    from triode.app.service.under_way import Write
    from triode.limits.principal import Principal
    from triode.store.operation import Operation
    from triode.store.outcomes import Key
    from triode.store.store import Prepared

log = logging.getLogger("triode")

# What a write may take without waiting for its turn.
AT_ONCE_STEPS: Final = 500
# What was logged for nothing is charged to its writer: a disk takes about 100 MB a second.
BYTES_A_STEP: Final = 100


class Replica:
    """The document of one Triode as the log says it is. `bounds` are those of the log."""

    def __init__(self, triode: Applier, bounds: Bounds, *, is_shared: bool = False) -> None:
        self._triode = triode
        self.bounds = bounds
        # What others begin from has to be between two batches: they read on from a whole one.
        self.between_batches: AbstractAsyncContextManager[None]
        self.between_batches = trio.StrictFIFOLock() if is_shared else nullcontext()

    async def carry_out(self, writes: list[Write]) -> None:
        """All of a batch, one after the other."""
        async with self.between_batches:
            timed = TimedTurn()
            for write in writes:
                await self._triode.hub.flusher.room()
                await self.apply(write)
                if timed.is_over:
                    await trio.lowlevel.checkpoint()
                    timed.begin()

    def meter(self) -> Meter:
        """For what a write may take at once."""
        return Meter(min(AT_ONCE_STEPS, self.bounds.max_work))

    async def apply(self, write: Write) -> None:
        """Decide a write and carry it out; in one step, unless it takes long."""
        triode, op = self._triode, write.op
        if isinstance(op, Bounds):
            begin_bounds(triode.store, op, time_ms=write.time_ms)
            self.bounds = op
            write.settle(triode.store.position)
            return
        if isinstance(op, Record):
            keep_record(triode.store, op, time_ms=write.time_ms)
            triode.record_kept(op.name, op.value)
            write.settle(triode.store.position)
            return
        if isinstance(op, Say):
            triode.store.skip(time_ms=write.time_ms)
            write.reached = triode.hub.rooms.hear(op, triode.store.seq)
            write.settle(triode.store.position)
            return
        key, time_ms = write.key, write.time_ms
        if key is not None and self._is_again(write, key):
            return
        store = triode.store
        try:
            try:
                prepared = triode.prepare(op, write.principal, self.meter())
            except TooCostly:
                prepared = await self._prepare_in_turns(op, write.principal)
        except Exception as error:
            triode.gate.charge_work(write.principal, len(write.line) / BYTES_A_STEP)
            if not isinstance(error, Refusal):
                log.exception("a write could not be decided; it is refused")
            store.skip(time_ms=time_ms)
            note(store, key, status_of(error), time_ms)
            write.settle(None, error)
        else:
            position = triode.commit(prepared, time_ms)
            note(store, key, DONE, time_ms)
            write.settle(position)

    def _is_again(self, write: Write, key: Key) -> bool:
        """Whether a write with this key was decided before: then it has the same answer."""
        store = self._triode.store
        try:
            first = first_answer(store, key, write.time_ms)
        except Refusal as refusal:
            store.skip(time_ms=write.time_ms)
            write.settle(None, refusal)
            return True
        if first is None:
            return False
        store.skip(time_ms=write.time_ms)
        write.settle(first)
        return True

    async def _prepare_in_turns(self, op: Operation, principal: Principal) -> Prepared:
        """Nobody else writes meanwhile. Raises `Refusal`."""
        triode = self._triode
        prepare = partial(triode.prepare_long, op, principal)
        try:
            return await in_turns(work_limit(op, self.bounds.max_work), prepare, alone=True)
        except TooCostly as error:
            root = triode.store.document.root
            raise await triode.refuse_cost(op, principal, root, error) from error
