"""Repairs of what goes wrong between Quart-Trio and Hypercorn (seen with 0.12 and 0.18).

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
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import trio
from quart.asgi import ASGIHTTPConnection
from quart_trio.asgi import TrioASGIHTTPConnection, TrioASGIWebsocketConnection

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
    from quart import Request


log = logging.getLogger("triode")

# How long Hypercorn may take to notice that it has closed a connection.
CLOSED_S: Final = 1.0
# It takes Hypercorn fewer to answer 400.
PATIENT_TURNS: Final = 20


class HttpConnection(TrioASGIHTTPConnection):
    """One request of our own application. For `QuartTrio.asgi_http_class`."""

    _answered = False

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve it; cancelled when the client goes away before its answer is complete."""

        async def send_noting_the_end(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._answered = True
            await send(message)

        await super().__call__(receive, send_noting_the_end)

    async def handle_messages(  # type: ignore[override]
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
        if getattr(getattr(send, "__self__", None), "closed", False):
            return  # Hypercorn's own 400; it sends no disconnect after that  # noqa: ASYNC910 # Hypercorn has waited for it
        with trio.CancelScope() as scope:
            await super().__call__(receive, send_or_end)
        if broken:
            with trio.move_on_after(CLOSED_S):
                while (await receive())["type"] != "websocket.disconnect":
                    pass
