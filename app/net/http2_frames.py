"""HTTP/2 frames as far as they have to be seen from outside (RFC 9113 section 4.1): where one ends,
and which carry nothing.

A frame that carries nothing costs a peer nine bytes, and us the same work as one that does: resets
(CVE-2023-44487), pings, settings (CVE-2019-9512, 9515), empty ones (CVE-2019-9518). What a client
needs of them is little, so a rate bounds them, as in nghttp2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from triode.limits.rate import Buckets, Rate

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9
# Frames of one piece; a request ends it.
FRAMES_PER_PIECE: Final = 4

_DATA, _HEADERS, _WINDOW_UPDATE, _CONTINUATION = 0x0, 0x1, 0x8, 0x9
_END: Final = 0x1  # END_STREAM of DATA and HEADERS


class TooManyFrames(Exception):
    """The peer sends frames without content beyond its rate."""


class Frames:
    """Cuts the bytes of one connection into pieces of a few frames, and counts on the way."""

    __slots__ = ("_header", "_idle", "_is_request", "_payload")

    def __init__(self, rate: Rate | None) -> None:
        """`rate` bounds the frames without content; None does not."""
        self._idle = Buckets(rate)
        self._payload = len(PREFACE)  # still to come of the frame that has begun
        self._header = b""
        self._is_request = False  # the last frame began one

    def pieces(self, data: bytes, now: float) -> Iterator[bytes]:
        """`data` in pieces, each of as many frames as may be handled at once. Raises
        `TooManyFrames` in place of the piece that goes too far.
        """
        at = begun = frames = 0
        while at < len(data):
            if self._payload:
                step = min(self._payload, len(data) - at)
                self._payload -= step
                at += step
                continue
            if frames == FRAMES_PER_PIECE or (frames and self._is_request):
                yield data[begun:at]
                begun, frames = at, 0
            step = min(HEADER_BYTES - len(self._header), len(data) - at)
            self._header += data[at : at + step]
            at += step
            if len(self._header) == HEADER_BYTES:
                frames += 1
                self._begin(self._header, now)
                self._header = b""
        yield data[begun:]

    def _begin(self, header: bytes, now: float) -> None:
        length, kind, flags = int.from_bytes(header[:3], "big"), header[3], header[4]
        self._payload = length
        self._is_request = kind == _HEADERS
        # Of a window update there may be one for every frame of ours, so they have no rate; their
        # turns bound them.
        useful = kind == _WINDOW_UPDATE or (
            kind in (_DATA, _HEADERS, _CONTINUATION) and (length or flags & _END)
        )
        if not useful and not self._idle.allow("", now):
            raise TooManyFrames
