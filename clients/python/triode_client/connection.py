"""One WebSocket to the server, from dialing to its end.

The seam to `websockets`, of which only the protocol is used, and to the network: their exceptions
become ours here.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream, TaskGroup
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI

from .bell import Bell
from .dial import abort, dial
from .errors import CannotConnect, Ended, Refused, TriodeError, refused
from .options import Options
from .target import Target
from .task_group import bare_task_group

log = logging.getLogger("triode_client")

# The library's own lines would show tokens.
_SILENT_LOG: Final = logging.Logger("websockets", logging.CRITICAL + 1)

CLOSE_S: Final = 2.0
RECEIVE_BYTES: Final = 64 * 1024
TOO_BIG: Final = 1009
MAX_RETRY_S: Final = 300.0
# Of what comes, what makes messages.
_DATA: Final = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))

_BROKEN: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Hangup(TriodeError):
    """The connection has ended, as connections do. `code` is 1006 where no close frame came,
    `retry_s` the seconds that the server asks us to wait.
    """

    def __init__(self, code: int, reason: str, retry_s: float | None = None) -> None:
        super().__init__(f"the connection ended: {code} {reason}".rstrip())
        self.code = code
        self.reason = reason
        self.retry_s = retry_s


class Connection:
    """A connection; `open_connection` makes it. One task receives, any may send.

    Who receives never waits for what is sent: a server that waits for us to read would not read.
    """

    def __init__(
        self, stream: ByteStream, tasks: TaskGroup, target: Target, options: Options
    ) -> None:
        self._stream = stream
        self._tasks = tasks
        self._options = options
        self._protocol = ClientProtocol(
            WebSocketURI(target.is_tls, target.host, target.port, target.resource, ""),
            max_size=options.max_message_bytes,
            logger=_SILENT_LOG,
        )
        self._heard_s = anyio.current_time()
        # Whole messages that have come; the pieces of one that has not; why there are no more.
        self._messages: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self._broken = ""
        self._unsent: list[bytes] = []
        self._is_writing = False
        self._written = Bell()
        self._over = anyio.Event()
        self.client_id = ""

    async def shake_hands(self, token: str | None) -> None:
        """Become a WebSocket. Raises `Refused` for an answer that says no, or `CannotConnect`."""
        request = self._protocol.connect()
        if token is not None:
            if not token.isprintable():
                raise ValueError("a token of one line is wanted, without control characters")
            request.headers["Authorization"] = f"Bearer {token}"
        self._protocol.send_request(request)
        await self._write()
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            await self._read()
        failure = self._protocol.handshake_exc
        if isinstance(failure, InvalidStatus):
            raise _refusal(failure.response) from failure
        if self._broken:
            raise CannotConnect(f"the connection broke in the handshake: {self._broken}")
        if failure is not None:
            raise CannotConnect(f"the handshake failed: {failure}") from failure

    async def greet(self) -> None:
        """Take the server's first frame. Raises `CannotConnect` if it is another."""
        frame = await self.receive()
        if frame["type"] != "connected":
            raise CannotConnect(f"the first frame was {frame['type']!r}; is this a Triode?")
        self.client_id = str(frame.get("client", ""))

    # ── out ─────────────────────────────────────────────────────────────────────────────────────

    async def send(self, text: str) -> None:
        """Send one frame, behind what is being sent. That the connection has ended is known by
        `receive`.
        """
        while self._is_writing:
            await self._written.wait()
        if self._protocol.state is State.OPEN:
            self._protocol.send_text(text.encode())
        await self._write()

    async def _write(self) -> None:  # noqa: ASYNC910 # nothing to write is no reason to wait
        if self._is_writing:
            return  # noqa: ASYNC910 # whoever writes takes ours along
        self._is_writing = True
        try:
            while unsent := b"".join(self._protocol.data_to_send()):
                await self._stream.send(unsent)
        except _BROKEN:
            await anyio.lowlevel.checkpoint()
        finally:
            self._is_writing = False
            self._written.ring()

    # ── in ──────────────────────────────────────────────────────────────────────────────────────

    async def receive(self) -> Mapping[str, Any]:
        """The next frame. Raises `Hangup`, and `Ended` for a frame larger than we take."""
        if self._messages:
            # Who watches shall see each change before the next one comes.
            await anyio.lowlevel.checkpoint()
        while not self._messages:
            if self._over.is_set():
                raise self._end()
            await self._read()
        try:
            frame = json.loads(str(self._messages.popleft(), "utf-8"))
        except (ValueError, RecursionError) as exc:
            raise Hangup(1007, "what came is not JSON") from exc
        if not isinstance(frame, dict) or "type" not in frame:
            raise Hangup(1007, "what came is no frame of Triode's")
        return frame  # noqa: ASYNC910 # it has waited, for its turn or for the network

    async def _read(self) -> None:
        protocol = self._protocol
        try:
            data = await self._stream.receive(RECEIVE_BYTES)
        except _BROKEN as exc:
            self._broken = str(exc) or "the server closed it"
            protocol.receive_eof()
            await anyio.lowlevel.checkpoint()
        else:
            self._heard_s = anyio.current_time()
            protocol.receive_data(data)
        for event in protocol.events_received():
            # The answer to the handshake is an event, too.
            if isinstance(event, Frame) and event.opcode in _DATA:
                self._take_piece(bytes(event.data), is_last=event.fin)
        if protocol.close_rcvd or protocol.parser_exc or self._broken:
            self._over.set()
        elif protocol.writes and not self._is_writing:
            self._tasks.start_soon(self._write)  # a pong

    def _take_piece(self, data: bytes, *, is_last: bool) -> None:
        if is_last and not self._pieces:
            self._messages.append(data)
            return
        self._pieces.append(data)
        if is_last:
            self._messages.append(b"".join(self._pieces))
            self._pieces.clear()

    def _end(self) -> TriodeError:
        closed, failure = self._protocol.close_rcvd, self._protocol.parser_exc
        if isinstance(failure, PayloadTooBig):
            most = self._options.max_message_bytes
            return Ended(TOO_BIG, f"an event is larger than max_message_bytes, {most}")
        if closed is not None:
            return Hangup(closed.code, closed.reason, _retry_s(closed.reason))
        return Hangup(1006, "" if self._broken else str(failure))

    async def listen(self) -> None:
        """Ask a silent server for a sign of life. Raises `Hangup` if it gives none."""
        idle_s = self._options.idle_s
        while True:
            await anyio.sleep_until(self._heard_s + idle_s)
            if anyio.current_time() < self._heard_s + idle_s:
                continue
            asked_s = anyio.current_time()
            if self._protocol.state is State.OPEN:
                self._protocol.send_ping(b"")
                self._tasks.start_soon(self._write)
            await anyio.sleep(idle_s)
            # A big event may take its time before the pong: any byte will do.
            if self._heard_s < asked_s:
                raise Hangup(1006, f"nothing was heard for {2 * idle_s:g} s")

    async def close(self) -> None:
        """Say goodbye, and wait for the server's. Takes a bounded time; another task receives."""
        with anyio.move_on_after(CLOSE_S):
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(1000)
            await self._write()
            await self._over.wait()


