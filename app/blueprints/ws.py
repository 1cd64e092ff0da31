"""`/ws` over ASGI: the same sessions as the native lane's, through Hypercorn or whatever serves
the application.

ASGI frames WebSocket messages itself, so what the hub has framed for the wire is unwrapped again.
It also hides pings and pongs: set the server's own (`--websocket-ping-interval` of Hypercorn) to
find dead peers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from quart import Blueprint, Response, websocket

from app import ends, opening
from app.blueprints._request import head_of
from app.blueprints.events import AsgiLane
from app.frame import CLOSE, TEXT, unwrap
from app.problem import Refusal
from app.session import Session
from app.writers import WRITE_BYTES
from store.value import encode

if TYPE_CHECKING:
    from app.client import Client
    from app.hub import Hub
    from app.triode import Triode

FIN = 0x80


def blueprint(triode: Triode) -> Blueprint:
    """The WebSocket routes: `/ws` and those of `[[socket]]`."""
    sockets = Blueprint("triode_ws", __name__)

    async def serve(**_tags: str) -> Response | None:
        head = head_of(websocket)
        try:
            wanted, principal, _ = opening.admit(triode, head)
            client = triode.open("ws", AsgiLane(), head, wanted, principal)
        except Refusal as refusal:
            triode.metrics.refused[refusal.status] += 1
            return Response(  # noqa: ASYNC910 # Quart awaits around it
                encode(refusal.body()),
                status=refusal.status,
                headers=refusal.headers,
                content_type="application/problem+json",
            )
        try:
            await websocket.accept()
            await _converse(triode, client)
        finally:
            triode.hub.close(client, ends.CLIENT_CLOSED)
        return None

    sockets.add_websocket("/ws", "ws", serve)
    for number, route in enumerate(triode.settings.sockets):
        rule = route.path.replace("{", "<").replace("}", ">")
        sockets.add_websocket(rule, f"socket_{number}", serve)
    return sockets


async def _converse(triode: Triode, client: Client) -> None:
    """Read and write until either ends. The nursery holds the writer; the reader's end, or the
    writer's, ends both.
    """
    lane = client.lane
    assert isinstance(lane, AsgiLane)
    with lane.scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_write, triode.hub, client, nursery.cancel_scope)
            await _read(triode, client)


async def _read(triode: Triode, client: Client) -> None:
    session = Session(triode, client)
    limit = triode.settings.max_message_bytes
    while True:
        message = await websocket.receive()
        triode.metrics.bytes_in += len(message)
        client.active_at = trio.current_time()
        if client.end is not None:
            continue  # the goodbye is on its way; what the peer still says changes nothing
        if len(message) > limit:
            triode.hub.finish(client, ends.TOO_BIG)
            continue
        await session.receive(message)


async def _write(hub: Hub, client: Client, scope: trio.CancelScope) -> None:
    outbox = client.outbox
    assert outbox is not None
    message = Message()
    while True:
        for data in hub.writers.drain(client):
            await message.send(data)
        if client.end is not None:
            break
        try:
            frames = await outbox.take(WRITE_BYTES)
        except trio.ClosedResourceError:
            break
        for data in hub.writers.pieces(frames):
            await message.send(data)
    await message.close(client.end or ends.NORMAL)
    scope.cancel()


class Message:
    """Puts fragments together and hands whole messages, and the close frame, to ASGI."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._closed = False

    async def send(self, data: bytes) -> None:  # noqa: ASYNC910 # Quart awaits around it
        """Send what is whole with these bytes."""
        self._buffer += data
        for first, payload in unwrap(self._buffer):
            opcode = first & 0x0F
            if first == CLOSE:
                await self._close(int.from_bytes(payload[:2], "big"), payload[2:].decode())
            elif opcode in (TEXT & 0x0F, 0):
                self._parts.append(payload)
                if first & FIN:
                    text = b"".join(self._parts).decode()
                    self._parts.clear()
                    await websocket.send(text)

    async def close(self, end: ends.End) -> None:  # noqa: ASYNC910 # Quart awaits around it
        """Close, unless a close frame has been sent."""
        if not self._closed:
            await self._close(end.code, end.label)

    async def _close(self, code: int, reason: str) -> None:
        self._closed = True
        # 1005 and 1006 stand for the absence of a close frame and can't be sent (RFC 6455 section
        # 7.4.1).
        await websocket.close(1011 if code in (1005, 1006) else code, reason)
