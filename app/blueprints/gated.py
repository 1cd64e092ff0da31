"""What every route does first and last, in one place.

First: build the head, find out who asks (401), charge the rate (429). Last: add the rate fields and
the CORS fields, also to refusals. A route is reached only when all of that went well, and finds it
in `visit()`.

A direct route (`Gated.direct`) is a function of its `Visit`. Quart serves it like any other; an
application that is all ours reaches it without Quart's dispatch too (`_direct`).

Who shows a bad token is charged too, by address: guessing tokens is no faster than asking. What
needs no token (pages) is charged by address. The probes of an orchestrator are not charged at all,
or a noisy neighbour behind the same address could make it believe that the server is dead.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from quart import Blueprint, Request, Websocket, g, request
from quart.globals import request_ctx
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.exceptions import HTTPException

from triode.app.net.request_head import Head, check_foreign
from triode.app.wire.known_names import check_query
from triode.limits.grant import NONE
from triode.limits.principal import Principal

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# The endpoints that `errors.guard` adds are called this, with a number.
NOT_ALLOWED = "other_methods_"
_VARIABLE = re.compile(r"<(?:\w+:)?(\w+)>")
# Who may do nothing and is counted by address (an empty key says so).
STRANGER = Principal(key="", name="anonymous", grant=NONE)

if TYPE_CHECKING:
    from triode.app.service.triode import Triode


@dataclass(slots=True)
class Visit:
    """One request: its head, its body or what receives it, who makes it, and the fields that its
    answer gets in any case.
    """

    head: Head
    body: Request | bytes
    principal: Principal = STRANGER
    fields: Mapping[str, str] = field(default_factory=dict)


View = Callable[[Visit], Awaitable[Response]]


def visit() -> Visit:
    """The visit of the current request. Not in the probes, which have none."""
    return cast(Visit, g.triode_visit)


def head_of(incoming: Request | Websocket) -> Head:
    """The head of a request that came through ASGI, as the native lane would have parsed it.

    Taken from the scope, not from Quart's headers: those have a `Remote-Addr` among them that a
    client can send too.
    """
    scope = incoming.scope
    raw_path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    query = scope["query_string"].decode("latin-1")
    # Some servers put the query into raw_path as well; the specification says it is not part of it.
    path = raw_path.partition("?")[0]
    client = scope.get("client")
    return Head(
        method=incoming.method if isinstance(incoming, Request) else "GET",
        target=f"{path}?{query}" if query else path,
        path=path,
        query=query,
        headers=[
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in scope["headers"]
        ],
        version=scope["http_version"],
        # Without an address it is a Unix socket, or a test: as near as loopback.
        peer=client[0] if client else "127.0.0.1",
        secure=scope["scheme"] in ("https", "wss"),
    )


class Gated(Blueprint):
    """A blueprint made by `gated`."""

    def __init__(self, name: str, triode: Triode, *, control: bool = False) -> None:
        super().__init__(name, __name__)
        self.triode = triode
        self.control = control
        # By method and path, without the prefix that the blueprint may be registered with.
        self.direct_routes: dict[tuple[str, str], View] = {}
        # The path of each endpoint, as the OpenAPI description writes it.
        self.paths: dict[str, str] = {}

    def add_url_rule(  # type: ignore[override] # Quart's own list of options is long, and not ours
        self, rule: str, endpoint: str | None = None, view_func: Any = None, **options: Any
    ) -> None:
        """Add a route, and remember its path for the check of its query."""
        self.paths[endpoint or view_func.__name__] = _VARIABLE.sub(r"{\1}", rule)
        super().add_url_rule(rule, endpoint, view_func, **options)

    def direct(self, path: str, *methods: str) -> Callable[[View], View]:
        """Decorate a direct route; for a path without variables."""

        def add(view: View) -> View:
            async def serve() -> Response:
                return await view(visit())

            self.add_url_rule(path, view.__name__, serve, methods=list(methods))
            self.direct_routes |= dict.fromkeys(((method, path) for method in methods), view)
            return view

        return add


def gated(
    name: str, triode: Triode, *, token: bool = True, rate: bool = True, control: bool = False
) -> Gated:
    """A blueprint whose routes are reached as this module's text says. Errors are not its matter:
    `errors.guard`.

    Without `token` nobody is asked for one and the principal of all visits may do nothing; without
    `rate` there is no visit. Neither has direct routes. `control`: see `Gate.visit`.
    """
    blueprint = Gated(name, triode, control=control)

    async def enter() -> Response | None:
        triode.metrics.http_requests += 1
        incoming = current_request()
        head = head_of(incoming)
        check_foreign(head)
        if rate and request.method != "OPTIONS":
            route = blueprint.paths.get((request.endpoint or "").rpartition(".")[2])
            g.triode_visit = await arrive(
                triode, head, incoming, route, token=token, control=control
            )
            return None
        triode.gate.origins.check_host(head)
        return options(triode, head) if request.method == "OPTIONS" else None

    async def leave(response: Response) -> Response:
        depart(triode, head_of(current_request()), g.get("triode_visit"), response)
        return response

    blueprint.before_request(enter)
    blueprint.after_request(leave)
    return blueprint


def current_request() -> Request:
    """The request that Quart is serving, itself and not its proxy."""
    return cast(Request, request._get_current_object())  # type: ignore[attr-defined] # a proxy


async def arrive(
    triode: Triode,
    head: Head,
    body: Request | bytes,
    route: str | None,
    *,
    token: bool = True,
    control: bool = False,
) -> Visit:
    """What comes before a route. Raises Refusal 401, 403, 429, 400.

    `route` is its path without a prefix; None for what only says which methods a path has.
    """
    seen = Visit(head, body)
    triode.gate.origins.check_host(head)
    if token:
        seen.principal, seen.fields = await triode.gate.visit(head, control=control)
    else:
        seen.fields = triode.gate.check_rate(head, STRANGER)
    if route is not None:
        check_query(route, head.method, head.params)
    return seen


def depart(triode: Triode, head: Head, seen: Visit | None, response: Response) -> None:
    """What comes after a route, and after a refusal in its stead (then without a visit)."""
    fields = {"X-Content-Type-Options": "nosniff"}
    if seen is not None:
        fields |= seen.fields
    if head.method != "OPTIONS":
        fields |= triode.gate.origins.fields(head)
    add_fields(response, fields)


def add_fields(response: Response, fields: Mapping[str, str]) -> None:
    """Add fields that the answer does not have yet; `Vary` adds up."""
    headers = response.headers
    present = {name.lower() for name, _ in headers}
    for name, value in fields.items():
        if name.lower() not in present:
            headers.add(name, value)
        elif name == "Vary":
            response.vary.add(value)


def no_content(headers: Mapping[str, str] | None = None) -> Response:
    """204, without the length and the type of the content that it does not have (RFC 9110 8.6)."""
    response = Response(None, status=204, headers=dict(headers or {}))
    response.headers.pop("Content-Type", None)
    return response


def allowed_methods() -> list[str]:
    """The methods that the path of the current request has."""
    adapter = request_ctx.url_adapter
    assert adapter is not None
    allowed = {"OPTIONS"}
    for method in METHODS:
        try:
            rule, _arguments = adapter.match(method=method, return_rule=True)
        except HTTPException:
            continue
        if NOT_ALLOWED not in rule.endpoint:
            allowed.add(method)
    return sorted(allowed)


def options(triode: Triode, head: Head) -> Response:
    """The answer to OPTIONS: what the path can do and, for a preflight, what a page of that origin
    may ask.

    A browser sends a preflight without credentials, so none are wanted.
    """
    response = no_content({"Allow": ", ".join(allowed_methods())})
    add_fields(response, triode.gate.origins.preflight_fields(head))
    return response
