"""A whole listening side over loopback for tests: accept loop, dispatcher, both lanes, a small ASGI
application."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import trio
from hypercorn.typing import ASGIFramework

from triode.app.lanes.handoff_limits import HandoffLimits
from triode.app.lanes.hypercorn import HypercornLane, make_config, run_lifespan
from triode.app.lanes.hypercorn_stream import Direct
from triode.app.net.connection import Connection
from triode.app.net.dispatcher import Dispatcher, ListenerLimits
from triode.app.net.door import Door, IdleConnections
from triode.app.net.listener import ListenerCounts, open_sockets, serve
from triode.app.net.request_head import Head
from triode.app.net.stream_head import is_upgrade, is_websocket
from triode.limits.address import Share
from triode.limits.admission import Admission


def lane(*, streams: frozenset[str], sockets: frozenset[str]) -> Callable[[Head], bool]:
    """A predicate for the listener: event streams at the paths `streams`, WebSockets at `sockets`
    are native."""

    def wants(head: Head) -> bool:
        if head.method != "GET" or head.has_body:
            return False
        if is_websocket(head):
            return head.path in sockets
        return head.path in streams and not is_upgrade(head)

    return wants


wants = lane(streams=frozenset({"/events"}), sockets=frozenset({"/ws"}))
BIG = os.urandom(1 << 20) * 20


async def _application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers what the tests ask for; the name of the route says what it does."""
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    route = scope["path"]
    headers: list[tuple[bytes, bytes]] = []
    if route == "/early":
        await answer(send, 413, b"too big", headers)
        return
    body = b""
    digest = hashlib.sha256()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message["body"])
        body += message["body"] if len(body) < 100 else b""
        if not message["more_body"]:
            break
    if route == "/slow":
        await trio.sleep(0.15)
    if route == "/fail":
        raise RuntimeError("the application failed")
    if route == "/big":
        await answer(send, 200, BIG, headers)
    elif route == "/digest":
        await answer(send, 200, digest.hexdigest().encode(), headers)
    elif route == "/never":
        while (await receive())["type"] != "http.disconnect":
            pass
        scope["state"]["left"].set()
    else:
        client = scope["client"][0]
        text = f"{scope['method']} {route} {body[:50].decode()} {scope['scheme']} {client}"
        await answer(send, 200, text.encode(), headers)


application = cast(ASGIFramework, _application)  # its messages are checked by Hypercorn alone


