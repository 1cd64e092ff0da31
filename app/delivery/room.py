"""Rooms: named groups for messages that are not state."""

from __future__ import annotations

import secrets
from collections import deque
from itertools import takewhile
from typing import Generic, NamedTuple, TypeVar

from msgspec import Struct

from triode.app.wire.source import Source

M = TypeVar("M")


class Message(NamedTuple):
    """A message as a room remembers it.

    `body` is the event's JSON, for any transport. `omitted` is the id of the client that sent it
    and does not hear it. `told` names all rooms that the same message went to: who hears several of
    them gets it in the first.
    """

    seq: int
    body: bytes
    omitted: str | None
    told: tuple[str, ...]


class KeptRoom(Struct, frozen=True):
    """A room as it is kept over a restart: the number of its last message, and those that it
    remembers.
    """

    epoch: str
    seq: int
    log: list[tuple[int, str, str | None, tuple[str, ...]]]


class Room(Source, Generic[M]):
    """Messages are numbered from 1 in the order they are sent. The last ones are remembered for
    those who come back (see `Rooms`, which bounds it).

    A room that is forgotten and comes into being again counts under a new epoch.

    Where several Triodes share a log, a message has its number there (see `Rooms.follow`).
    """

    __slots__ = ("bytes", "epoch", "floor", "log", "members", "name", "seq")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.epoch = secrets.token_hex(3)
        self.members: dict[M, None] = {}
        self.seq = 0
        # All that came after this one is in the log.
        self.floor = 0
        # The last messages, up to `seq`. None: there has been none.
        self.log: deque[Message] | None = None
        self.bytes = 0

    def number(self, seq: int | None = None) -> int:
        """The number of one more message: the next one, or `seq`."""
        self.seq = self.seq + 1 if seq is None else seq
        return self.seq

    def remember(self, message: Message, max_items: int, max_bytes: int) -> None:
        """Put the message numbered last into the log, and let go what that has no room for."""
        if self.log is None:
            self.log = deque()
        self.log.append(message)
        self.bytes += len(message.body)
        while len(self.log) > max_items or self.bytes > max_bytes:
            gone = self.log.popleft()
            self.bytes -= len(gone.body)
            self.floor = gone.seq

    def forget(self) -> None:
        """Empty the log."""
        self.log = None
        self.floor = self.seq
        self.bytes = 0

    def covers(self, seq: int) -> bool:
        """Whether all messages after this one are in the log. Not for one that has not been yet."""
        return self.floor <= seq

    def since(self, seq: int) -> list[Message]:
        """The messages after this one, which the log must cover."""
        newest = takewhile(lambda message: message.seq > seq, reversed(self.log or ()))
        return list(newest)[::-1]
