"""What is below an ASGI lane: Hypercorn's connection, as far as it can be reached.

Hypercorn shields what it sends from cancellation, and has no deadline for it: a client that has
stopped reading would hold its task, and with it the end of the server, until the system gives its
connection up. It also ends the application only after it has cut all streams, so nobody would be
told to come back. Both are in reach behind the `send` that ASGI hands us:

    send ─ HTTPStream, WSStream ─ .send ─ H11Protocol ─ .send ─ TCPServer ─┬ .stream   the socket
                              └ .context   .terminated: the end has begun  └ .config

So the sends of streams are watched (`HypercornWires.cut`), and a socket whose send takes too long
is shut down: the send fails, whatever shields it. And when the end begins, all clients get their
goodbye (`shutdown.end_with_hypercorn`), for which there is as long as Hypercorn waits
(`--graceful-timeout`).

Seen with Hypercorn 0.18; where something is missing (other servers, connections that `triode serve`
hands to Hypercorn, which have all this already) nothing is watched, only asked how it ended. HTTP/2
has deadlines of its own (`app/lanes/http2.py`), and is only told here when the end begins.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any, Final

import trio

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
# The entry for the connection in the scope of a request of our own application, and its name at a
# stream of HTTP/2.
WIRE: Final = "triode.wire"


class Wire:
    """One connection of Hypercorn's, or one of the many streams of one. Where it is not `watched`
    there are deadlines below, which say themselves that one has passed.
    """

    __slots__ = ("_socket", "_stream", "graceful_s", "is_reset", "terminated")

    def __init__(self, stream: Any, socket: Any, terminated: Any, graceful_s: float) -> None:
        """`stream` is what Hypercorn sends through. Without a `socket` it is never aborted, without
        `terminated` not watched.
        """
        self._stream = stream
        self._socket = socket
        # Because a send took too long.
        self.is_reset = False
        self.terminated = terminated
        self.graceful_s = graceful_s

    @property
    def late(self) -> bool:
        """Whether it has ended because a send took too long."""
        return self.is_reset or getattr(self._stream, "is_late", False)

    @property
    def watched(self) -> bool:
        """Whether its sends have no other deadline, and its end nobody else who tells it."""
        return self.terminated is not None

    def abort(self) -> None:
        """Throw away what is unsent, and make a send that waits fail."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._socket.shutdown(socket.SHUT_RDWR)


def wire_of(send: Any) -> Wire | None:
    """The connection behind ASGI's `send`; None where it cannot be reached."""
    try:
        stream = send.__self__
        protocol = stream.send.__self__
        server = protocol.send.__self__
        transport = getattr(server.stream, "transport_stream", server.stream)
        is_shared = hasattr(protocol, "stream_buffers")
        is_ours = not isinstance(transport, trio.SocketStream)
        wire = Wire(
            server.stream,
            None if is_shared or is_ours else transport.socket,
            None if is_ours else stream.context.terminated,
            server.config.graceful_timeout,
        )
        if is_shared:
            setattr(stream, WIRE, wire)
        return wire
    except AttributeError:
        return None


def note_reset(stream: Any) -> None:
    """A stream of HTTP/2 is reset because its client takes nothing."""
    wire = getattr(stream, WIRE, None)
    if wire is not None:
        wire.is_reset = True


class HypercornWires:
    """The sends of streams that are under way, and the end of whoever serves us."""

    def __init__(self) -> None:
        self._sending: dict[Wire, float] = {}  # since when; the oldest first
        self._reached = trio.Event()
        self._wire: Wire | None = None

    def begin(self, wire: Wire) -> None:
        """A piece of a stream is going to be sent."""
        if not wire.watched:
            return
        if self._wire is None:
            self._wire = wire
            self._reached.set()
        self._sending[wire] = trio.current_time()

    def done(self, wire: Wire) -> None:
        """It is sent, or the connection is over. Idempotent."""
        self._sending.pop(wire, None)

    def cut(self, before: float) -> int:
        """Abort the connections whose sends began before this time. Says how many."""
        late = []
        for wire, since in self._sending.items():
            if since >= before:
                break
            late.append(wire)
        for wire in late:
            del self._sending[wire]
            wire.is_reset = True
            wire.abort()
        return len(late)

    async def wait_terminated(self) -> float:
        """Wait until Hypercorn begins to end. Says how long it waits for its applications, in
        seconds.
        """
        await self._reached.wait()
        assert self._wire is not None
        await self._wire.terminated.wait()
        return self._wire.graceful_s


def wire_in(scope: Any) -> Wire | None:
    """The connection below, as our own application notes it in the scope of a request."""
    wire: Wire | None = scope.get(WIRE)
    return wire
