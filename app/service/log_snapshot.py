"""A snapshot as a log keeps it: a head, the tables, and the document as JSON.

piece 0   {"version":1,"seq":90210,"time_ms":…,"bytes":…,"footprint":…,"bounds":{…},"touches":{…},
          "outcomes":1,"records":1,"checksum":"…","deadlines":1,"log_ms":…}
then      as many pieces of outcomes as the head says: [["NAME",[SEQ,TIME_MS,STATUS,"ASKED"]]…]
          and of records: [["NAME",{…}]…]
          and of deadlines: [[DUE_MS,["a","b"]]…]; only with these it is of version 2
the rest  the document, cut anywhere
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from triode.app.log.log import LogRefused
from triode.store.checksum import Checksum, parse_checksum
from triode.store.deadlines import Deadlines
from triode.store.entry import Bounds
from triode.store.outcomes import Outcome, Outcomes
from triode.store.records import Records
from triode.store.touched import Touches
from triode.store.value import encode_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from triode.store.lineage import Lineage
    from triode.store.store import Store
    from triode.store.value import Json

VERSION: Final = 2
# Without deadlines: programs of before there were any read it.
PLAIN: Final = 1
PIECE_BYTES: Final = 64 * 1024
# Of one step of encoding: a quarter of a millisecond.
SLICE_BYTES: Final = 8 * 1024
TABLE_ROWS: Final = 5000

_outcomes_of: Final = msgspec.json.Decoder(list[tuple[str, Outcome]]).decode
_deadlines_of: Final = msgspec.json.Decoder(list[tuple[int, tuple[str, ...]]]).decode
_records_of: Final = msgspec.json.Decoder(list[tuple[str, dict[str, Any]]]).decode


class Head(Struct, frozen=True):
    """What there is beside the document. `bytes` and `footprint` are its size as the store
    counts it, `outcomes` and `records` are how many pieces hold these.
    """

    seq: int
    time_ms: int
    bytes: int
    footprint: int
    bounds: Bounds
    touches: Touches
    outcomes: int = 0
    checksum: str = str(Checksum())
    records: int = 0
    deadlines: int = 0
    # The time of the last entry. 0 as older programs wrote it: then `time_ms` is the next best.
    log_ms: int = 0
    version: int = PLAIN

    @property
    def tables(self) -> int:
        """How many pieces hold tables."""
        return self.outcomes + self.records + self.deadlines


class Tables(NamedTuple):
    """What there is beside the head and the document, row by row."""

    outcomes: Sequence[tuple[str, Outcome]]
    records: Sequence[tuple[str, dict[str, Any]]]
    deadlines: Sequence[tuple[int, tuple[str, ...]]] = ()


class Saved(NamedTuple):
    """The newest snapshot: the entry that it goes up to, and the time of the log then."""

    seq: int
    time_ms: int


def pieces_of(store: Store, bounds: Bounds, time_ms: int) -> tuple[bytes, Iterator[bytes]]:
    """The head of a store as it is now, whose last entry is of that time; and the pieces of its
    tables as they are now, to be encoded one after the other.
    """
    assert store.checksum is not None
    outcomes = list(store.outcomes.rows().items())
    records = [(name, msgspec.Raw(text)) for name, text in store.records.rows().items()]
    parts = _parts(outcomes), _parts(records), _parts(store.deadlines.rows())
    head = Head(
        store.seq,
        time_ms,
        store.bytes,
        store.footprint,
        bounds,
        store.touched.state(),
        len(parts[0]),
        str(store.checksum),
        len(parts[1]),
        len(parts[2]),
        store.time_ms,
        VERSION if parts[2] else PLAIN,
    )
    return msgspec.json.encode(head), map(msgspec.json.encode, chain(*parts))


def _parts(rows: list[Any]) -> list[Sequence[Any]]:
    """Cut so that none of the parts is much work to encode."""
    return [rows[at : at + TABLE_ROWS] for at in range(0, len(rows), TABLE_ROWS)]


def restore(store: Store, head: Head, tables: Tables, root: Json, lineage: Lineage) -> None:
    """Make a store what it was when these were kept. Raises `LogRefused`."""
    try:
        checksum = parse_checksum(head.checksum)
    except ValueError as error:
        raise LogRefused(f"a damaged snapshot: {error}") from error
    store.restore(
        root,
        head.seq,
        lineage,
        size=head.bytes,
        footprint=head.footprint,
        touches=head.touches,
        outcomes=Outcomes(tables.outcomes),
        records=Records(tables.records),
        deadlines=Deadlines(tables.deadlines),
        time_ms=head.log_ms or head.time_ms,
        checksum=checksum,
    )


def decode_head(data: bytes) -> Head:
    """Raises `LogRefused`."""
    try:
        head = msgspec.json.decode(data, type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LogRefused(f"a damaged snapshot: {error}") from error
    if not PLAIN <= head.version <= VERSION:
        raise LogRefused(
            f"a snapshot of version {head.version}; this Triode reads versions up to {VERSION}: "
            "use a newer one"
        )
    return head


def decode_tables(head: Head, pieces: Sequence[bytes]) -> Tables:
    """Of the pieces between the head and the document. Raises `LogRefused`."""
    try:
        return Tables(
            [row for piece in pieces[: head.outcomes] for row in _outcomes_of(piece)],
            [
                row
                for piece in pieces[head.outcomes :][: head.records]
                for row in _records_of(piece)
            ],
            [
                row
                for piece in pieces[head.outcomes + head.records :]
                for row in _deadlines_of(piece)
            ],
        )
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LogRefused(f"a damaged snapshot: {error}") from error


def document_pieces(root: Json) -> Iterator[bytes]:
    """The pieces of a document, which must not change meanwhile; an empty one is a pause."""
    batch: list[bytes] = []
    size = 0
    for part in encode_steps(root, slice_bytes=SLICE_BYTES):
        batch.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
        else:
            yield b""
    if batch:
        yield b"".join(batch)
