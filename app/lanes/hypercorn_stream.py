"""The stream that Hypercorn is given for a connection, which reads along.

Why a stream of our own (docs/design.md 4). Hypercorn shields its sends from cancellation without a
deadline; a deadline *inside* the stream still works, and ends in an abort. And browsers reuse
connections: an event stream may be asked for on a connection that Hypercorn already has. So
`HandoffStream` reads along:

    FREE    Hypercorn is idle. Bytes are collected until a whole request head is there, then
            - `wants(head)`: end of file to Hypercorn; the head stays unread for the native lane
            - refused by our parser: a problem answer, and close
            - `direct.find(head)`: answered in Hypercorn's stead, which hears nothing of it
            - else: the head goes to Hypercorn, state BUSY
    BUSY    The request's body goes through as it comes, counted by `Body`. What follows it
            (pipelining) is held back until Hypercorn has answered and is idle again, which its
            `Updated(idle=True)` event says: state FREE.
    OPAQUE  A WebSocket or h2c upgrade, HTTP/2: bytes go through unseen until the end.

So Hypercorn never has more than one request, never sees part of a head, and is idle whenever we
answer in its stead. It ends its part by closing the stream, which only marks it: the socket is
ended here afterwards, with a bounded wait for the peer to read its answer (an early 413 would
otherwise be lost in a reset).
"""

from __future__ import annotations

import contextlib
import enum
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import trio

from triode.app.lanes.handoff_limits import HandoffLimits
from triode.app.net.body_length import Body
from triode.app.net.connection import RECEIVE_BYTES, Connection
from triode.app.net.door import IdleConnections
from triode.app.net.request_head import (
    BadHead,
    Head,
    answer,
    origin_head,
    parse_head,
    skip_empty_line,
)
from triode.app.net.stream_head import is_upgrade
from triode.app.runtime.effort import APP_S, DIRECT_S, Effort

HELD_BACK_BYTES: Final = 64 * 1024
SEND_PIECE_BYTES: Final = 64 * 1024


