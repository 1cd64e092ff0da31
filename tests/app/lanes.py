"""Lanes for tests: a connection whose appetite the test decides."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import trio

from triode.app.wire.chunks import Chunks
from triode.app.wire.frame import unwrap
from triode.store.value import decode


def inflated(payload: bytes) -> bytes:
    """The payload of a compressed message that knows nothing of those before it (RFC 7692)."""
    return zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")


class FakeLane:
    """Takes `appetite` bytes without waiting, and what `feed` allows when waited for. `taken` is
    what it got.
    """

    name = "native"

    def __init__(
        self, appetite: int | None = None, deflate_from: int = 0, *, chunked: bool = False
    ) -> None:
        self.deflate_from = deflate_from
        self.chunks = Chunks(b"") if chunked else None
        self.appetite = appetite
        self.send_now: Callable[[bytes], int] | None = self._send_now
        self.taken = bytearray()
        self.woken = 0
        self.aborted = False
        self.lost = False
        self._hungry = trio.Event()

    def _send_now(self, data: bytes) -> int:
        if self.lost:
            raise BrokenPipeError
        if self.appetite is None:
            self.taken += data
            return len(data)
        if not self.appetite:
            raise BlockingIOError
        sent = min(self.appetite, len(data))
        self.taken += data[:sent]
        self.appetite -= sent
        return sent

    async def send_all(self, data: bytes) -> None:
        while self.appetite == 0:
            await self._hungry.wait()
        await trio.lowlevel.checkpoint()
        if self.lost:
            raise trio.BrokenResourceError
        self.taken += data
        if self.appetite is not None:
            self.appetite = max(0, self.appetite - len(data))

    def feed(self, appetite: int | None) -> None:
        """From now on it takes this many bytes more; None is without end."""
        self.appetite = appetite
        self._hungry.set()
        self._hungry = trio.Event()

    def wake(self) -> None:
        self.woken += 1

    def abort(self) -> None:
        self.aborted = True

    def messages(self) -> list[dict[str, object]]:
        """The JSON messages taken so far, of a WebSocket client; a part of a frame at the end is
        an error.
        """
        found: list[dict[str, object]] = []
        taken = bytearray(self.taken)
        for first, payload in unwrap(taken):
            if first == 0xC1:
                first, payload = 0x81, inflated(payload)
            if first == 0x81:
                value = decode(payload)
                assert isinstance(value, dict)
                found.append(value)
        assert not taken, "a part of a frame"
        return found

    def types(self) -> list[object]:
        return [message["type"] for message in self.messages()]
