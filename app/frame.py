"""Frames: what goes over the wire, encoded once for everyone who gets it.

An event becomes at most four byte strings, whoever many receive it: for SSE or for WebSocket,
with its position or without. *Without* exists because one change may reach a subscriber as
several frames. A position promises that everything up to it has arrived, so only the last frame
of a change carries it; a client cut off in between resumes before the whole change.

JSON from `encode` holds no raw line break, so an SSE event is always one `data` line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from store.path import format_path
from store.value import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.source import Source
    from store.index import Event

Kind = Literal["sse", "ws"]

TEXT: Final = 0x81
BINARY: Final = 0x82
CLOSE: Final = 0x88
PING: Final = 0x89
PONG: Final = 0x8A

SSE_HEARTBEAT: Final = b":\n\n"


class Frame:
    """One encoded frame. `source` is what it is about (a selection or a room: it may be dropped
    and is then counted against that source); None marks a control frame, which is never dropped.
    `seq` counts in the source's log.
    """

    __slots__ = ("data", "seq", "size", "source")

    def __init__(self, data: bytes, source: Source | None = None, seq: int = 0) -> None:
        self.data = data
        self.size = len(data)
        self.source = source
        self.seq = seq


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


def members_of(event: Event, time_ms: int) -> tuple[str, bytes]:
    """The type of a document event, and its members after `filter`, encoded: shared by all
    filters it matched.
    """
    value: Any = event.value  # what it is depends on the kind, see `Event`
    if event.kind == "update":
        path = encode(format_path(event.path))
        return "update", b',"path":%b,"value":%b,"time":%d}' % (path, encode(value), time_ms)
    if event.kind == "delete":
        return "delete", b',"path":%b,"time":%d}' % (encode(format_path(event.path)), time_ms)
    if event.kind == "failed":
        # The filter can no longer be evaluated (the document has outgrown it); a snapshot follows
        # once it can.
        return "gap", b',"missed":1,"reason":%b,"time":%d}' % (encode(value), time_ms)
    # A snapshot of the past, in a replay. One of now is `app.snapshot`'s, shared by all.
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

    Fragments of a large value are left as they are: none has a position.
    """
    if kind == "sse":
        return b"\n\n".join([_sse_without_id(event) for event in data.split(b"\n\n")])
    buffer = bytearray(data)
    bare = b"".join([ws_frame(first, _ws_without_id(p)) for first, p in unwrap(buffer)])
    return bare + buffer


def _sse_without_id(event: bytes) -> bytes:
    # Fields before `data` are ours and in this order; data is one line, and comes last.
    fields, data_mark, data = event.partition(b"\ndata: ")
    before, mark, after = fields.partition(b"\nid: ")
    return before + after.partition(b"\n")[1] + data_mark + data if mark else event


def _ws_without_id(payload: bytes) -> bytes:
    before, mark, rest = payload.partition(b',"id":"')
    if not mark or b"," in before:  # the position comes second, right after the type
        return payload
    return before + rest.partition(b'"')[2]
