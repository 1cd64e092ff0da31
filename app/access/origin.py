"""Which web pages may use this server, and under which names it is served.

Browsers send `Origin` with what a page asks, but leave the check of a WebSocket to the server (RFC
6455 10.2). And while nobody needs a token, a page of any site could reach a server on the visitor's
own machine by a name that resolves to 127.0.0.1, where it would be of "the same origin" (DNS
rebinding). So an open server on loopback is served under names of loopback only, and those of
`allowed_hosts`. With such names it is so elsewhere too: in a container the address is open, and
its port is published on loopback. Pages of loopback may use it whatever their port: that is a
developer at work.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from triode.app.access.cors import (
    cors_headers,
    is_listed,
    is_loopback_origin,
    origin_parts,
    preflight_headers,
)
from triode.app.runtime.log_once import LogOnce
from triode.app.wire.refusal import Refusal, forbidden
from triode.limits.address import is_loopback_name

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.app.net.request_head import Head
    from triode.limits.address import Networks

log = logging.getLogger("triode")


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
