"""permessage-deflate (RFC 7692), shared: one compression of an event serves all who agreed to it.

That takes messages that know nothing of those before them (`server_no_context_takeover`), which
also means that no connection keeps a compressor or a decompressor between messages. Frames are
made, queued, and stripped of their positions plain; compressed is only what is written, and that is
kept with the frame for the next who gets it. Any message may be sent plain at any time, so what is
not worth it is left as it is: small ones, feeds, the handshake.

What clients send is inflated by `websockets`, up to the bound of a message and no further.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import build_extension, parse_extension

from triode.app.wire.frame import BINARY, TEXT, unwrap, ws_frame

if TYPE_CHECKING:
    from triode.app.wire.frame import Frame

# 4 KB of JSON: 33 µs and 22 % of its size. Level 1 takes as long, level 6 thrice as long for 21 %.
LEVEL: Final = 4
# Longer ones would hold the others up for milliseconds.
MOST_BYTES: Final = 256 * 1024
WINDOW_BITS: Final = 15
RSV1: Final = 0x40
RESERVED: Final = 0x70

_FACTORY: Final = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True, client_no_context_takeover=True
)


class Agreed(NamedTuple):
    """What was agreed on: the field's value in the `answer`, and whether what we send `deflates`.
    The peer may compress in any case.
    """

    answer: str
    deflates: bool


def negotiate(offered: str | None) -> Agreed | None:
    """Answer the offers of a `Sec-WebSocket-Extensions`; None: no compression.

    The first offer of the full window is taken. With a smaller one for what we send, it would have
    to be compressed for that client alone: it is agreed to, and what we send goes plain, which any
    message may (RFC 7692 section 6).
    """
    if offered is None:
        return None
    try:
        offers = parse_extension(offered)
    except InvalidHeader:
        return None  # it is a wish: nothing in it can make the handshake fail
    smaller: Agreed | None = None
    for name, params in offers:
        if name != _FACTORY.name:
            continue
        try:
            answer, extension = _FACTORY.process_request_params(params, [])
        except NegotiationError:
            continue
        agreed = Agreed(
            build_extension([(name, answer)]), extension.local_max_window_bits == WINDOW_BITS
        )
        if agreed.deflates:
            return agreed
        smaller = smaller or agreed
    return smaller


def reading() -> PerMessageDeflate:
    """What inflates the messages of one client, each by itself."""
    return PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=WINDOW_BITS,
        local_max_window_bits=WINDOW_BITS,
    )


def on_wire(frame: Frame, least: int) -> bytes:
    """The bytes that are written for a frame. `least`: the smallest payload to be compressed, for
    who agreed to it; 0 for all others.
    """
    if not least or len(frame.data) <= least:
        return frame.data
    if frame.packed is None:
        frame.packed = _packed(frame.data, least)
    return frame.packed


def _packed(data: bytes, least: int) -> bytes:
    """Whole frames, those compressed that are the better for it."""
    if data[0] & RESERVED:
        return data  # no frame but the head of the handshake's answer
    buffer = bytearray(data)
    frames = [_pack(first, payload, least) for first, payload in unwrap(buffer)]
    return b"".join(frames) + buffer


def _pack(first: int, payload: bytes, least: int) -> bytes:
    if first in (TEXT, BINARY) and least <= len(payload) <= MOST_BYTES:
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW_BITS)
        small = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        if len(small) < len(payload):
            return ws_frame(first | RSV1, small[:-4])  # RFC 7692 section 7.2.1
    return ws_frame(first, payload)
