"""People for a picture: clients of both transports, rooms, tags, and some who read too slowly.

A context manager around a thread with an event loop of its own, so that plain tests and the
screenshot can use it. What a crowd does is the same each time; what the machine's counters say is
not.
"""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import trio
from trio_websocket import WebSocketConnection, open_websocket_url

WATCHED = (
    ".host.cpu[*].busy",
    ".host.memory",
    ".prices",
    '.prices["BTC-USD"]',
    ".prices.*.bid",
    ".orders[status=open]",
    "..percent",
    ".host.net.eth0",
)
NAMES = ("dashboard", "mobile", "ticker", "kiosk", "desk")
ROOMS = ("support", "lobby", "trading", "night-shift")
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD", "ADA-USD", "XRP-USD")
# So small that the server's own buffers fill at once.
TINY_BUFFER_BYTES = 2048
# They come one after another, within what a server allows one address by default.
APART_S = 0.02


@contextmanager
def crowd(
    url: str, *, sse: int = 6, ws: int = 6, slow: int = 2, writes_s: float = 8
) -> Iterator[None]:
    """Run clients against `url` while the context is open."""
    everyone = _Crowd(url, sse, ws, slow, writes_s)
    thread = threading.Thread(target=trio.run, args=(everyone.run,), name="crowd")
    thread.start()
    if not everyone.ready.wait(20):
        everyone.stop()
        thread.join()
        raise AssertionError("the crowd did not connect")
    try:
        yield
    finally:
        everyone.stop()
        thread.join()


class _Crowd:
    def __init__(self, url: str, sse: int, ws: int, slow: int, writes_s: float) -> None:
        self._url = url
        self._sizes = (sse, ws, slow)
        self._writes_s = writes_s
        self._random = random.Random(5)
        self._missing = sse + ws + slow
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self.ready = threading.Event()

    def stop(self) -> None:
        """End all clients, from another thread. Nothing if they have ended."""
        if self._token is not None:
            try:
                self._token.run_sync_soon(self._scope.cancel)
            except trio.RunFinishedError:
                pass

    async def run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        sse, ws, slow = self._sizes
        with self._scope:
            async with (
                trio.open_nursery() as nursery,
                httpx.AsyncClient(base_url=self._url) as http,
            ):
                await self._fill(http)
                visitors = [(self._listen, i) for i in range(sse)]
                visitors += [(self._talk, i) for i in range(ws)]
                visitors += [(self._dawdle, i) for i in range(slow)]
                for visit, i in visitors:
                    nursery.start_soon(visit, i)
                    await trio.sleep(APART_S)
                await self._write(http)

    def _one_more(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self.ready.set()

    async def _fill(self, http: httpx.AsyncClient) -> None:
        document: dict[str, Any] = {
            ".prices": {name: {"bid": 100.0, "ask": 100.2} for name in SYMBOLS},
            ".orders": [
                {"id": 1000 + i, "status": "open" if i % 3 else "filled", "total": 40 + 17 * i}
                for i in range(6)
            ],
            ".feed": {"line": ""},
            ".motto": "one signal in, thousands out",
        }
        for path, value in document.items():
            await http.put("/store", params={"path": path}, json=value)

    async def _write(self, http: httpx.AsyncClient) -> None:
        while True:
            name = self._random.choice(SYMBOLS)
            bid = round(100 + self._random.gauss(0, 4), 2)
            await http.put(
                "/store",
                params={"path": f".prices[{json.dumps(name)}]"},
                json={"bid": bid, "ask": round(bid + 0.2, 2)},
            )
            # Only the slow ones watch it.
            await http.put("/store", params={"path": ".feed.line"}, json="x" * 6000)
            await trio.sleep(1 / self._writes_s)

    async def _listen(self, i: int) -> None:
        wanted = WATCHED[i % len(WATCHED)]
        tag = f"&tag.app={NAMES[i % len(NAMES)]}"
        async with httpx.AsyncClient(base_url=self._url, timeout=None) as http:
            async with http.stream("GET", f"/events?filter={quote(wanted)}{tag}") as answer:
                self._one_more()
                async for _piece in answer.aiter_bytes():
                    pass

    async def _talk(self, i: int) -> None:
        query = f"filter={quote(WATCHED[-1 - i % len(WATCHED)])}&tag.app={NAMES[i % len(NAMES)]}"
        address = self._url.replace("http", "ws", 1) + f"/ws?{query}"
        async with open_websocket_url(address) as connection:
            rooms = [ROOMS[0], ROOMS[i % len(ROOMS)]]
            await connection.send_message(json.dumps({"type": "join", "room": rooms}))
            self._one_more()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read, connection)
                while True:
                    await trio.sleep(1 + self._random.random())
                    message = {"type": "publish", "room": rooms[-1], "event": "say", "data": i}
                    await connection.send_message(json.dumps(message))

    async def _dawdle(self, i: int) -> None:
        where = urlsplit(self._url)
        connection = trio.socket.socket()
        with connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY_BUFFER_BYTES)
            await connection.connect((where.hostname, where.port))
            target = f"/events?filter=.feed&policy=latest&tag.app=slow-{i}"
            await connection.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            self._one_more()
            while True:
                await trio.sleep(0.05)
                await connection.recv(256 + 128 * i)


async def _read(connection: WebSocketConnection) -> None:
    while True:
        await connection.get_message()
