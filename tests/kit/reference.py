"""What a crowd is owed, byte for byte, and where each client is in it.

All clients of one transport that watch the same filter are owed the same bytes. One of each
transport, the *reference*, is taken apart and checked event by event; of all others the bytes are
compared with its. Only where they differ (a heartbeat, a gap, a snapshot) are they looked at more
closely.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from .proxy import split_sse, split_ws

HEARTBEAT: Final = {"sse": (b":\n\n",), "ws": (b"\x89\x00",)}
NUMBER: Final = re.compile(rb'"value":"(\d{8})')


class Broken(Exception):
    """A client got what it was not owed."""


class Reference:
    """The bytes that everybody of one transport is owed, and where each event in them ends."""

    def __init__(self, transport: str) -> None:
        self.transport = transport
        self.data = bytearray()
        self.ends: list[int] = []
        self.heartbeats = 0  # of the reference client
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what the reference client got. Raises `Broken` when an event is not the next."""
        self._rest += data
        for event in self.split(self._rest):
            if event in HEARTBEAT[self.transport]:
                self.heartbeats += 1
                continue
            number = NUMBER.search(event)
            if number is None or int(number[1]) != len(self.ends):
                raise Broken(f"event {len(self.ends)} is {event[:200]!r}")
            self.data += event
            self.ends.append(len(self.data))

    def split(self, buffer: bytearray) -> Iterator[bytes]:
        return split_sse(buffer) if self.transport == "sse" else split_ws(buffer)

    def number_at(self, offset: int) -> int:
        """How many events are whole up to an offset."""
        return bisect_right(self.ends, offset)

    def event(self, number: int) -> bytes:
        return bytes(self.data[self.start(number) : self.ends[number]])

    def start(self, number: int) -> int:
        return self.ends[number - 1] if number else 0


class Reader:
    """One client: where it is in the reference, and what differed on the way."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.at = 0
        self.lost = 0  # events that were jumped over
        self.announced = 0
        self.gaps = 0
        self.snapshots = 0
        self.heartbeats = 0
        self.goodbye = b""
        self._pending = b""
        self._is_lost = False  # after a gap: where it is in the reference the next event will tell

    @property
    def number(self) -> int:
        """The number of the event that comes next."""
        return self.reference.number_at(self.at)

    @property
    def sent(self) -> int:
        return self.number - self.lost

    def feed(self, data: bytes) -> None:
        """Compare. Raises `Broken`."""
        if self._pending:
            data = self._pending + data
        # As a rule, and at the speed of memcmp:
        if not self._is_lost and self.reference.data.startswith(data, self.at):
            self.at += len(data)
            self._pending = b""
        else:
            self._pending = self._differs(data)

    def _differs(self, data: bytes) -> bytes:
        """Look at events one by one; gives back what is not whole, or not in the reference yet."""
        reference = self.reference
        while data:
            number = self.number
            if number < len(reference.ends) and not self._is_lost:
                rest = bytes(reference.data[self.at : reference.ends[number]])
                if data.startswith(rest):
                    self.at += len(rest)
                    data = data[len(rest) :]
                    continue
                if rest.startswith(data):
                    self.at += len(data)
                    return b""
            if self.at != reference.start(number):
                raise Broken(f"event {number} differs: {data[:200]!r}")
            buffer = bytearray(data)
            event = next(iter(reference.split(buffer)), None)
            if event is None or not self._takes(event, number):
                return data
            data = bytes(buffer)
        return data

    def _takes(self, event: bytes, number: int) -> bool:
        """Take an event that is not the next one. False: it has to wait for the reference."""
        if event in HEARTBEAT[self.reference.transport]:
            self.heartbeats += 1
            return True
        head = event[:60]
        if b"closing" in head or event[:1] == b"\x88":
            self.goodbye = event
        elif b"gap" in head:
            self.gaps += 1
            self._is_lost = True
            self.announced += int(event.partition(b'"missed":')[2].split(b",")[0])
        elif b"snapshot" in head:
            self.snapshots += 1
        else:
            return self._jumps(event, number)
        return True

    def _jumps(self, event: bytes, number: int) -> bool:
        found = NUMBER.search(event)
        if found is None:
            raise Broken(f"after event {number}: {event[:200]!r}")
        comes = int(found[1])
        if comes >= len(self.reference.ends):
            return False
        if comes < number or self.reference.event(comes) != event:
            raise Broken(f"{comes} comes where {number} should: {event[:200]!r}")
        self.lost += comes - number
        self.at = self.reference.ends[comes]
        self._is_lost = False
        return True

    def after_repair(self, total: int) -> None:
        """At the end: what the last gap and its snapshot stand for was jumped over as well."""
        if self.gaps and self.snapshots:
            self.lost += total - self.number
            self.at = len(self.reference.data)
