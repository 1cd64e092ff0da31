"""Much that is cheap for each, from many connections at once; and what grows when it is read."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Awaitable, Callable
from functools import partial

import h2.connection
import trio

from tests.abuse.attacker import PATIENCE_S, Abuse, Attacker
from tests.behaviour.websocket import open_socket, upgrade

PING = b"\x89\x80" + bytes(4)
END = b'"end of the flood"'


def message(text: bytes, *, deflated: bool = False) -> bytes:
    """A text message of a client, masked with nothing."""
    first = 0xC1 if deflated else 0x81
    size = len(text)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + length + bytes(4) + text


def command(**members: str) -> bytes:
    """A command as a message."""
    return message(json.dumps(members).encode())


def deflated(text: bytes) -> bytes:
    """A message in permessage-deflate (RFC 7692 section 7.2.1)."""
    squeeze = zlib.compressobj(9, wbits=-15)
    data = squeeze.compress(text) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    return message(data.removesuffix(b"\x00\x00\xff\xff"), deflated=True)


async def flood(client: Attacker, connections: int, data: bytes) -> int:
    """The same bytes on each of so many WebSockets at once, all begun before; 101."""
    begin, ready = trio.Event(), 0

    async def one() -> None:
        nonlocal ready
        async with open_socket(client.server, source=client.source) as stream:
            await stream.send_all(upgrade("/ws", "Sec-WebSocket-Extensions: permessage-deflate"))
            await stream.receive_some()
            ready += 1
            if ready == connections:
                begin.set()
            await begin.wait()
            # Holds the sending; left when the last of it is answered.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send_all, data + command(type="ping", ref=END.decode()))
                seen = b""
                while json.dumps(END.decode()).encode() not in seen:
                    more = await stream.receive_some()
                    assert more, seen[-300:]
                    seen = seen[-300:] + more

    # Holds the connections; left when all have heard the end.
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(one)
    return 101


def floods(connections: int, data: bytes) -> Callable[[Attacker], Awaitable[int]]:
    """`flood` with these."""

    async def attack(client: Attacker) -> int:
        return await flood(client, connections, data)

    return attack


def requests(connections: int, target: str, each: int) -> Callable[[Attacker], Awaitable[int]]:
    """So many requests in one piece on each of so many connections at once."""

    async def attack(client: Attacker) -> int:
        head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        last = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        begun: list[bytes] = []

        async def one() -> None:
            async with open_socket(client.server, source=client.source) as stream:
                await stream.send_all(head * (each - 1) + last)
                begun.append(await stream.receive_some())
                while await stream.receive_some():
                    pass

        # Holds the connections; left when all are answered.
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(one)
        [status] = {int(one.split()[1]) for one in begun}
        return status

    return attack


async def http2_pings(client: Attacker, connections: int = 20) -> int:
    """So many connections with 900 pings each, which their rate allows."""

    async def one() -> None:
        async with open_socket(client.server, source=client.source) as stream:
            peer = h2.connection.H2Connection()
            peer.initiate_connection()
            for number in range(900):
                peer.ping(number.to_bytes(8, "big"))
            await stream.send_all(peer.data_to_send())
            heard = 0
            while heard < 900 * 17 and (data := await stream.receive_some()):
                heard += len(data)

    # Holds the connections; left when all are answered.
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(one)
    return 200


async def http2_resets(client: Attacker, connections: int = 20) -> int:
    """So many connections that reset each of 400 requests at once, and then say no more.

    They are not waited for to be ended for their rate: the server takes them in turns, so slowly
    that the rate may allow them all. Nor are they more, as each is a millisecond of work.
    """

    async def one() -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with open_socket(client.server, source=client.source) as stream:
                peer = h2.connection.H2Connection()
                peer.initiate_connection()
                head = [
                    (":method", "GET"),
                    (":path", "/readyz"),
                    (":scheme", "http"),
                    (":authority", "localhost"),
                ]
                for number in range(1, 801, 2):
                    peer.send_headers(number, head, end_stream=True)
                    peer.reset_stream(number)
                await stream.send_all(peer.data_to_send())
                await stream.send_eof()
                while await stream.receive_some():
                    pass

    # Holds the connections; left when all are ended.
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(connections):
                nursery.start_soon(one)
    return 200


def of_connections(
    name: str, attack: Callable[[int], Callable[[Attacker], Awaitable[int]]], expected: int
) -> Abuse:
    """A row whose attack takes a number of connections: a hundred, or one for each of a hundred."""
    return Abuse(name, attack(100), (expected,), in_crowd=attack(1))


COMMANDS = command(type="ping") * 500

TABLE: tuple[Abuse, ...] = (
    of_connections("pings of 100 WebSockets", lambda n: floods(n, PING * 10_000), 101),
    of_connections("commands of 100 WebSockets", lambda n: floods(n, COMMANDS), 101),
    of_connections("bad commands of 100 WebSockets", lambda n: floods(n, message(b"[") * 90), 101),
    Abuse("40 inflated messages", floods(1, deflated(b"[" * 1_000_000) * 40), (101,)),
    Abuse("40 inflated texts", floods(1, deflated(b'"' + b"x" * 1_000_000 + b'"') * 40), (101,)),
    of_connections("reads of 100 connections", lambda n: requests(n, "/store?path=.", 20), 200),
    of_connections("statistics for 100 connections", lambda n: requests(n, "/stats", 5), 200),
    Abuse("HTTP/2 pings", http2_pings, (200,), in_crowd=partial(http2_pings, connections=1)),
    Abuse(
        "HTTP/2 rapid resets", http2_resets, (200,), in_crowd=partial(http2_resets, connections=1)
    ),
)
