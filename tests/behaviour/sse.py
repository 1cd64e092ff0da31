"""Two clients of an event stream: one that shows every byte (`curl -N`), one that behaves as a
browser's `EventSource`.

Both stand on `SseParser`, the line format of the HTML standard (9.2.6) read strictly: what a
browser would silently ignore (an unknown field, a block with a type and no data, an id with NUL) is
a fault here, because a server has no reason to send it.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import math
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from typing import Any, NamedTuple

import h11
import trio

PATIENCE_S = 45.0
# Not event streams alone: with that a refusal for a moment comes as a stream, for EventSource.
ACCEPT = "text/event-stream, application/problem+json"


class SseFault(AssertionError):
    """The server sent something that is not a well-formed event stream."""


class Block(NamedTuple):
    """One dispatched event. `id` is the block's own field or None; `last_id` what a browser would
    resume with.
    """

    event: str
    data: str
    id: str | None
    last_id: str

    def frame(self) -> dict[str, Any]:
        """The event as it looks on a WebSocket (docs/wire.md): type and id are members."""
        body = json.loads(self.data)
        if not isinstance(body, dict):
            raise SseFault(f"data is not an object: {self.data[:200]!r}")
        frame: dict[str, Any] = {"type": self.event, **body}
        if self.id is not None:
            frame["id"] = self.id
        return frame


class SseParser:
    """Bytes in, events out. Keeps what outlives an event: last id, retry, comments."""

    def __init__(self) -> None:
        self.last_id = ""
        self.retry_ms: int | None = None
        self.comments: list[str] = []
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._text = ""
        self._skip_newline = False
        self._event = ""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, data: bytes) -> list[Block]:
        """The events that `data` completes; raises `SseFault` (or UnicodeDecodeError) on a
        malformed stream.
        """
        self._text += self._decoder.decode(data)
        blocks = []
        for line in self._lines():
            if line:
                self._field(line)
            elif (block := self._dispatch()) is not None:
                blocks.append(block)
        return blocks

    def _lines(self) -> Iterable[str]:
        while self._text:
            if self._skip_newline and self._text.startswith("\n"):
                self._text = self._text[1:]
            self._skip_newline = False
            ends = [at for at in (self._text.find("\n"), self._text.find("\r")) if at >= 0]
            if not ends:
                return
            end = min(ends)
            self._skip_newline = self._text[end] == "\r"
            line, self._text = self._text[:end], self._text[end + 1 :]
            yield line

    def _field(self, line: str) -> None:
        if line.startswith(":"):
            self.comments.append(line[1:].removeprefix(" "))
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        else:
            raise SseFault(f"not a field of an event stream: {line!r}")

    def _dispatch(self) -> Block | None:
        event, data, own_id = self._event, self._data, self._id
        self._event, self._data, self._id = "", [], None
        if own_id is not None:
            self.last_id = own_id
        if not data:
            if event:
                raise SseFault(f"a browser drops an event without data: {event!r}")
            return None
        return Block(event or "message", "\n".join(data), own_id, self.last_id)


class SseStream:
    """`curl -N`: one request, its status and fields, then events. Made by `open_sse`."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._ready: list[Block] = []
        self.parser = SseParser()
        self.status = 0
        self.headers: dict[str, str] = {}

    async def request(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> None:
        """Send the request and wait for the head of the answer."""
        fields = [("Host", "127.0.0.1"), *headers]
        if all(name.lower() != "accept" for name, _ in fields):
            fields.append(("Accept", ACCEPT))
        if body:
            fields.append(("Content-Length", str(len(body))))
        out = self._http.send(h11.Request(method=method, target=target, headers=fields)) or b""
        if body:
            out += self._http.send(h11.Data(data=body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        await self._stream.send_all(out)
        event = await self._event()
        assert isinstance(event, h11.Response), event
        self.status = event.status_code
        self.headers = {k.decode().lower(): v.decode() for k, v in event.headers}

    async def next(self, patience_s: float = PATIENCE_S) -> Block:
        """The next event. Raises `EOFError` at the end of the stream, `trio.TooSlowError` out of
        patience.
        """
        with trio.fail_after(patience_s):
            while not self._ready:
                event = await self._event()
                if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    raise EOFError
                assert isinstance(event, h11.Data), event
                self._ready += self.parser.feed(bytes(event.data))
        return self._ready.pop(0)

    async def comment(self, patience_s: float = PATIENCE_S) -> str:
        """The next comment (heartbeat); events that come meanwhile are kept."""
        seen = len(self.parser.comments)
        with trio.fail_after(patience_s):
            while len(self.parser.comments) == seen:
                event = await self._event()
                assert isinstance(event, h11.Data), event
                self._ready += self.parser.feed(bytes(event.data))
        return self.parser.comments[seen]

    async def content(self) -> bytes:
        """The body of an answer that is not a stream (a refusal)."""
        body = b""
        with trio.fail_after(PATIENCE_S):
            while isinstance(event := await self._event(), h11.Data):
                body += event.data
        return body

    def problem(self, body: bytes) -> dict[str, Any]:
        """Check that the answer is a problem object of the right status, and return it."""
        assert self.headers.get("content-type", "").startswith("application/problem+json"), (
            self.status,
            self.headers,
            body,
        )
        problem: dict[str, Any] = json.loads(body)
        assert problem["status"] == self.status
        return problem

    def reset(self) -> None:
        """Go away as a crashed client does: RST, no end of anything. Then close as always."""
        linger = struct.pack("ii", 1, 0)
        self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def close(self) -> None:
        """Close at once, without a checkpoint."""
        self._stream.socket.close()

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                data = await self._stream.receive_some(65536)
            except trio.BrokenResourceError:
                return h11.ConnectionClosed()
            try:
                self._http.receive_data(data)
                if not data and self._http.their_state is h11.SEND_BODY:
                    self._http.next_event()
            except h11.RemoteProtocolError:  # the server ended in the middle of a chunked body
                return h11.ConnectionClosed()
        return event


@contextlib.asynccontextmanager
async def open_sse(
    port: int,
    target: str = "/events",
    *,
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    source: str = "127.0.0.1",
) -> AsyncIterator[SseStream]:
    """Connect from the address `source` and send the request; closed on the way out."""
    with trio.fail_after(PATIENCE_S):
        sock = trio.socket.socket()
        try:
            await sock.bind((source, 0))
            await sock.connect(("127.0.0.1", port))
            stream = SseStream(trio.SocketStream(sock))
            await stream.request(method, target, headers, body)
        except BaseException:
            sock.close()
            raise
    try:
        yield stream
    finally:
        sock.close()


class EventSource:
    """As in a browser: reconnects by itself after `retry`, with `Last-Event-ID`; gives up on a
    refusal.

    `run` is its life, started with `nursery.start`, which returns at the first open stream. `cut`
    breaks the connection under it. The events of all its connections come out of `next` in one
    line.
    """

    def __init__(self, port: int, target: str, *, retry_ms_at_most: int = 200) -> None:
        self.port = port
        self.target = target
        self.sent_ids: list[str] = []
        self.last_id = ""
        self.failed: int | None = None
        self._retry_ms = 3000
        self._retry_ms_at_most = retry_ms_at_most
        self._send, self._receive = trio.open_memory_channel[Block](math.inf)
        self._scope: trio.CancelScope | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, read, reconnect, until cancelled or refused."""
        started = False
        while self.failed is None:
            with trio.CancelScope() as self._scope:
                async with open_sse(self.port, self.target, headers=self._resume()) as stream:
                    if not started:
                        started = True
                        task_status.started()
                    await self._read(stream)
            # A real browser waits the whole of it; tests only need that it was told.
            await trio.sleep(min(self._retry_ms, self._retry_ms_at_most) / 1000)

    async def next(self, patience_s: float = PATIENCE_S) -> Block:
        """The next event of whichever connection."""
        with trio.fail_after(patience_s):
            return await self._receive.receive()

    def cut(self) -> None:
        """Break the connection; a new one follows."""
        assert self._scope is not None
        self._scope.cancel()

    def _resume(self) -> list[tuple[str, str]]:
        self.sent_ids.append(self.last_id)
        return [("Last-Event-ID", self.last_id)] if self.last_id else []

    async def _read(self, stream: SseStream) -> None:
        kind = stream.headers.get("content-type", "").partition(";")[0]
        if stream.status != 200 or kind != "text/event-stream":
            self.failed = stream.status
            return
        with contextlib.suppress(EOFError):
            while True:
                block = await stream.next(math.inf)
                # The id belongs to the source: a new stream starts with that of the old one.
                self.last_id = block.id if block.id is not None else self.last_id
                self._retry_ms = stream.parser.retry_ms or self._retry_ms
                self._send.send_nowait(block)
