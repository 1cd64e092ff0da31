"""`/events` over ASGI: the same streams as the native lane's, through Hypercorn or whatever
serves the application.

The body of the response is the client's writer: it drains the outbox for as long as the stream
lives. Hypercorn shields what it sends from cancellation, so a frozen client holds its place until
the kernel gives it up (`TCP_USER_TIMEOUT`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import trio
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody

from app import ends, opening
from app.blueprints._request import gated, head_of
from app.content import JSON, media_type, read_json
from app.writers import WRITE_BYTES
from store.value import MISSING, Json, Missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.client import Client
    from app.hub import Hub
    from app.triode import Triode


class AsgiLane:
    """A lane that is written to by whoever drains the client's outbox."""

    send_now: Callable[[bytes], int] | None = None

    def __init__(self) -> None:
        self.scope = trio.CancelScope()

    async def send_all(self, data: bytes) -> None:
        """Not for this lane: the hub starts no writers for it."""
        raise NotImplementedError

    def wake(self) -> None:
        """Nothing to do: the outbox says it."""

    def abort(self) -> None:
        """Stop serving it."""
        self.scope.cancel()


class EventStream(ResponseBody):
    """The body of one event stream. Leaving its context, however, ends the client."""

    def __init__(self, hub: Hub, client: Client) -> None:
        self._hub = hub
        self._client = client

    async def __aenter__(self) -> AsyncIterator[bytes]:
        return self._send()  # noqa: ASYNC910 # the stream itself waits

    async def __aexit__(self, *_exc: object) -> None:
        self._hub.close(self._client, ends.CLIENT_CLOSED)

    def __del__(self) -> None:
        # Between the route and the body's context lies the sending of the head: a cancellation
        # there enters no context.
        self._hub.close(self._client, ends.CLIENT_CLOSED)

    async def _send(self) -> AsyncIterator[bytes]:
        hub, client = self._hub, self._client
        outbox = client.outbox
        assert outbox is not None
        while True:
            for data in hub.writers.drain(client):
                yield data
            if client.end is not None:
                return
            try:
                frames = await outbox.take(WRITE_BYTES)
            except trio.ClosedResourceError:
                return
            for data in hub.writers.pieces(frames):
                yield data


def blueprint(triode: Triode) -> Blueprint:
    """The routes `GET` and `POST /events`."""
    events = gated("events", triode, rate=False)

    @events.get("/events")
    async def subscribe() -> Response:
        return _open(MISSING)

    @events.post("/events")
    async def subscribe_with_body() -> Response:
        media_type(request, (JSON,))
        limit = triode.settings.max_message_bytes
        return _open(await read_json(request, limit, max_depth=triode.settings.max_depth))

    def _open(body: Json | Missing) -> Response:
        head = head_of(request)
        wanted, principal, fields = opening.admit(triode, head, body)
        if request.method == "HEAD":
            return Response(b"", headers=opening.STREAM_FIELDS | fields)
        client = triode.open("sse", AsgiLane(), head, wanted, principal)
        response = Response(EventStream(triode.hub, client), headers=opening.STREAM_FIELDS | fields)
        response.timeout = None  # a stream lives for hours
        return response

    return events
