"""From a log to the document: the newest snapshot that leaves enough behind it, and what came
after. Done again, each entry brings about what it did the first time, so positions that clients
have are good, and what they missed is in the history.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from triode.app.log.log import LogRefused
from triode.app.runtime.turns import exhaust
from triode.app.service.decision import hold_to, redo
from triode.app.service.kept import decode_head
from triode.app.service.saving import save
from triode.store.entry import EntryError, decode_batch
from triode.store.value import JsonError, decode_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.app.log.log import Log, Opened, Snapshot
    from triode.app.service.kept import Head
    from triode.app.service.triode import Triode
    from triode.store.entry import Bounds
    from triode.store.value import Json

log = logging.getLogger("triode")

# A document may have grown deeper than any one body, see `store.plan`.
KEPT_DEPTH: Final = 512
TURN_S: Final = 0.002


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
    opened = await journal.log.open()
    try:
        if opened.snapshots:
            await journal.begin(*await _read(triode, journal.log, opened))
        elif opened.last:
            raise LogRefused("the log has no snapshot to begin with")
        else:
            await _begin_new(triode, opened)
    except BaseException:
        await journal.log.aclose()
        raise
    store = triode.store
    log.info(
        "the log stands at %s, %.1f MB; read in %.1f s",
        store.position,
        store.bytes / 1e6,
        trio.current_time() - since,
    )
    return True


async def let_go(triode: Triode) -> None:
    """Close the log. Also cancelled it takes a few seconds at most."""
    journal = triode.journal
    if journal is not None and journal.is_begun:
        journal.is_begun = False
        await journal.log.aclose()
    await trio.lowlevel.checkpoint()


async def _begin_new(triode: Triode, opened: Opened) -> None:
    """A new log begins with the document that there is, and with the bounds of the settings."""
    store, journal = triode.store, triode.journal
    assert journal is not None
    store.begin_log(opened.lineage)
    journal.bounds = journal.wanted
    await save(triode)
    await journal.begin(journal.bounds, 0)


async def _read(triode: Triode, kept: Log, opened: Opened) -> tuple[Bounds, int]:
    store = triode.store
    snapshot = choose(opened.snapshots, opened.last, triode.settings.history_items)
    head, root = await _load(kept, snapshot)
    bounds, last_ms = head.bounds, head.time_ms
    store.restore(
        root,
        head.seq,
        opened.lineage,
        size=head.bytes,
        footprint=head.footprint,
        touches=head.touches,
    )
    hold_to(store, bounds)
    until = trio.current_time() + TURN_S
    while batches := await kept.read(store.seq):
        for batch in batches:
            try:
                entries = decode_batch(batch.data)
            except EntryError as error:
                raise LogRefused(f"entries {batch.first} to {batch.last}: {error}") from error
            # The snapshot may have been made in the middle of a batch.
            for entry in entries[store.seq + 1 - batch.first :]:
                bounds = redo(store, bounds, entry)
                last_ms = entry.time_ms
                if trio.current_time() > until:
                    await trio.lowlevel.checkpoint()
                    until = trio.current_time() + TURN_S
            if store.seq != batch.last:
                raise LogRefused(f"entries {batch.first} to {batch.last} are not all there")
    return bounds, last_ms


def choose(newest_first: Sequence[Snapshot], last: int, history_items: int) -> Snapshot:
    """The newest snapshot that leaves so many entries behind it for those who resume; else the
    oldest.
    """
    for snapshot in newest_first:
        if last - snapshot.seq >= history_items:
            return snapshot
    return newest_first[-1]


async def _load(kept: Log, snapshot: Snapshot) -> tuple[Head, Json]:
    head = decode_head(await kept.read_piece(snapshot.id, 0))
    pieces = [await kept.read_piece(snapshot.id, n) for n in range(1, snapshot.pieces)]
    try:
        root = await exhaust(decode_steps(b"".join(pieces), max_depth=KEPT_DEPTH))
    except JsonError as error:
        raise LogRefused(f"snapshot {snapshot.id} is damaged: {error}") from error
    return head, root
