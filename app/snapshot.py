"""Snapshots: what a filter selects now, as frames.

A small one is a single frame, kept on the audience so that all who ask at the same position share
it. A big one is a feed: it pins the document, so that it is one state however long the client
takes, and is encoded piece by piece as the client takes it. A value too big for a frame goes out
as one event in pieces: SSE is a byte stream anyhow, and WebSocket has fragments (RFC 6455 section
5.4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from weakref import ref

from app.frame import TEXT, Frame, document_frame, ws_frame
from app.outbox import Feed
from store.path import format_path
from store.value import approx_bytes, encode, encode_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.frame import Kind
    from app.source import Audience
    from store.path import Path
    from store.store import Store
    from store.value import Json

# Up to here a snapshot is encoded at once: under a millisecond of work.
FRAME_BYTES: Final = 64 * 1024
# What a feed counts in a queue: its bytes are made when there is room, but it holds a pin, so that
# only a few may wait at once; what follows it has to find room too.
FEED_BYTES: Final = FRAME_BYTES // 2
# A place costs this much besides its value: path, quotes, braces.
ITEM_BYTES: Final = 40


def snapshot(
    store: Store, audience: Audience, kind: Kind, *, id: bool = True, droppable: bool = False
) -> Frame:
    """The snapshot of an audience's filter at the store's position: a frame, or a feed when it is
    big.

    With `id` its last frame carries the position: say so only for the last snapshot of several that
    belong together. `droppable`: it stands for a change, and may be lost to a full queue as that.
    """
    seq = store.seq
    key = (kind, id, droppable)
    kept = audience.snapshots.get(key)
    if kept is not None and kept[0] == seq:
        known = kept[1]() if isinstance(kept[1], ref) else kept[1]
        if known is not None:
            return known
    frame = _make(store, audience, kind, id=id, source=audience if droppable else None)
    # A feed holds a pin, and what it has made: it lives only as long as somebody reads it.
    audience.snapshots[key] = (seq, ref(frame) if isinstance(frame, Feed) else frame)
    return frame


def _make(
    store: Store, audience: Audience, kind: Kind, *, id: bool, source: Audience | None
) -> Frame:
    position = str(store.position).encode() if id else None
    items: list[tuple[Path, Json]] = []
    size = 0
    for path, value in audience.selection.filter.select(store.document.root):
        size += ITEM_BYTES + approx_bytes(value, limit=FRAME_BYTES)
        if size > FRAME_BYTES:
            pieces = _pieces(store, audience, kind, position)
            next(pieces)
            return Feed(pieces, source, store.seq, FEED_BYTES)
        items.append((path, value))
    return Frame(_frame(audience, kind, items, position, more=False), source, store.seq)


def _frame(
    audience: Audience,
    kind: Kind,
    items: list[tuple[Path, Json]],
    position: bytes | None,
    *,
    more: bool,
) -> bytes:
    members = b',"items":%b,"more":%b}' % (
        encode([{"path": format_path(path), "value": value} for path, value in items]),
        b"true" if more else b"false",
    )
    return document_frame(kind, "snapshot", audience.filter_json, members, position)


def _pieces(
    store: Store, audience: Audience, kind: Kind, position: bytes | None
) -> Iterator[bytes]:
    with store.document.pin() as root:
        # Primed by the caller: the pin belongs to the position, not to when a writer comes to it.
        yield b""
        batch: list[tuple[Path, Json]] = []
        size = 0
        for path, value in audience.selection.filter.select(root):
            cost = ITEM_BYTES + approx_bytes(value, limit=FRAME_BYTES)
            if batch and size + cost > FRAME_BYTES:
                yield _frame(audience, kind, batch, None, more=True)
                batch, size = [], 0
            if cost > FRAME_BYTES:
                yield from _large(audience, kind, path, value)
            else:
                batch.append((path, value))
                size += cost
        yield _frame(audience, kind, batch, position, more=False)


def _large(audience: Audience, kind: Kind, path: Path, value: Json) -> Iterator[bytes]:
    """One event with one big value, in pieces."""
    head = b'{"filter":%b,"items":[{"path":%b,"value":' % (
        audience.filter_json,
        encode(format_path(path)),
    )
    tail = b'}],"more":true}'
    if kind == "sse":
        yield b"event: snapshot\ndata: " + head
        yield from encode_steps(value)
        yield tail + b"\n\n"
        return
    yield _fragment(b'{"type":"snapshot",' + head[1:], first=True)
    for piece in encode_steps(value):
        yield _fragment(piece)
    yield _fragment(tail, last=True)


def _fragment(payload: bytes, *, first: bool = False, last: bool = False) -> bytes:
    # TEXT has the FIN bit set; a fragment begins with it clear, goes on with opcode 0 and ends
    # with FIN alone.
    opcode = TEXT & 0x0F if first else 0
    return ws_frame(opcode | (0x80 if last else 0), payload)
