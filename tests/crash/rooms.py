"""A room over any number of restarts: one who speaks, and those who listen and resume."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from typing import Any

import trio

from tests.behaviour.api import sequence
from tests.behaviour.clients import Frame, Ws, open_ws
from tests.behaviour.server import Server
from tests.crash.followers import AGAIN_AFTER_S, CUT, OPEN_S, PATIENCE_S
from tests.crash.ledger import Violation

ROOM = "r"


class Talker:
    """Speaks until the server dies, and says each time something else."""

    def __init__(self, server: Server, rng: random.Random) -> None:
        self._server = server
        self._rng = rng
        self._labels = itertools.count(1)

    async def run(self) -> None:
        """Speak until it is gone."""
        with contextlib.suppress(*CUT):
            async with open_ws(self._server, greet=False) as ws:
                await ws.next()  # "connected"
                while True:
                    await self._say(ws)
                    await trio.sleep(0.004 * self._rng.random())

    async def say(self) -> int:
        """One message; what it said."""
        async with open_ws(self._server, greet=False) as ws:
            await ws.next()
            return await self._say(ws)

    async def _say(self, ws: Ws) -> int:
        label = next(self._labels)
        await ws.send({"type": "publish", "room": ROOM, "data": label})
        answer = await ws.next(PATIENCE_S)
        if answer["type"] != "ok":
            raise Violation(f"a message was answered {answer}")
        return label


class Listener:
    """A member that comes back where it was. `said` is what all of them have heard, by number."""

    def __init__(self, server: Server, said: dict[int, Any]) -> None:
        self._server = server
        self._said = said
        self.at: str | None = None
        self.last: Any = None
        self.resumed = 0
        self._moved = trio.lowlevel.ParkingLot()

    async def run(self) -> None:
        """Listen until cancelled. Raises `Violation`."""
        while True:
            with trio.CancelScope(deadline=trio.current_time() + OPEN_S) as opening:
                with contextlib.suppress(*CUT):
                    await self._listen(opening)
            await trio.sleep(AGAIN_AFTER_S)

    async def _listen(self, opening: trio.CancelScope) -> None:
        async with contextlib.AsyncExitStack() as stack:
            try:
                ws = await stack.enter_async_context(open_ws(self._server, greet=False))
                await ws.next()
            except AssertionError:  # it died while it answered
                return
            since = {} if self.at is None else {"since": self.at}
            await ws.send({"type": "join", "room": ROOM, **since})
            answer = await ws.next()
            opening.deadline = math.inf
            if self.at is None:
                self._moves(answer["positions"][ROOM])
            elif answer["resumed"] is not True:
                raise Violation(f"a member of the room could not resume at {self.at}: {answer}")
            else:
                self.resumed += 1
            while True:
                self._take(await ws.next(PATIENCE_S))

    def _take(self, frame: Frame) -> None:
        assert self.at is not None
        epoch, seq = self.at.rpartition(":")[0], sequence(self.at)
        if frame["type"] != "message" or frame["id"] != f"{epoch}:{seq + 1}":
            raise Violation(f"a member of the room got {frame} after {self.at}")
        if self._said.setdefault(seq + 1, frame["data"]) != frame["data"]:
            raise Violation(f"{frame}, but another member heard {self._said[seq + 1]} there")
        self.last = frame["data"]
        self._moves(frame["id"])

    def _moves(self, at: str) -> None:
        self.at = at
        self._moved.unpark_all()

    async def reach(self, label: int | None) -> None:
        """Wait until it has heard that; None: until it is there. Raises `Violation`."""
        with trio.move_on_after(PATIENCE_S):
            while self.at is None or (label is not None and self.last != label):
                await self._moved.park()
            return
        raise Violation(f"a member of the room heard {self.last} last, at {self.at}, not {label}")
