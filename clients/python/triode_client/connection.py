"""One WebSocket to the server, from dialing to its end.

The seam to `trio-websocket`: its exceptions and those of the network become ours here.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from .errors import CannotConnect, Ended, Refused, TriodeError, refused
from .nursery import bare_nursery
from .options import Options
from .target import Target

log = logging.getLogger("triode_client")

CLOSE_S: Final = 2.0
RECEIVE_BYTES: Final = 64 * 1024
# Of whole messages, between the library's reader and ours: it need not wait for us each time.
MESSAGES_AHEAD: Final = 8
TOO_BIG: Final = 1009
MAX_RETRY_S: Final = 300.0


class Hangup(TriodeError):
    """The connection has ended, as connections do. `code` is 1006 where no close frame came,
    `retry_s` the seconds that the server asks us to wait.
    """

    def __init__(self, code: int, reason: str, retry_s: float | None = None) -> None:
        super().__init__(f"the connection ended: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason
        self.retry_s = retry_s


class Wire(trio.abc.Stream):
    """A stream that notes when it last heard something.

    During the handshake its end is an exception of ours: the library would go on to wait for an
    answer that cannot come.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.is_open = False
        self.heard_s = trio.current_time()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError as exc:
            if self.is_open:
                raise
            raise CannotConnect(f"the connection broke in the handshake: {exc}") from exc

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as exc:
            if self.is_open:
                raise
            raise CannotConnect(f"the connection broke in the handshake: {exc}") from exc
        if not data and not self.is_open:
            raise CannotConnect("the server closed the connection in the handshake")
        self.heard_s = trio.current_time()
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


class Connection:
    """An open connection; `open_connection` makes it."""

    def __init__(self, socket: WebSocketConnection, wire: Wire, options: Options) -> None:
        self._socket = socket
        self._wire = wire
        self._options = options
        self._is_silent = False
        self._is_asking = False
        self.client_id = ""

    async def greet(self) -> None:
        """Take the server's first frame. Raises `CannotConnect` if it is another."""
        frame = await self.receive()
        if frame["type"] != "connected":
            raise CannotConnect(f"the first frame was {frame['type']!r}; is this a Triode?")
        self.client_id = str(frame.get("client", ""))

    async def send(self, text: str) -> None:
        """Send one frame. That the connection has ended is known by `receive`."""
        try:
            await self._socket.send_message(text)
        except ConnectionClosed:
            await trio.lowlevel.checkpoint()

    async def receive(self) -> Mapping[str, Any]:
        """The next frame. Raises `Hangup`, and `Ended` for a frame larger than we take."""
        try:
            message = await self._socket.get_message()
        except ConnectionClosed as exc:
            raise self._end() from exc
        try:
            frame = json.loads(message)
        except (ValueError, RecursionError) as exc:
            raise Hangup(1007, "what came is not JSON") from exc
        if not isinstance(frame, dict) or "type" not in frame:
            raise Hangup(1007, "what came is no frame of Triode's")
        return frame

    def _end(self) -> TriodeError:
        if self._is_silent:
            return Hangup(1006, f"nothing was heard for {2 * self._options.idle_s:g} s")
        closed = self._socket.closed
        if closed is None:
            return Hangup(1006, "")
        # The library says this only of what it has refused itself; the server says it of ours.
        if closed.code == TOO_BIG and (closed.reason or "").startswith("Exceeded maximum"):
            most = self._options.max_message_bytes
            return Ended(TOO_BIG, f"an event is larger than max_message_bytes, {most}")
        return Hangup(closed.code, closed.reason or "", _retry_s(closed.reason))

    async def listen(self) -> None:
        """Ask a silent server for a sign of life; end the connection if it gives none."""
        idle_s = self._options.idle_s
        # The question lives here: it must not be cancelled, half of a frame would break the rest.
        async with trio.open_nursery() as nursery:
            while not self._is_silent:
                await trio.sleep_until(self._wire.heard_s + idle_s)
                if trio.current_time() < self._wire.heard_s + idle_s:
                    continue
                asked_s = trio.current_time()
                if not self._is_asking:
                    nursery.start_soon(self._ask)
                await trio.sleep(idle_s)
                # A big event may take its time before the pong: any byte will do.
                self._is_silent = self._wire.heard_s < asked_s
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(self._wire)

    async def _ask(self) -> None:
        self._is_asking = True
        try:
            await self._socket.ping()
        except ConnectionClosed:
            await trio.lowlevel.checkpoint()
        self._is_asking = False

    async def close(self) -> None:
        """Say goodbye and close. Takes a bounded time."""
        with trio.move_on_after(CLOSE_S):
            await self._socket.aclose()


