"""Snapshots, as they are read from a log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

from triode.app.log.log import LogRefused
from triode.app.runtime.turns import exhaust
from triode.app.service.log_snapshot import decode_head, decode_tables
from triode.store.value import JsonError, decode_steps

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from triode.app.log.log import Batch, Snapshot
    from triode.app.runtime.progress import Progress
    from triode.app.service.log_snapshot import Head, Tables
    from triode.store.value import Json

# A document may have grown deeper than any one body, see `store.plan`.
DOCUMENT_DEPTH: Final = 512
# Of one step of decoding.
SLICE_BYTES: Final = 64 * 1024


class Readable(Protocol):
    """What of a log is read: a part of `log.Log`."""

    async def read(self, since: int) -> list[Batch]:
        """As `log.Log`'s."""

    async def read_piece(self, snapshot: int, number: int) -> bytes:
        """As `log.Log`'s."""


def choose(newest_first: Sequence[Snapshot], last: int, history_items: int) -> Snapshot:
    """The newest snapshot that leaves so many entries behind it for those who resume; else the
    oldest.
    """
    for snapshot in newest_first:
        if last - snapshot.seq >= history_items:
            return snapshot
    return newest_first[-1]


async def load_snapshot(
    kept: Readable, snapshot: Snapshot, progress: Progress
) -> tuple[Head, Tables, Json]:
    """What a snapshot has. Raises `LogRefused`."""
    head = decode_head(await kept.read_piece(snapshot.id, 0))
    first = 1 + head.tables
    tables = decode_tables(head, [await kept.read_piece(snapshot.id, n) for n in range(1, first)])
    progress.begin("reading the document", head.bytes, "bytes")
    pieces: list[bytes] = []
    for number in range(first, snapshot.pieces):
        pieces.append(await kept.read_piece(snapshot.id, number))
        progress.step(len(pieces[-1]))
    text = b"".join(pieces)
    del pieces
    progress.begin("decoding the document", len(text), "bytes")
    steps = decode_steps(text, max_depth=DOCUMENT_DEPTH, slice_bytes=SLICE_BYTES, is_own=True)
    try:
        root = await exhaust(_counted(steps, progress))
    except JsonError as error:
        raise LogRefused(f"snapshot {snapshot.id} is damaged: {error}") from error
    return head, tables, root


def _counted(steps: Generator[None, None, Json], progress: Progress) -> Generator[None, None, Json]:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return cast("Json", done.value)
        progress.step(SLICE_BYTES)
        yield
