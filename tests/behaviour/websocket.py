"""WebSocket clients: one over `trio-websocket`, one of our own for what no library would send."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from .server import Server
from .sse import PATIENCE_S

Frame = dict[str, Any]


class Ws:
    """A WebSocket client that pairs answers with commands by `ref` and keeps all else in order for
    `next`.
    """

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self.connected: Frame = {}
        self._refs = itertools.count(1)
        self._kept: deque[Frame] = deque()

    async def send(self, message: Any) -> None:
        """A message as it is: text or bytes, all else as JSON text."""
        raw = message if isinstance(message, str | bytes) else json.dumps(message)
        with trio.fail_after(PATIENCE_S):
            await self.connection.send_message(raw)

    async def ask(self, command: str, /, **members: Any) -> Frame:
        """Send a command and return its answer, whatever it is."""
        ref = members.setdefault("ref", f"r{next(self._refs)}")
        await self.send({"type": command, **members})
        return await self.answer(ref)

    async def answer(self, ref: Any) -> Frame:
        """The answer that carries `ref`; what comes before it is kept for `next`."""
        with trio.fail_after(PATIENCE_S):
            while True:
                frame = await self._receive()
                if "ref" in frame and frame["ref"] == ref and type(frame["ref"]) is type(ref):
                    return frame
                self._kept.append(frame)

    async def ok(self, command: str, /, **members: Any) -> Frame:
        """A command that must succeed."""
        answer = await self.ask(command, **members)
        assert answer["type"] == "ok", answer
        return answer

    async def refused(self, command: str, /, **members: Any) -> Frame:
        """A command that must fail with a problem object; the connection goes on."""
        answer = await self.ask(command, **members)
        return check_error(answer)

    async def next(self, patience_s: float = PATIENCE_S) -> Frame:
        """The next frame that is nobody's answer."""
        if self._kept:
            return self._kept.popleft()
        with trio.fail_after(patience_s):
            return await self._receive()

    async def closed(self) -> tuple[int, str]:
        """Read on until the server closes; code and reason."""
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    await self.connection.get_message()
                except ConnectionClosed:
                    break
        reason = self.connection.closed
        assert reason is not None
        return reason.code, reason.reason or ""

    async def _receive(self) -> Frame:
        message = await self.connection.get_message()
        assert isinstance(message, str), "frames are JSON text"
        frame: Frame = json.loads(message)
        assert isinstance(frame["type"], str)
        return frame


def check_error(frame: Frame) -> Frame:
    """An `error` frame with the members of a problem object."""
    assert frame["type"] == "error", frame
    assert isinstance(frame["status"], int), frame
    assert 400 <= frame["status"] < 600, frame
    assert frame["title"], frame
    assert frame["detail"], frame
    return frame


@contextlib.asynccontextmanager
async def open_ws(
    server: Server,
    target: str = "/ws",
    *,
    headers: Iterable[tuple[str, str]] = (),
    greet: bool = True,
    source: str = "127.0.0.1",
) -> AsyncIterator[Ws]:
    """Connect; with `greet` the first frame, `connected`, is taken and checked."""
    fields = [(name.encode(), value.encode()) for name, value in headers]
    async with open_socket(server, source=source) as stream:
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(PATIENCE_S):
                    connection = await wrap_client_stream(
                        nursery,
                        stream,
                        f"127.0.0.1:{server.port}",
                        target,
                        extra_headers=fields,
                        message_queue_size=10_000,
                        max_message_size=64 * 1024 * 1024,
                    )
                ws = Ws(connection)
                if greet:
                    ws.connected = await ws.next()
                    assert ws.connected["type"] == "connected", ws.connected
                yield ws
                with trio.move_on_after(5):
                    await connection.aclose()
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise only(group) from None


