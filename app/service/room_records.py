"""What rooms remember, over a restart: kept in the log when the server ends, and taken out of it
when the next one begins.

Not at each message: that would make everybody in a room wait for the disk. So what is there after
a crash is not known to be all, and is not taken for it: rooms begin anew then, and clients are
told so.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from triode.app.delivery.room import KeptRoom
from triode.app.log.log import LogError
from triode.store.records import Record

if TYPE_CHECKING:
    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

_PREFIX: Final = "room/"
# The process may be killed soon; better some rooms than no clean end.
KEEP_S: Final = 5.0


async def keep_rooms(triode: Triode) -> None:
    """The last thing that is written. Takes a few seconds at most, also cancelled."""
    journal = triode.journal
    assert journal is not None
    records = [
        Record(_PREFIX + name, msgspec.to_builtins(room)) for name, room in triode.hub.rooms.kept()
    ]
    with trio.move_on_after(KEEP_S, shield=True):
        try:
            await journal.keep_alone(records)
        except LogError as error:
            log.warning("what the rooms remember could not be kept: %s", error)


async def take_rooms(triode: Triode) -> None:
    """What the server before has kept is ours. Once it is used it must not be found again: what is
    said from now on is not in it.
    """
    journal, store = triode.journal, triode.store
    assert journal is not None
    found = {n: text for n, text in store.records.rows().items() if n.startswith(_PREFIX)}
    try:
        await journal.keep_alone([Record(name) for name in found])
    except LogError as error:
        log.warning("the rooms begin anew: %s", error)
        return
    for name, text in found.items():
        try:
            room = msgspec.json.decode(text, type=KeptRoom)
        except msgspec.ValidationError as error:
            log.warning("%s in the log cannot be read, and begins anew: %s", name, error)
        else:
            triode.hub.rooms.restore(name.removeprefix(_PREFIX), room)
