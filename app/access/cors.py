"""Which web pages of other origins may read the answers (the Fetch standard's CORS protocol).

By default none: without fields a browser keeps answers to pages of the same origin.
`settings.cors_origins` lists origins as browsers send them (`https://app.example`), with `*` for
the names below a host (`https://*.app.example`) or for any port (`http://localhost:*`), or is `*`
for everybody. Pure; both lanes use it (`app.access.origin`).
"""

from __future__ import annotations

import re
from typing import Final, Protocol
from urllib.parse import urlsplit

from triode.limits.address import is_loopback_name
from triode.store.cache import Cache, weight_of

ALLOWED_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOWED_HEADERS: Final = (
    "Authorization, Content-Type, X-API-Key, If-Match, If-None-Match, Idempotency-Key, "
    "Last-Event-ID, Cache-Control, If-Position"
)
EXPOSED_HEADERS: Final = (
    "ETag, Accept-Patch, Allow, RateLimit, RateLimit-Policy, Retry-After, Triode, WWW-Authenticate"
)
PREFLIGHT_AGE_S: Final = 600
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class HasOrigins(Protocol):
    """The part of the settings that matters here."""

    @property
    def cors_origins(self) -> tuple[str, ...]: ...

    @property
    def cors_headers(self) -> tuple[str, ...]: ...


def is_listed(origin: str, origins: tuple[str, ...]) -> bool:
    """Whether an origin is listed by name or by a pattern. `*`, which is everybody, names nobody.

    A pattern stands for whole labels of a host or for digits of a port, so nothing that only looks
    like a listed name gets in.
    """
    return origin in origins or any(
        pattern.fullmatch(origin) for text in origins if (pattern := PATTERNS[text]) is not None
    )


def _pattern(text: str) -> re.Pattern[str] | None:
    """The pattern that a listed origin with a `*` is; None for one without, and for all."""
    if "*" not in text or text == "*":
        return None
    quoted = re.escape(text).replace(r"://\*\.", r"://(?:[a-z0-9_-]+\.)+")
    # A browser leaves out the port that is the scheme's own.
    return re.compile(quoted.replace(r":\*", r"(?::[0-9]{1,5})?"), re.ASCII)


# Of what the operator lists, so there are few.
PATTERNS: Final[Cache[str, re.Pattern[str] | None]] = Cache(
    _pattern, lambda text, pattern: weight_of((text, pattern)), max_bytes=1024 * 1024
)


def cors_headers(
    settings: HasOrigins, origin: str | None, *, loopback: bool = False
) -> dict[str, str]:
    """The fields for an answer to a request with this `Origin` (None: the request had none).
    `loopback`: pages of this machine are allowed too.

    A listed origin is echoed, and may send credentials; `*` never goes with credentials. With a
    list, the answer differs by origin, so caches are told (`Vary`) whether or not this origin is on
    it.
    """
    origins = settings.cors_origins
    if not origins and not loopback:
        return {}
    listed = origin is not None and origin != "*" and is_listed(origin, origins)
    if origin is not None and (listed or (loopback and is_loopback_origin(origin))):
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
        alike = len(origins) == 1 and not loopback
        return fields if alike else fields | {"Vary": "Origin"}
    return {"Vary": "Origin"}


def preflight_headers(
    settings: HasOrigins, origin: str | None, *, loopback: bool = False
) -> dict[str, str]:
    """The fields for the answer to `OPTIONS`; nothing is allowed to origins not on the list."""
    fields = cors_headers(settings, origin, loopback=loopback)
    if "Access-Control-Allow-Origin" not in fields:
        return fields
    fields.pop("Access-Control-Expose-Headers", None)
    return fields | {
        "Access-Control-Allow-Methods": ALLOWED_METHODS,
        "Access-Control-Allow-Headers": ", ".join([ALLOWED_HEADERS, *settings.cors_headers]),
        "Access-Control-Max-Age": str(PREFLIGHT_AGE_S),
    }


def origin_parts(origin: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an origin; None when it is none, as `null`."""
    return ORIGINS[origin]


def _origin_parts(origin: str) -> tuple[str, str, int] | None:
    try:
        url = urlsplit(origin)
        port = url.port
    except ValueError:
        return None
    if not url.hostname or url.username is not None or url.path or url.query or url.fragment:
        return None
    return url.scheme, url.hostname.rstrip("."), port or DEFAULT_PORTS.get(url.scheme, 0)


ORIGINS: Final[Cache[str, tuple[str, str, int] | None]] = Cache(
    _origin_parts, lambda origin, parts: weight_of((origin, *(parts or ()))), max_bytes=1024 * 1024
)


def is_loopback_origin(origin: str) -> bool:
    """Whether it is a page that this machine serves to itself."""
    parts = origin_parts(origin)
    return parts is not None and is_loopback_name(parts[1])
