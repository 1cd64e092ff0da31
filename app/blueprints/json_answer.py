"""Answers: small ones at once, large ones in pieces that others can run between.

A value may be hundreds of megabytes. Encoding it takes seconds, sending it minutes, and meanwhile
the document goes on changing. So a large answer pins the document (`Document.pin`): it is encoded
piece by piece from a root that stays as it was when the request was read, and every write in
between copies what it changes.

A pin that is never released would make all later writes copy. It is released when the answer is
sent, when the client goes away (Quart leaves the body's context also when cancelled), and at the
latest when the body is garbage: between the route and the body's context lies the sending of the
head, and a cancellation there enters no context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

import trio
from quart.wrappers.response import ResponseBody
from quart_trio.wrappers import TrioResponse as Response

from triode.app.blueprints.request_body import JSON
from triode.app.runtime.turns import turn
from triode.store.path import Path, format_path
from triode.store.value import Json, approx_bytes, encode, encode_steps

# What is encoded without a checkpoint: a fraction of a millisecond.
PIECE_BYTES: Final = 64 * 1024


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A small JSON answer."""
    return Response(encode(value), status=status, headers=dict(headers or {}), content_type=JSON)


def stream_json(
    method: str,
    pieces: Iterator[bytes],
    pin: Callable[[], None],
    room: Callable[[], None],
    headers: Mapping[str, str],
) -> Response:
    """A JSON answer to GET or HEAD of a pinned document, sent at once if it is small.

    Each of `pieces` is little work; an empty one is a pause. `pin` releases the pin; `room` raises
    when there is no room for one that lasts.
    """
    try:
        start = bytearray()
        for piece in pieces:
            start += piece
            if len(start) > PIECE_BYTES or not piece:
                break
        else:
            pin()
            return Response(bytes(start), headers=dict(headers), content_type=JSON)
    except BaseException:
        pin()
        raise
    if method == "HEAD":
        # Nobody will read it, so it is not worth holding a pin and encoding all of it.
        pin()
        return Response(None, headers=dict(headers), content_type=JSON)
    try:
        room()
    except BaseException:
        pin()
        raise
    body = Pinned(bytes(start), pieces, pin)
    response = Response(body, headers=dict(headers), content_type=JSON)
    # Quart's own limit would cut a long download after 60 s; a client that stopped reading is the
    # lane's matter.
    response.timeout = None
    return response


class Pinned(ResponseBody):
    """A body in pieces that holds a pin. `close` releases it; more often is harmless.

    Its own iterator, not an async generator: one that is cancelled half way lives on until it is
    collected, and would keep the pin as long.
    """

    def __init__(self, start: bytes, pieces: Iterator[bytes], pin: Callable[[], None]) -> None:
        self._pieces = chain([start], pieces)
        self._release = pin

    async def __aenter__(self) -> Pinned:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the pin and forget what was left to send."""
        self._pieces = chain()
        self._release()

    def __del__(self) -> None:
        # At any moment, in the middle of a write too: a pin that ends only adds itself to a list,
        # which the next write works off.
        self.close()

    def __aiter__(self) -> Pinned:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        for piece in self._pieces:
            if piece:
                return piece
            await turn()
        raise StopAsyncIteration


def value_pieces(value: Json) -> Iterator[bytes]:
    """One value, encoded."""
    if approx_bytes(value, limit=PIECE_BYTES) < PIECE_BYTES:
        yield encode(value)
    else:
        yield from encode_steps(value)


def item_pieces(items: Iterator[tuple[Path, Json]]) -> Iterator[bytes]:
    """`[{"path", "value"}…]` of the selected places, joined to pieces of about `PIECE_BYTES`."""
    joined = bytearray(b"[")
    comma = b""
    for path, value in items:
        joined += comma + b'{"path":' + encode(format_path(path)) + b',"value":'
        comma = b","
        for piece in value_pieces(value):
            joined += piece
            if len(joined) > PIECE_BYTES:
                yield bytes(joined)
                joined.clear()
        joined += b"}"
    yield bytes(joined + b"]")
