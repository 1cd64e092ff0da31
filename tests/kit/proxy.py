"""A proxy between the kit and a server, which a test can make tell lies.

It passes bytes on in both directions, takes the server's events apart, as whole SSE blocks or
WebSocket frames, and lets a `Fault` change their order and number.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final

import trio

# From one event of the server those that the client gets.
Fault = Callable[[bytes], list[bytes]]
Split = Callable[[bytearray], Iterator[bytes]]

_GONE: Final = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


@contextlib.asynccontextmanager
async def open_proxy(upstream: int, make_fault: Callable[[], Fault]) -> AsyncIterator[int]:
    """Serve on the port that it gives, until left. Each connection has a fault of its own."""

    async def serve(client: trio.SocketStream) -> None:
        with contextlib.suppress(*_GONE):
            async with client, await trio.open_tcp_stream("127.0.0.1", upstream) as server:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_ask, client, server, nursery.cancel_scope)
                    await _answer(client, server, make_fault())
                    nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _ask(
    client: trio.SocketStream, server: trio.SocketStream, scope: trio.CancelScope
) -> None:
    with contextlib.suppress(*_GONE):
        while data := await client.receive_some(65536):
            if data.startswith(b"GET /events"):  # a body without chunks is cut into events
                data = data.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
            await server.send_all(data)
    scope.cancel()


async def _answer(client: trio.SocketStream, server: trio.SocketStream, fault: Fault) -> None:
    """From the server to the client: the head as it is, then the events; an answer that is no
    stream as it is.
    """
    with contextlib.suppress(*_GONE):
        buffer = bytearray()
        while b"\r\n\r\n" not in buffer and (data := await server.receive_some(65536)):
            buffer += data
        head = bytes(buffer[: buffer.find(b"\r\n\r\n") + 4])
        del buffer[: len(head)]
        await client.send_all(head)
        split = _split_of(head)
        data = b""
        while True:
            buffer += data
            await client.send_all(b"".join(_parts(buffer, split, fault)))
            if not (data := await server.receive_some(65536)):
                return


def _parts(buffer: bytearray, split: Split | None, fault: Fault) -> list[bytes]:
    if split is not None:
        return [part for event in split(buffer) for part in fault(event)]
    data = bytes(buffer)
    buffer.clear()
    return [data]


def _split_of(head: bytes) -> Split | None:
    if head.startswith(b"HTTP/1.1 101 "):
        return split_ws
    return split_sse if b"text/event-stream" in head else None


def split_sse(buffer: bytearray) -> Iterator[bytes]:
    """Take the whole blocks of an event stream (not in chunks) out of `buffer`."""
    while (end := buffer.find(b"\n\n")) >= 0:
        event = bytes(buffer[: end + 2])
        del buffer[: end + 2]  # before it is given out: whoever takes only one leaves the rest
        yield event


def split_ws(buffer: bytearray) -> Iterator[bytes]:
    """Take the whole frames of a server out of `buffer`, heads included."""
    while len(buffer) >= 2:
        size, start = buffer[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(buffer) < start:
                return
            [size] = struct.unpack("!H" if start == 4 else "!Q", buffer[2:start])
        if len(buffer) < start + size:
            return
        frame = bytes(buffer[: start + size])
        del buffer[: start + size]
        yield frame


def is_event(event: bytes, kind: bytes) -> bool:
    """Whether it is an event of that type, on either transport."""
    by_sse, by_ws = b"event: %b\n" % kind, b'{"type":"%b"' % kind
    return by_sse in event[:60] or by_ws in event[:60]
