"""Reads that wait for a position.

A Triode of several trails the log by some milliseconds. Who has seen a position, here or at another
one, names it (`at`), and is answered when it is here. Whether it will come is not guessed by
waiting: the server of the log is asked where the log ends. When that is here, and the position is
not, it is none of this log.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from triode.app.wire.refusal import Refusal

if TYPE_CHECKING:
    from triode.app.service.triode import Triode
    from triode.store.change import Position

# Of seconds, to come back after.
AGAIN_S: Final = (1, 3)
FIELD: Final = "if-position"


async def reach(triode: Triode, position: Position | None) -> None:
    """Wait until the document is what it was at this position, or later; `position_wait` at most.

    Raises `Refusal`: 503 when that was too short; 412 when it will never be.
    """
    if position is None or triode.store.seq_of(position) is not None:
        return
    journal = triode.journal
    if journal is not None and journal.end is not None:
        journal.end.waits += 1
        has_all = await journal.end.reach(position)
        if triode.store.seq_of(position) is not None:
            return
        if not has_all:
            journal.end.waits_in_vain += 1
            raise _behind(position, triode.store.position)
    raise Refusal(
        412,
        f"{position} is no position of this log, or what it names was lost: read without it",
        title="No such position",
        extra={"position": str(triode.store.position)},
    )


async def reach_if_any(triode: Triode, position: Position | None) -> None:
    """As `reach`, for a stream that goes on from there: one that is not reached is not resumed."""
    with suppress(Refusal):
        await reach(triode, position)


def _behind(position: Position, here: Position) -> Refusal:
    retry_s = random.randint(*AGAIN_S)
    return Refusal(
        503,
        f"this server stands at {here}, and has not come to {position} yet: ask again, or another",
        title="Behind",
        extra={"retry_after": retry_s, "position": str(here)},
        headers={"Retry-After": str(retry_s)},
    )
