"""Events no longer than a client takes (`max_event`): what would be longer says where its value is
to be fetched. Once for all clients of one bound, and that is a power of two: there are few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from triode.app.wire.frame import document_frame, members_of
from triode.app.wire.refusal import bad_request
from triode.store.path import format_path
from triode.store.value import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from triode.app.wire.frame import Kind
    from triode.store.event import Event
    from triode.store.path import Path
    from triode.store.value import Json

LEAST: Final = 1024
MOST: Final = 1 << 30


def check_max_event(value: Any) -> int:
    """A number of bytes, or its text, rounded down to a power of two; None is 0, no bound. Raises
    `Refusal` 400.
    """
    if value is None:
        return 0
    if type(value) is str and value.isascii() and value.isdecimal() and len(value) < 12:
        value = int(value)
    if type(value) is not int or not LEAST <= value <= MOST:
        raise bad_request(
            f'"max_event" must be {LEAST} to {MOST} bytes', limit=MOST, member="max_event"
        )
    bits: int = value.bit_length()
    return 1 << (bits - 1)


def fetch_item(path: Path) -> Json:
    """What stands in a snapshot for an item that is too long."""
    text = format_path(path)
    return {"path": text, "fetch": _fetch(text)}


def event_frames(
    kind: Kind, event: Event, time_ms: int, filter_json: bytes, id: bytes | None, most: int
) -> list[bytes]:
    """The frames of an event, none longer than `most` (0: as long as it is). The last has the
    position.
    """
    type_, members = members_of(event, time_ms)
    whole = document_frame(kind, type_, filter_json, members, id)
    if not most or len(whole) <= most:
        return [whole]
    if event.kind == "snapshot":
        items: Any = event.value
        return list(snapshot_frames(kind, items, filter_json, id, most))
    return [fitted(whole, kind, event, time_ms, filter_json, id, most)]


def fitted(
    whole: bytes,
    kind: Kind,
    event: Event,
    time_ms: int,
    filter_json: bytes,
    id: bytes | None,
    most: int,
    missed: int = 0,
) -> bytes:
    """The frame `whole` of an event, or what stands for it where it is too long."""
    if not most or len(whole) <= most or event.kind != "update":
        return whole
    text = format_path(event.path)
    rest = b',"missed":%d}' % missed if missed else b"}"
    members = b',"path":%b,"fetch":%b,"time":%d%b' % (
        encode(text),
        encode(_fetch(text)),
        time_ms,
        rest,
    )
    return document_frame(kind, "update", filter_json, members, id)


def room_of(kind: Kind, filter_json: bytes, id: bytes | None, most: int) -> int:
    """How many bytes all items of one snapshot frame may have, commas included."""
    return most - len(snapshot_frame(kind, [], filter_json, id, more=False))


def snapshot_frames(
    kind: Kind,
    items: Iterable[tuple[Path, Json]],
    filter_json: bytes,
    id: bytes | None,
    most: int,
) -> Iterator[bytes]:
    """A snapshot as frames. An item that does not fit into one of its own says where it is."""
    room = room_of(kind, filter_json, id, most)
    batch: list[bytes] = []
    size = 0
    for path, value in items:
        item = encode({"path": format_path(path), "value": value})
        if len(item) > room:
            item = encode(fetch_item(path))
        if batch and size + len(item) + 1 > room:
            yield snapshot_frame(kind, batch, filter_json, None, more=True)
            batch, size = [], 0
        batch.append(item)
        size += len(item) + 1
    yield snapshot_frame(kind, batch, filter_json, id, more=False)


def snapshot_frame(
    kind: Kind, items: list[bytes], filter_json: bytes, id: bytes | None, *, more: bool
) -> bytes:
    """One frame of encoded items."""
    members = b',"items":[%b],"more":%b}' % (b",".join(items), b"true" if more else b"false")
    return document_frame(kind, "snapshot", filter_json, members, id)


def _fetch(path: str) -> str:
    return "/store?path=" + quote(path, safe="")
