"""Which web pages may use this server, and under which names it is served.

Browsers send `Origin` with what a page asks, but leave the check of a WebSocket to the server (RFC
6455 10.2). And while nobody needs a token, a page of any site could reach a server on the visitor's
own machine by a name that resolves to 127.0.0.1, where it would be of "the same origin" (DNS
rebinding). So an open server on loopback is served under names of loopback only, and those of
`allowed_hosts`. With such names it is so elsewhere too: in a container the address is open, and
its port is published on loopback. Pages of loopback may use it whatever their port: that is a
developer at work.

Which pages of other origins may read the answers (the Fetch standard's CORS protocol): by default
none, without fields a browser keeps answers to pages of the same origin. `settings.cors_origins`
lists origins as browsers send them (`https://app.example`), with `*` for the names below a host
(`https://*.app.example`) or for any port (`http://localhost:*`), or is `*` for everybody.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from triode.app.runtime.log_once import LogOnce
from triode.app.wire.refusal import Refusal, forbidden
from triode.limits.address import is_loopback_name
from triode.store.cache import Cache, weight_of

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.app.net.request_head import Head
    from triode.limits.address import Networks

log = logging.getLogger("triode")

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


class Origins:
    """The web pages of one server: what they may do, by the origin and the host of a request."""

    def __init__(self, settings: Settings, trusted: Networks, *, needs_token: bool) -> None:
        self._settings = settings
        self._trusted = trusted
        self._hosts = frozenset(settings.allowed_hosts)
        # Open for this machine alone: nobody said that it is meant for everyone.
        self._open_here = settings.loopback and not needs_token and not settings.insecure
        self._checks_host = self._open_here or (bool(self._hosts) and not needs_token)
        # The last one that was welcome, as it was written: most name the same.
        self._host = ""
        self._refused_page = LogOnce(log, "refused a page of %s; --cors-origins would allow it")
        self._refused_host = LogOnce(
            log, "refused a request for the host %s; --allowed-hosts would allow it"
        )

    def check_host(self, head: Head) -> None:
        """Raises `Refusal` 403 for a name that this server is not served under."""
        if not self._checks_host or "*" in self._hosts:
            return
        host = head.get("host")
        # Without one it is no browser: they always send it.
        if not host or host == self._host:
            return
        name = _name(host)
        if name is not None and (is_loopback_name(name) or name in self._hosts):
            self._host = host
            return
        self._refused_host.warn(host)
        raise Refusal(
            403,
            "this server needs no token, and this request is for a host that it is not served "
            "under; allow the name with --allowed-hosts, or set a token",
            close=4403,
        )

    def check_origin(self, head: Head) -> None:
        """Raises `Refusal` 403 for a page of another origin that is not allowed. No `Origin`: not
        a browser.
        """
        if not self._is_welcome(head):
            raise forbidden("pages of this origin may not connect: allow it with --cors-origins")

    def fields(self, head: Head) -> dict[str, str]:
        """The CORS fields for the answer to a request."""
        origin = head.get("origin")
        if origin is not None:
            self._is_welcome(head)  # for the log: the browser itself keeps the answer from the page
        return cors_headers(self._settings, origin, loopback=self._open_here)

    def preflight_fields(self, head: Head) -> dict[str, str]:
        """The CORS fields for the answer to `OPTIONS`."""
        self._is_welcome(head)
        return preflight_headers(self._settings, head.get("origin"), loopback=self._open_here)

    def _is_welcome(self, head: Head) -> bool:
        origin = head.get("origin")
        if origin is None or is_listed(origin, self._settings.cors_origins):
            return True
        if "*" in self._settings.cors_origins or self._is_own(head, origin):
            return True
        if self._open_here and is_loopback_origin(origin):
            return True
        self._refused_page.warn(origin)
        return False

    def _is_own(self, head: Head, origin: str) -> bool:
        """Whether the page came from here: by the `Host`, or by what a trusted proxy says that it
        was asked for.
        """
        hosts, schemes = [head.get("host") or ""], []
        if self._trusted.contains(head.peer):
            hosts += head.members("x-forwarded-host")
            schemes = head.tokens("x-forwarded-proto")
        parts = origin_parts(origin)
        if parts is None:
            return False
        scheme = parts[0]
        # Without a proxy's word the scheme is not known here: TLS may have ended before us.
        if schemes and scheme not in schemes:
            return False
        return any(origin_parts(f"{scheme}://{host.lower()}") == parts for host in hosts)


def _name(host: str) -> str | None:
    """The name in a `Host` field, without its port."""
    parts = origin_parts(f"http://{host.lower()}")
    return None if parts is None else parts[1]


# ── CORS ─────────────────────────────────────────────────────────────────────────────────────────


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
