"""Where a request body ends: a sans-I/O counter for Content-Length and chunked bodies.

It looks at bytes that Hypercorn is about to parse, decodes nothing and keeps nothing but an
unfinished line. Only the *boundary* matters: after the last byte of this body the next request head
begins. As with heads, it refuses what another parser might understand differently, so that it and
h11 cannot disagree about that boundary.
"""

from __future__ import annotations

import re
from typing import Final

from triode.app.net.request_head import BadHead, Head

# A chunk header with its extensions; h11 allows no white space before the `;` and any after the
# size.
_CHUNK_HEADER = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?[ \t]*\r\n")
_TRAILER_LINE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\r\n")
# Two for each chunk. Each chunk goes through Hypercorn by itself, which takes some 150 µs.
MOST_LINES: Final = 32
MAX_CHUNK_LINE_BYTES: Final = 1024
MAX_TRAILER_BYTES: Final = 16 * 1024


class Body:
    """The body that follows one request head. `done` once its last byte has been seen."""

    __slots__ = ("_chunked", "_gap", "_in_trailer", "_left", "_line", "_trailer_bytes", "done")

    def __init__(self, head: Head) -> None:
        self._chunked = head.chunked
        self._left = 0 if head.chunked else head.content_length or 0
        self._line = b""
        self._trailer_bytes = 0
        self._in_trailer = False
        self._gap = False  # chunk data has ended, its CRLF has not
        self.done = not head.has_body

    def feed(self, data: bytes | bytearray) -> int:
        """Look at the next bytes of the connection; returns how many of them belong to this body.

        Fewer than `len(data)` when the body ended: `done` is true then, and the rest is the next
        request. Else after `MOST_LINES`: the rest is to be given again. Raises BadHead (400) for
        malformed chunks.
        """
        if self.done:
            return 0
        if not self._chunked:
            return self._take(data, 0)
        at = lines = 0
        while at < len(data) and lines < MOST_LINES and not self.done:
            if self._left:
                at = self._take(data, at)
            else:
                at = self._feed_line(data, at)
                lines += not self._in_trailer
        return at

    def _take(self, data: bytes | bytearray, at: int) -> int:
        taken = min(self._left, len(data) - at)
        self._left -= taken
        if not self._left:
            self._gap = self._chunked
            self.done = not self._chunked
        return at + taken

    def _feed_line(self, data: bytes | bytearray, at: int) -> int:
        end = data.find(b"\n", at)
        piece = bytes(data[at:] if end < 0 else data[at : end + 1])
        self._line += piece
        limit = MAX_TRAILER_BYTES if self._in_trailer else MAX_CHUNK_LINE_BYTES
        if len(self._line) + self._trailer_bytes > limit:
            raise BadHead(400, "A chunk header or the trailer of the body is too long.")
        if end >= 0:
            line, self._line = self._line, b""
            self._end_line(line)
        return at + len(piece)

    def _end_line(self, line: bytes) -> None:
        if self._gap:
            if line != b"\r\n":
                raise BadHead(400, "A chunk is longer than it says.")
            self._gap = False
        elif self._in_trailer:
            if _TRAILER_LINE.fullmatch(line) is None:
                raise BadHead(400, "The trailer of the body is malformed.")
            self._trailer_bytes += len(line)
            self.done = line == b"\r\n"
        else:
            match = _CHUNK_HEADER.fullmatch(line)
            if match is None:
                raise BadHead(400, "A chunk header is malformed.")
            self._left = int(match[1], 16)
            self._in_trailer = self._left == 0
