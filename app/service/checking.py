"""Whether a log can be begun from, and tells the truth: what `triode check` does."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

import trio

from triode.app.log.log import LogRefused
from triode.app.service.boot import rebuild
from triode.store.store import Store
from triode.store.value import encode_steps

if TYPE_CHECKING:
    from triode.app.log.log import Opened, Snapshot
    from triode.app.log.reader import Reader
    from triode.app.runtime.progress import Progress


class Checked(NamedTuple):
    """What was found: what is wrong, in sentences, and the document as far as it can be read."""

    faults: list[str]
    store: Store
    time_ms: int


def blank() -> Store:
    """A store for `rebuild`."""
    return Store({}, epoch="none", history_items=0, history_bytes=0)


async def check(kept: Reader, progress: Progress) -> Checked:
    """Look at all of a log: SQLite's file, each snapshot, each entry. What is redone from one
    snapshot has to come to the next one.
    """
    progress.begin("checking the file")
    faults = [f"the file: {fault}" for fault in await trio.to_thread.run_sync(kept.faults)]
    opened, store, time_ms = kept.opened, blank(), 0
    if opened.last and not opened.snapshots:
        faults.append("there is no snapshot to begin with")
    oldest_first = list(opened.snapshots)[::-1]
    for index, snapshot in enumerate(oldest_first):
        following = oldest_first[index + 1].seq if index + 1 < len(oldest_first) else opened.last
        before, store = store, blank()
        try:
            if index:
                faults += await _differences(kept, opened, snapshot, before, progress)
            _, time_ms = await rebuild(
                store, kept, opened, snapshot, until_seq=following, progress=progress
            )
        except LogRefused as error:
            faults.append(str(error))
    return Checked(faults, store, time_ms)


async def _differences(
    kept: Reader, opened: Opened, snapshot: Snapshot, redone: Store, progress: Progress
) -> list[str]:
    """What is another thing in a snapshot than in the document as it was redone up to there."""
    if redone.seq != snapshot.seq:
        return []  # it was said why
    store = blank()
    await rebuild(store, kept, opened, snapshot, until_seq=snapshot.seq, progress=progress)
    progress.begin("comparing")
    found = {
        "the document": (await _digest(store), await _digest(redone)),
        "its size": (store.bytes, redone.bytes),
        "its size in memory": (store.footprint, redone.footprint),
        "what was answered": (dict(store.outcomes.rows()), dict(redone.outcomes.rows())),
        "the server's records": (dict(store.records.rows()), dict(redone.records.rows())),
        "the checksum": (store.checksum, redone.checksum),
        "what was written last": (store.touched.state(), redone.touched.state()),
    }
    return [
        f"snapshot {snapshot.id}, at {snapshot.seq}: {what} is not what the log comes to"
        for what, (one, other) in found.items()
        if one != other
    ]


async def _digest(store: Store) -> bytes:
    digest = sha256()
    for piece in encode_steps(store.document.root):
        digest.update(piece)
        await trio.lowlevel.checkpoint()
    return digest.digest()
