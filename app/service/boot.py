"""From a log to the document: the newest snapshot that leaves enough behind it, and what came
after. Done again, each entry brings about what it did the first time, so positions that clients
have are good, and what they missed is in the history.
"""

from __future__ import annotations

import gc
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from triode.app.log.log import LogRefused
from triode.app.runtime.turns import TimedTurn
from triode.app.service.decision import hold_to, redo
from triode.app.service.issuing import take_over
from triode.app.service.log_snapshot import Saved, decode_head, restore
from triode.app.service.room_records import keep_rooms, take_rooms
from triode.app.service.saving import save
from triode.app.service.sharing import boot_shared
from triode.app.service.snapshot_reading import choose, load_snapshot
from triode.store.entry import EntryError, decode_batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.app.log.log import Batch, Opened, Snapshot
    from triode.app.runtime.progress import Progress
    from triode.app.service.snapshot_reading import Readable
    from triode.app.service.triode import Triode
    from triode.store.entry import Bounds, Entry
    from triode.store.store import Store

log = logging.getLogger("triode")


async def boot(triode: Triode) -> bool:
    """Open the log of a Triode, if it has one, and go on where it stands; once. False: it is open
    already, or there is none. Raises `LogRefused`.
    """
    journal = triode.journal
    if journal is None or journal.is_begun:
        await trio.lowlevel.checkpoint()
        return False
    since = trio.current_time()
    triode.clock.sync()
    triode.progress.begin("opening the log")
    opened = await journal.log.open()
    journal.is_new = not opened.last
    try:
        if opened.snapshots and journal.shared is not None:
            await _begin_shared(triode, opened)
        elif opened.snapshots:
            await journal.begin(*await _read(triode, opened))
        elif opened.last:
            raise LogRefused("the log has no snapshot to begin with")
        else:
            await _begin_new(triode, opened)
        # In a shared log is what was said in them.
        if journal.shared is None:
            await take_rooms(triode)
    except BaseException:
        journal.is_begun = False
        await journal.log.aclose()
        raise
    store = triode.store
    triode.boot_s = trio.current_time() - since
    if journal.is_new:
        log.info("a new log: the document begins at position %s", store.position)
    else:
        log.info(
            "the document was read from the log in %.1f s: %.1f MB, at position %s",
            triode.boot_s,
            store.bytes / 1e6,
            store.position,
        )
    return True


async def let_go(triode: Triode) -> None:
    """Close the log. Also cancelled it takes a few seconds at most."""
    journal = triode.journal
    if journal is not None and journal.is_begun:
        journal.is_begun = False
        if journal.broken is None and journal.shared is None:
            await keep_rooms(triode)
        await journal.log.aclose()
    await trio.lowlevel.checkpoint()


async def _begin_new(triode: Triode, opened: Opened) -> None:
    """A new log begins with the document that there is, and with the bounds of the settings."""
    store, journal = triode.store, triode.journal
    assert journal is not None
    store.begin_log(opened.lineage)
    journal.replica.bounds = journal.wanted
    await save(triode)
    if journal.shared is None:
        await journal.begin(journal.wanted, 0)
    else:
        await _begin_shared(triode, await journal.shared.open_again())


async def _begin_shared(triode: Triode, opened: Opened) -> None:
    journal = triode.journal
    assert journal is not None
    with _no_collections():
        await boot_shared(triode, opened)
    await journal.begin(journal.replica.bounds, journal.last_ms)


async def _read(triode: Triode, opened: Opened) -> tuple[Bounds, int]:
    journal = triode.journal
    assert journal is not None
    newest = opened.snapshots[0]
    time_ms = decode_head(await journal.log.read_piece(newest.id, 0)).time_ms
    journal.saved = Saved(newest.seq, time_ms)
    snapshot = choose(opened.snapshots, opened.last, triode.settings.history_items)
    with _no_collections():
        found = await rebuild(triode.store, journal.log, opened, snapshot, progress=triode.progress)
    take_over(triode)
    return found


@contextmanager
def _no_collections() -> Iterator[None]:
    """A document that is being read is no garbage: to look for some, again and again, takes half of
    the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


async def rebuild(
    store: Store,
    kept: Readable,
    opened: Opened,
    snapshot: Snapshot,
    *,
    until_seq: int | None = None,
    progress: Progress,
) -> tuple[Bounds, int]:
    """Make `store` what it was after the entry `until_seq`, or the last one: from a snapshot, and
    what came after. The bounds that hold then, and the time. Raises `LogRefused`.
    """
    last = opened.last if until_seq is None else until_seq
    head, tables, root = await load_snapshot(kept, snapshot, progress)
    bounds, last_ms = head.bounds, head.time_ms
    restore(store, head, tables, root, opened.lineage)
    hold_to(store, bounds)
    progress.begin("redoing the log", last - store.seq, "writes")
    turn = TimedTurn()
    while store.seq < last and (batches := await kept.read(store.seq)):
        for batch in batches:
            # The snapshot may have been made in the middle of a batch.
            for entry in _entries(batch)[store.seq + 1 - batch.first : last + 1 - batch.first]:
                bounds = redo(store, bounds, entry)
                last_ms = entry.time_ms
                progress.step(1)
                if turn.is_over:
                    await trio.lowlevel.checkpoint()
                    turn.begin()
            if store.seq == last:
                break
    if store.seq != last:
        raise LogRefused(f"the entries {store.seq + 1} to {last} are not in the log")
    return bounds, last_ms


def _entries(batch: Batch) -> list[Entry]:
    try:
        entries = decode_batch(batch.data)
    except EntryError as error:
        raise LogRefused(f"entries {batch.first} to {batch.last}: {error}") from error
    if len(entries) != batch.last + 1 - batch.first:
        raise LogRefused(f"entries {batch.first} to {batch.last} are not all there")
    return entries
