"""Direct routes over HTTP/1.1, without Hypercorn and without Quart's dispatch: for an application
that is all ours.

Most of the time of a small write was Hypercorn's, and most of the rest that of Quart's contexts,
signals, hooks and routing, and of the nursery with two tasks that Quart-Trio opens for each
request. A route that needs none of them is a function of its visit (`Gated.direct`). Here are the
same steps around it that `gated` and `errors.guard` put around it under Quart: arrive, the route or
the answer for what it raised, depart. Then the response, which is Quart's own, is written as
Hypercorn and h11 would have written it, byte for byte (a test holds it).

Only for requests that leave nothing to decide: HTTP/1.1, a short body of declared length, no
`Expect`, no upgrade; all others, and all other routes, are Hypercorn's. An embedding application
has hooks of its own, which must not be passed by: it always has Quart's dispatch (`Triode.attach`
alone), and so has ours while hooks for all requests are added to it.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Final, NamedTuple

from quart.utils import encode_headers
from quart.wrappers.response import DataBody

from triode.app.blueprints.errors import answer
from triode.app.blueprints.gated import Gated, View, Visit, arrive, depart

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from quart_trio import QuartTrio
    from quart_trio.wrappers import TrioResponse as Response

    from triode.app.net.request_head import Head
    from triode.app.service.triode import Triode

# The extension of our application that holds its fast path.
DIRECT: Final = "triode_direct"
# Longer bodies are received piece by piece, with their own deadlines, behind Hypercorn.
BODY_BYTES: Final = 64 * 1024


class Route(NamedTuple):
    """A view, and what has to be known for what comes before and after it."""

    triode: Triode
    path: str
    view: View
    control: bool


class FastPath:
    """Answers requests of direct routes, on connections that Hypercorn waits on."""

    def __init__(self, app: QuartTrio) -> None:
        """Of the blueprints that are registered now, without a prefix."""
        self._app = app
        self._routes = {
            key: Route(blueprint.triode, key[1], view, blueprint.control)
            for blueprint in app.blueprints.values()
            if isinstance(blueprint, Gated)
            for key, view in blueprint.direct_routes.items()
        }

    def find(self, head: Head) -> Route | None:
        """The route of a request that is for `serve`; None when there is none, or Quart has to
        serve it.
        """
        route = self._routes.get((head.method, head.path))
        if (
            route is None
            or head.version != "1.1"
            or head.method == "HEAD"
            or self._has_hooks()
            or _decides(head)
            or head.chunked
            or (head.content_length or 0) > BODY_BYTES
        ):
            return None
        return route

    def _has_hooks(self) -> bool:
        app = self._app  # the hooks of all requests are listed under None
        return bool(
            app.before_request_funcs.get(None)
            or app.after_request_funcs.get(None)
            or app.teardown_request_funcs.get(None)
        )

    async def serve(
        self, route: Route, head: Head, body: bytes, send: Callable[[bytes], Awaitable[None]]
    ) -> None:
        """Answer one request; `send` is awaited for each piece of the answer. Cancelled, a write
        has either not been tried or is done.
        """
        response = await _answer(route, head, body)
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


async def _answer(route: Route, head: Head, body: bytes) -> Response:
    """The answer to a request, also when it is a refusal. Quart's contexts are not there."""
    triode = route.triode
    triode.metrics.http_requests += 1
    seen: Visit | None = None
    try:
        seen = await arrive(triode, head, body, route.path, control=route.control)
        response = await route.view(seen)
    except Exception as error:
        response = answer(triode, error, head)
    depart(triode, head, seen, response)
    return response


def _start(response: Response, framing: bytes = b"") -> bytes:
    fields = b"".join([b"%b: %b\r\n" % field for field in encode_headers(response.headers)])
    date = formatdate(usegmt=True).encode()
    return b"HTTP/1.1 %d \r\n%bdate: %b\r\n%b\r\n" % (
        response.status_code,
        fields,
        date,
        framing,
    )