@asynccontextmanager
async def open_connection(
    target: Target, token: str | None, options: Options
) -> AsyncGenerator[Connection]:
    """Connect. On leaving, the connection is closed without a word, unless `Connection.close` did.

    Raises `CannotConnect`, and `Refused` for an answer that says no.
    """
    if token is not None and target.is_open:
        log.warning("the token goes to %s without TLS", target.authority)
    stream: ByteStream | None = None
    try:
        # What writes pongs and our ear live here, until the body ends.
        async with bare_task_group() as tasks:
            with anyio.move_on_after(options.connect_s) as connecting:
                stream = await dial(target, options)
                connection = Connection(stream, tasks, target, options)
                await connection.shake_hands(token)
                await connection.greet()
            if connecting.cancelled_caught:
                raise CannotConnect(f"Connection timeout: no answer in {options.connect_s:g} s")
            tasks.start_soon(connection.listen)
            yield connection
            tasks.cancel_scope.cancel()
    finally:
        if stream is not None:
            await abort(stream)  # noqa: ASYNC102 # shielded within, with a deadline


def _refusal(answer: Response) -> Refused:
    """What an answer other than 101 states."""
    problem: dict[str, Any] = {
        "title": "Refused",
        "detail": f"the answer was {answer.status_code} and no problem object; is this a Triode?",
    }
    try:
        body = json.loads(answer.body or b"")
    except ValueError:
        body = None
    if isinstance(body, dict):
        problem |= body
    problem["status"] = answer.status_code
    after = answer.headers.get_all("Retry-After")[-1:]
    if after and after[0].isdigit():
        problem["retry_after"] = max(int(after[0]), problem.get("retry_after", 0))
    refusal = refused(problem)
    refusal.is_triodes = "Triode" in answer.headers
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
