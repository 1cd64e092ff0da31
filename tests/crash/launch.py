"""`python -m tests.crash.launch serve …`: Triode, with snapshots of small logs; and with a fault
put in (`CRASH_FAULT`), so that one sees the checker find it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from triode.app.cli import main
from triode.app.log import database
from triode.app.log.log import Batch
from triode.app.log.sqlite import SqliteLog
from triode.app.service import boot, decision, journal, room_records, saving
from triode.app.service.journal import Journal
from triode.app.service.replica import Replica
from triode.app.service.under_way import Write as Pending
from triode.app.wire.refusal import Refusal
from triode.store.entry import Entry
from triode.store.lineage import Lineage
from triode.store.operation import Batch as AllOrNothing
from triode.store.operation import Set
from triode.store.store import Store

# So several snapshots are made, and old log goes, while writers write for a second.
SNAPSHOT_AFTER_BYTES = 128 * 1024
LOOK_EVERY_S = 0.02


def put(owner: object, name: str, new: object) -> None:
    """In the place of what is there."""
    assert hasattr(owner, name)
    setattr(owner, name, new)


def answer_before_sync() -> None:
    """A commit is said to be done, and is done 50 ms later."""

    async def later(self: SqliteLog, data: bytes, count: int) -> None:
        batch = Batch(self._last + 1, self._last + count, data, is_own=True)
        self._last = batch.last
        self._new.append(batch)

        async def commit() -> None:
            await trio.sleep(0.05)
            await self._in_thread(partial(self._db.append, batch))

        trio.lowlevel.spawn_system_task(commit)
        await trio.lowlevel.checkpoint()

    put(SqliteLog, "append", later)


def skip_at_redo() -> None:
    """One entry of fifty is left out when the log is read."""
    redo = decision.redo

    def skip(store: Store, bounds: Any, entry: Entry) -> Any:
        if store.seq % 50 == 49:
            store.skip(time_ms=entry.time_ms)
            return bounds
        return redo(store, bounds, entry)

    put(boot, "redo", skip)


def apply_refused() -> None:
    """Of a transaction that is refused, the first part is done."""
    apply = Replica.apply

    async def half(self: Replica, write: Pending) -> None:
        op = write.op
        if not isinstance(op, AllOrNothing) or not isinstance(op.ops[-1], Set):
            await apply(self, write)
            return
        first = self._triode.prepare(op.ops[0], write.principal, self.meter())
        self._triode.commit(first, write.time_ms)
        write.settle(None, Refusal(404, "it is there all the same"))

    put(Replica, "apply", half)


def half_of_a_transaction_at_redo() -> None:
    """What was all or nothing comes back without its last part."""
    redo = decision.redo

    def torn(store: Store, bounds: Any, entry: Entry) -> Any:
        if isinstance(entry.op, AllOrNothing):
            entry = Entry(entry.time_ms, AllOrNothing(entry.op.ops[:-1]), entry.by, entry.grant)
        return redo(store, bounds, entry)

    put(boot, "redo", torn)


def ignore_conditions() -> None:
    """`if` is not looked at."""
    put(Store, "_check_conditions", lambda *_args: None)


def forget_history() -> None:
    """After a start nobody can resume."""
    begin = Journal.begin

    async def forgetful(self: Journal, *args: Any) -> None:
        await begin(self, *args)
        store = self._triode.store
        store.history._clear([], store.seq)

    put(Journal, "begin", forgetful)


def other_epoch() -> None:
    """Each start begins a new epoch with the old one's numbers."""
    begin = Store.begin_log

    def renamed(self: Store, lineage: Lineage, *args: Any) -> None:
        begin(self, Lineage(lineage.epoch[::-1]), *args)

    put(Store, "begin_log", renamed)


def forget_rooms() -> None:
    """What is said in rooms is put into no file."""
    put(room_records, "_put", lambda *_args: None)


def record_after_it_was_heard() -> None:
    """A message is put into the file with the next one."""
    put_now, late = room_records._put, list[Any]()

    def put_late(*args: Any) -> None:
        late.append(args)
        if len(late) > 1:
            put_now(*late.pop(0))

    put(room_records, "_put", put_late)


FAULTS: dict[str, Callable[[], None]] = {
    fault.__name__: fault
    for fault in (
        answer_before_sync,
        skip_at_redo,
        apply_refused,
        half_of_a_transaction_at_redo,
        ignore_conditions,
        forget_history,
        other_epoch,
        forget_rooms,
        record_after_it_was_heard,
    )
}


def run() -> None:
    """As `triode` does, with that."""
    put(saving, "LEAST_BYTES", SNAPSHOT_AFTER_BYTES)
    put(saving, "LOOK_EVERY_S", LOOK_EVERY_S)
    put(journal, "IDLE_S", 0.01)
    put(database, "CHECKPOINT_IDLE_BYTES", 64 * 1024)
    if name := os.environ.get("CRASH_FAULT"):
        FAULTS[name]()
    main()


if __name__ == "__main__":
    run()
