"""The chunks of an event stream's body (RFC 9112 section 7.1).

Without them some readers (urllib3's) hand out an event only when the next one comes. What is
written at once is one chunk. More than `CHUNK_BYTES` is several, which end where events end if they
can.

A chunk says how long it is before it is out. When a socket takes only a part of one, the rest of it
is filled by whatever comes next: chunks and events need not end at the same places. When nothing
comes next, it is filled with a comment, because those readers also wait for the end of a chunk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Small: so much of a comment may have to be sent to a client that has lost what came next.
CHUNK_BYTES: Final = 16 * 1024
LAST: Final = b"0\r\n\r\n"

_END: Final = b"\r\n"
_EVENT_END: Final = b"\n\n"


def chunked(data: bytes) -> bytes:
    """`data` in chunks of its own, for all whose last chunk is whole."""
    if not data:
        return b""
    if len(data) <= CHUNK_BYTES:
        return b"%x\r\n%b\r\n" % (len(data), data)
    return b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in _parts(data)])


def _parts(data: bytes) -> Iterator[bytes]:
    at = 0
    while len(data) - at > CHUNK_BYTES:
        end = at + CHUNK_BYTES
        found = data.rfind(_EVENT_END, at, end)
        if found > at:
            end = found + len(_EVENT_END)
        yield data[at:end]
        at = end
    if at < len(data):
        yield data[at:]


class Chunks:
    """The body of one response, as far as it is out. Begins with the head, which is no chunk."""

    __slots__ = ("_is_over", "_left", "_raw")

    def __init__(self, head: bytes) -> None:
        # What has to come before all else, as it is.
        self._raw = head
        # What the open chunk has still room for; nought: there is none.
        self._left = 0
        self._is_over = False

    @property
    def is_open(self) -> bool:
        """Whether something of what has begun is not out: `settle` has it."""
        return bool(self._raw or self._left)

    def framed(self, data: bytes) -> bytes:
        """What to write so that `data` comes next."""
        left = self._left
        if not left:
            return self._raw + chunked(data)
        if len(data) < left:
            return self._raw + data
        return self._raw + data[:left] + _END + chunked(data[left:])

    def took(self, data: bytes, sent: int) -> int:
        """Only `sent` bytes of `framed(data)` are out. Says how many of `data` are."""
        if sent < len(self._raw):
            self._raw = self._raw[sent:]
            return 0
        sent -= len(self._raw)
        self._raw = b""
        done = min(self._left, len(data), sent)
        self._left -= done
        sent -= done
        if self._left:
            return done
        # One that was open is full; what is not out of `data` then has chunks of its own.
        if done and not self._is_ended(sent):
            return done
        sent -= len(_END) if done else 0
        for part in _parts(data[done:]):
            head = b"%x\r\n" % len(part)
            if not sent:
                return done
            if sent < len(head):
                self._raw, self._left = head[sent:], len(part)
                return done
            sent -= len(head)
            if sent < len(part):
                self._left = len(part) - sent
                return done + sent
            done += len(part)
            sent -= len(part)
            if not self._is_ended(sent):
                return done
            sent -= len(_END)
        return done

    def _is_ended(self, sent: int) -> bool:
        """Whether `sent` bytes are the end of a chunk; else what is missing comes next."""
        self._raw = _END[sent:]
        return not self._raw

    def put(self, data: bytes) -> bytes:
        """What to write so that `data` comes next, if all of it goes out or nothing more."""
        framed = self.framed(data)
        self._raw = b""
        if self._left > len(data):
            self._left -= len(data)
        else:
            self._left = 0
        return framed

    def settle(self, *, last: bool) -> bytes:
        """What to write when nothing comes next for now, or (`last`) ever."""
        data = self._raw
        if self._left:
            data += b":" * (self._left - 1) + b"\n" + _END
        self._raw, self._left = b"", 0
        if last and not self._is_over:
            self._is_over = True
            data += LAST
        return data
