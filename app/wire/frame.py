"""Frames: what goes over the wire, encoded once for everyone who gets it.

An event becomes at most four byte strings, whoever many receive it: for SSE or for WebSocket,
with its position or without. *Without* exists because one change may reach a subscriber as
several frames. A position promises that everything up to it has arrived, so only the last frame
of a change carries it; a client cut off in between resumes before the whole change.

JSON from `encode` holds no raw line break, not even one of Unicode's, so an SSE event is always one
`data` line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from triode.store.path import format_path
from triode.store.value import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.app.wire.source import Source
    from triode.store.index import Event
    from triode.store.path import Path

Kind = Literal["sse", "ws"]

TEXT: Final = 0x81
BINARY: Final = 0x82
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A

SSE_HEARTBEAT: Final = b":\n\n"

# Up to here what one client gets is encoded at once: under a millisecond of work.
FRAME_BYTES: Final = 64 * 1024


class Place(NamedTuple):
    """What an event of the document is about, for those who only want the newest of each place."""

    path: Path
    gone: bool
    time_ms: int


class Frame:
    """One encoded frame. `source` is what it is about (a selection or a room: it may be dropped
    and is then counted against that source); None marks a control frame, which is never dropped.
    `seq` counts in the source's log. `place` is what an `update` or `delete` is about. `count` is
    how many events it holds. `packed` is its compressed form once somebody got it, see `deflate`.
    `is_counted`: it was published, and has been counted as that (see `Flusher.count`). `bare` is
    what it is without its position, once somebody got that. `whole` is the frame whose bytes it
    shares; `holders` is how many outboxes hold it, or one that shares its bytes (see `Backlog`).
    """

    __slots__ = (
        "__weakref__",
        "bare",
        "count",
        "data",
        "holders",
        "is_counted",
        "packed",
        "place",
        "seq",
        "size",
        "source",
        "whole",
    )

    # Whether its bytes are made when there is room for them: only a writer can send it.
    is_lazy = False

    def __init__(
        self,
        data: bytes,
        source: Source | None = None,
        seq: int = 0,
        *,
        place: Place | None = None,
        count: int = 1,
    ) -> None:
        self.data = data
        self.size = len(data)
        self.source = source
        self.seq = seq
        self.place = place
        self.count = count
        self.is_counted = False
        self.packed: bytes | None = None
        self.bare: Frame | None = None
        self.whole: Frame | None = None
        self.holders = 0


class VerbatimFrame(Frame):
    """A control frame that always goes out as it is: its payload is somebody else's, or its
    position is of rooms, or true whatever is lost.
    """

    __slots__ = ()


class Remainder(VerbatimFrame):
    """What is left of a frame of which a part is out: it has to follow as it is. Not a copy: who
    stops in the middle of a large frame is one of many.
    """

    __slots__ = ("view",)

    def __init__(self, frame: Frame, view: memoryview) -> None:
        super().__init__(b"", count=frame.count)
        self.whole = frame.whole or frame
        self.view = view
        self.size = len(view)


def ws_frame(opcode: int, payload: bytes) -> bytes:
    """A whole server-to-client WebSocket frame (RFC 6455 section 5.2): final, unmasked."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65536:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload


