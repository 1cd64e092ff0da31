"""Direct routes over HTTP/1.1 without Hypercorn: most of the time of a small write was its.

Only for requests that leave nothing to decide: HTTP/1.1, a short body of declared length, no
`Expect`, no upgrade; all others, and all other routes, are Hypercorn's. So what is here
is: make the request, let the route answer, and write what Hypercorn and h11 would have written,
byte for byte (a test holds it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from quart.utils import encode_headers
from quart.wrappers.response import DataBody
from quart_trio.wrappers import TrioRequest
from werkzeug.datastructures import Headers

if TYPE_CHECKING:
    from quart_trio.wrappers import TrioResponse as Response

    from triode.app.blueprints.direct_route import DirectRoutes
    from triode.app.net.request_head import Head

Send = Callable[[bytes], Awaitable[None]]

# Longer bodies are received piece by piece, with their own deadlines, behind Hypercorn.
BODY_BYTES: Final = 64 * 1024


class Exchange:
    """Answers requests of direct routes on connections that Hypercorn waits on."""

    def __init__(self, routes: DirectRoutes) -> None:
        self._routes = routes

    def takes(self, head: Head) -> bool:
        """Whether a request is for `serve`."""
        return (
            self._routes.find(head.method, head.path) is not None
            and head.version == "1.1"
            and head.method != "HEAD"
            and not head.chunked
            and (head.content_length or 0) <= BODY_BYTES
            and not _decides(head)
        )

    async def serve(self, head: Head, body: bytes, send: Send) -> None:
        """Answer one request; `send` is awaited for each piece of the answer. Cancelled, a write
        has either not been tried or is done.
        """
        route = self._routes.find(head.method, head.path)
        assert route is not None
        response = await route.answer(_request(head, body), head)
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
    for name, value in head.headers:
        if name == "expect" or name == "upgrade":
            return True
        if name == "connection" and value.lower() not in ("keep-alive", "close"):
            return True
    return False


def _request(head: Head, body: bytes) -> TrioRequest:
    scope: Any = {"type": "http"}  # the rest of it is in the head
    request = TrioRequest(
        head.method,
        "https" if head.secure else "http",
        head.path,
        head.query.encode("latin-1"),
        Headers(head.headers),
        "",
        head.version,
        scope,
        send_push_promise=_no_push,
    )
    request.body.set_result(body)
    return request


async def _no_push(*_what: Any) -> None:
    """There is none in HTTP/1.1."""


def _start(response: Response, framing: bytes = b"") -> bytes:
    fields = b"".join([b"%b: %b\r\n" % field for field in encode_headers(response.headers)])
    date = formatdate(usegmt=True).encode()
    return b"HTTP/1.1 %d \r\n%bdate: %b\r\n%b\r\n" % (
        response.status_code,
        fields,
        date,
        framing,
    )
