"""`/ws` over ASGI: the same sessions as the native lane's, through Hypercorn or whatever serves
the application.

ASGI frames WebSocket messages itself, so what the hub has framed for the wire is unwrapped again.
It also hides pings and pongs: set the server's own (`--websocket-ping-interval` of Hypercorn) to
find dead peers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from quart import Blueprint, Response, request, websocket

from triode.app.blueprints.events import AsgiLane
from triode.app.blueprints.gated import gated, head_of
from triode.app.delivery.slow_writer import WRITE_BYTES
from triode.app.net.request_head import check_foreign
from triode.app.runtime.turns import between
from triode.app.service import stream_start
from triode.app.service.hypercorn_wires import wire_in
from triode.app.service.session import Session
from triode.app.wire import end_reasons, subprotocol
from triode.app.wire.frame import BINARY, CLOSE, TEXT, unwrap
from triode.app.wire.refusal import Refusal
from triode.store.value import encode

if TYPE_CHECKING:
    from triode.app.delivery.hub import Hub
    from triode.app.delivery.subscriber import Client
    from triode.app.service.triode import Triode

FIN = 0x80


def plain(triode: Triode) -> Blueprint:
    """The same paths for requests that ask for no WebSocket: what they are for, and with what
    methods.
    """
    bp = gated("triode_ws_plain", triode, token=False)

    async def upgrade(**_tags: str) -> Response:
        headers = {"Upgrade": "websocket", "Connection": "upgrade"}
        old = request.http_version.startswith("1")  # later versions forbid these fields
        raise Refusal(426, "this path is for WebSockets", headers=headers if old else {})

    for number, rule in enumerate(rules(triode)):
        bp.add_url_rule(rule, f"plain_{number}", upgrade, methods=["GET", "HEAD"])
    return bp


def rules(triode: Triode) -> list[str]:
    """`/ws` and the paths of `[[socket]]`, as Quart writes them."""
    routes = [route.path for route in triode.settings.sockets]
    return ["/ws", *(path.replace("{", "<").replace("}", ">") for path in routes)]


def blueprint(triode: Triode) -> Blueprint:
    """The WebSocket routes: `/ws` and those of `[[socket]]`."""
    sockets = Blueprint("triode_ws", __name__)

    async def serve(**_tags: str) -> Response | None:
        head = head_of(websocket)
        try:
            check_foreign(head)
            wanted, principal, _ = await stream_start.admit(triode, head, socket=True)
            lane = AsgiLane(triode.hypercorn, wire_in(websocket.scope))
            client = stream_start.open_stream(triode, "ws", lane, head, wanted, principal)
        except Refusal as refusal:
            triode.metrics.refused[refusal.status] += 1
            return Response(
                encode(refusal.body()),
                status=refusal.status,
                headers=refusal.headers,
                content_type="application/problem+json",
            )
        try:
            await websocket.accept(subprotocol=subprotocol.chosen(head.members(subprotocol.FIELD)))
            await _converse(triode, client)
        finally:
            lane.done()
            triode.hub.end(client, lane.how_it_ended, "silently")
        return None

    for number, rule in enumerate(rules(triode)):
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
            nursery.start_soon(_write, triode.hub, client, lane, nursery.cancel_scope)
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
            triode.hub.end(client, end_reasons.TOO_BIG)
            continue
        await session.receive(message)


async def _write(hub: Hub, client: Client, lane: AsgiLane, scope: trio.CancelScope) -> None:
    message = Message(lane)
    while True:
        for data in hub.writers.drain(client):
            await between(data)
            await message.send(data)
        outbox = client.outbox
        if client.end is not None or outbox is None:
            break
        try:
            frames = await outbox.take(WRITE_BYTES)
        except trio.ClosedResourceError:
            break
        for data in hub.writers.pieces(client, frames):
            await between(data)
            await message.send(data)
        del frames  # a feed among them holds a pin, or much of a replay
    await message.close(client.end or end_reasons.NORMAL)
    scope.cancel()


class Message:
    """Puts fragments together and hands whole messages, and the close frame, to ASGI."""

    def __init__(self, lane: AsgiLane) -> None:
        self._lane = lane
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._binary = False
        self._closed = False

    async def send(self, data: bytes) -> None:
        """Send what is whole with these bytes."""
        self._buffer += data
        for first, payload in unwrap(self._buffer):
            opcode = first & 0x0F
            if first == CLOSE:
                await self._close(int.from_bytes(payload[:2], "big"), payload[2:].decode())
            elif opcode in (TEXT & 0x0F, BINARY & 0x0F, 0):
                if opcode:
                    self._binary = opcode == BINARY & 0x0F
                self._parts.append(payload)
                if first & FIN:
                    message = b"".join(self._parts)
                    self._parts.clear()
                    self._lane.begin()
                    await websocket.send(message if self._binary else message.decode())
                    self._lane.done()

    async def close(self, end: end_reasons.End) -> None:
        """Close, unless a close frame has been sent."""
        if not self._closed:
            await self._close(end.code, end.label)

    async def _close(self, code: int, reason: str) -> None:
        self._closed = True
        # 1005 and 1006 stand for the absence of a close frame and can't be sent (RFC 6455 section
        # 7.4.1).
        self._lane.begin()
        await websocket.close(1011 if code in (1005, 1006) else code, reason)
        self._lane.done()
