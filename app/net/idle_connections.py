"""Connections on which no request is under way: what is given up first when there is no room.

A client that loses such a connection opens another for its next request, and HTTP makes it do so
by itself (RFC 9112 section 9.3.1). The one that has been idle longest is the least likely to be
used again. One that was used within the last second is not given up: its client is at work, and
would find its place taken by strangers that say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio

from triode.app.net.listener import ListenerCounts

if TYPE_CHECKING:
    from triode.app.net.connection import Connection


MIN_IDLE_S = 1.0


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
