"""Requests of our own application, between Hypercorn and Quart-Trio: repairs of what goes wrong
between the two (seen with 0.18 and 0.12).

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
from quart_trio.asgi import TrioASGIHTTPConnection, TrioASGIWebsocketConnection

from triode.app.service.hypercorn_wires import WIRE, wire_of

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
    from quart import Request


log = logging.getLogger("triode")

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
        self.scope[WIRE] = wire_of(send)  # type: ignore[typeddict-unknown-key] # ours
        await super().__call__(receive, self._noting_the_end(send))

    def _noting_the_end(self, send: ASGISendCallable) -> ASGISendCallable:
        async def send_noting_the_end(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._answered = True
            await send(message)

        return send_noting_the_end

    async def handle_messages(  # type: ignore[override] # one more argument
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Feed the body until the disconnect."""
        await ASGIHTTPConnection.handle_messages(self, request, receive)
        if not self._answered:
            nursery.cancel_scope.cancel()


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
            return  # Hypercorn's own 400; it sends no disconnect after that
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