def ws_close(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to the 123 bytes that a control frame has room for."""
    return ws_frame(CLOSE, code.to_bytes(2, "big") + reason.encode()[:123])


def control(kind: Kind, event: str, body: dict[str, Any], *, id: str | None = None) -> bytes:
    """Any event from its body, a dict of its members: for what is sent to one client and not
    often.
    """
    if kind == "sse":
        head = f"event: {event}\n" if id is None else f"event: {event}\nid: {id}\n"
        return head.encode() + b"data: " + encode(body) + b"\n\n"
    members: dict[str, Any] = {"type": event}
    if id is not None:
        members["id"] = id
    return ws_frame(TEXT, encode(members | body))


def message_frame(kind: Kind, body: bytes, id: str | None) -> bytes:
    """A `message` from its encoded members, which all transports share."""
    if kind == "sse":
        head = "event: message\n" if id is None else f"event: message\nid: {id}\n"
        return b"%bdata: %b\n\n" % (head.encode(), body)
    head = '{"type":"message",' if id is None else f'{{"type":"message","id":"{id}",'
    return ws_frame(TEXT, head.encode() + body[1:])


def members_of(event: Event, time_ms: int, missed: int = 0) -> tuple[str, bytes]:
    """The type of a document event, and its members after `filter`, encoded: shared by all
    filters it matched. `missed`: it stands for so many older events too.
    """
    value: Any = event.value  # what it is depends on the kind, see `Event`
    rest = b',"missed":%d}' % missed if missed else b"}"
    if event.kind == "update":
        path = encode(format_path(event.path))
        return "update", b',"path":%b,"value":%b,"time":%d%b' % (path, encode(value), time_ms, rest)
    if event.kind == "delete":
        path = encode(format_path(event.path))
        return "delete", b',"path":%b,"time":%d%b' % (path, time_ms, rest)
    if event.kind == "failed":
        # The filter can no longer be evaluated (the document has outgrown it); a snapshot follows
        # once it can.
        return "gap", b',"missed":1,"reason":%b,"time":%d}' % (encode(value), time_ms)
    # A snapshot of the past, in a replay. One of now is `app.delivery.snapshot`'s, shared by all.
    items = [{"path": format_path(path), "value": inner} for path, inner in value]
    return "snapshot", b',"items":%b,"more":false}' % encode(items)


def document_frame(
    kind: Kind, type_: str, filter_json: bytes, members: bytes, id: bytes | None
) -> bytes:
    """A document event for one transport, from the parts that its subscribers share."""
    name = type_.encode()
    if kind == "sse":
        if id is None:
            return b'event: %b\ndata: {"filter":%b%b\n\n' % (name, filter_json, members)
        return b'event: %b\nid: %b\ndata: {"filter":%b%b\n\n' % (name, id, filter_json, members)
    if id is None:
        return ws_frame(TEXT, b'{"type":"%b","filter":%b%b' % (name, filter_json, members))
    return ws_frame(
        TEXT, b'{"type":"%b","id":"%b","filter":%b%b' % (name, id, filter_json, members)
    )


def unwrap(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole ones of our own WebSocket frames out of `buffer`: (first byte, payload). For
    lanes that frame by themselves.
    """
    while len(buffer) >= 2:
        size, start = buffer[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return
            size = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + size:
            return
        first, payload = buffer[0], bytes(buffer[start : start + size])
        del buffer[: start + size]
        yield first, payload


def without_id(data: bytes, kind: Kind) -> bytes:
    """Whole frames without their positions: for a client that has lost something before them.

    Answers keep theirs, which say when they were given and no more. Fragments of a large value,
    and pongs, are left as they are: none has a position.
    """
    if kind == "sse":
        return b"\n\n".join([_sse_without_id(event) for event in data.split(b"\n\n")])
    buffer = bytearray(data)
    bare = b"".join([ws_frame(first, _ws_without_id(first, p)) for first, p in unwrap(buffer)])
    return bare + buffer


def _sse_without_id(event: bytes) -> bytes:
    # Fields before `data` are ours and in this order; data is one line, and comes last.
    fields, data_mark, data = event.partition(b"\ndata: ")
    before, mark, after = fields.partition(b"\nid: ")
    return before + after.partition(b"\n")[1] + data_mark + data if mark else event


def _ws_without_id(first: int, payload: bytes) -> bytes:
    if first != TEXT or payload.startswith(b'{"type":"ok",'):
        return payload
    before, mark, rest = payload.partition(b',"id":"')
    if not mark or b"," in before:  # the position comes second, right after the type
        return payload
    return before + rest.partition(b'"')[2]
