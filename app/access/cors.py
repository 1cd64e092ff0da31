"""Which web pages of other origins may read the answers (the Fetch standard's CORS protocol).

By default none: without fields a browser keeps answers to pages of the same origin.
`settings.cors_origins` lists origins exactly as browsers send them (`https://app.example`), or `*`
for everybody. Pure; both lanes use it.
"""

from __future__ import annotations

from typing import Final, Protocol

ALLOWED_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOWED_HEADERS: Final = (
    "Authorization, Content-Type, X-API-Key, If-Match, If-None-Match, Last-Event-ID, Cache-Control"
)
EXPOSED_HEADERS: Final = (
    "ETag, Accept-Patch, Allow, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate"
)
PREFLIGHT_AGE_S: Final = 600


class HasOrigins(Protocol):
    """The part of the settings that matters here."""

    @property
    def cors_origins(self) -> tuple[str, ...]: ...


def cors_headers(settings: HasOrigins, origin: str | None) -> dict[str, str]:
    """The fields for an answer to a request with this `Origin` (None: the request had none).

    An exact origin is echoed, and may send credentials; `*` never goes with credentials. With a
    list, the answer differs by origin, so caches are told (`Vary`) whether or not this origin is on
    it.
    """
    origins = settings.cors_origins
    if not origins:
        return {}
    if origin is not None and origin != "*" and origin in origins:
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": EXPOSED_HEADERS,
            "Vary": "Origin",
        }
    if "*" in origins:
        fields = {
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Expose-Headers": EXPOSED_HEADERS,
        }
        # Beside exact origins the answer to a listed one differs from this one.
        return fields if len(origins) == 1 else fields | {"Vary": "Origin"}
    return {"Vary": "Origin"}


def preflight_headers(settings: HasOrigins, origin: str | None) -> dict[str, str]:
    """The fields for the answer to `OPTIONS`; nothing is allowed to origins not on the list."""
    fields = cors_headers(settings, origin)
    if "Access-Control-Allow-Origin" not in fields:
        return fields
    fields.pop("Access-Control-Expose-Headers", None)
    return fields | {
        "Access-Control-Allow-Methods": ALLOWED_METHODS,
        "Access-Control-Allow-Headers": ALLOWED_HEADERS,
        "Access-Control-Max-Age": str(PREFLIGHT_AGE_S),
    }