async def answer(send: Any, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """One whole response."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Leaves a mark at each end."""
    await receive()
    scope["state"]["started"] = True
    scope["state"]["left"] = trio.Event()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    scope["state"]["stopped"] = True
    await send({"type": "lifespan.shutdown.complete"})


async def native(connection: Connection, head: Head) -> None:
    """A stream that says hello and lasts until the client leaves."""
    if head.params.get("fail"):
        raise ExceptionGroup("a lane's nursery", [RuntimeError("the lane failed")])
    rest = bytes(connection.buffer).decode()
    hello = f"data: native {head.path} {head.peer} {head.secure} {rest}\n\n"
    fields = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    data = (fields + hello).encode()
    if connection.secure:
        assert connection.send_now(data) == 0
        await connection.send_all(data, 1)
    else:
        assert connection.send_now(data) == len(data)
    try:
        while await connection.receive():
            pass
    finally:
        if head.params.get("late"):
            raise RuntimeError("it failed while it was cancelled")


@dataclass
class Server:
    """A running listening side."""

    port: int
    counts: ListenerCounts
    admission: Admission
    hypercorn: HypercornLane
    door: Door
    nursery: trio.Nursery
    state: dict[str, Any]

    async def connect(self, source: str | None = None) -> Client:
        return Client(await trio.open_tcp_stream("127.0.0.1", self.port, local_address=source))

    async def accepted(self, number: int) -> None:
        """Wait until so many connections have been accepted, and their tasks have begun."""
        with trio.fail_after(5):
            while self.counts.accepted < number:  # noqa: ASYNC110 # a count sets no event
                await trio.sleep(0.002)
        await trio.testing.wait_all_tasks_blocked(0.005)

    async def settled(self) -> None:
        """Wait until every connection has ended."""
        with trio.fail_after(5):
            # Tasks that end set no event.
            while self.counts.open or self.nursery.child_tasks:  # noqa: ASYNC110 # said above
                await trio.sleep(0.002)


@asynccontextmanager
async def running(
    *,
    listener: ListenerLimits | None = None,
    handoff: HandoffLimits | None = None,
    admission: Admission | None = None,
    heads: Share | None = None,
    http: Share | None = None,
    ssl_context: ssl.SSLContext | None = None,
    app: ASGIFramework | None = None,
    direct: Direct | None = None,
    **options: Any,
) -> AsyncIterator[Server]:
    """Serve on a free port; ends with every connection cancelled."""
    handoff = handoff or HandoffLimits(linger_s=0.3)
    app = app or application
    admission = admission or Admission()
    stop = trio.Event()
    async with trio.open_nursery() as connections, trio.open_nursery() as services:
        config = make_config(handoff)
        state = await services.start(
            lambda task_status: run_lifespan(app, config, stop=stop, task_status=task_status)
        )
        counts = ListenerCounts()
        idle = IdleConnections(counts)
        hypercorn = HypercornLane(
            app, wants, handoff, config=config, state=state, direct=direct, idle=idle
        )
        dispatcher = Dispatcher(
            wants=wants,
            native=native,
            handoff=lambda connection, opaque: hypercorn.serve(connection, opaque=opaque),
            places=admission,
            heads=heads,
            http=http,
            limits=listener or ListenerLimits(linger_s=0.3),
            counts=counts,
            ssl_context=ssl_context,
            idle=idle,
        )
        addresses = await services.start(
            lambda task_status: serve(
                open_sockets("127.0.0.1", 0),
                connect=dispatcher.connect,
                nursery=connections,
                counts=counts,
                make_room=idle.close_oldest,
                hold=dispatcher.door.wait_for_room,
                task_status=task_status,
                **options,
            )
        )
        yield Server(
            addresses[0][1],
            dispatcher.counts,
            admission,
            hypercorn,
            dispatcher.door,
            connections,
            state,
        )
        connections.cancel_scope.cancel()


class Client:
    """The other end: raw bytes, and answers cut out of them."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes | str) -> None:
        await self.stream.send_all(data.encode() if isinstance(data, str) else data)

    async def get(self, target: str, *fields: str) -> tuple[int, bytes]:
        """One GET and its answer."""
        await self.send("\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *fields, "", ""]))
        return await self.answer()

    async def trickle(self, text: str) -> None:
        """One byte every 20 ms, until the server ends the connection.

        Raises trio.TooSlowError after 2 s.
        """
        with trio.fail_after(2):
            for byte in text:
                await self.send(byte)
                await trio.sleep(0.02)

    async def until(self, end: bytes) -> bytes:
        """What comes up to and with `end`."""
        with trio.fail_after(5):
            while end not in self.buffer:
                data = await self.stream.receive_some()
                assert data, f"ended after {self.buffer!r}"
                self.buffer += data
        found, self.buffer = self.buffer.split(end, 1)
        return found + end

    async def answer(self) -> tuple[int, bytes]:
        """The status and body of the next answer."""
        head = await self.until(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = re.search(rb"(?i)content-length: (\d+)", head)
        if status < 200 or length is None:
            return status, head
        size = int(length[1])
        body = bytearray(self.buffer)
        with trio.fail_after(5):
            while len(body) < size:
                body += await self.stream.receive_some()
        self.buffer = bytes(body[size:])
        return status, bytes(body[:size])

    async def event(self) -> str:
        """The first event of a native stream."""
        assert (await self.answer())[0] == 200
        return (await self.until(b"\n\n")).decode().strip()

    async def ended(self) -> bytes:
        """What comes until the server ends the connection, in order or by reset."""
        with trio.fail_after(5):
            try:
                while data := await self.stream.receive_some():
                    self.buffer += data
            except trio.BrokenResourceError:
                pass
        return self.buffer

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)
