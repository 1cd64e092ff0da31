"""Refusals: one exception for every answer that says no, on every transport.

A `Refusal` carries the answer to give: an RFC 9457 problem object for HTTP and for WebSocket
`error` frames, the headers that go with it, and the WebSocket close code where the refusal ends a
connection. Nothing else in `app` invents status codes; foreign errors (a malformed filter, a full
house, a spent rate) are translated to a `Refusal` at the seam that meets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triode.store.work import TooCostly

TITLES = {
    400: "Bad request",
    401: "Authentication required",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "Request too slow",
    409: "Conflict",
    411: "Length required",
    412: "Precondition failed",
    413: "Content too large",
    414: "URI too long",
    415: "Unsupported media type",
    422: "Not processable",
    426: "Upgrade required",
    429: "Too many requests",
    431: "Request header fields too large",
    500: "Internal error",
    501: "Not implemented",
    503: "Unavailable",
    505: "HTTP version not supported",
}


class Refusal(Exception):
    """An answer that says no.

    `status` is the HTTP status, `detail` one sentence that says what is wrong and what to do,
    `extra` further members of the problem object (`column`, `limit`, `retry_after` …), `headers`
    HTTP fields to send with it, `close` the WebSocket close code if the refusal ends a connection
    (None: the connection goes on).
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        close: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.title = title or TITLES.get(status, "Error")
        self.extra = dict(extra or {})
        # Says that the answer is ours: a proxy before us has refusals of its own, after which a
        # client comes back.
        self.headers = {"Triode": "refused", **(headers or {})}
        self.close = close

    def body(self) -> dict[str, Any]:
        """The problem object (RFC 9457 section 3.1); `type` is `about:blank`: the title is the
        status' own.
        """
        problem: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        problem.update(self.extra)
        return problem


def too_costly(error: TooCostly) -> Refusal:
    """422 for a request that needs more work than one may cause."""
    return Refusal(
        422,
        f"{error}: ask for less, such as fewer filters or a smaller part of the document",
        extra={"limit": error.limit, "cost": error.cost},
    )


def bad_request(detail: str, **extra: Any) -> Refusal:
    """400, with any members that help to find the fault (`column`, `limit`)."""
    return Refusal(400, detail, extra=extra)


def forbidden(detail: str, **extra: Any) -> Refusal:
    """403 with the `insufficient_scope` challenge of RFC 6750 section 3.1; 4403 on a WebSocket
    that it ends.
    """
    challenge = 'Bearer error="insufficient_scope"'
    return Refusal(403, detail, extra=extra, headers={"WWW-Authenticate": challenge}, close=4403)


def unauthorized(detail: str, *, error: str | None = None) -> Refusal:
    """401 with `WWW-Authenticate: Bearer`; `error` is RFC 6750's, absent when no token was
    presented.
    """
    challenge = "Bearer" if error is None else f'Bearer error="{error}"'
    return Refusal(401, detail, headers={"WWW-Authenticate": challenge}, close=4401)
