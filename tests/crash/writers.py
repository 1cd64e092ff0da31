"""Those who write until the server dies: over WebSocket, HTTP and NDJSON."""

from __future__ import annotations

import json
import random
from collections import deque

import httpx
import trio

from tests.behaviour.clients import open_ws
from tests.behaviour.server import Server
from tests.crash.followers import CUT
from tests.crash.ledger import Ledger, Violation
from tests.crash.operations import Maker, Write, over_http, parameters

DEAD = (*CUT, httpx.HTTPError)
PATIENCE_S = 60.0


class Writer:
    """What all of them have: writes to make, and where it is noted what became of them."""

    def __init__(self, server: Server, ledger: Ledger, maker: Maker, rng: random.Random) -> None:
        self._server = server
        self._ledger = ledger
        self._maker = maker
        self._rng = rng
        self.begun = trio.Event()

    async def run(self) -> None:
        """Write until the server is gone; `begun` is set when something was answered. Raises
        `Violation`.
        """
        try:
            await self._write()
        except DEAD:
            pass

    async def _write(self) -> None:
        raise NotImplementedError

    def _next(self) -> Write:
        write = self._maker.make()
        self._ledger.send(write)
        return write

    def _noted(self, write: Write, seq: int | None) -> None:
        self.begun.set()
        if seq is not None and write.command["type"] == "set":
            self._maker.seen.append(f"{self._ledger.epoch}:{seq}")

    async def _rest(self) -> None:
        if self._rng.random() < 0.1:
            await trio.sleep(self._rng.random() * 0.01)


class OverWebSocket(Writer):
    """Many under way at once; the answers come in the order of the commands."""

    async def _write(self) -> None:
        most = self._rng.choice((1, 8, 64, 200))
        waiting: deque[Write] = deque()
        last = 0
        async with open_ws(self._server, greet=False) as ws:
            await ws.next()  # "connected"
            while True:
                while len(waiting) < most:
                    write = self._next()
                    waiting.append(write)
                    await ws.send(write.command | {"ref": write.label})
                answer = await ws.next(PATIENCE_S)
                write = waiting.popleft()
                if answer.get("ref") != write.label:
                    raise Violation(f"the answer to {write} is {answer}")
                seq = self._ledger.take(write, answer)
                if seq is not None:
                    if seq < last:
                        raise Violation(f"{write} of one connection got {seq} after {last}")
                    last = seq
                self._noted(write, seq)
                await self._rest()


class OverHttp(Writer):
    """A request a write."""

    async def _write(self) -> None:
        base = f"http://127.0.0.1:{self._server.port}"
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE_S, verify=False) as http:
            while True:
                write = self._maker.make()
                asked = over_http(write)
                if asked is None:
                    continue
                self._ledger.send(write)
                method, kind, body = asked
                answer = await http.request(
                    method,
                    "/store",
                    params=parameters(write),
                    content=b"" if method == "DELETE" else json.dumps(body),
                    headers={"Content-Type": kind},
                )
                if answer.status_code == 200:
                    self._noted(write, self._ledger.answer(write, answer.json()["id"]))
                else:
                    self._ledger.refuse(write, answer.status_code)
                await self._rest()


class OverNdjson(Writer):
    """Many lines a request. Each line that has come back is an answer, however the rest ends."""

    async def _write(self) -> None:
        base = f"http://127.0.0.1:{self._server.port}"
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE_S, verify=False) as http:
            while True:
                writes = [self._next() for _ in range(self._rng.choice((1, 5, 60)))]
                lines = "\n".join(
                    json.dumps(write.command | {"ref": write.label}) for write in writes
                )
                headers = {"Content-Type": "application/x-ndjson"}
                async with http.stream(
                    "POST", "/store/batch", content=lines, headers=headers
                ) as answer:
                    if answer.status_code != 200:
                        raise Violation(f"a batch was answered {answer.status_code}")
                    await self._take(writes, answer)
                await self._rest()

    async def _take(self, writes: list[Write], answer: httpx.Response) -> None:
        left = deque(writes)
        async for line in answer.aiter_lines():
            write, said = left.popleft(), json.loads(line)
            if said.get("ref") != write.label:
                raise Violation(f"the answer to {write} is {said}")
            self._noted(write, self._ledger.take(write, said))
