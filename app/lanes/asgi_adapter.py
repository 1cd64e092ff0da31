"""Requests of our own application, between Hypercorn and Quart-Trio: the short way of direct routes
(`blueprints._direct`), and repairs of what goes wrong between the two (seen with 0.18 and 0.12).

**The end of an exchange.** Quart-Trio cancels a request when ASGI says `http.disconnect`.
Hypercorn says so also when an answer is complete, while the application is still inside the
`send` of its last piece; and it is in that `send` that Hypercorn closes the connection, or makes
it ready for the next request. Cancelled there, an HTTP/1.1 connection with `Connection: close`
stays open until the keep-alive timeout (seen with Hypercorn 0.18 and Quart-Trio 0.12). So a
disconnect after the last piece cancels nothing.

**Frames before the handshake is answered.** Hypercorn answers 400 by itself to a WebSocket client
that does not wait. If the application answers in the same moment, h11 refuses one of the two, the
error is raised where nobody expects it, and the whole server ends. So the application lets a few
turns pass, in which Hypercorn deals with frames that came right behind the handshake; and what
`send` still raises ends only the connection.

**A peer that goes on after the end.** Hypercorn puts what comes into a queue of ten, and waits for
room in it, also when the application has ended and nobody will make any: its tasks and the socket
then stay for good. So after the end the queue is emptied, and nothing is put into it any more.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import trio
from quart.asgi import ASGIHTTPConnection
from quart.utils import encode_headers
from quart.wrappers.response import DataBody
from quart_trio.asgi import TrioASGIHTTPConnection, TrioASGIWebsocketConnection
from quart_trio.wrappers.request import TrioBody

from triode.app.service.below import WIRE, wire_of

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPResponseStartEvent
    from quart import Request

    from triode.app.blueprints.direct import DirectRoute, DirectRoutes


log = logging.getLogger("triode")

# The application's extension that holds the direct routes.
DIRECT: Final = "triode_direct"
# How long Hypercorn may take to notice that it has closed a connection, and a peer to answer our
# close frame: cut at once, the connection is reset if more has come, and the frame may be lost.
CLOSED_S: Final = 1.0
# It takes Hypercorn fewer to answer 400.
PATIENT_TURNS: Final = 20


class HttpConnection(TrioASGIHTTPConnection):
    """One request of our own application. For `QuartTrio.asgi_http_class`."""

    _answered = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve it; cancelled when the client goes away before its answer is complete."""
        routes: DirectRoutes | None = self.app.extensions.get(DIRECT)
        if routes is not None and not self.scope.get("root_path"):
            route = routes.find(self.scope["method"], self.scope["path"])
            if route is not None:
                await self._serve_directly(route, receive, send)
                return
        self.scope[WIRE] = wire_of(send)  # type: ignore[typeddict-unknown-key] # ours
        await super().__call__(receive, self._noting_the_end(send))

    async def _serve_directly(
        self, route: DirectRoute, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Without Quart's dispatch, and without a task that waits for the end of the client: it is
        noticed while the body comes, and while a long answer goes.
        """
        request = self._create_request_from_scope(send)
        with trio.CancelScope() as scope:
            request.body = content = PulledBody(receive, scope)
            response = await route.answer(request)
            whole = response.response
            if isinstance(whole, DataBody):
                headers = encode_headers(response.headers)
                await send(_start(response.status_code, headers))
                await send({"type": "http.response.body", "body": whole.data, "more_body": False})
                return
            content.pulled = False
            # Holds the watch for the client's end; left when the answer is out.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.handle_messages, nursery, request, receive)
                await self._send_response(self._noting_the_end(send), response)
                nursery.cancel_scope.cancel()

    def _noting_the_end(self, send: ASGISendCallable) -> ASGISendCallable:
        async def send_noting_the_end(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._answered = True
            await send(message)

        return send_noting_the_end

    async def handle_messages(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Feed the body until the disconnect."""
        await ASGIHTTPConnection.handle_messages(self, request, receive)
        if not self._answered:
            nursery.cancel_scope.cancel()


def _start(status: int, headers: list[tuple[bytes, bytes]]) -> HTTPResponseStartEvent:
    return {"type": "http.response.start", "status": status, "headers": headers}


class PulledBody(TrioBody):
    """A body that is received by whoever reads it, while `pulled`: so no task need do it."""

    def __init__(self, receive: ASGIReceiveCallable, scope: trio.CancelScope) -> None:
        """`scope` is cancelled when the client goes away in the middle."""
        super().__init__(None, None)
        self.pulled = True
        self._receive = receive
        self._scope = scope

    async def __anext__(self) -> bytes:
        while self.pulled and not self._data and not self._complete.is_set():
            message: Any = await self._receive()
            if message["type"] == "http.disconnect":
                self._scope.cancel()
                await trio.lowlevel.checkpoint()
            self.append(message.get("body", b""))
            if not message.get("more_body", False):
                self.set_complete()
        return await super().__anext__()


class SocketConnection(TrioASGIWebsocketConnection):
    """One WebSocket of our own application. For `QuartTrio.asgi_websocket_class`."""

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve it; a `send` that fails ends it quietly."""
        broken = False

        async def send_or_end(message: Any) -> None:
            nonlocal broken
            try:
                await send(message)
            except Exception as error:
                log.info("a WebSocket ended while it was answered: %s", error)
                broken = True
                scope.cancel()
                await trio.lowlevel.checkpoint()

        for _ in range(PATIENT_TURNS):
            await trio.lowlevel.checkpoint()
        if _closed(send):
            return  # Hypercorn's own 400; it sends no disconnect after that  # noqa: ASYNC910 # Hypercorn has waited for it
        self.scope[WIRE] = wire_of(send)  # type: ignore[typeddict-unknown-key] # ours
        try:
            with trio.CancelScope() as scope:
                await super().__call__(receive, send_or_end)
            if broken or (self._accepted and not _closed(send)):
                with trio.move_on_after(CLOSED_S):
                    while (await receive())["type"] != "websocket.disconnect":
                        pass
        finally:
            _stop_feeding(receive, send)


def _closed(send: Any) -> bool:
    """Whether Hypercorn has closed the stream behind ASGI's `send`."""
    return getattr(getattr(send, "__self__", None), "closed", False)


def _stop_feeding(receive: Any, send: Any) -> None:
    """Let Hypercorn throw away what still comes. Does nothing where it can't be reached."""
    stream: Any = getattr(send, "__self__", None)
    queue = getattr(receive, "__self__", None)
    if hasattr(stream, "app_put") and isinstance(queue, trio.MemoryReceiveChannel):
        stream.app_put = _throw_away
        with contextlib.suppress(trio.WouldBlock):
            while True:  # also what waits for room already
                queue.receive_nowait()


async def _throw_away(_message: Any) -> None:
    await trio.lowlevel.checkpoint()
