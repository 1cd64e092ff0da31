"""The door: places for connections that are no streams, and lines for those who find none.

    accept ─► head ─┬─► stream                     counted as a client
                    └─► HTTP, until it is over     counted as an HTTP connection

**Heads** (the request has not been read) pass quickly, so nobody is refused for their number: a
crowd that comes back at once has to get in, and an `EventSource` would not survive a 503. When
all places are taken, accepting waits, and with it the kernel's backlog; meanwhile those who have
said nothing for a second are closed, the oldest first. When those of one address are taken, its
next connections stand in a line of their own, and nobody else waits. Whoever stands there is
counted as an HTTP connection: lines have no other bound.

**HTTP connections** may stay long, with a body that comes slowly. Above their bound the one that
has been idle longest is closed; when there is none, or one address has too many, a newcomer is
refused. A client that loses an idle connection opens another for its next request, and HTTP makes
it do so by itself (RFC 9112 section 9.3.1); the one that has been idle longest is the least likely
to be used again. One that was used within the last second is not given up: its client is at work,
and would find its place taken by strangers that say nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from triode.app.net.listener import ListenerCounts
from triode.limits.admission import Full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.app.net.connection import Connection
    from triode.limits.address import Share
    from triode.limits.admission import Ticket

# How often those who wait for room look for a head that has been silent for too long.
LOOK_S: Final = 0.1
MIN_IDLE_S: Final = 1.0
# Measured with tracemalloc: a connection that Hypercorn waits on, and one whose head is awaited.
HTTP_BYTES: Final = 24_000
HEAD_BYTES: Final = 5_600


class Places(Protocol):
    """`limits.admission.Admission`, as far as the door needs it."""

    def heads_full(self) -> bool:
        """Whether there is no place for a head."""

    def enter_head(self) -> Ticket:
        """A place for a connection whose request has not been read, also when there is none."""

    def enter_http(self, ip: str | None, *, over: bool = False) -> Ticket:
        """A place for a connection that is no stream, also above the total when `over`. Raises
        limits.admission.Full.
        """


class Door:
    """The places of one server.

    `heads` and `http` are the shares of one address. Who waits in a line does so for `wait_s` at
    most. `idle` are the connections without a request, `silent` those that never had one.
    """

    def __init__(
        self,
        places: Places,
        heads: Share,
        http: Share,
        *,
        idle: IdleConnections,
        silent: IdleConnections,
        wait_s: float,
    ) -> None:
        self._places = places
        self._heads = heads
        self._http = http
        self._idle = idle
        self._silent = silent
        self._wait_s = wait_s
        self._https: set[Connection] = set()
        self._lines: dict[str, trio.Semaphore] = {}
        self._room = trio.lowlevel.ParkingLot()

    async def wait_for_room(self) -> None:
        """Wait until a head has a place. For the accept loop, whose turn may take some more."""
        while self._places.heads_full():
            self._silent.close_oldest()
            with trio.move_on_after(LOOK_S):
                await self._room.park()

    async def enter_head(self, connection: Connection) -> Ticket:
        """A place for a connection whose request has not been read. Raises Full, maybe after a
        wait.
        """
        key = self._heads.key(connection.peer)
        if key is not None:
            await self._stand_in_line(connection, key)
        place = self._places.enter_head()
        self._silent.add(connection)

        def leave() -> None:
            self._silent.discard(connection)
            if key is not None:
                self._leave_line(key)
            if self._room:
                self._room.unpark_all()

        place.then = leave
        return place

    async def _stand_in_line(self, connection: Connection, key: str) -> None:
        bound = self._heads.bound
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = trio.Semaphore(bound, max_value=bound)
        if line.value:
            line.acquire_nowait()
            return
        with self.enter_http(connection), trio.move_on_after(self._wait_s):
            await line.acquire()
            return
        raise Full("per_ip", bound)

    def _leave_line(self, key: str) -> None:
        line = self._lines[key]
        line.release()
        if line.value == line.max_value:
            del self._lines[key]

    def enter_http(self, connection: Connection) -> Ticket:
        """A place for a connection that is no stream. Raises Full."""
        place = self._take_http(self._http.key(connection.peer))
        self._https.add(connection)
        place.then = partial(self._https.discard, connection)
        return place

    def _take_http(self, key: str | None) -> Ticket:
        try:
            return self._places.enter_http(key)
        except Full as full:
            if full.which != "http" or not self._idle.close_oldest():
                raise
        # The one that was closed gives its place back in a moment.
        return self._places.enter_http(key, over=True)

    def held_bytes(self) -> int:
        """What connections that are no streams take, about, with what has been read of them."""
        held = len(self._https) * HTTP_BYTES + len(self._silent) * HEAD_BYTES
        return held + sum(len(one.buffer) for some in (self._https, self._silent) for one in some)


class IdleConnections:
    """The idle ones, the longest idle first."""

    __slots__ = ("_connections", "_counts")

    def __init__(self, counts: ListenerCounts | None = None) -> None:
        self._counts = ListenerCounts() if counts is None else counts
        self._connections: dict[Connection, float] = {}  # idle since

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections)

    def add(self, connection: Connection) -> None:
        """From now on it is idle. Again changes nothing."""
        self._connections.setdefault(connection, trio.current_time())

    def discard(self, connection: Connection) -> None:
        """It is not idle any more, or over."""
        self._connections.pop(connection, None)

    def close_oldest(self) -> bool:
        """Close the one that has been idle longest. False: none has been for `MIN_IDLE_S`."""
        while self._connections:
            connection, since = next(iter(self._connections.items()))
            if trio.current_time() - since < MIN_IDLE_S:
                return False
            del self._connections[connection]
            if not connection.closed:
                connection.close()
                self._counts.idle_closed += 1
                return True
        return False
