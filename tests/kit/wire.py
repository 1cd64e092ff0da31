"""Raw clients of both transports, whose reading can be slowed, stopped and cut at any byte.

A connection reads only when it is told to, and only as many bytes as it is told to; it never reads
ahead. The receive buffer of its socket is small, so that a server soon notices who does not read.
The frames of both transports are the same dictionaries (docs/wire.md, Events): `type`, `id` where
there is one, and the members of the body; a close frame of a WebSocket is
`{"type": "close", "code", "reason"}`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import SplitResult, urlencode, urlsplit

import h11
import trio
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import RemoteProtocolError

from tests.behaviour.sse import SseFault, SseParser

from .model import position_of
from .violation import Frame, Violation

TRANSPORTS: Final = ("sse", "ws")
# Not event streams alone: with that a refusal for a moment comes as a stream, for EventSource.
ACCEPT: Final = "text/event-stream, application/problem+json"
SMALL_BUFFER: Final = 16 * 1024
LARGE_BUFFER: Final = 1024 * 1024
READ_BYTES: Final = 64 * 1024
PATIENCE_S: Final = 45.0
_TCP_INFO_STATE_ESTABLISHED: Final = 1


class Refused(Exception):
    """The server answered something else than a stream."""

    def __init__(self, status: int, retry_after_s: float | None = None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        super().__init__(f"refused with {status}")


class Ended(Exception):
    """The stream is over; what came before has been given out."""


@dataclass(frozen=True)
class Address:
    """Where the server is, and who asks."""

    url: str
    token: str | None = None

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def base(self) -> str:
        """The URL without a slash at its end."""
        return self.url.rstrip("/")

    @property
    def secure(self) -> bool:
        return self.parts.scheme == "https"

    @property
    def host(self) -> str:
        return self.parts.hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        return self.parts.port or (443 if self.secure else 80)

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Authorization", f"Bearer {self.token}")] if self.token else []

    async def connect(self, receive_buffer: int) -> tuple[trio.socket.SocketType, trio.abc.Stream]:
        """A connection with a receive buffer of that size, which has to be set before it is made.
        Closed when it is cancelled meanwhile.
        """
        with trio.fail_after(PATIENCE_S):
            [(family, kind, proto, _, where), *_] = await trio.socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )
            sock = trio.socket.socket(family, kind, proto)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
                await sock.connect(where)
                stream: trio.abc.Stream = trio.SocketStream(sock)
                if self.secure:
                    tls = trio.SSLStream(
                        stream, ssl.create_default_context(), server_hostname=self.host
                    )
                    await tls.do_handshake()
                    stream = tls
            except BaseException:
                sock.close()
                raise
        return sock, stream


class Decoder(Protocol):
    """Sans I/O: bytes in, frames out."""

    def request(self) -> bytes:
        """The bytes that open the stream."""

    def feed(self, data: bytes) -> list[Frame]:
        """What `data` completes; b"" is the end. Raises `Refused`, and `Ended` at the end."""

    def replies(self) -> bytes:
        """What has to be sent now (pongs, the echo of a close)."""

    @property
    def is_open(self) -> bool:
        """Whether the head of the answer has come."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come, though the connection may still be open."""


