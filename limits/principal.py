"""Who a request speaks for.

    presented = credentials(head.get, head.params)
    principal = authenticate(presented, [own_tokens, jwts]) or anonymous(peer, grant)

A credential that was presented is never ignored: an empty or unknown one ends in TokenRefused, not
in a silent fall to anonymous. Identity comes only from here, never from a header that names one.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from triode.limits.address import ip_key
from triode.limits.base64url import is_base64url
from triode.limits.grant import FULL, Grant
from triode.limits.token import TokenInfo, Tokens
from triode.store.cache import Cache, weight_of

MAX_CREDENTIALS: Final = 4  # enough for every place once; more is somebody guessing

# A WebSocket's token, where a browser lets a page set nothing but subprotocols: this, and the token
# in base64url without padding.
BEARER_PROTOCOL: Final = "base64url.bearer.authorization.triode."

Check = Callable[[str], "Principal | None"]


class TokenRefused(Exception):
    """A presented token does not hold. `error` is the RFC 6750 code, `detail` one line for people;
    neither contains the token."""

    def __init__(self, detail: str, error: str = "invalid_token") -> None:
        super().__init__(detail)
        self.error = error
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Principal:
    """Who speaks, and what they may do.

    `key` is what limits count by: `token:t_…`, `jwt:…`, or `ip:…`. `name` is for people and logs.
    `expires_at` is in the seconds of the clock the check was made with, None for never.
    """

    key: str
    name: str
    grant: Grant
    expires_at: float | None = None
    source: Literal["token", "jwt", "host", "anonymous"] = "anonymous"
    token_id: str | None = field(default=None)

    @property
    def is_stranger(self) -> bool:
        """Whether nothing but an address is known of it."""
        return self.key.startswith("ip:")


# The code that embeds Triode: it may do everything.
OWNER: Final = Principal(key="embedded", name="embedded", grant=FULL)


def anonymous(peer: str, grant: Grant) -> Principal:
    """Nobody in particular, counted by address (`peer` is the client's, see address.client_ip)."""
    return NOBODIES[peer, grant]


def _anonymous(who: tuple[str, Grant]) -> Principal:
    peer, grant = who
    return Principal(key=ip_key(peer), name="anonymous", grant=grant)


# The grant is the server's own, one for all of them.
NOBODIES: Final[Cache[tuple[str, Grant], Principal]] = Cache(
    _anonymous,
    lambda who, principal: weight_of((who, who[0], principal, principal.key)),
    max_bytes=2 * 1024 * 1024,
)


def from_token(info: TokenInfo) -> Principal:
    """The holder of one of the server's own tokens."""
    return Principal(
        key=f"token:{info.id}",
        name=info.label or info.id,
        grant=info.grant,
        expires_at=info.expires_at,
        source="token",
        token_id=info.id,
    )


def token_check(tokens: Tokens, now: float) -> Check:
    """A check for `authenticate` against the server's own tokens at one time."""

    def check(text: str) -> Principal | None:
        info = tokens.validate(text, now)
        return None if info is None else from_token(info)

    return check


def authenticate(presented: Sequence[str], checks: Iterable[Check]) -> Principal | None:
    """The principal of the first credential that any check accepts; None when none was presented.

    A check gives None for a text that is not its kind, or raises TokenRefused. Raises the first
    refusal when something was presented and nothing of it holds.
    """
    refusal: TokenRefused | None = None
    rules = list(checks)
    for text in presented:
        for check in rules:
            try:
                principal = check(text)
            except TokenRefused as exc:
                refusal = refusal or exc
                continue
            if principal is not None:
                return principal
    if presented:
        raise refusal or TokenRefused("the token is unknown, expired or revoked")
    return None


def credentials(
    headers_get: Callable[[str], str | None], params: Mapping[str, Sequence[str]]
) -> list[str]:
    """The tokens a request presents, in the order they are tried, each once.

    Authorization Bearer (any case of the scheme, any white space), X-API-Key, a subprotocol
    (BEARER_PROTOCOL), then `access_token` in the query. Other schemes belong to proxies and are
    left alone. A blank credential is given as "", so that it is refused rather than taken for none.
    At most MAX_CREDENTIALS.
    """
    found: list[str] = []
    bearer = _bearer(headers_get("authorization"))
    if bearer is not None:
        found.append(bearer)
    api_key = headers_get("x-api-key")
    if api_key is not None:
        found.append(_header_text(api_key.strip()))
    protocols = headers_get("sec-websocket-protocol")
    for name in protocols.split(",") if protocols else ():
        if name.strip().startswith(BEARER_PROTOCOL):
            found.append(_unpacked(name.strip().removeprefix(BEARER_PROTOCOL)))
    found.extend(text.strip() for text in params.get("access_token", ()))
    return list(dict.fromkeys(found))[:MAX_CREDENTIALS]


def _bearer(header: str | None) -> str | None:
    if header is None:
        return None
    scheme, *rest = header.split(maxsplit=1)[:2] or [""]
    if scheme.lower() != "bearer":
        return None
    return _header_text(rest[0].strip()) if rest else ""


def _unpacked(text: str) -> str:
    """A token out of base64url; "", which is refused, if it is none."""
    if not is_base64url(text):
        return ""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().strip()
    except UnicodeDecodeError:
        return ""


def _header_text(text: str) -> str:
    """A header's text as UTF-8: HTTP libraries hand over its bytes as Latin-1."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