@asynccontextmanager
async def open_connection(
    target: Target, token: str | None, options: Options
) -> AsyncGenerator[Connection]:
    """Connect. On leaving, the connection is closed without a word, unless `Connection.close` did.

    Raises `CannotConnect`, and `Refused` for an answer that says no.
    """
    if token is not None and target.is_open:
        log.warning("the token goes to %s without TLS", target.authority)
    headers = [(b"Authorization", b"Bearer " + token.encode())] if token is not None else []
    stream: trio.abc.Stream | None = None
    try:
        # The library's reader and our ear live here, until the body ends.
        async with bare_nursery() as nursery:
            with trio.move_on_after(options.connect_s) as connecting:
                stream = await _dial(target, options)
                wire = Wire(stream)
                socket = await wrap_client_stream(
                    nursery,
                    # Any stream will do, whatever its annotations say.
                    wire,  # type: ignore[arg-type]
                    target.authority,
                    target.resource,
                    extra_headers=headers,
                    message_queue_size=MESSAGES_AHEAD,
                    max_message_size=options.max_message_bytes,
                    receive_buffer_size=RECEIVE_BYTES,
                )
                wire.is_open = True
                connection = Connection(socket, wire, options)
                await connection.greet()
            if connecting.cancelled_caught:
                raise CannotConnect(f"Connection timeout: no answer in {options.connect_s:g} s")
            nursery.start_soon(connection.listen)
            yield connection
            nursery.cancel_scope.cancel()
    except ConnectionRejected as exc:
        raise _refusal(exc) from exc
    finally:
        if stream is not None:
            _abort(stream)


async def _dial(target: Target, options: Options) -> trio.abc.Stream:
    try:
        tcp = await trio.open_tcp_stream(target.host, target.port)
    except OSError as exc:
        raise CannotConnect(f"cannot connect to {target.authority}: {exc}") from exc
    if not target.is_tls:
        return tcp
    tls = trio.SSLStream(
        tcp,
        options.ssl_context or ssl.create_default_context(),
        server_hostname=target.host,
        https_compatible=True,
    )
    try:
        await tls.do_handshake()
    except trio.BrokenResourceError as exc:
        _abort(tls)
        why = exc.__cause__ or exc
        raise CannotConnect(f"no TLS with {target.authority}: {why}") from exc
    except BaseException:
        _abort(tls)
        raise
    return tls


def _abort(stream: trio.abc.Stream) -> None:
    """Close at once, without a checkpoint; twice does no harm."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if isinstance(stream, trio.SocketStream):
        stream.socket.close()


def _refusal(exc: ConnectionRejected) -> Refused:
    """What an answer other than 101 states."""
    problem: dict[str, Any] = {
        "title": "Refused",
        "detail": f"the answer was {exc.status_code} and no problem object; is this a Triode?",
    }
    try:
        body = json.loads(exc.body or b"")
    except ValueError:
        body = None
    if isinstance(body, dict):
        problem |= body
    problem["status"] = exc.status_code
    after = dict(exc.headers).get(b"retry-after", b"")
    if after.isdigit():
        problem["retry_after"] = max(int(after), problem.get("retry_after", 0))
    refusal = refused(problem)
    refusal.is_triodes = b"triode" in {name.lower() for name, _ in exc.headers}
    return refusal


def _retry_s(reason: str | None) -> float | None:
    """The delay in the reason of a close frame, which is then a JSON object (WIRE: code 1012)."""
    try:
        return read_retry_s(json.loads(reason or "")["retry_ms"])
    except (ValueError, TypeError, KeyError):
        return None


def read_retry_s(retry_ms: Any) -> float | None:
    """A `retry_ms` of the server's in seconds; None for what is none. Not longer than is sane."""
    if type(retry_ms) not in (int, float) or not retry_ms >= 0:
        return None
    return float(min(retry_ms / 1000, MAX_RETRY_S))
