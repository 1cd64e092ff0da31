"""What rooms remember, over a restart.

When the server ends, it is kept in the log, and taken out of it when the next one begins.

A message is no state: in the log it would wait for the disk. So as long as the server runs, it is
put into a file beside the log before anybody hears it, which costs a copy in memory (`log.ring`). A
killed server leaves that, and its rooms go on. A cut of the power leaves nobody knows what: rooms
begin anew then, and clients are told so.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from triode.app.delivery.room import KeptRoom
from triode.app.log.log import LogError
from triode.app.log.ring import Ring, RingCut, RingDamaged, carry_over
from triode.store.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triode.app.delivery.room import Message, Room
    from triode.app.delivery.rooms import Rooms
    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

_PREFIX: Final = "room/"
# The process may be killed soon; better some rooms than no clean end.
KEEP_S: Final = 5.0
RING: Final = "triode.rooms"
FORMAT: Final = 2
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
# Decoded at once, some milliseconds.
STEP: Final = 1000
# Of a larger message only the number is put into the ring: it goes to many rooms at once, too, and
# nobody shall wait for that.
BODY_BYTES: Final = 64 * 1024
LEAST_BYTES: Final = 1024 * 1024
# A message: its JSON, who did not hear it, and the rooms that it went to.
Heard = tuple[bytes, str | None, tuple[str, ...]]
# A room, its epoch, the number of its last message; and that, unless it is too large.
Said = tuple[str, str, int, Heard | None]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Said).decode


async def keep_rooms(triode: Triode) -> None:
    """The last thing that is written. Takes a few seconds at most, also cancelled."""
    journal = triode.journal
    assert journal is not None
    records = {
        _PREFIX + name: Record(_PREFIX + name, msgspec.to_builtins(room))
        for name, room in triode.hub.rooms.kept()
    }
    # There are some only if the disk was full when we began.
    old = [Record(name) for name in _found(triode) if name not in records]
    with trio.move_on_after(KEEP_S, shield=True):
        try:
            await journal.keep_alone([*old, *records.values()])
        except LogError as error:
            log.warning("what the rooms remember could not be kept: %s", error)


async def take_rooms(triode: Triode) -> None:
    """What the server before has kept is ours: in the log, and what is newer, if it was killed, in
    the ring. From now on what is said is put into the ring.
    """
    journal, rooms = triode.journal, triode.hub.rooms
    assert journal is not None
    found = _found(triode)
    kept = dict(_decoded(found))
    ring = await _open_ring(triode)
    if ring is not None:
        await _add_newer(kept, ring)
        rooms.recorder = partial(_record, rooms, ring)
        if found:
            # Before they go from the log: killed between the two, the next one finds them.
            for name, room in kept.items():
                _put_all(ring, name, room)
    for name, room in kept.items():
        rooms.restore(name, room)
    try:
        await journal.keep_alone([Record(name) for name in found])
    except LogError as error:
        log.warning("what the rooms remembered stays in the log: %s", error)


def _found(triode: Triode) -> dict[str, bytes]:
    rows = triode.store.records.rows()
    return {name: text for name, text in rows.items() if name.startswith(_PREFIX)}


def _decoded(found: dict[str, bytes]) -> Iterable[tuple[str, KeptRoom]]:
    for name, text in found.items():
        try:
            yield name.removeprefix(_PREFIX), msgspec.json.decode(text, type=KeptRoom)
        except msgspec.ValidationError as error:
            log.warning("%s in the log cannot be read, and begins anew: %s", name, error)


# ── the ring ────────────────────────────────────────────────────────────────────────────────────


async def _open_ring(triode: Triode) -> Ring | None:
    settings = triode.settings
    if settings.data is None or not settings.room_history:
        return None
    try:
        # As for the database: without it nobody knows whether the machine was started anew.
        tag = f"{FORMAT} {triode.store.epoch}@{_BOOT_ID.read_text().strip()}".encode()
        size = max(settings.room_history_bytes, LEAST_BYTES)
        make = partial(_ring, settings.data / RING, size, tag)
        return await trio.to_thread.run_sync(make)
    except OSError as error:
        log.warning("what rooms remember will not outlive a crash: %s", error)
        return None


def _ring(path: Path, size: int, tag: bytes) -> Ring:
    try:
        # With another `--room-history-bytes` rooms go on all the same.
        carry_over(path, size, tag)
    except RingDamaged as error:
        log.warning("%s cannot be read, and rooms begin anew: %s", path, error)
    return Ring(path, size, tag)


async def _add_newer(kept: dict[str, KeptRoom], ring: Ring) -> None:
    """Of each room the last messages without a hole; who spoke last comes last."""
    try:
        for count, record in enumerate(ring.records()):
            _add(kept, *_decode(record))
            if count % STEP == 0:
                await trio.lowlevel.checkpoint()
    except (RingDamaged, msgspec.MsgspecError, UnicodeDecodeError) as error:
        log.warning("the file of rooms cannot be read, and they begin anew: %s", error)
        ring.clear()
        kept.clear()


def _add(kept: dict[str, KeptRoom], name: str, epoch: str, seq: int, message: Heard | None) -> None:
    room = kept.get(name)
    if room is not None and room.epoch == epoch and seq <= room.seq:
        return  # the log had it
    messages: list[Any] = []
    if message is not None:
        if room is not None and (room.epoch, room.seq) == (epoch, seq - 1):
            messages = room.log
        messages.append((seq, message[0].decode(), *message[1:]))
    kept.pop(name, None)
    kept[name] = KeptRoom(epoch, seq, messages)


def _record(rooms: Rooms, ring: Ring, room: Room[Any], message: Message | None) -> None:
    try:
        _put(ring, room, message)
    except RingCut as error:
        # What the file lacks must not be resumed from: it is gone, and the end will keep them.
        log.error("%s: what rooms remember will not outlive a crash", error.strerror)
        rooms.recorder = None


def _put(ring: Ring, room: Room[Any], message: Message | None) -> None:
    """It is said, or the room came into being."""
    if message is None:
        ring.put(_encode((room.name, room.epoch, room.seq, None)))
    else:
        heard = message.body, message.omitted, message.told
        _put_said(ring, (room.name, room.epoch, message.seq, heard))


def _put_all(ring: Ring, name: str, room: KeptRoom) -> None:
    _put_said(ring, (name, room.epoch, room.seq - len(room.log), None))
    for seq, body, omitted, told in room.log:
        _put_said(ring, (name, room.epoch, seq, (body.encode(), omitted, told)))


def _put_said(ring: Ring, said: Said) -> None:
    message = said[3]
    if message is not None and len(message[0]) > BODY_BYTES:
        # That there was one must be known all the same: nobody may resume before it.
        said = (*said[:3], None)
    ring.put(_encode(said))
