"""Clients that watch, over any number of restarts: they resume by position, and put together what
they get.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import h11
import trio
from trio_websocket import ConnectionClosed, HandshakeError

from tests.behaviour.api import sequence
from tests.behaviour.assembler import Assembler, Frame
from tests.behaviour.clients import Watch, watch
from tests.behaviour.server import Server
from tests.crash.ledger import Ledger, Violation

AGAIN_AFTER_S = 0.2
# trio-websocket does not notice the end of a connection during its handshake.
OPEN_S = 2.0
PATIENCE_S = 60.0
# What the death of a server looks like from here.
CUT = (
    OSError,
    EOFError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    ConnectionClosed,
    HandshakeError,
    h11.RemoteProtocolError,
)
FENCE = ".fence"


class Follower:
    """One client of one filter (and of the fence). `changes`: those it has got and nobody has
    looked at, each with its number; the last frame of a change carries it.
    """

    def __init__(self, server: Server, ledger: Ledger, transport: str, filter: str) -> None:
        self._server = server
        self._ledger = ledger
        self.transport = transport
        self.filter = filter
        self.changes: list[tuple[int, list[Frame]]] = []
        self.seq = -1
        self.resumed = 0
        self._last_id: str | None = None
        self._assembler = Assembler()
        self._moved = trio.lowlevel.ParkingLot()

    def __str__(self) -> str:
        return f"{self.filter} over {self.transport}"

    async def run(self) -> None:
        """Follow until cancelled. Raises `Violation`."""
        while True:
            with trio.CancelScope(deadline=trio.current_time() + OPEN_S) as opening:
                with contextlib.suppress(*CUT):
                    await self._follow(opening)
            await trio.sleep(AGAIN_AFTER_S)

    async def _follow(self, opening: trio.CancelScope) -> None:
        filters = [self.filter] if self.filter == "." else [self.filter, FENCE]
        options: dict[str, Any] = {} if self._last_id is None else {"since": self._last_id}
        async with contextlib.AsyncExitStack() as stack:
            try:
                one = await stack.enter_async_context(
                    watch(self._server, self.transport, *filters, **options)
                )
            except AssertionError:  # it died while it answered
                return
            opening.deadline = math.inf
            if self._last_id is None:
                await self._begin(one, len(filters))
            else:
                self._check_resumed(one.connected)
            await self._receive(one)

    async def _receive(self, one: Watch) -> None:
        frames: list[Frame] = []
        while True:
            frame = await one.next(PATIENCE_S)
            if frame["type"] not in ("update", "delete"):
                self._check_other(frame)
                continue
            frames.append(frame)
            # Cut off before this, it gets the whole change again.
            if "id" in frame:
                self._arrived(frame["id"])
                self.changes.append((self.seq, frames))
                frames = []

    async def _begin(self, one: Watch, filters: int) -> None:
        while filters:
            frame = await one.next()
            self._assembler.take(frame)
            filters -= not frame["more"]
        self._arrived(one.last_id)

    def _arrived(self, position: str) -> None:
        self._last_id, self.seq = position, sequence(position)
        self._moved.unpark_all()

    def _check_resumed(self, connected: Frame) -> None:
        if connected["resumed"] is not True:
            raise Violation(f"{self} could not resume at {self._last_id}: {connected}")
        self.resumed += 1

    def _check_other(self, frame: Frame) -> None:
        if frame["type"] in ("snapshot", "gap"):
            raise Violation(f"{self}, resumed at {self._last_id}, got {frame}")

    async def reach(self, seq: int, patience_s: float = PATIENCE_S) -> None:
        """Wait until it has got all up to there."""
        with trio.move_on_after(patience_s):
            while self.seq < seq:
                await self._moved.park()
            return
        raise Violation(f"{self} stays at {self.seq}; {seq} was answered")

    def play(self, frames: list[Frame]) -> Any:
        """Apply one change; the document as this client has it, or the view of its filter."""
        for frame in frames:
            self._assembler.take(frame)
        view = self._assembler.views[self.filter]
        return view[()] if self.filter == "." else view
