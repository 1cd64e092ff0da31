"""A write's way when there is a log: nobody sees what a crash could take back.

    submit → queue → (all that waits) → log → replica → decide → document → deliver → answer

While one batch is being committed, what comes waits, and is the next batch: the more writers there
are, the more of them share one sync of the disk. So a write costs its writer a sync, and the server
a part of one.

What is in the log is carried out in its order (`replica`), whoever wrote it: of a shared log others
write, too. When nothing is under way in a log of our own, a write that would be refused is refused
at once, and not logged.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import trio

from triode.app.log.commits import Commits
from triode.app.log.log import Batch, LogAway, LogFull, LogUnknown
from triode.app.runtime.turns import in_turns
from triode.app.service.decision import grant_kept, keep_record
from triode.app.service.entry_encoding import is_long, written_down
from triode.app.service.log_end import LogEnd
from triode.app.service.others_writes import writes_of
from triode.app.service.reach import check_reach
from triode.app.service.replica import Replica
from triode.app.service.under_way import Write, batch_of
from triode.app.service.write_refusals import (
    full,
    not_written,
    unavailable,
    unknown,
    unknown_for_good,
    unknown_yet,
)
from triode.app.wire.refusal import Refusal, bad_request
from triode.limits.principal import OWNER
from triode.store.entry import Beside, Bounds, Entry, encode_entry
from triode.store.json_type import JsonError
from triode.store.records import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from typing import Any

    from triode.app.log.log import Log, LogBroken, SharedLog
    from triode.app.service.applier import Applier
    from triode.app.service.log_snapshot import Saved
    from triode.limits.principal import Principal
    from triode.store.change import Position
    from triode.store.operation import Operation
    from triode.store.outcomes import Key

log = logging.getLogger("triode")

# One commit: more would make those wait longer who come first.
BATCH_ITEMS: Final = 512
BATCH_BYTES: Final = 1024 * 1024
IDLE_S: Final = 0.2


async def _nothing_but_batches(news: object) -> None:
    raise AssertionError(f"a log of our own has batches alone, not {news!r}")


class Journal:
    """All writes of one Triode, in one order."""

    def __init__(self, triode: Applier, log: Log) -> None:
        self._triode = triode
        self.log = log
        self.shared = cast("SharedLog", log) if log.is_shared else None
        self.end = None if self.shared is None else LogEnd(triode, self.shared, self)
        # What a shared log asks for beside batches.
        self.attend: Callable[[Any], Awaitable[None]] = _nothing_but_batches
        settings = triode.settings
        # Those that this process was started with. What the log says holds until they are in it.
        size, most = triode.store.max_footprint, settings.max_deadlines
        self.wanted = Bounds(settings.max_document_bytes, settings.max_work, size, most)
        self.replica = Replica(triode, self.wanted, is_shared=log.is_shared)
        self._queue: deque[Write] = deque()
        self.under_way = 0
        self.held_bytes = 0
        self.last_ms = 0
        # Since when the log has had which writes.
        self._at_log: tuple[float, list[Write]] | None = None
        # Given to the log, and not carried out: own batches come out of it in this order.
        self._sent: deque[list[Write]] = deque()
        self._is_applying = False
        self._applied = trio.lowlevel.ParkingLot()
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
        # How often, and why, the document had to be made anew; writes that were lost by that.
        self.anew: Counter[str] = Counter()
        self.lost = 0

    # ── writers ─────────────────────────────────────────────────────────────────────────────────

    async def write(
        self, op: Operation | Record, principal: Principal, key: Key | None = None
    ) -> Position:
        """As `Triode.write`; or keep a record."""
        write = await self.submit(op, principal, key=key)
        return await write.answer()

    async def submit(
        self,
        op: Operation | Beside,
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
        if not isinstance(op, Beside):
            # Not even with a key: a stranger must not fill the disk.
            await check_reach(principal.grant, op, self.replica.bounds.max_work)
            if key is None and self.end is not None:
                await self.end.refuse(op, principal, self.replica.meter())
        flusher = self._triode.hub.flusher
        while flusher.full or not self._has_room():
            await flusher.room()
            if not self._has_room():
                await self._room.park()
        if self._ended:
            raise self._triode.going_away()
        if self._is_up_to_date and key is None and not isinstance(op, Beside):
            self._refuse_at_once(op, principal)
        logged = op
        if is_long(op):
            logged = await self._in_turns(cast("Operation", op))
        write = self._written(op, principal, tell, key, logged)
        self._count([write])
        self._queue.append(write)
        self._come.unpark()
        return write

    @property
    def _is_up_to_date(self) -> bool:
        """Whether the document surely is what the log says. Of a shared one nobody knows."""
        return not self.under_way and self.shared is None

    def _has_room(self) -> bool:
        most = self._triode.settings
        return self.under_way < most.log_queue_items and self.held_bytes < most.log_queue_bytes

    def _refuse_at_once(self, op: Operation, principal: Principal) -> None:
        try:
            self._triode.prepare(op, principal, self.replica.meter())
        except Exception as error:
            # Anything else is a long one, or a fault: it comes again, and is logged there.
            if isinstance(error, Refusal):
                raise

    def _written(
        self,
        op: Operation | Beside,
        principal: Principal,
        tell: Callable[[Write], None] | None = None,
        key: Key | None = None,
        logged: Operation | Beside | None = None,
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
        self.replica.bounds = bounds
        self.last_ms = last_ms
        self.is_begun = True
        if self.wanted != bounds:
            await self._carry_out_first([self._written(self.wanted, OWNER)])

    async def write_first(self, op: Operation) -> Position:
        """A write before `run`: of our own, so it may take as much work as it takes. Raises
        `Refusal`; then nothing is in the log.
        """
        free = Bounds(self.wanted.max_bytes, max_footprint=self.wanted.max_footprint)
        prepare = partial(self._triode.prepare_long, op, OWNER)
        await in_turns(free.max_work, prepare, alone=True)
        write = self._written(op, OWNER)
        around = self._written(free, OWNER), self._written(self.wanted, OWNER)
        await self._carry_out_first([around[0], write, around[1]])
        return await write.answer()

    async def _carry_out_first(self, writes: list[Write]) -> None:
        self._count(writes)
        await self._carry_out(writes)

    async def keep_alone(self, records: Iterable[Record]) -> None:
        """Keep records before `run`, or after it has ended. Raises `LogFull` and `LogBroken`."""
        self._queue.extend(self._written(record, OWNER) for record in records)
        try:
            while writes := self._take():
                await self._append(writes)
                while self.log.take() is not None:
                    pass
                for write in writes:
                    assert isinstance(write.op, Record)
                    keep_record(self._triode.store, write.op, time_ms=write.time_ms)
        finally:
            self._queue.clear()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry out what is submitted, and what others have put into the log, until cancelled.
        Raises `LogBroken`: then the process has to end.
        """
        task_status.started()
        try:
            if self.shared is None:
                await self._send()
            else:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.shared.run)
                    nursery.start_soon(self._follow)
                    await self._send()
        finally:
            self._ended = True
            self._room.unpark_all()
            left = [write for writes in (*self._sent, self._queue) for write in writes]
            self._refuse(left, unknown)

    async def _send(self) -> None:
        while True:
            if not self._queue:
                await self._wait()
            await self._carry_out(self._take())

    async def _follow(self) -> None:
        while True:
            await self.log.news()
            if self._is_applying:
                await self._applied.park()
            await self._apply_all()

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
        await self.log.append(batch_of(writes), len(writes))

    async def _carry_out(self, writes: list[Write]) -> None:
        """Of a shared log it may be that `_follow` does so, a little later."""
        began = trio.current_time()
        self._at_log = began, writes
        self._sent.append(writes)
        try:
            await self._append(writes)
        except LogFull as error:
            self._sent.pop()
            self._done(writes)
            if not self.full.is_set():
                log.warning("%s: writes are refused until there is room again", error)
            self.full.set()
            self._triode.metrics.writes_failed += len(writes)
            self._refuse(writes, partial(full, error))
            return
        except LogUnknown:
            self._sent.pop()
            self._done(writes)
            self._triode.metrics.writes_unknown += len(writes)
            self._refuse(writes, unknown_for_good)
            return
        except LogAway:
            # Those behind it have waited as long, or nearly.
            self._sent.pop()
            writes += self._queue
            self._queue.clear()
            self._done(writes)
            self._triode.metrics.writes_failed += len(writes)
            self._refuse(writes, unavailable)
            return
        finally:
            self._at_log = None
        self.commits.note(len(writes), began, trio.current_time())
        await self._apply_all()

    async def _apply_all(self) -> None:
        """Carry out all that the log has by now, in its order. One task at a time does so, and
        takes what comes meanwhile, too.
        """
        if self._is_applying:
            return
        self._is_applying = True
        try:
            while (batch := self.log.take()) is not None:
                if not isinstance(batch, Batch):
                    await self.attend(batch)
                elif not batch.is_own:
                    await self._carry_out_others(batch)
                else:
                    await self.replica.carry_out(self._sent[0])
                    self._done(self._sent.popleft())
                if self.end is not None:
                    self.end.moved()
        finally:
            self._is_applying = False
            self._applied.unpark_all()

    async def catch_up(self, seq: int) -> None:
        """Before `run`: carry out what a shared log has up to the entry `seq`."""
        while self._triode.store.seq < seq:
            await self.log.news()
            await self._apply_all()

    async def _carry_out_others(self, batch: Batch) -> None:
        writes = await writes_of(batch)
        # What we write from now on is not earlier than what we have seen.
        self.last_ms = max(self.last_ms, *(write.time_ms for write in writes))
        await self.replica.carry_out(writes)

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
            log.error("the log has not answered for %g s: %d writes", deadline_s, len(late))

    def _count(self, writes: list[Write]) -> None:
        self.under_way += len(writes)
        self.held_bytes += sum(len(write.line) for write in writes)

    def _done(self, writes: list[Write]) -> None:
        self.under_way -= len(writes)
        if self.end is not None:
            self.end.done(len(writes))
        self.held_bytes -= sum(len(write.line) for write in writes)
        self._room.unpark_all()

    def _refuse(self, writes: list[Write], refusal: Callable[[], Refusal]) -> None:
        for write in writes:
            if not write.is_settled:
                write.settle(None, refusal())
