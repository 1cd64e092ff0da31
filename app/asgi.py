"""A repair of how Quart-Trio and Hypercorn end an exchange.

Quart-Trio cancels a request when ASGI says `http.disconnect`. Hypercorn says so also when an
answer is complete, while the application is still inside the `send` of its last piece; and it is in
that `send` that Hypercorn closes the connection, or makes it ready for the next request. Cancelled
there, an HTTP/1.1 connection with `Connection: close` stays open until the keep-alive timeout (seen
with Hypercorn 0.18 and Quart-Trio 0.12). So a disconnect after the last piece cancels nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart.asgi import ASGIHTTPConnection
from quart_trio.asgi import TrioASGIHTTPConnection

if TYPE_CHECKING:
    import trio
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable
    from quart import Request


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
