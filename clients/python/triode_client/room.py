"""Rooms: messages that are not state. The server remembers the last of them for who comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import anyio.lowlevel

from .assembly import Json
from .bell import Bell
from .errors import TriodeError

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True)
class Message:
    """A message in a room, or to this client alone, then `room` is None.

    `sender` is the client id it came from, None for one by HTTP. `time_ms` is Unix time. `missed`
    messages were lost before it, to a full queue of the server or of ours; None: we were away for
    longer than the server remembers, and nobody knows how many.
    """

    room: str | None
    event: str
    data: Json
    sender: str | None
    time_ms: int
    missed: int | None = 0


class Hall:
    """One room as the link knows it, over all connections; `name` None is what is sent to us alone.

    Synchronous: the link calls it, `Room`s wait on it.
    """

    def __init__(self, name: str | None) -> None:
        self.name: Final = name
        self.failure: TriodeError | None = None
        self.members: list[str] = []
        self.rooms: set[Room] = set()
        self.holders = 0
        # We are in it: the present connection has joined.
        self.is_joined = False
        # So far we have heard what was said, in the room's own log; None: we have not been in it.
        self.position: str | None = None
        self._was_joined = False
        self._bell = Bell()

    def begin(
        self, members: Sequence[str] = (), *, position: str | None = None, resumed: bool = False
    ) -> None:
        """Joined; if `resumed`, what was said since `position` follows."""
        if self._was_joined and not resumed:
            for room in self.rooms:
                room.miss(None)
        self.is_joined = self._was_joined = True
        self.members = list(members)
        self.position = position
        self._bell.ring()

    def cut(self) -> None:
        """The connection is gone."""
        self.is_joined = False

    def fail(self, failure: TriodeError) -> None:
        """The server does not let us in, or the client was closed."""
        self.is_joined = False
        self.failure = failure
        self._bell.ring()

    def take(self, frame: Mapping[str, Any]) -> None:
        """A message, or a gap."""
        if not self.is_joined:
            return  # for one before us, who left
        if frame["type"] == "gap":
            self.position = frame.get("to", self.position)
            for room in self.rooms:
                room.miss(frame["missed"])
            return
        self.position = frame.get("id", self.position)
        message = Message(
            self.name, frame["event"], frame.get("data"), frame.get("from"), frame["time"]
        )
        for room in self.rooms:
            room.push(message)
        self._bell.ring()

    async def wait(self) -> None:
        """Wait until something has happened. Raises the failure, if it failed."""
        if self.failure is None:
            await self._bell.wait()
        else:
            await anyio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure


Publish = Callable[[str, Json, bool], Awaitable[int]]


class Room:
    """A room that we are in; see `Triode.room`. Iterate over it for its messages.

    Up to `buffer` messages wait for a program that is slow, then the oldest give way; the next one
    that it takes says in `missed` how many.
    """

    def __init__(self, hall: Hall, publish: Publish, buffer: int) -> None:
        if buffer < 1:
            raise ValueError(f"buffer must be at least 1, not {buffer!r}")
        self._hall = hall
        self._publish = publish
        self._buffer = buffer
        self._messages: deque[Message] = deque()
        # Lost before the next message that comes, and before the first that waits.
        self._missed: int | None = 0

    @property
    def name(self) -> str | None:
        """The room's name; None for what is sent to this client alone."""
        return self._hall.name

    @property
    def members(self) -> list[str]:
        """The client ids that were in the room when we entered it, or came back; at most 1000."""
        return list(self._hall.members)

    async def publish(self, event: str, data: Json = None, *, echo: bool = False) -> int:
        """Say something to the others in the room, to oneself too with `echo`.

        How many it reached. Raises as `Triode.set` does.
        """
        return await self._publish(event, data, echo)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next message. Raises `Refused` if we may not be in the room any longer.

        Cancelled, no message is lost.
        """
        await anyio.lowlevel.checkpoint()
        while not self._messages:
            await self._hall.wait()
        return self._messages.popleft()

    def push(self, message: Message) -> None:
        """A message has come."""
        if self._missed != 0:
            message = replace(message, missed=self._missed)
            self._missed = 0
        self._messages.append(message)
        if len(self._messages) > self._buffer:
            dropped = self._messages.popleft()
            first = self._messages[0]
            self._messages[0] = replace(first, missed=_sum(dropped.missed, 1, first.missed))

    def miss(self, count: int | None) -> None:
        """So many have not come; None: nobody knows how many."""
        self._missed = _sum(self._missed, count)


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
