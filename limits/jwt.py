"""Tokens that another party signed: JSON Web Tokens (RFC 7519), by PyJWT's signature code.

The algorithm belongs to the key, never to the token. Each key is bound to one algorithm when it is
configured (`limits.jwt_key`); a token is tried only against keys whose algorithm its header
names and whose `kid` it gives. So `none` matches no key, and a public key can never serve as an
HMAC secret. `jku`, `x5u`, `jwk` and `x5c` in a token are not looked at; `crit` is refused.

The claims are checked here and not by PyJWT, because that asks the wall clock:
  exp   a token holds while now < exp + leeway; without one it holds forever (unless require_exp)
  nbf   and from now >= nbf - leeway on
  aud   must name one of our audiences; a token for somebody is refused when we are configured as
        nobody (RFC 7519 4.1.3)
  iss   must be one of our issuers, when some are configured
  sub   the name, and what limits count by
  triode  the grant, an object as in docs/wire.md, Tokens; or its members read, write, rooms and
        admin as claims of their own. A token with neither gets `default_grant`, by default
        nothing. Claims that are not ours are let be, but what begins with `triode` is ours and
        has to be known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any, Final

from jwt import PyJWS
from jwt.exceptions import PyJWTError

from triode.limits.base64url import is_base64url
from triode.limits.grant import MEMBERS, NONE, Grant
from triode.limits.jwt_key import JwtKey, hmac_key, jwks, pem_key
from triode.limits.known import first_unknown
from triode.limits.principal import Principal, TokenRefused

__all__ = ["JwtKey", "JwtVerifier", "TokenRefused", "hmac_key", "jwks", "looks_like_jwt", "pem_key"]

MAX_CHARS: Final = 16_384
GRANT_CLAIM: Final = "triode"
_MISSING: Final = object()
# Not `metrics`: that an issuer means something else by such a claim is likely.
_CLAIMS: Final = tuple(name for name in MEMBERS if name != "metrics")


def looks_like_jwt(text: str) -> bool:
    """True for three parts; the server's own tokens have no dots."""
    return text.count(".") == 2


