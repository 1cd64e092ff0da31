"""What an idle client takes, and what an idle server has loaded: both are for ever, so both have a
bound.
"""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import pytest
import trio
import trio.lowlevel

from triode.app.config.settings import Settings
from triode.app.serve import serve
from triode.app.service.triode import Triode

CLIENTS: Final = 200
# Of Python's own memory, with the tables that grow with them.
CLIENT_BYTES: Final = 4_000
# More, for one that has spoken: its session and what it has had of the time.
SPOKEN_BYTES: Final = 400
PING: Final = b'{"type":"ping"}'
UPGRADE: Final = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def masked(first: int, payload: bytes) -> bytes:
    return bytes((first, 0x80 | len(payload))) + bytes(4) + payload


def head(kind: str) -> bytes:
    target = "/events" if kind == "sse" else "/ws"
    more = "" if kind == "sse" else UPGRADE
    return f"GET {target}?filter=.a HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


@contextmanager
def sockets(count: int) -> Iterator[list[socket.socket]]:
    made = [socket.socket() for _ in range(count)]
    try:
        yield made
    finally:
        for sock in made:
            sock.close()


async def send(some: Iterable[socket.socket], data: bytes) -> None:
    for sock in some:
        sock.sendall(data)
    await trio.lowlevel.checkpoint()


async def heard(sock: socket.socket, text: bytes) -> None:
    """Read until this has come."""
    got = b""
    while text not in got:
        await trio.lowlevel.wait_readable(sock)
        more = sock.recv(65536)
        assert more, got
        got += more


async def connect(some: list[socket.socket], port: int, kind: str) -> None:
    for sock in some:
        sock.connect(("127.0.0.1", port))
        await send([sock], head(kind))
        await heard(sock, b'"more":false')


@pytest.mark.parametrize("kind", ["sse", "ws"])
async def test_an_idle_client_takes_less_than_4_kb(kind: str) -> None:
    triode = Triode(Settings(port=0, http_rate=None, ws_rate=None), {"a": 1})
    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(partial(serve, triode.settings, triode=triode))
        with sockets(20) as first, sockets(CLIENTS) as some:
            await connect(first, address[1], kind)  # what is made once, and kept
            gc.collect()
            tracemalloc.start()
            try:
                await connect(some, address[1], kind)
                gc.collect()
                taken = tracemalloc.get_traced_memory()[0]
                assert taken / CLIENTS < CLIENT_BYTES
                if kind == "ws":
                    # Heartbeats do not change that, nor does it that somebody once said something.
                    await send(some, masked(0x81, PING))
                    for sock in some:
                        await heard(sock, b'"pong"')
                    await send(some, masked(0x8A, b"beat"))
                    for _ in range(50):  # each of them is read in a turn of its own
                        await trio.sleep(0.1)
                        gc.collect()
                        taken = tracemalloc.get_traced_memory()[0]
                        if taken / CLIENTS < CLIENT_BYTES + SPOKEN_BYTES:
                            break
                    assert taken / CLIENTS < CLIENT_BYTES + SPOKEN_BYTES
            finally:
                tracemalloc.stop()
        nursery.cancel_scope.cancel()


def test_a_server_loads_nothing_that_few_servers_need() -> None:
    script = "import sys, triode.app.cli.serve, triode.app.serve; print(*sys.modules)"
    command = [sys.executable, "-c", script]
    modules = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    assert "triode.app.service.triode" in modules
    needless = {"rich", "cryptography", "httpx", "jsonpath_rfc9535", "iregexp_check"}
    assert needless.isdisjoint(modules)