class Direct(Protocol):
    """`app.lanes.http_fast_path.FastPath`: requests that are answered without Hypercorn."""

    def find(self, head: Head) -> Any:
        """The route of such a request, None for any other. Their bodies are short."""

    async def serve(
        self, route: Any, head: Head, body: bytes, send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Answer it."""


class _State(enum.Enum):
    FREE = enum.auto()
    BUSY = enum.auto()
    OPAQUE = enum.auto()


class HandoffStream:
    """What Hypercorn takes for a `trio.SocketStream`.

    Made with the connection's bytes in its `buffer`.
    """

    def __init__(
        self,
        connection: Connection,
        wants: Callable[[Head], bool],
        limits: HandoffLimits,
        *,
        opaque: bool,
        idle: IdleConnections,
        direct: Direct | None = None,
    ) -> None:
        self.connection = connection
        self._idle = idle
        self.given_back = False
        self._direct = direct
        self._wants = wants
        self._limits = limits
        # For Hypercorn, which asks it for both addresses.
        self.socket = connection.sock
        # Whether it sees requests and bounds how long it waits for them: not so when opaque.
        self.reads_heads = not opaque
        self._state = _State.OPAQUE if opaque else _State.FREE
        self._body: Body | None = None
        self._answered = False  # the first bytes of the final answer to this request are out
        self._closed = False
        # A send has taken longer than it may.
        self.is_late = False
        self._ended = False  # the peer has sent its end of file
        self._free_since = trio.current_time()
        self._head_begun: float | None = None
        self._late = False  # the last wait for bytes ended at its deadline
        # Made anew for each wait. The first is never entered: with it `_end` may come at any time.
        self._wake = trio.CancelScope()
        self._effort: Effort | None = None

    # Reading

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes that are Hypercorn's; b"" at the end of its part.

        Raises trio.ClosedResourceError or trio.BrokenResourceError when the connection has ended
        otherwise.
        """
        while True:
            if self._closed:
                raise trio.ClosedResourceError("Hypercorn's part has ended")
            if self._state is _State.FREE:
                data = await self._next_head()
            elif self._state is _State.OPAQUE:
                data = await self._receive(math.inf, max_bytes or RECEIVE_BYTES)
            else:
                data = await self._next_of_busy()
            if data is not None:
                return data

    async def _next_head(self) -> bytes | None:
        """FREE: the head to pass on; b"" when Hypercorn's part ends here; None to look again."""
        buffer = self.connection.buffer
        parsed, self.connection.parsed = self.connection.parsed, None
        if parsed is None:
            skip_empty_line(buffer)
            # From its first byte on: a byte now and then buys no more time.
            if buffer and self._head_begun is None:
                self._head_begun = trio.current_time()
            try:
                parsed = parse_head(
                    buffer,
                    max_bytes=self._limits.max_head_bytes,
                    peer=self.connection.peer,
                    secure=self.connection.secure,
                )
            except BadHead as refusal:
                return await self._refuse(refusal)
        if parsed is not None:
            head, length = parsed
            # Asked first: most requests are direct, and none of those is for the native lane.
            direct = self._direct  # None: all requests are for Hypercorn
            if direct is not None and (route := direct.find(head)) is not None:
                return await self._answer(direct, route, head, length)
            await self._step(APP_S)
            return self._dispatch(head, length)
        return await self._read_on(self._head_deadline())

    def _head_deadline(self) -> float:
        if self._head_begun is None:
            return self._free_since + self._limits.keep_alive_s
        return self._head_begun + self._limits.head_deadline_s

    async def _read_on(self, deadline: float) -> bytes | None:
        """Read more of a head. A peer that ends or is late: b"", after a 408 if it had begun."""
        # Nothing more comes, so what is there will never be a head.
        if self._ended:
            return b""
        if self._head_begun is None:
            self._idle.add(self.connection)
        try:
            await self._fill(deadline)
        finally:
            # Also when cancelled, or a newcomer would close one that is no longer there.
            self._idle.discard(self.connection)
        # An idle connection that ends is told nothing: no request has been begun.
        if self._late and self._head_begun is not None:
            detail = f"The request head took more than {self._limits.head_deadline_s:g} s."
            return await self._refuse(BadHead(408, detail))
        return b"" if self._late or self._ended else None

    async def _answer(self, direct: Direct, route: Any, head: Head, length: int) -> bytes | None:
        """Answer a request in Hypercorn's stead, all of whose body comes before it is looked at.

        None to look again; b"" when Hypercorn's part ends here.
        """
        buffer = self.connection.buffer
        # All of it before the route runs: so a write is never begun for a body that stops coming.
        end = length + (head.content_length or 0)
        deadline = trio.current_time() + self._limits.body_idle_s
        while len(buffer) < end:
            await self._fill(deadline)
            if self._late:
                return await self._refuse(BadHead(408, "The request body stopped coming."))
            if self._ended or self._closed:
                return b""
        await self._step(DIRECT_S)
        body = bytes(buffer[length:end])
        del buffer[:end]  # what follows is the next request, for after this answer
        self._head_begun = None
        try:
            await direct.serve(route, head, body, self._send_piecewise)
        except Exception:
            # Some of the answer may be out: nothing else can follow it.
            self._end()
            self.connection.abort()
            raise
        if head.closes:
            return b""
        self._free_since = trio.current_time()
        return b"" if self._ended and not buffer else None

    async def _step(self, seconds: float) -> None:
        if self._effort is None:
            self._effort = Effort()
        await self._effort.step(seconds)

    def _dispatch(self, head: Head, length: int) -> bytes:
        self._head_begun = None
        if self._wants(head):
            # The end of Hypercorn's part, not of the socket: the head stays for the native lane.
            self.connection.parsed = head, length
            self.given_back = True
            return b""
        raw = bytes(self.connection.buffer[:length])
        del self.connection.buffer[:length]
        self._body = Body(head)
        self._answered = False
        # After an upgrade there may be no HTTP any more, and so no head to look for.
        self.reads_heads = not is_upgrade(head)
        self._state = _State.BUSY if self.reads_heads else _State.OPAQUE
        return origin_head(raw, head)

    async def _next_of_busy(self) -> bytes | None:
        """BUSY: bytes of the body, or None once something changed."""
        assert self._body is not None
        if not self._body.done:
            return await self._next_of_body(self._body)
        if self._ended and not self.connection.buffer:
            return b""  # it has left; nothing that it sent is held back
        # The answer is being made. Read along, a bounded bit, to see the peer leave; `idle` wakes
        # us.
        if self._ended or len(self.connection.buffer) >= HELD_BACK_BYTES:
            with trio.CancelScope() as self._wake:
                await trio.sleep_forever()
        else:
            await self._fill(math.inf)
        return None

    async def _next_of_body(self, body: Body) -> bytes | None:
        data = await self._receive(trio.current_time() + self._limits.body_idle_s)
        if self._late:
            return await self._refuse(BadHead(408, "The request body stopped coming."))
        if data is None:
            return None
        try:
            taken = body.feed(data)
        except BadHead as refusal:
            return await self._refuse(refusal)
        if taken < len(data):
            # Pipelined: Hypercorn must not see the next head before it is idle. Or chunks of a few
            # bytes: of those some at a time.
            self.connection.buffer[:0] = data[taken:]
            data = data[:taken]
            if not body.done:
                await self._step(APP_S)
        return data

    async def _receive(self, deadline: float, max_bytes: int = RECEIVE_BYTES) -> bytes | None:
        """`Connection.receive`, or None: at the deadline (`_late` is true then) or woken by `idle`
        or `_end`."""
        self._late = False
        with trio.CancelScope(deadline=deadline) as self._wake:
            return await self.connection.receive(max_bytes)
        self._late = trio.current_time() >= deadline  # else `idle` or `_end` has woken us
        return None

    async def _fill(self, deadline: float) -> None:
        """Add what comes next to the buffer, with the same ends as `_receive`."""
        self._late = False
        with trio.CancelScope(deadline=deadline) as self._wake:
            data = await self.connection.receive_new()
            self.connection.buffer += data
            self._ended = not data
            return
        self._late = trio.current_time() >= deadline

    async def _refuse(self, refusal: BadHead) -> bytes:
        """Answer in Hypercorn's stead, unless an answer has begun, and end its part.

        Returns b"".
        """
        # In the middle of an answer ours would be taken for a part of it.
        if not self._answered or self._state is _State.FREE:
            with contextlib.suppress(trio.TooSlowError):
                await self.connection.send_all(answer(refusal), self._limits.write_deadline_s)
        self._closed = True
        return b""

    # Writing

    async def send_all(self, data: bytes) -> None:
        """Send with the write deadline for each 64 KiB; when one passes, the connection is aborted.

        Raises trio.BrokenResourceError then and when the peer is gone, trio.ClosedResourceError
        after the end.
        """
        if self._closed:
            raise trio.ClosedResourceError("Hypercorn's part has ended")
        if not data.startswith(b"HTTP/1.1 1"):  # 100 and 103 are no answer yet
            self._answered = True
        await self._send_piecewise(data)

    async def _send_piecewise(self, data: bytes) -> None:
        try:
            # One deadline for all of it would cut off a slow reader of a large answer.
            # A view, so that no piece is copied.
            with memoryview(data) as view:
                for at in range(0, len(view), SEND_PIECE_BYTES):
                    piece = view[at : at + SEND_PIECE_BYTES]
                    await self.connection.send_all(piece, self._limits.write_deadline_s)
        except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self.is_late = isinstance(exc, trio.TooSlowError)
            self._end()  # also ends the reading side, which may be waiting for an answer to be over
            raise trio.BrokenResourceError(str(exc)) from exc

    async def send_eof(self) -> None:
        """End Hypercorn's part, and with it what is sent, unless the connection goes on without.

        Hypercorn calls this right before `aclose`, which a cancellation in between would skip.
        """
        self._end()
        if not self.given_back:  # else the native lane goes on writing to the same socket
            self.connection.end_sending()
        await trio.lowlevel.checkpoint()  # Trio's rule for a stream's methods

    async def aclose(self) -> None:
        """End Hypercorn's part. The socket is not closed here."""
        self._end()
        await trio.lowlevel.checkpoint()

    def _end(self) -> None:
        # In this order: whoever is woken looks whether it is over.
        self._closed = True
        self._wake.cancel()

    # What the server around it tells

    def idle(self) -> None:
        """Hypercorn has answered the request it had, in whole, and has read all of it."""
        if self._state is _State.BUSY:
            # The keep-alive begins with the end of the answer, however long that took.
            self._state = _State.FREE
            self._free_since = trio.current_time()
            self._wake.cancel()
        # HTTP/2: which of its requests is under way only Hypercorn knows.
        elif self._state is _State.OPAQUE:
            self._idle.add(self.connection)

    def busy(self) -> None:
        """Hypercorn has been given a request."""
        self._idle.discard(self.connection)

    async def abort_if_cancelled(self) -> None:
        """Run beside Hypercorn: a cancellation, which its shield keeps from a waiting send, aborts
        the connection."""
        try:
            await trio.sleep_forever()
        finally:
            # After an orderly end there is nothing to abort, and what was given back lives on.
            if not self._closed and not self.given_back:
                self._end()
                self.connection.abort()


class TlsHandoffStream(HandoffStream):
    """The same for a connection over TLS, whose handshake has been done."""

    async def do_handshake(self) -> None:
        """Nothing is left to do."""
        await trio.lowlevel.checkpoint()

    def selected_alpn_protocol(self) -> str | None:
        """What the handshake agreed on."""
        return self.connection.alpn

    @property
    def transport_stream(self) -> HandoffStream:
        """Hypercorn asks it for `.socket`."""
        return self
