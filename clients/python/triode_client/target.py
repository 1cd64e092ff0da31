"""Where to connect, from a URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

_TLS: Final = {"http": False, "ws": False, "https": True, "wss": True}
# What RFC 3986 lets stand in a query, percent-encoding included.
_QUERY: Final = "%/?:@!$&'()*+,;=-._~"


@dataclass(frozen=True, slots=True)
class Target:
    """A host, a port, and what to ask for there."""

    host: str
    port: int
    is_tls: bool
    resource: str

    @property
    def authority(self) -> str:
        """The `Host` field."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"

    @property
    def is_open(self) -> bool:
        """What is sent can be read on its way: no TLS, and it leaves the machine."""
        if self.is_tls or self.host == "localhost":
            return False
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return True

    def __str__(self) -> str:
        return (
            f"{'wss' if self.is_tls else 'ws'}://{self.authority}{self.resource.partition('?')[0]}"
        )


def read_target(
    url: str, tags: Mapping[str, str] | None = None, max_event: int | None = None
) -> Target:
    """Where `url` points.

    `http:` and `https:` address a server, which may be mounted at a path: its WebSocket is at `/ws`
    below, whether that is said or not. `ws:` and `wss:` address a WebSocket itself; without a path
    that is `/ws`. `tags` and `max_event` go into the query. Raises `ValueError`, also
    for a user and password in the URL: a token belongs into `token`.
    """
    parts = urlsplit(url)
    is_tls = _TLS.get(parts.scheme)
    if is_tls is None or not parts.hostname:
        raise ValueError(
            f"not the URL of a server: {url!r}; write http://HOST:PORT or https://HOST"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL with a user or password is not understood; use token=")
    port = parts.port if parts.port is not None else (443 if is_tls else 80)
    path = parts.path
    if path in ("", "/") or parts.scheme in ("http", "https"):
        path = path.removesuffix("/").removesuffix("/ws") + "/ws"
    query = quote(parts.query, safe=_QUERY)
    tagged = urlencode({f"tag.{name}": value for name, value in (tags or {}).items()})
    bound = f"max_event={max_event}" if max_event is not None else ""
    queries = "&".join(part for part in (query, tagged, bound) if part)
    resource = quote(path, safe="%/:@!$&'()*+,;=-._~") + (f"?{queries}" if queries else "")
    return Target(parts.hostname, port, is_tls, resource)