class JwtVerifier:
    """Checks tokens against fixed keys.

    `audience` and `issuer` are one text or several; `leeway_s` forgives clocks that differ, at both
    ends. `check` sees each filter of a grant, see Grant.from_json. Raises ValueError for no keys or
    a negative leeway.
    """

    def __init__(
        self,
        keys: Iterable[JwtKey],
        *,
        audience: str | Iterable[str] | None = None,
        issuer: str | Iterable[str] | None = None,
        leeway_s: float = 0.0,
        require_exp: bool = False,
        default_grant: Grant = NONE,
        check: Callable[[str], object] | None = None,
    ) -> None:
        self._keys = tuple(keys)
        if not self._keys:
            raise ValueError("a JWT verifier needs at least one key")
        if not 0 <= leeway_s < math.inf:
            raise ValueError("leeway_s must not be negative")
        self._audiences = _texts(audience)
        self._issuers = _texts(issuer)
        self._leeway_s = leeway_s
        self._require_exp = require_exp
        self._default_grant = default_grant
        self._check = check
        self._jws = PyJWS(algorithms=sorted({key.algorithm for key in self._keys}))

    def __call__(self, text: str, now: float) -> Principal | None:
        """`verify`, but None for a text that is no JWT at all: another check may know it."""
        return self.verify(text, now) if looks_like_jwt(text) else None

    def verify(self, text: str, now: float) -> Principal:
        """The principal of a token that holds at `now` (Unix seconds). Raises TokenRefused.

        `expires_at` is when verify would begin to refuse it: exp plus the leeway.
        """
        if len(text) > MAX_CHARS:
            raise TokenRefused(f"the token is longer than {MAX_CHARS} characters")
        claims = _object(self._signed_payload(text))
        expires_at = self._check_times(claims, now)
        self._check_parties(claims)
        key, name = self._identity(claims, text)
        grant = self._grant(claims)
        return Principal(key, name, grant, expires_at, "jwt", None)

    def _signed_payload(self, text: str) -> bytes:
        # One token has one spelling: PyJWT would overlook what is no base64url.
        if not all(map(is_base64url, text.split("."))):
            raise TokenRefused("the token is not a well-formed JWT: a part is not base64url")
        try:
            header = self._jws.get_unverified_header(text)
        except (PyJWTError, UnicodeError) as exc:
            raise TokenRefused("the token is not a well-formed JWT") from exc
        if "crit" in header or header.get("b64", True) is not True:
            raise TokenRefused("the token needs extensions that are not supported")
        for key in self._candidates(header):
            try:
                decoded = self._jws.decode_complete(text, _material(key), [key.algorithm])
            except PyJWTError:
                continue
            payload: bytes = decoded["payload"]
            return payload
        raise TokenRefused("the token's signature is not that of a configured key")

    def _candidates(self, header: dict[str, Any]) -> list[JwtKey]:
        """The keys the token may have been signed with: of its algorithm, and of its kid where
        both have one."""
        kid, algorithm = header.get("kid"), header.get("alg")
        return [
            key
            for key in self._keys
            if key.algorithm == algorithm and (kid is None or key.kid is None or key.kid == kid)
        ]

    def _check_times(self, claims: dict[str, Any], now: float) -> float | None:
        starts, ends = _seconds(claims, "nbf"), _seconds(claims, "exp")
        _seconds(claims, "iat")
        if starts is not None and now < starts - self._leeway_s:
            raise TokenRefused(
                "the token does not hold yet (nbf); jwt_leeway forgives clocks that differ"
            )
        if ends is None:
            if self._require_exp:
                raise TokenRefused("the token has no exp")
            return None
        if now >= ends + self._leeway_s:
            raise TokenRefused("the token has expired")
        return ends + self._leeway_s

    def _check_parties(self, claims: dict[str, Any]) -> None:
        if self._issuers and not _among(claims.get("iss"), self._issuers):
            raise TokenRefused("the token is of another issuer")
        named = claims.get("aud", [])
        named = [named] if isinstance(named, str) else named
        if not isinstance(named, list):
            raise TokenRefused("aud must be a string or a list of strings")
        if (self._audiences or named) and not any(_among(n, self._audiences) for n in named):
            raise TokenRefused("the token is for another audience")

    def _identity(self, claims: dict[str, Any], text: str) -> tuple[str, str]:
        """(key, name). Two issuers may both have an `alice`, unless only one is configured."""
        subject, issuer = claims.get("sub"), claims.get("iss", "")
        if not isinstance(subject, str | None) or not isinstance(issuer, str):
            raise TokenRefused("sub and iss must be strings")
        if not subject:
            # The signed part, as signatures can be varied (ECDSA) to get a fresh bucket.
            digest = sha256(text.rpartition(".")[0].encode()).hexdigest()[:32]
            return f"jwt:#{digest}", "jwt"
        prefix = "" if len(self._issuers) == 1 or not issuer else f"{issuer}#"
        return f"jwt:{prefix}{subject}", subject

    def _grant(self, claims: dict[str, Any]) -> Grant:
        ours = [name for name in claims if name.lower().startswith(GRANT_CLAIM)]
        unknown = first_unknown("claim", ours, (GRANT_CLAIM,))
        if unknown is not None:
            raise TokenRefused(unknown)
        stated: object = claims.get(GRANT_CLAIM, _MISSING)
        loose = {name: claims[name] for name in _CLAIMS if name in claims}
        if stated is _MISSING:
            if not loose:
                return self._default_grant
            stated = loose
        elif loose:
            raise TokenRefused(f"give either claim {GRANT_CLAIM} or {', '.join(loose)}, not both")
        try:
            return Grant.from_json(stated, check=self._check)
        except ValueError as exc:
            raise TokenRefused(f"claim {GRANT_CLAIM}: {exc}") from exc


def _material(key: JwtKey) -> Any:
    # PyJWT's annotations name its own unions; the values are what it documents.
    return key.material


# ---- claims ----


def _object(payload: bytes) -> dict[str, Any]:
    try:
        text = payload.decode()  # json.loads on bytes would also take UTF-16
        claims = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
        json.dumps(claims, ensure_ascii=False).encode()  # refuses lone surrogates in a name
    except (ValueError, RecursionError) as exc:
        raise TokenRefused("the token's claims are not sound JSON") from exc
    if not isinstance(claims, dict):
        raise TokenRefused("the token's claims are not an object")
    return claims


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers of a doubled claim may take different ones, so there is none."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is there twice")
    return members


def _seconds(claims: dict[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    try:
        if not isinstance(value, bool) and isinstance(value, int | float):
            seconds = float(value)
            if math.isfinite(seconds):
                return seconds
    except OverflowError:
        pass
    raise TokenRefused(f"{name} must be a number of seconds")


def _texts(value: str | Iterable[str] | None) -> frozenset[str]:
    if value is None:
        return frozenset()
    return frozenset([value] if isinstance(value, str) else value)


def _among(value: object, texts: frozenset[str]) -> bool:
    return isinstance(value, str) and value in texts
