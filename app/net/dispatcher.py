"""What a connection goes through from `accept` until a lane serves it.

    place among the heads in flight ─► (TLS) ─► head, one deadline ─┬ wants ─► native(…)
      └ none: see `app/net/door.py`               └ bad: problem    └ else ──► place ─► handoff(…)
                                    a later head that `wants` accepts ◄──────────────────┘

Whoever cannot be served is told so when its request is known, and in a way that its kind of client
survives: before, there is no answer that fits all of them.

Nothing that happens on a connection gets out of its task: see `Dispatcher.connect`.

Idle memory counts (docs/design.md 5): while a native stream is served, its task holds one frame of
ours beside those of the lane, and the request head is the lane's alone, to drop with `del head`.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import trio

from triode.app.net.connection import Connection
from triode.app.net.door import Door, IdleConnections, Places
from triode.app.net.listener import ListenerCounts
from triode.app.net.request_head import Head, answer, parse_head, skip_empty_line
from triode.app.wire.refusal import Refusal
from triode.limits.address import Share
from triode.limits.admission import Full

logger = logging.getLogger("triode.listener")

H2_PREFACE: Final = b"PRI * HTTP/2.0\r\n"
TLS_RECORD: Final = b"\x16\x03"
LOOPBACK: Final = "127.0.0.1"
# Connections at once that wait for their peer to read a refusal; those beyond are closed at once.
LINGERING: Final = 1000

# What is about to begin: a handshake, a native stream, or anything else.
Beginning = Literal["tls", "stream", "other"]


async def _admit_at_once(_what: Beginning) -> None:
    await trio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True)
class ListenerLimits:
    """Deadlines in seconds for a new connection, and the size of its head in bytes.

    `head_deadline_s` covers the TLS handshake and the whole head. `connections` bounds all
    connections that are there at once, whoever serves them; 0 for none.
    """

    head_deadline_s: float = 10.0
    max_head_bytes: int = 16 * 1024
    linger_s: float = 1.0
    connections: int = 0


class Dispatcher:
    """What each connection goes through until a lane serves it. `connect` is what `serve` wants."""

    def __init__(
        self,
        *,
        wants: Callable[[Head], bool],
        native: Callable[[Connection, Head], Awaitable[None]],
        handoff: Callable[[Connection, bool], Awaitable[bool]],
        places: Places,
        refuse: Callable[[Head, Refusal], bytes] = lambda _, refusal: answer(refusal),
        limits: ListenerLimits | None = None,
        counts: ListenerCounts | None = None,
        ssl_context: ssl.SSLContext | None = None,
        heads: Share | None = None,
        http: Share | None = None,
        idle: IdleConnections | None = None,
        admit: Callable[[Beginning], Awaitable[None]] = _admit_at_once,
    ) -> None:
        """Give it the lanes and the bounds.

        `native` serves a connection whose head `wants` accepts, to its end. `handoff(connection,
        opaque)` is given one with its head still in `buffer`, and returns true when the buffer
        begins with a later head that is for `native`. `refuse` makes the answer for a request that
        cannot be served. `heads` and `http` are what one address may take of the `places`. Of
        `idle` the oldest is closed for a newcomer when there are too many. `admit` is waited for
        before a newcomer is served, and before its TLS handshake, and told which of them it is.
        """
        self.counts = counts or ListenerCounts()
        self._wants = wants
        self._native = native
        self._handoff = handoff
        self._limits = limits or ListenerLimits()
        self._ssl_context = ssl_context
        self._lingering = 0
        self._refuse = refuse
        self._idle = IdleConnections(self.counts) if idle is None else idle
        self._admit = admit
        self.door = Door(
            places,
            heads or Share(),
            http or Share(),
            idle=self._idle,
            silent=IdleConnections(self.counts),
            wait_s=self._limits.head_deadline_s,
        )

    async def connect(self, sock: socket.socket, address: Any) -> None:
        """Serve one accepted non-blocking socket, and close it.

        Whatever goes wrong, also as a group out of a lane's nursery, ends this connection only:
        nothing is raised but cancellation and exits.
        """
        connection = Connection(sock, peer_ip(address))
        del sock, address  # they would stay in this frame for as long as the connection
        self.counts.open += 1
        try:
            head = await self._receive(connection)
            if head is not None:
                self.counts.native += 1
                serving = self._native(connection, head)
                del head  # the lane's now, to keep or to drop
                await serving
                await connection.finish(self._limits.linger_s)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError):
            self.counts.broken += 1  # peers leave in every way: counted, and no line of the log
        except* Exception:
            self.counts.failed += 1
            logger.exception("the connection of %s failed", connection.peer)
        finally:
            self.counts.open -= 1
            connection.abort()  # for those that nobody closed; nothing otherwise

    async def _receive(self, connection: Connection) -> Head | None:
        """Bring the connection to its lane. The head to serve natively, or None: it is over."""
        try:
            ticket = await self.door.enter_head(connection)
        except Full:
            # Nothing is known of the request yet, and an answer would end an EventSource for good.
            self.counts.turned_away += 1
            connection.close()
            return None
        try:
            opaque = await self._read_head(connection)
        except Refusal as refusal:
            self.counts.refused_heads += 1
            await self._answer(connection, answer(refusal))
            return None
        finally:
            # Before the lane: a connection whose head is there is no head in flight any more.
            ticket.release()
        if opaque is None:
            connection.close()
            return None
        is_wanted = not opaque and self._is_wanted(connection)
        await self._admit("stream" if is_wanted else "other")
        try:
            return await self._choose(connection, opaque, is_wanted)
        except Full as full:
            await self._turn_away(connection, opaque, full)
            return None

    async def _read_head(self, connection: Connection) -> bool | None:
        """Read until a whole head is in the buffer: False; or the start of HTTP/2: True.

        None: close without a word. One deadline for all of it, so a byte now and then buys no
        time. Raises Refusal.
        """
        is_begun = False  # the handshake
        with trio.move_on_after(self._limits.head_deadline_s) as scope:
            if self._ssl_context is not None:
                # Under the same deadline: a handshake that stands still costs what a head does.
                await trio.lowlevel.wait_readable(connection.sock)
                is_begun = True
                await self._admit("tls")
                await connection.secure_with(self._ssl_context)
                if connection.alpn == "h2":
                    return True
            return await self._read_plain_head(connection)
        assert scope.cancelled_caught
        # Browsers open connections ahead of need: who said nothing is owed no answer.
        if not connection.buffer:
            if is_begun and not connection.secure:
                self.counts.late_handshakes += 1
            else:
                self.counts.silent += 1
            return None
        self.counts.late_heads += 1
        raise Refusal(408, f"The request head took more than {self._limits.head_deadline_s:g} s.")

    async def _read_plain_head(self, connection: Connection) -> bool | None:
        buffer = connection.buffer
        while True:
            data = await connection.receive_new(self._limits.max_head_bytes)
            if not data:
                return None
            buffer += data
            # Looked for before the parser, which refuses HTTP/2.0 as a version it does not speak.
            if buffer.startswith(H2_PREFACE):
                return True
            if buffer.startswith(TLS_RECORD) and not connection.secure:
                return None  # somebody who speaks TLS to a plain port understands no answer of ours
            if self._parse(connection) is not None:
                return False

    def _parse(self, connection: Connection) -> tuple[Head, int] | None:
        """The head that the buffer begins with, parsed once: see `Connection.parsed`."""
        if connection.parsed is None:
            skip_empty_line(connection.buffer)
            connection.parsed = parse_head(
                connection.buffer,
                max_bytes=self._limits.max_head_bytes,
                peer=connection.peer,
                secure=connection.secure,
            )
        return connection.parsed

    async def _choose(self, connection: Connection, opaque: bool, is_wanted: bool) -> Head | None:
        """Hand over what is not native. Raises Full when there is no place for the connection."""
        # An idle one goes for a newcomer: its client may come back, a newcomer would be refused.
        most = self._limits.connections
        if 0 < most < self.counts.open and not self._idle.close_oldest():
            raise Full("connections", most)
        if not is_wanted:
            # The place is held only while Hypercorn has it: a native stream has another kind.
            with self.door.enter_http(connection):
                self.counts.handed_off += 1
                if not await self._handoff(connection, opaque):
                    return None
            self.counts.given_back += 1
            # The later head is in the buffer still, and parsed already.
            if not self._is_wanted(connection):
                return None
        return self._take_head(connection)

    def _is_wanted(self, connection: Connection) -> bool:
        """Whether the head that the buffer begins with is for the native lane."""
        parsed = self._parse(connection)
        return parsed is not None and self._wants(parsed[0])

    def _take_head(self, connection: Connection) -> Head:
        """Take the head, which is there and parsed, out of the buffer."""
        assert connection.parsed is not None
        head, size = connection.parsed
        connection.parsed = None
        del connection.buffer[:size]
        return head

    async def _turn_away(self, connection: Connection, opaque: bool, full: Full) -> None:
        self.counts.turned_away += 1
        parsed = None if opaque else self._parse(connection)
        # Over HTTP/1 an answer is worth its bytes: it says when to come back.
        if parsed is None:
            connection.close()  # HTTP/2 understands no answer of ours
            return
        await self._answer(connection, self._refuse(parsed[0], too_many(full)))

    async def _answer(self, connection: Connection, data: bytes) -> None:
        """Send a last answer, and give the peer a moment to read it."""
        with contextlib.suppress(trio.TooSlowError):
            await connection.send_all(data, self._limits.linger_s)
        # Closed at once, the reset may overtake the answer. But whoever is refused by the thousands
        # must not be able to hold as many connections as it likes.
        if self._lingering >= LINGERING:
            connection.close()
            return
        self._lingering += 1
        try:
            await connection.finish(self._limits.linger_s)
        finally:
            self._lingering -= 1


def too_many(full: Full) -> Refusal:
    """503 for a connection that has no place, with what to do."""
    retry_s = random.randint(1, 5)  # or all who are told so now come back in the same moment
    whose = "of your address " if full.which == "per_ip" else ""
    return Refusal(
        503,
        f"Too many connections {whose}at the moment ({full.which}: {full.limit}); retry in "
        f"{retry_s} s.",
        extra={"limit": full.limit, "retry_after": retry_s, "which": full.which},
        headers={"Retry-After": str(retry_s)},
    )


def peer_ip(address: Any) -> str:
    """The address of a peer as the kernel gives it: without port and zone, mapped IPv4 as IPv4.

    Who comes through a Unix socket has none, and counts as this machine, which it is on.
    """
    if not isinstance(address, tuple):
        return LOOPBACK
    # One client has one text, or it would have two accounts: bare, without the zone.
    ip: str = address[0].partition("%")[0]
    return ip.removeprefix("::ffff:") if "." in ip else ip