def only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in a group of one; else the group."""
    if len(group.exceptions) > 1:
        return group
    [one] = group.exceptions
    return only(one) if isinstance(one, BaseExceptionGroup) else one


class RawWs:
    """A WebSocket of our own making, for frames that no library would send."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    @staticmethod
    def frame(
        opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bool = True
    ) -> bytes:
        """One frame; `rsv` is the three reserved bits as a number."""
        first = (0x80 if fin else 0) | (rsv << 4) | opcode
        bit = 0x80 if mask else 0
        size = len(payload)
        if size < 126:
            head = struct.pack("!BB", first, bit | size)
        elif size < 65536:
            head = struct.pack("!BBH", first, bit | 126, size)
        else:
            head = struct.pack("!BBQ", first, bit | 127, size)
        if not mask:
            return head + payload
        # A key of zeros is a legal key, and keeps big payloads cheap to make.
        return head + bytes(4) + payload

    async def send(self, data: bytes) -> None:
        """Bytes as they are; that the server has gone already is no fault of the test."""
        with trio.fail_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
            await self._stream.send_all(data)

    def reset(self) -> None:
        """Leave without a word: what the server still sends is answered by a reset."""
        linger = struct.pack("ii", 1, 0)
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._stream.socket.close()

    async def receive(self) -> tuple[int, bytes] | None:
        """The next message or control frame (opcode, payload); None at the end of the stream."""
        kind, message = 0, b""
        while (frame := await self._frame()) is not None:
            fin, opcode, payload = frame
            if opcode >= 0x8:
                return opcode, payload
            assert (opcode == 0) == bool(kind), "a continuation continues, a message is whole"
            kind, message = kind or opcode, message + payload
            if fin:
                return kind, message
        assert not kind, "the end came within a message"
        return None

    async def _frame(self) -> tuple[bool, int, bytes] | None:
        head = await self._take(2)
        if head is None:
            return None
        size = head[1] & 0x7F
        assert not head[1] & 0x80, "a server never masks"
        if size >= 126:
            more = await self._take(2 if size == 126 else 8)
            assert more is not None
            size = int.from_bytes(more, "big")
        payload = await self._take(size)
        assert payload is not None
        return bool(head[0] & 0x80), head[0] & 0x0F, payload

    async def close_code(self) -> int | None:
        """Read on to the close frame; None when the server ended without one."""
        with trio.fail_after(PATIENCE_S):
            while (frame := await self.receive()) is not None:
                if frame[0] == 0x8:
                    return int.from_bytes(frame[1][:2], "big") if frame[1] else 1005
        return None

    async def _take(self, size: int) -> bytes | None:
        while len(self._buffer) < size:
            try:
                more = await self._stream.receive_some(65536)
            except trio.BrokenResourceError:
                return None
            if not more:
                return None
            self._buffer += more
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def upgrade(target: str = "/ws", *headers: str, host: str = "127.0.0.1") -> bytes:
    """The request head of a WebSocket handshake. `host` "": among `headers`, or not at all."""
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        f"GET {target} HTTP/1.1",
        *([f"Host: {host}"] if host else []),
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@contextlib.asynccontextmanager
async def open_raw_ws(server: Server, target: str = "/ws") -> AsyncIterator[RawWs]:
    """Handshake done, nothing read of what follows."""
    async with open_socket(server) as stream:
        await stream.send_all(upgrade(target))
        raw = RawWs(stream)
        with trio.fail_after(PATIENCE_S):
            while b"\r\n\r\n" not in raw._buffer:
                data = await stream.receive_some(65536)
                assert data, raw._buffer
                raw._buffer += data
        head, _, raw._buffer = raw._buffer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        yield raw


@contextlib.asynccontextmanager
async def open_socket(
    server: Server, *, source: str = "127.0.0.1"
) -> AsyncIterator[trio.SocketStream]:
    """A bare connection from the address `source`."""
    with trio.fail_after(PATIENCE_S):
        sock = trio.socket.socket()
        try:
            await sock.bind((source, 0))
            await sock.connect(("127.0.0.1", server.port))
        except BaseException:
            sock.close()
            raise
    try:
        yield trio.SocketStream(sock)
    finally:
        sock.close()


async def exchange(server: Server, request: bytes, *, patience_s: float = PATIENCE_S) -> bytes:
    """Send bytes, read until the server closes (or the answer's announced length is there).

    Both at once: a server may refuse a big body while it is still on its way.
    """
    answer = b""
    async with open_socket(server) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(request)

        nursery.start_soon(send)
        with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(patience_s):
            while not is_whole(answer) and (data := await stream.receive_some(65536)):
                answer += data
        nursery.cancel_scope.cancel()
    return answer


async def answer_head(server: Server, request: bytes) -> bytes:
    """Send bytes, and read until the head of an answer is there."""
    answer = b""
    async with open_socket(server) as stream:
        await stream.send_all(request)
        with trio.fail_after(PATIENCE_S):
            while b"\r\n\r\n" not in answer and (data := await stream.receive_some(65536)):
                answer += data
    return answer.partition(b"\r\n\r\n")[0]


def is_whole(answer: bytes) -> bool:
    """A head with Content-Length and that much after it."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return len(body) >= int(value)
    return False