class SseDecoder:
    """An event stream over HTTP/1.1."""

    def __init__(self, target: str, host: str, headers: list[tuple[str, str]]) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._request = h11.Request(
            method="GET",
            target=target,
            headers=[("Host", host), ("Accept", ACCEPT), *headers],
        )
        self.parser = SseParser()
        self.is_open = self.is_over = False

    def request(self) -> bytes:
        return (self._http.send(self._request) or b"") + (
            self._http.send(h11.EndOfMessage()) or b""
        )

    def replies(self) -> bytes:
        return b""

    def feed(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    if event.status_code != 200:
                        raise Refused(event.status_code, _retry_after(event))
                    self.is_open = True
                elif isinstance(event, h11.Data):
                    frames += [one.frame() for one in self.parser.feed(bytes(event.data))]
                elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                    self.is_over = True
                    break
        except h11.RemoteProtocolError:  # ended in the middle of a chunk
            self.is_over = True
        if self.is_over and not frames:
            raise Ended
        return frames


def _retry_after(response: h11.Response) -> float | None:
    for name, value in response.headers:
        if name == b"retry-after":
            return float(value)
    return None


class WsDecoder:
    """A WebSocket; `deflate` offers permessage-deflate."""

    def __init__(
        self, target: str, host: str, headers: list[tuple[str, str]], *, deflate: bool
    ) -> None:
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._request = ws.Request(
            host=host,
            target=target,
            extra_headers=[(k.encode(), v.encode()) for k, v in headers],
            extensions=[PerMessageDeflate()] if deflate else [],
        )
        self._text = ""
        self._replies = b""
        self.is_open = self.is_over = False

    def request(self) -> bytes:
        return self._ws.send(self._request)

    def command(self, text: str) -> bytes:
        """A command, as a frame."""
        return self._ws.send(ws.TextMessage(text))

    def replies(self) -> bytes:
        data, self._replies = self._replies, b""
        return data

    def feed(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        self._ws.receive_data(data or None)
        for event in self._ws.events():
            if isinstance(event, ws.AcceptConnection):
                self.is_open = True
            elif isinstance(event, ws.RejectConnection):
                after = dict(event.headers).get(b"retry-after")
                raise Refused(event.status_code, float(after) if after else None)
            elif isinstance(event, ws.TextMessage):
                self._text += event.data
                if event.message_finished:
                    frames.append(json.loads(self._text))
                    self._text = ""
            elif isinstance(event, ws.Ping):
                self._replies += self._ws.send(event.response())
            elif isinstance(event, ws.CloseConnection) and event.code != 1006:
                with contextlib.suppress(Exception):  # it may be closing from this side already
                    self._replies += self._ws.send(event.response())
                frames.append({"type": "close", "code": event.code, "reason": event.reason or ""})
        if not data:
            self.is_over = True
            if not frames:
                raise Ended
        return frames


class Connection:
    """One stream. Made by `open_stream`."""

    def __init__(
        self, sock: trio.socket.SocketType, stream: trio.abc.Stream, decoder: Decoder
    ) -> None:
        self._sock = sock
        self._stream = stream
        self._decoder = decoder
        self._frames: deque[Frame] = deque()
        self._was_read = trio.Event()
        self.bytes_read = 0
        self.seq_seen = 0

    async def read_some(self, max_bytes: int = READ_BYTES) -> int:
        """Read once, at most so many bytes; frames that they complete wait in `ready`. Says how
        many came. Raises `Ended`, and `Violation` when they are no frames.
        """
        if self._decoder.is_over:
            raise Ended
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError:
            data = b""
        self.bytes_read += len(data)
        for frame in self._decode(data):
            self._frames.append(frame)
            if "id" in frame and frame["type"] != "message":
                self.seq_seen = position_of(frame["id"])[1]
        self._was_read.set()
        self._was_read = trio.Event()
        if reply := self._decoder.replies():
            with contextlib.suppress(trio.BrokenResourceError):
                await self._stream.send_all(reply)
        return len(data)

    def _decode(self, data: bytes) -> list[Frame]:
        try:
            return self._decoder.feed(data)
        except (SseFault, ValueError, RemoteProtocolError) as fault:
            raise Violation("form", f"{fault!r} in {data[-200:]!r}") from fault

    async def wait_read(self) -> None:
        """Wait until another task has read something."""
        await self._was_read.wait()

    def ready(self) -> list[Frame]:
        """Take the frames that have come."""
        frames = [*self._frames]
        self._frames.clear()
        return frames

    async def frame(self) -> Frame:
        """The next frame, however long it takes. Raises `Ended`. Cancelled, nothing is lost."""
        while not self._frames:
            await self.read_some()
        return self._frames.popleft()

    async def command(self, **members: Any) -> None:
        """Send a command (WebSocket)."""
        assert isinstance(self._decoder, WsDecoder)
        with trio.fail_after(PATIENCE_S):
            await self._stream.send_all(self._decoder.command(json.dumps(members)))

    def widen(self) -> None:
        """From now on the system may buffer more: who reads again reads fast."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LARGE_BUFFER)

    def is_reset(self) -> bool:
        """Whether the server has dropped the connection; told by the system, without reading."""
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return info[0] != _TCP_INFO_STATE_ESTABLISHED

    def reset(self) -> None:
        """Be gone as a phone in a tunnel: no goodbye."""
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._sock.close()

    def close(self) -> None:
        """End the connection; no checkpoint."""
        self._sock.close()


@contextlib.asynccontextmanager
async def open_stream(
    address: Address,
    transport: str,
    *,
    receive_buffer: int = LARGE_BUFFER,
    headers: list[tuple[str, str]] | None = None,
    deflate: bool = False,
    **query: Any,
) -> AsyncIterator[Connection]:
    """Open an event stream or a WebSocket until its head has come; reset and closed on the way out.
    Raises `Refused`.
    """
    route = "/events" if transport == "sse" else "/ws"
    text = urlencode({k: v for k, v in query.items() if v not in (None, "")}, doseq=True)
    target = f"{address.parts.path.rstrip('/')}{route}?{text}"
    fields = [*address.headers, *(headers or [])]
    host = f"{address.host}:{address.port}"
    decoder = (
        SseDecoder(target, host, fields)
        if transport == "sse"
        else WsDecoder(target, host, fields, deflate=deflate)
    )
    sock, stream = await address.connect(receive_buffer)
    connection = Connection(sock, stream, decoder)
    try:
        with trio.fail_after(PATIENCE_S):
            await stream.send_all(decoder.request())
            while not decoder.is_open:
                await connection.read_some()
        yield connection
    finally:
        connection.close()
