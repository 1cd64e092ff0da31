"""A TCP proxy that does to connections what networks do: it cuts, delays and freezes them.

Its port stays the same while the server behind it comes and goes, on any port.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import trio

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


class Proxy:
    """Passes bytes on between whoever connects to `port` and `target`; `open_proxy` makes it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        # Connections are taken and closed at once.
        self.refuses = False
        # Each piece of the server's bytes waits so long.
        self.delay_s = 0.0
        # The connection is cut after so many more bytes of the server's, wherever that is.
        self.cut_after: int | None = None
        self.accepted = 0
        self._thawed = trio.Event()
        self._thawed.set()
        self._pairs: list[tuple[Stream, Stream]] = []

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Those that are open now."""
        return len(self._pairs)

    def freeze(self) -> None:
        """Nothing passes any more, in either direction, and nobody is told."""
        self._thawed = trio.Event()

    def thaw(self) -> None:
        """Go on as if nothing had been."""
        self._thawed.set()

    def cut(self) -> None:
        """End all connections at once, with a reset."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for stream in pair:
                _reset(stream)

    async def serve(self, client: Stream) -> None:
        """One connection, to its end."""
        self.accepted += 1
        if self.refuses:
            _reset(client)
            return
        try:
            server = await trio.open_tcp_stream("127.0.0.1", self.target)
        except OSError:
            _reset(client)
            return
        pair = (client, server)
        self._pairs.append(pair)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, client, server, nursery.cancel_scope)
                await self._pass_back(server, client)
                nursery.cancel_scope.cancel()
        finally:
            if pair in self._pairs:
                self._pairs.remove(pair)
            _close(client)
            _close(server)

    async def _pass_on(self, client: Stream, server: Stream, scope: trio.CancelScope) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await client.receive_some(65536):
                await self._thawed.wait()
                await server.send_all(data)
        scope.cancel()

    async def _pass_back(self, server: Stream, client: Stream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await server.receive_some(65536):
                await self._thawed.wait()
                if self.delay_s:
                    await trio.sleep(self.delay_s)
                if self.cut_after is not None and len(data) >= self.cut_after:
                    await client.send_all(data[: self.cut_after])
                    self.cut_after = None
                    return
                if self.cut_after is not None:
                    self.cut_after -= len(data)
                await client.send_all(data)


def _socket(stream: Stream) -> trio.socket.SocketType:
    tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    return tcp.socket


def _close(stream: Stream) -> None:
    _socket(stream).close()


def _reset(stream: Stream) -> None:
    """Close as a broken network does: what was sent may be lost, too."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)
        _socket(stream).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    _close(stream)


@contextlib.asynccontextmanager
async def open_proxy(target: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port, in front of the port `target`."""
    proxy = Proxy(target)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy.port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, proxy.serve, [listener])
        yield proxy
        nursery.cancel_scope.cancel()
