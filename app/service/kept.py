"""A snapshot as a log keeps it: a head, the tables, and the document as JSON.

piece 0   {"version":1,"seq":90210,"time_ms":…,"bytes":…,"footprint":…,"bounds":{…},"touches":{…},
          "outcomes":1,"checksum":"…"}
then      as many pieces of outcomes as the head says: [["NAME",[SEQ,TIME_MS,STATUS,"ASKED"]]…]
the rest  the document, cut anywhere
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from triode.app.log.log import LogRefused
from triode.store.checksum import Checksum, parse_checksum
from triode.store.entry import Bounds
from triode.store.outcomes import Outcome, Outcomes
from triode.store.touched import Touches
from triode.store.value import encode_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from triode.store.lineage import Lineage
    from triode.store.store import Store
    from triode.store.value import Json

VERSION: Final = 1
PIECE_BYTES: Final = 1024 * 1024
OUTCOME_ROWS: Final = 5000


class Head(Struct, frozen=True):
    """What there is beside the document. `bytes` and `footprint` are its size as the store
    counts it, `outcomes` is how many pieces hold these.
    """

    seq: int
    time_ms: int
    bytes: int
    footprint: int
    bounds: Bounds
    touches: Touches
    outcomes: int = 0
    checksum: str = str(Checksum())
    version: int = VERSION


def head_of(store: Store, bounds: Bounds, time_ms: int, outcomes: int) -> Head:
    """The head for a store as it is now, whose last entry is of that time."""
    assert store.checksum is not None
    return Head(
        store.seq,
        time_ms,
        store.bytes,
        store.footprint,
        bounds,
        store.touched.state(),
        outcomes,
        str(store.checksum),
    )


def restore(
    store: Store,
    head: Head,
    outcomes: Iterable[tuple[str, Outcome]],
    root: Json,
    lineage: Lineage,
) -> None:
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
        outcomes=Outcomes(outcomes),
        checksum=checksum,
    )


def encode_head(head: Head) -> bytes:
    """Piece 0."""
    return msgspec.json.encode(head)


def decode_head(data: bytes) -> Head:
    """Raises `LogRefused`."""
    try:
        head = msgspec.json.decode(data, type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LogRefused(f"a damaged snapshot: {error}") from error
    if head.version != VERSION:
        raise LogRefused(
            f"a snapshot of version {head.version}; this Triode reads {VERSION}: use a newer one"
        )
    return head


def outcome_pieces(rows: Mapping[str, Outcome]) -> list[Sequence[tuple[str, Outcome]]]:
    """Outcomes, cut so that none of the parts is much work to encode."""
    items = list(rows.items())
    return [items[at : at + OUTCOME_ROWS] for at in range(0, len(items), OUTCOME_ROWS)]


def encode_outcomes(rows: Sequence[tuple[str, Outcome]]) -> bytes:
    """One piece of them."""
    return msgspec.json.encode(rows)


def decode_outcomes(data: bytes) -> list[tuple[str, Outcome]]:
    """Raises `LogRefused`."""
    try:
        return msgspec.json.decode(data, type=list[tuple[str, Outcome]])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LogRefused(f"a damaged snapshot: {error}") from error


def document_pieces(root: Json) -> Iterator[bytes]:
    """The pieces of a document, which must not change meanwhile; an empty one is a pause."""
    batch: list[bytes] = []
    size = 0
    for part in encode_steps(root):
        batch.append(part)
        size += len(part)
        if size >= PIECE_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
        else:
            yield b""
    if batch:
        yield b"".join(batch)
