"""Snapshots of the document into the log, so that a start reads less, and old log can go."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import trio

from triode.app.log.log import LogAway, LogFull
from triode.app.runtime.turns import turn
from triode.app.service.log_snapshot import Saved, document_pieces, pieces_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from triode.app.service.journal import Journal
    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

LEAST_BYTES: Final = 32 * 1024 * 1024
LOOK_EVERY_S: Final = 1.0
AGAIN_AFTER_S: Final = 30.0
# Between two pieces at most.
PAUSE_S: Final = 0.05


async def save_when_due(triode: Triode) -> None:
    """Make a snapshot whenever there is much log since the last one, or no room; until
    cancelled. Raises `LogBroken`.
    """
    journal = triode.journal
    assert journal is not None
    while True:
        with trio.move_on_after(LOOK_EVERY_S):
            await journal.full.wait()
        if not journal.full.is_set() and not _is_due(triode, journal):
            continue
        try:
            await save(triode)
            # Old log may go now; whether that is room enough, the log knows.
            while journal.full.is_set():
                if await journal.log.has_room():
                    journal.full = trio.Event()
                    log.info("there is room again: writes are taken")
                else:
                    await trio.sleep(LOOK_EVERY_S)
        except LogFull:
            log.warning("there is no room for a snapshot; it is tried again")
            await trio.sleep(AGAIN_AFTER_S)
        except LogAway as error:
            log.warning("a snapshot could not be made: %s", error)


def _is_due(triode: Triode, journal: Journal) -> bool:
    shared = journal.shared
    if shared is not None and not shared.is_saver:
        return False
    if shared is not None and shared.needs_snapshot:
        return True
    return is_due(journal.log.bytes, triode.store.bytes)


def is_due(log_bytes: int, document_bytes: int) -> bool:
    """Whether reading the log takes so much longer than reading the document that a snapshot
    pays.
    """
    return log_bytes > max(LEAST_BYTES, document_bytes // 2)


async def save(triode: Triode, finish: Callable[[int], Awaitable[None]] | None = None) -> None:
    """One snapshot, of this moment. Others run meanwhile. In the end `finish` gets its id, in place
    of the log's own `finish_snapshot`. Raises `LogFull`, `LogAway` and `LogBroken`.
    """
    store, journal = triode.store, triode.journal
    assert journal is not None
    with ExitStack() as stack:
        async with journal.replica.between_batches:
            root = stack.enter_context(store.document.pin())
            seq = store.seq
            head, tables = pieces_of(store, journal.replica.bounds, journal.last_ms)
            snapshot = await journal.log.begin_snapshot(seq)
        await journal.log.add_piece(snapshot, head)
        for piece in tables:
            await journal.log.add_piece(snapshot, piece)
        began = trio.current_time()
        for piece in document_pieces(root):
            if piece:
                await journal.log.add_piece(snapshot, piece)
                # As long again is for those who write.
                await trio.sleep(min(trio.current_time() - began, PAUSE_S))
                began = trio.current_time()
            else:
                await turn()
    await (finish or journal.log.finish_snapshot)(snapshot)
    journal.saved = Saved(seq, triode.clock.unix_ms())
    if seq:
        log.info("a snapshot of the document is in the log, up to write %d", seq)
