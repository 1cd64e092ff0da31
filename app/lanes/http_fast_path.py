"""Direct routes over HTTP/1.1 without Hypercorn: most of the time of a small write was its.

Only for requests that leave nothing to decide: HTTP/1.1, a short body of declared length, no
`Expect`, no upgrade; all others, and all other routes, are Hypercorn's. So what is here
is: let the route answer, and write what Hypercorn and h11 would have written, byte for byte (a test
holds it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from quart.utils import encode_headers
from quart.wrappers.response import DataBody

if TYPE_CHECKING:
    from quart_trio.wrappers import TrioResponse as Response

    from triode.app.blueprints.direct_route import DirectRoute, DirectRoutes
    from triode.app.net.request_head import Head

Send = Callable[[bytes], Awaitable[None]]

# Longer bodies are received piece by piece, with their own deadlines, behind Hypercorn.
BODY_BYTES: Final = 64 * 1024


class FastPath:
    """Answers requests of direct routes on connections that Hypercorn waits on."""

    def __init__(self, routes: DirectRoutes) -> None:
        self._routes = routes

    def find(self, head: Head) -> DirectRoute | None:
        """The route of a request that is for `serve`."""
        route = self._routes.find(head.method, head.path)
        if (
            route is None
            or head.version != "1.1"
            or head.method == "HEAD"
            or head.chunked
            or (head.content_length or 0) > BODY_BYTES
            or _decides(head)
        ):
            return None
        return route

    async def serve(self, route: DirectRoute, head: Head, body: bytes, send: Send) -> None:
        """Answer one request; `send` is awaited for each piece of the answer. Cancelled, a write
        has either not been tried or is done.
        """
        response = await route.answer(head, body)
        end = b"Connection: close\r\n" if head.closes else b""
        whole = response.response
        if isinstance(whole, DataBody):
            await send(_start(response, end) + whole.data)
            return
        await send(_start(response, b"Transfer-Encoding: chunked\r\n" + end))
        async with whole as pieces:
            async for piece in pieces:
                if piece:
                    await send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await send(b"0\r\n\r\n")


def _decides(head: Head) -> bool:
    """Whether a field changes how the connection goes on."""
    if head.get("expect") is not None or head.get("upgrade") is not None:
        return True
    said = head.get("connection")
    return said is not None and said.lower() not in ("keep-alive", "close")


def _start(response: Response, framing: bytes = b"") -> bytes:
    fields = b"".join([b"%b: %b\r\n" % field for field in encode_headers(response.headers)])
    date = formatdate(usegmt=True).encode()
    return b"HTTP/1.1 %d \r\n%bdate: %b\r\n%b\r\n" % (
        response.status_code,
        fields,
        date,
        framing,
    )
