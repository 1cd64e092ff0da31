"""An EventSource as a browser has it: the rules of HTML 9.2.3, on a socket of its own.

    200 and text/event-stream      open, until the stream ends; then it comes back
    a network error                it comes back
    anything else                  it is closed for good ("fail the connection")

It comes back after its reconnection time, which `retry:` sets, with the last event id. It never
gives up and never hurries; the standard lets it wait longer after errors, which it does not do.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import trio

State = Literal["connecting", "open", "closed"]

# What Chromium waits before the first `retry:`.
RECONNECTION_S = 3.0
PIECE_BYTES = 65536
# Comments of those who say only when to come back: the server, and nginx in its stead.
LATER = {
    b": 429, come back later": "later, for its rate",
    b": 503, come back later": "later, for want of a place",
    b": the server is away": "later, said nginx",
}


class EventSource:
    """One client. `run` is its life; the rest can be looked at meanwhile."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._path = path
        self.state: State = "connecting"
        self.reconnection_s = RECONNECTION_S
        self.last_event_id = ""
        self.answers: Counter[str] = Counter()
        self.streams = 0
        """How often a stream of the server's own was open."""

    async def run(self) -> None:
        """Live until it is closed for good, or cancelled."""
        while True:
            try:
                if not await self._connect():
                    self.state = "closed"
                    return
            except (OSError, trio.BrokenResourceError):
                self.answers["network error"] += 1
            self.state = "connecting"
            await trio.sleep(self.reconnection_s)

    async def _connect(self) -> bool:
        """One stream to its end. False for an answer that is final."""
        stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with stream:
            await stream.send_all(self._request())
            status, fields, rest = await _read_head(stream)
            if not self._is_stream(status, fields):
                return False
            await self._read(stream, rest, body_of(fields))
            return True

    def _is_stream(self, status: str, fields: dict[str, str]) -> bool:
        """Whether an answer opens it; if not, it is closed for good."""
        kind = fields.get("content-type", "").partition(";")[0].strip().lower()
        if status != "200" or kind != "text/event-stream":
            self.answers[f"{status} {kind}"] += 1
            return False
        self.state = "open"
        return True

    def _fields(self) -> list[tuple[str, str]]:
        fields = [("Accept", "text/event-stream"), ("Cache-Control", "no-store")]
        return fields + [("Last-Event-ID", self.last_event_id)] * bool(self.last_event_id)

    def _request(self) -> bytes:
        fields = [f"{name}: {value}" for name, value in self._fields()]
        return "\r\n".join(
            [f"GET {self._path} HTTP/1.1", "Host: localhost", *fields, "", ""]
        ).encode()

    async def _read(self, stream: trio.SocketStream, data: bytes, body: Body) -> None:
        text = b""
        while True:
            text = self._take_lines(text + body.feed(data))
            if body.over:
                return
            data = await stream.receive_some(PIECE_BYTES)
            if not data:
                return

    def _take_lines(self, text: bytes) -> bytes:
        """Take the whole lines; what is left."""
        *lines, rest = text.split(b"\n")
        for line in lines:
            self._take(line.rstrip(b"\r"))
        return rest

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"retry" and value.isdigit():
            self.reconnection_s = int(value) / 1000
        elif name == b"id":
            self.last_event_id = value.decode()
        elif name == b"event" and value == b"connected":
            self.answers["a stream"] += 1
            self.streams += 1
        elif line in LATER:
            self.answers[LATER[line]] += 1


class Body:
    """What follows a head, until the connection ends."""

    over = False

    def feed(self, data: bytes) -> bytes:
        """What of the body has come with these bytes."""
        return data


class Counted(Body):
    """A body with `Content-Length`."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.over = not length

    def feed(self, data: bytes) -> bytes:
        self._left -= len(data)
        self.over = self._left <= 0
        return data


class Chunked(Body):
    """A body with `Transfer-Encoding: chunked`, taken apart."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        body = b""
        while not self.over and self._buffer:
            if not self._left:
                line, end, rest = self._buffer.lstrip(b"\r\n").partition(b"\r\n")
                if not end:
                    break
                self._left, self._buffer = int(line, 16), rest
                self.over = not self._left
            body += self._buffer[: self._left]
            taken = min(self._left, len(self._buffer))
            self._left, self._buffer = self._left - taken, self._buffer[taken:]
        return body


def body_of(fields: dict[str, str]) -> Body:
    """The body that the fields of a head announce."""
    if fields.get("transfer-encoding", "").lower() == "chunked":
        return Chunked()
    length = fields.get("content-length")
    return Body() if length is None else Counted(int(length))


async def _read_head(stream: trio.SocketStream) -> tuple[str, dict[str, str], bytes]:
    """Status, fields, and what was read beyond them."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(PIECE_BYTES)
        if not more:
            raise trio.BrokenResourceError("no answer")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.split(":", 1) for line in lines)
    return first.split(" ")[1], {n.lower(): v.strip() for n, v in fields.items()}, rest
