"""Every answer that says no is a problem object (RFC 9457), whoever said it.

Three sources: our own `Refusal`; Quart's and Werkzeug's HTTP exceptions (a body too large, a method
not allowed); and bugs, which are logged with their traceback and answered with 500 and nothing of
their inside.

`guard` handles what happens inside one of our blueprints, and leaves an embedding application's own
errors alone. For an application that is all ours, `install` does the same for what belongs to no
blueprint, as unknown paths.

All functions that Quart calls are `async`: it would run plain ones in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from quart import Blueprint, Request, Websocket, g, has_request_context, request, websocket
from quart_trio.wrappers import TrioResponse as Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import WebsocketMismatch

from triode.app.blueprints.gated import (
    METHODS,
    NOT_ALLOWED,
    allowed_methods,
    current_request,
    depart,
    head_of,
)
from triode.app.blueprints.request_body import discard, is_unread
from triode.app.net.request_head import BadHead, Head
from triode.app.wire.refusal import Refusal
from triode.app.wire.stream_request import malformed_filter
from triode.store.filter import FilterError
from triode.store.value import encode

if TYPE_CHECKING:
    from quart.blueprints import BlueprintSetupState
    from quart_trio import QuartTrio

    from triode.app.service.triode import Triode

log = logging.getLogger("triode")


Handler = Callable[[Exception], Awaitable[Response]]


def guard(blueprint: Blueprint, triode: Triode) -> None:
    """Make every error inside this blueprint a problem, a method without a route (405) among them.

    Call it when the blueprint has all its routes. Status codes are registered one by one too,
    because Quart asks the embedding application's handler for a code before the blueprint's handler
    for a class.
    """
    handle = error_handler(triode)
    blueprint.register_error_handler(Exception, handle)
    for status in (400, 404, 405, 406, 408, 413, 415, 500):
        blueprint.register_error_handler(status, handle)
    blueprint.record(_refuse_other_methods)


def install(app: QuartTrio, triode: Triode) -> None:
    """Set up an application that is all ours: problems for unknown paths and everything else, and
    Quart's limits.

    `MAX_CONTENT_LENGTH` bounds what Quart holds of a body that nobody reads; what a route reads is
    bounded by `app.blueprints.request_body`.
    """
    handle = error_handler(triode)
    app.register_error_handler(Exception, handle)
    app.register_error_handler(HTTPException, handle)
    app.config["MAX_CONTENT_LENGTH"] = triode.settings.max_body_bytes
    app.config["BODY_TIMEOUT"] = None


def error_handler(triode: Triode) -> Handler:
    """The handler for all three sources. It counts what it refuses."""

    async def handle(error: Exception) -> Response:
        incoming = _incoming()
        head = head_of(incoming)
        unread = incoming if isinstance(incoming, Request) and is_unread(incoming) else None
        response = answer(triode, error, head, unread)
        # Also for paths that belong to no blueprint: a page has to be able to read why.
        if isinstance(incoming, Request):
            depart(triode, head, g.get("triode_visit"), response)
        return response

    return handle


def answer(triode: Triode, error: Exception, head: Head, unread: Request | None = None) -> Response:
    """The answer for any exception, counted. `unread`: a request whose body is still arriving."""
    refusal = to_refusal(error, head)
    metrics = triode.metrics
    if refusal.status >= 500 and not isinstance(error, Refusal | HTTPException):
        metrics.errors_total += 1
    metrics.refused[refusal.status] += 1
    return problem(refusal, unread)


def to_refusal(error: Exception, head: Head) -> Refusal:
    """The answer to give for any exception. Logs those that nobody expected."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException) and error.code is not None:
        return _of_werkzeug(error, error.code, head)
    if isinstance(error, FilterError):
        # Well-formed, but it turned out to look at too much of this document.
        return malformed_filter(error)
    # The path without its query: that may hold an access token.
    log.exception("%s %s failed", head.method, head.path, exc_info=error)
    return Refusal(500, "the server failed to answer this; it is logged")


def _incoming() -> Request | Websocket:
    """The request, or the opening of a WebSocket, that Quart is serving."""
    return current_request() if has_request_context() else websocket


def _of_werkzeug(error: HTTPException, status: int, head: Head) -> Refusal:
    try:
        # A path that is no text has no route: it is refused for what it is.
        path = head.decoded_path
    except BadHead as bad:
        return bad
    if status == 404:
        return Refusal(404, f"there is nothing at {path}")
    if isinstance(error, MethodNotAllowed | WebsocketMismatch) and not has_request_context():
        return Refusal(400, "this path is not for WebSockets; /ws is")
    if isinstance(error, MethodNotAllowed):
        return not_allowed()
    headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
    return Refusal(status, error.description or error.name, headers=headers)


def not_allowed() -> Refusal:
    """405 with the methods that the path has."""
    names = ", ".join(allowed_methods())
    return Refusal(
        405, f"{request.method} is not possible here, only {names}", headers={"Allow": names}
    )


def problem(refusal: Refusal, unread: Request | None) -> Response:
    """The HTTP answer for a refusal.

    Of a body that is still arriving the rest is read and dropped after it is sent.
    """
    body = encode(refusal.body())
    content: bytes | AsyncIterator[bytes] = body
    if unread is not None:
        content = _then_discard(body, unread)
    response = Response(
        content,
        status=refusal.status,
        headers=refusal.headers,
        content_type="application/problem+json",
    )
    response.content_length = len(body)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


async def _then_discard(body: bytes, incoming: Request) -> AsyncIterator[bytes]:
    yield body
    await discard(incoming)


def _refuse_other_methods(state: BlueprintSetupState) -> None:
    """Give each path of the blueprint a route for the methods it lacks.

    Without it they would be routing errors, which belong to no blueprint: an embedding application
    would answer them in its own way, without our problem object.
    """
    own = f"{state.name_prefix}.{state.name}".lstrip(".") + "."
    taken: dict[str, set[str]] = {}
    for rule in state.app.url_map.iter_rules():
        if rule.endpoint.startswith(own) and not rule.websocket:
            taken.setdefault(rule.rule, set()).update(rule.methods or ())
    for number, (path, allowed) in enumerate(taken.items()):
        # `add_url_rule` of the application, not of the blueprint: `path` has its prefix already.
        state.app.add_url_rule(
            path,
            endpoint=f"{own}{NOT_ALLOWED}{number}",
            view_func=_refuse,
            methods=[method for method in METHODS if method not in allowed],
            provide_automatic_options=False,
        )


async def _refuse(**_arguments: str) -> Response:
    raise not_allowed()
