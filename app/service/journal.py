"""A write's way when there is a log: nobody sees what a crash could take back.

    submit → queue → (all that waits) → log → commit → decide → document → deliver → answer

While one batch is being committed, what comes waits, and is the next batch: the more writers there
are, the more of them share one sync of the disk. So a write costs its writer a sync, and the server
a part of one.

A write is decided only when it is applied, behind all that was logged before it. One that is
refused has its number in the log all the same, and changes nothing. When nothing is under way, a
write that would be refused is refused at once, and not logged.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import trio

from triode.app.log.commits import Commits
from triode.app.log.log import Batch, LogFull
from triode.app.runtime.turns import in_turns
from triode.app.service.decision import (
    begin_bounds,
    first_answer,
    grant_kept,
    keep_record,
    note,
    status_of,
)
from triode.app.service.entry_encoding import is_long, written_down
from triode.app.service.reach import check_reach
from triode.app.service.under_way import Write
from triode.app.service.write_refusals import full, not_written, unknown, unknown_yet
from triode.app.wire.refusal import Refusal, bad_request
from triode.limits.meter import Meter
from triode.limits.principal import OWNER
from triode.store.entry import Bounds, Entry, encode_batch, encode_entry
from triode.store.json_type import JsonError
from triode.store.outcomes import DONE
from triode.store.records import Record
from triode.store.work import TooCostly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from triode.app.log.log import Log, LogBroken
    from triode.app.service.applier import Applier
    from triode.limits.principal import Principal
    from triode.store.change import Position
    from triode.store.operation import Operation
    from triode.store.outcomes import Key
    from triode.store.store import Prepared

log = logging.getLogger("triode")

# One commit: more would make those wait longer who come first.
BATCH_ITEMS: Final = 512
BATCH_BYTES: Final = 1024 * 1024
# What a write may take without waiting for its turn.
AT_ONCE_STEPS: Final = 500
TURN_S: Final = 0.002
# What was logged for nothing is charged to its writer: a disk takes about 100 MB a second.
BYTES_A_STEP: Final = 100
IDLE_S: Final = 0.2


class Saved(NamedTuple):
    """The newest snapshot: the entry that it goes up to, and the time of the log then."""

    seq: int
    time_ms: int


class Journal:
    """All writes of one Triode, in one order."""

    def __init__(self, triode: Applier, log: Log) -> None:
        self._triode = triode
        self.log = log
        settings = triode.settings
        # Those that this process was started with. What the log says holds until they are in it.
        self.wanted = Bounds(
            settings.max_document_bytes, settings.max_work, triode.store.max_footprint
        )
        self.bounds = self.wanted
        self._queue: deque[Write] = deque()
        self.under_way = 0
        self._bytes = 0
        self.last_ms = 0
        # Since when the log has had which writes.
        self._at_log: tuple[float, list[Write]] | None = None
        self._come = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._ended = False
        self.is_begun = False
        # When it was opened nothing had been written to it.
        self.is_new = False
        self.full = trio.Event()
        self.commits = Commits()
        self.saved: Saved | None = None
        # Why it takes no more.
        self.broken: LogBroken | None = None

    # ── writers ─────────────────────────────────────────────────────────────────────────────────

    async def write(
        self, op: Operation | Record, principal: Principal, key: Key | None = None
    ) -> Position:
        """As `Triode.write`; or keep a record."""
        write = await self.submit(op, principal, key=key)
        return await write.answer()

    async def submit(
        self,
        op: Operation | Bounds | Record,
        principal: Principal,
        tell: Callable[[Write], None] | None = None,
        *,
        key: Key | None = None,
    ) -> Write:
        """Put a write into the queue; those of one task keep their order. `tell` is called when it
        is decided, in the same step.

        Waits while too much is under way. Cancelled, nothing was done. Raises `Refusal` for what
        can be refused at once; not for a write with a key, whose outcome has to be kept.
        """
        if not isinstance(op, Bounds | Record):
            # Not even with a key: a stranger must not fill the disk.
            await check_reach(principal.grant, op, self.bounds.max_work)
        flusher = self._triode.hub.flusher
        while flusher.full or not self._has_room():
            await flusher.room()
            if not self._has_room():
                await self._room.park()
        if self._ended:
            raise self._triode.going_away()
        if not self.under_way and key is None and not isinstance(op, Bounds | Record):
            self._refuse_at_once(op, principal)
        logged = op
        if is_long(op):
            logged = await self._in_turns(cast("Operation", op))
        write = self._written(op, principal, tell, key, logged)
        self.under_way += 1
        self._bytes += len(write.line)
        self._queue.append(write)
        self._come.unpark()
        return write

    def _has_room(self) -> bool:
        settings = self._triode.settings
        return self.under_way < settings.log_queue_items and self._bytes < settings.log_queue_bytes

    def _refuse_at_once(self, op: Operation, principal: Principal) -> None:
        try:
            self._triode.prepare(op, principal, self._meter())
        except Refusal:
            raise
        except Exception:  # noqa: S110 # a long one, or a fault: it comes again, and is logged there
            pass

    def _written(
        self,
        op: Operation | Bounds | Record,
        principal: Principal,
        tell: Callable[[Write], None] | None = None,
        key: Key | None = None,
        logged: Operation | Bounds | Record | None = None,
    ) -> Write:
        # Time is data, and does not run back, whatever is done to the clock.
        self.last_ms = time_ms = max(self.last_ms, self._triode.clock.unix_ms())
        by = "" if principal is OWNER else principal.name
        try:
            logged = op if logged is None else logged
            line = encode_entry(Entry(time_ms, logged, by, grant_kept(principal.grant), key))
        except JsonError as error:
            raise bad_request(f"not JSON: {error.detail}") from error
        return Write(op, principal, line, time_ms, tell, key)

    async def _in_turns(self, op: Operation) -> Operation:
        try:
            logged = await written_down(op)
        except JsonError as error:
            raise bad_request(f"not JSON: {error.detail}") from error
        if self._ended:
            raise self._triode.going_away()
        return logged

    # ── the log ─────────────────────────────────────────────────────────────────────────────────

    async def begin(self, bounds: Bounds, last_ms: int) -> None:
        """Go on after the log was read, with `bounds` found there; the settings' hold from now."""
        self.bounds = bounds
        self.last_ms = last_ms
        self.is_begun = True
        if self.wanted != bounds:
            await self._carry_out([self._written(self.wanted, OWNER)])

    async def write_first(self, op: Operation) -> Position:
        """A write before `run`: of our own, so it may take as much work as it takes. Raises
        `Refusal`; then nothing is in the log.
        """
        free = Bounds(self.wanted.max_bytes, max_footprint=self.wanted.max_footprint)
        prepare = partial(self._triode.prepare_long, op, OWNER)
        await in_turns(free.max_work, prepare, alone=True)
        write = self._written(op, OWNER)
        around = self._written(free, OWNER), self._written(self.wanted, OWNER)
        await self._carry_out([around[0], write, around[1]])
        return await write.answer()

    async def keep_alone(self, records: Iterable[Record]) -> None:
        """Keep records before `run`, or after it has ended. Raises `LogFull` and `LogBroken`."""
        self._queue.extend(self._written(record, OWNER) for record in records)
        try:
            while writes := self._take():
                await self._append(writes)
                for write in writes:
                    assert isinstance(write.op, Record)
                    keep_record(self._triode.store, write.op, time_ms=write.time_ms)
        finally:
            self._queue.clear()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out what is submitted, until cancelled. Raises `LogBroken`: then the process has to
        end.
        """
        writes: list[Write] = []
        task_status.started()
        try:
            while True:
                if not self._queue:
                    await self._wait()
                writes = self._take()
                await self._carry_out(writes)
                self._done(writes)
        finally:
            self._ended = True
            self._room.unpark_all()
            self._give_up([*writes, *self._queue])

    async def _wait(self) -> None:
        with trio.move_on_after(IDLE_S):
            await self._come.park()
            return
        await self.log.tidy()
        if not self._queue:
            await self._come.park()

    def _take(self) -> list[Write]:
        writes: list[Write] = []
        size = 0
        while self._queue and len(writes) < BATCH_ITEMS and size < BATCH_BYTES:
            write = self._queue.popleft()
            writes.append(write)
            size += len(write.line)
        return writes

    async def _append(self, writes: list[Write]) -> None:
        first = self._triode.store.seq + 1
        data = encode_batch([write.line for write in writes])
        await self.log.append(Batch(first, first + len(writes) - 1, data))

    async def _carry_out(self, writes: list[Write]) -> None:
        began = trio.current_time()
        self._at_log = began, writes
        try:
            await self._append(writes)
        except LogFull as error:
            self.full.set()
            self._triode.metrics.writes_failed += len(writes)
            for write in writes:
                write.settle(None, full(error))
            return
        finally:
            self._at_log = None
        ended = trio.current_time()
        self.commits.note(len(writes), began, ended)
        until = ended + TURN_S
        for write in writes:
            await self._triode.hub.flusher.room()
            await self._apply(write)
            if trio.current_time() > until:
                await trio.lowlevel.checkpoint()
                until = trio.current_time() + TURN_S

    async def _apply(self, write: Write) -> None:
        """In one step, unless it takes long."""
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
        key, time_ms = write.key, write.time_ms
        if key is not None and self._is_again(write, key):
            return
        store = triode.store
        try:
            try:
                prepared = triode.prepare(op, write.principal, self._meter())
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
            return await in_turns(self.bounds.max_work, prepare, alone=True)
        except TooCostly as error:
            root = triode.store.document.root
            raise await triode.refuse_cost(op, principal, root, error) from error

    def look(self) -> None:
        """Nobody waits for ever for a disk: whoever has for `log_deadline` is told so. What is at
        the log may be written yet, and is carried out then; what is behind it is not.
        """
        deadline_s = self._triode.settings.log_deadline_s
        if self._at_log is None or trio.current_time() < self._at_log[0] + deadline_s:
            return
        late = [write for write in self._at_log[1] if not write.is_settled]
        for write in late:
            write.give_up(unknown_yet())
        waiting = list(self._queue)
        self._queue.clear()
        self._done(waiting)
        for write in waiting:
            write.settle(None, not_written())
        self._triode.metrics.writes_unknown += len(late)
        self._triode.metrics.writes_failed += len(waiting)
        if late:
            log.error("the disk has not answered for %g s: %d writes", deadline_s, len(late))

    def _done(self, writes: list[Write]) -> None:
        self.under_way -= len(writes)
        self._bytes -= sum(len(write.line) for write in writes)
        self._room.unpark_all()

    def _meter(self) -> Meter:
        return Meter(min(AT_ONCE_STEPS, self.bounds.max_work))

    def _give_up(self, writes: list[Write]) -> None:
        for write in writes:
            if not write.is_settled:
                write.settle(None, unknown())
