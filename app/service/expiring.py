"""Places whose time has come are removed: a task that puts `expire` entries into the order of all
writes.

Which ones go is decided where the entry is carried out: one that was renewed before it stays. So it
does no harm that several servers of one log write such entries; the one that makes the snapshots
is first, the others only when it is late.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.wire.refusal import Refusal, bad_request
from triode.store.operation import Expire

if TYPE_CHECKING:
    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

LOOK_EVERY_S: Final = 0.1
# Of one entry: to apply it and to tell of it takes about a millisecond.
AT_ONCE: Final = 100
SWEPT: Final = 500
# Where several servers share a log.
OTHERS_LATE_MS: Final = 1000
# When the log takes nothing.
AGAIN_AFTER_S: Final = 1.0
# At a start, before anybody may ask: what ended while the server was off.
START_S: Final = 5.0
MOST_S: Final = 10 * 365 * 24 * 3600


async def expire_in_time(triode: Triode) -> None:
    """Remove what ends, until cancelled."""
    while True:
        try:
            await expire_due(triode)
        except Refusal as refusal:
            log.warning("what has ended cannot be removed now: %s", refusal.detail)
            await trio.sleep(AGAIN_AFTER_S)
        triode.store.deadlines.sweep(SWEPT)
        await trio.sleep(LOOK_EVERY_S)


async def expire_first(triode: Triode) -> None:
    """What ended before the start goes before anybody may ask for it."""
    if triode.journal is not None and triode.journal.shared is not None:
        return  # it may be out of reach, and the others are there
    with trio.move_on_after(START_S):
        try:
            await expire_due(triode)
        except Refusal as refusal:
            log.warning("what has ended cannot be removed now: %s", refusal.detail)


async def expire_due(triode: Triode) -> None:
    """Remove all that has ended by now, a part after the other. Raises `Refusal`."""
    store, journal = triode.store, triode.journal
    late_ms = 0
    if journal is not None and journal.shared is not None and not journal.shared.is_saver:
        late_ms = OTHERS_LATE_MS
    while True:
        now_ms = max(store.time_ms, triode.clock.unix_ms())
        paths = store.deadlines.due(now_ms - late_ms, AT_ONCE)
        if not paths:
            return
        await triode.write(Expire(tuple(paths), now_ms))
        await trio.lowlevel.checkpoint()


def check_ttl(given: Any) -> int | None:
    """The `ttl` of a write, in milliseconds; null is for ever. Raises `Refusal` 400."""
    if given is None:
        return None
    number: float = given if type(given) in (int, float) else 0
    if not 0 < number <= MOST_S:
        raise bad_request(
            f'"ttl" must be seconds, more than 0 and at most {MOST_S}; null is for ever',
            member="ttl",
        )
    return math.ceil(number * 1000)


def read_ttl(text: str) -> int | None:
    """The same from a query. Raises `Refusal` 400."""
    if text == "null":
        return None
    try:
        return check_ttl(float(text))
    except ValueError:
        return check_ttl(text)


def expires_in(triode: Triode, due_ms: int) -> str:
    """In how many seconds, to the nearest one, a deadline is."""
    left_ms = due_ms - max(triode.store.time_ms, triode.clock.unix_ms())
    return str(max(0, round(left_ms / 1000)))
