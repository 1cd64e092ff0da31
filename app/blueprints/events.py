"""`/events` over ASGI: the same streams as the native lane's, through Hypercorn or whatever
serves the application.

The body of the response is the client's writer: it drains the outbox for as long as the stream
lives. Hypercorn shields what it sends from cancellation; see `app.service.hypercorn_wires` for how
a frozen client is ended all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import trio
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody

from triode.app.blueprints.gated import current_request, gated, head_of
from triode.app.blueprints.request_body import JSON, media_type, read_json
from triode.app.delivery.slow_writer import WRITE_BYTES
from triode.app.runtime.turns import between
from triode.app.service import stream_start
from triode.app.service.hypercorn_wires import wire_in
from triode.app.wire import end_reasons
from triode.app.wire.refusal import Refusal
from triode.store.value import MISSING, Json, Missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.app.delivery.hub import Hub
    from triode.app.delivery.subscriber import Client
    from triode.app.net.request_head import Head
    from triode.app.service.hypercorn_wires import HypercornWires, Wire
    from triode.app.service.triode import Triode
    from triode.app.wire.chunks import Chunks


class AsgiLane:
    """A lane that is written to by whoever drains the client's outbox."""

    name = "asgi"
    chunks: Chunks | None = None  # whoever serves us makes them
    deflate_from = 0  # whoever serves us compresses by itself, or not
    send_now: Callable[[bytes], int] | None = None

    def __init__(self, hypercorn: HypercornWires | None = None, wire: Wire | None = None) -> None:
        self.scope = trio.CancelScope()
        self._hypercorn = hypercorn
        self._wire = wire

    @property
    def how_it_ended(self) -> end_reasons.End:
        """Why it is over, if nobody here has ended it."""
        late = self._wire is not None and self._wire.late
        return end_reasons.WRITE_TIMEOUT if late else end_reasons.CLIENT_CLOSED

    def begin(self) -> None:
        """Before each send: it has a deadline, where the connection below is in reach."""
        if self._hypercorn is not None and self._wire is not None:
            self._hypercorn.begin(self._wire)

    def done(self) -> None:
        """After each send, and when it is over."""
        if self._hypercorn is not None and self._wire is not None:
            self._hypercorn.done(self._wire)

    async def send_all(self, data: bytes) -> None:
        """Not for this lane: the hub starts no writers for it."""
        raise NotImplementedError

    def wake(self) -> None:
        """Nothing to do: the outbox says it."""

    def abort(self) -> None:
        """Stop serving it."""
        self.scope.cancel()
        if self._wire is not None:
            self._wire.abort()


class EventStream(ResponseBody):
    """The body of one event stream. Leaving its context, however, ends the client."""

    def __init__(self, hub: Hub, client: Client) -> None:
        self._hub = hub
        self._client = client
        self._has_left = False
        self._lane = client.lane if isinstance(client.lane, AsgiLane) else AsgiLane()
        self._token = trio.lowlevel.current_trio_token()

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._send()

    async def __aexit__(self, *_exc: object) -> None:
        self._leave()

    def __del__(self) -> None:
        # Between the route and the body's context lies the sending of the head: a cancellation
        # there enters no context. Nothing may be changed here: who knows in the middle of what. So
        # it is done in the loop's next turn.
        if not self._has_left:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._leave)

    def _leave(self) -> None:
        self._has_left = True
        self._lane.done()
        self._hub.end(self._client, self._lane.how_it_ended, "silently")

    async def _send(self) -> AsyncIterator[bytes]:
        hub, client = self._hub, self._client
        lane = self._lane
        while True:
            for data in hub.writers.drain(client):
                await between(data)
                if data:
                    lane.begin()
                    yield data
                    lane.done()
            outbox = client.outbox
            if client.end is not None or outbox is None:
                return
            try:
                frames = await outbox.take(WRITE_BYTES)
            except trio.ClosedResourceError:
                return
            for data in hub.writers.pieces(client, frames):
                await between(data)
                if data:
                    lane.begin()
                    yield data
                    lane.done()
            del frames  # a feed among them holds a pin, or much of a replay


def blueprint(triode: Triode) -> Blueprint:
    """The routes `GET` and `POST /events`."""
    events = gated("events", triode, rate=False)

    @events.get("/events")
    async def subscribe() -> Response:
        return await _open(MISSING)

    @events.post("/events")
    async def subscribe_with_body() -> Response:
        incoming = current_request()
        media_type(head_of(incoming), (JSON,))
        limit = triode.settings.max_message_bytes
        bodies = triode.bodies
        return await _open(
            await read_json(incoming, limit, bodies, max_depth=triode.settings.max_depth)
        )

    async def _open(body: Json | Missing) -> Response:
        head = head_of(request)
        try:
            return await _stream(head, body)
        except Refusal as refusal:
            later = stream_start.come_back_later(refusal, head)
            if later is None:
                raise
            triode.metrics.refused[refusal.status] += 1
            return Response(later, headers=stream_start.STREAM_FIELDS | refusal.headers)

    async def _stream(head: Head, body: Json | Missing) -> Response:
        wanted, principal, fields = await stream_start.admit(triode, head, body)
        if request.method == "HEAD":
            return Response(b"", headers=stream_start.STREAM_FIELDS | fields)
        lane = AsgiLane(triode.hypercorn, wire_in(request.scope))
        client = stream_start.open_stream(triode, "sse", lane, head, wanted, principal)
        response = Response(
            EventStream(triode.hub, client), headers=stream_start.STREAM_FIELDS | fields
        )
        response.timeout = None  # a stream lives for hours
        return response

    return events
