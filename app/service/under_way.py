"""Writes under way to the log: each with what becomes of it, and how many one client has begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from triode.store.entry import encode_batch, needs_newer

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.limits.principal import Principal
    from triode.store.change import Position
    from triode.store.entry import Beside
    from triode.store.operation import Operation
    from triode.store.outcomes import Key


class Write:
    """A write under way. `position` or `error` is there when it is `decided`."""

    __slots__ = (
        "decided", "error", "is_given_up", "key", "line", "op", "position", "principal", "reached",
        "tell", "time_ms",
    )  # fmt: skip

    def __init__(
        self,
        op: Operation | Beside,
        principal: Principal,
        line: bytes,
        time_ms: int,
        tell: Callable[[Write], None] | None,
        key: Key | None = None,
    ) -> None:
        self.op = op
        self.principal = principal
        self.line = line
        self.time_ms = time_ms
        self.key = key
        self.position: Position | None = None
        self.error: Exception | None = None
        self.decided: trio.Event | None = None
        self.tell = tell
        self.is_given_up = False
        # Of a message: how many clients hear it here.
        self.reached = 0

    def settle(self, position: Position | None, error: Exception | None = None) -> None:
        """It is decided. Never twice."""
        if self.is_given_up:
            return
        assert not self.is_settled
        self.position, self.error = position, error
        if self.tell is not None:
            self.tell(self)
        if self.decided is not None:
            self.decided.set()

    def give_up(self, error: Exception) -> None:
        """Its writer is told that nothing is known; how it is decided nobody hears any more."""
        self.settle(None, error)
        self.is_given_up = True

    @property
    def is_settled(self) -> bool:
        """Whether it is decided."""
        return self.position is not None or self.error is not None or self.is_given_up

    async def settled(self) -> None:
        """Wait until it is decided."""
        if not self.is_settled:
            if self.decided is None:
                self.decided = trio.Event()
            await self.decided.wait()

    async def answer(self) -> Position:
        """Wait until it is decided; its position. Raises `Refusal`. To be asked once."""
        await self.settled()
        if self.error is not None:
            try:
                raise self.error
            finally:
                # Through its traceback it would hold itself, and the value that was to be written.
                self.error = None
        assert self.position is not None
        return self.position


def batch_of(writes: list[Write]) -> bytes:
    """What of them a log keeps, as one batch."""
    is_plain = not any(needs_newer(write.op) for write in writes)
    return encode_batch([write.line for write in writes], is_plain=is_plain)


class UnderWay:
    """The writes that one client has begun and that are not decided."""

    __slots__ = ("_changed", "_most", "count")

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most
        self._changed = trio.lowlevel.ParkingLot()

    def done(self) -> None:
        """One of them is decided."""
        self.count -= 1
        self._changed.unpark_all()

    async def room(self) -> None:
        """Wait until one more may be begun."""
        while self.count >= self._most:
            await self._changed.park()

    async def none_left(self) -> None:
        """Wait until all are decided."""
        while self.count:
            await self._changed.park()
