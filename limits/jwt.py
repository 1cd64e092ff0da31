"""Tokens that another party signed: JSON Web Tokens (RFC 7519), by PyJWT's signature code.

The algorithm belongs to the key, never to the token. Each key is bound to one of HS256, RS256,
ES256 and EdDSA when it is configured; a token is tried only against keys whose algorithm its header
names and whose `kid` it gives. So `none` matches no key, and a public key can never serve as an
HMAC secret. Weak keys (HMAC below 32 bytes, RSA below 2048 bits) and private ones are refused at
the start. `jku`, `x5u`, `jwk` and `x5c` in a token are not looked at; `crit` is refused.

The claims are checked here and not by PyJWT, because that asks the wall clock:
  exp   a token holds while now < exp + leeway; without one it holds forever (unless require_exp)
  nbf   and from now >= nbf - leeway on
  aud   must name one of our audiences; a token for somebody is refused when we are configured as
        nobody (RFC 7519 4.1.3)
  iss   must be one of our issuers, when some are configured
  sub   the name, and what limits count by
  triode  the grant, an object as in docs/wire.md 7; or its members read, write, rooms and admin as
        claims of their own. A token with neither gets `default_grant`: read everything, write
        nothing, no rooms. In a grant that is stated, absent members mean everything, as always.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError, PyJWTError

from triode.limits.grant import READ_ALL, Grant
from triode.limits.principal import Principal, TokenRefused

__all__ = ["JwtKey", "JwtVerifier", "TokenRefused", "hmac_key", "jwks", "looks_like_jwt", "pem_key"]

MAX_CHARS: Final = 16_384
MIN_HMAC_BYTES: Final = 32
MIN_RSA_BITS: Final = 2_048
GRANT_CLAIM: Final = "triode"
GRANT_MEMBERS: Final = ("read", "write", "rooms", "admin")
_MISSING: Final = object()

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_HMAC = HMACAlgorithm(HMACAlgorithm.SHA256)
_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth")


@dataclass(frozen=True, slots=True)
class JwtKey:
    """A verification key and the one algorithm it may be used with."""

    algorithm: str
    material: bytes | PublicKey = field(repr=False)
    kid: str | None = None


def hmac_key(secret: str | bytes, kid: str | None = None) -> JwtKey:
    """An HS256 key. Raises ValueError below 32 bytes, and for what is a public key or a JWK."""
    material = secret.encode() if isinstance(secret, str) else secret
    if len(material) < MIN_HMAC_BYTES:
        raise ValueError(f"an HS256 key must have at least {MIN_HMAC_BYTES} bytes (RFC 7518 3.2)")
    try:
        return JwtKey("HS256", _HMAC.prepare_key(material), kid)
    except InvalidKeyError as exc:
        raise ValueError(f"not an HS256 key: {exc}") from exc


def pem_key(text: str | bytes, kid: str | None = None) -> JwtKey:
    """The key of a PEM public key or certificate: RSA is RS256, P-256 ES256, Ed25519 EdDSA.

    Raises ValueError for anything else, private keys among it.
    """
    data = text.encode() if isinstance(text, str) else text
    if b"PRIVATE KEY" in data:
        raise ValueError("this is a private key; verifying needs only the public one")
    try:
        if b"BEGIN CERTIFICATE" in data:
            return _bound(load_pem_x509_certificate(data).public_key(), kid)
        return _bound(load_pem_public_key(data), kid)
    except UnsupportedAlgorithm as exc:
        raise ValueError(f"unsupported key: {exc}") from exc


def jwks(text: str | bytes) -> list[JwtKey]:
    """The usable keys of a JWK Set (RFC 7517), or of a single JWK.

    Keys of unknown types, for other algorithms or for encryption are left out, as the RFC asks.
    Raises ValueError when a key is broken, weak or private, or when none is left.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ValueError("a JWK Set must be JSON") from exc
    rows = data.get("keys", [data]) if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise ValueError('a JWK Set must be {"keys": […]}')
    keys = [key for index, row in enumerate(rows) if (key := _from_jwk(index, row)) is not None]
    if not keys:
        raise ValueError("the JWK Set has no key for HS256, RS256, ES256 or EdDSA")
    return keys


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
        default_grant: Grant = READ_ALL,
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
            raise TokenRefused("the token does not hold yet (nbf)")
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
        stated: object = claims.get(GRANT_CLAIM, _MISSING)
        if stated is _MISSING:
            stated = {name: claims[name] for name in GRANT_MEMBERS if name in claims}
            if not stated:
                return self._default_grant
        try:
            return Grant.from_json(stated, check=self._check)
        except ValueError as exc:
            raise TokenRefused(f"claim {GRANT_CLAIM}: {exc}") from exc


# ---- keys ----


def _bound(key: object, kid: str | None) -> JwtKey:
    """Bind a public key to its one algorithm."""
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key must have at least {MIN_RSA_BITS} bits")
        return JwtKey("RS256", key, kid)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return JwtKey("ES256", key, kid)
    if isinstance(key, Ed25519PublicKey):
        return JwtKey("EdDSA", key, kid)
    raise ValueError("a key must be RSA, EC on P-256, or Ed25519")


def _from_jwk(index: int, row: object) -> JwtKey | None:
    where = f"keys[{index}]"
    if not isinstance(row, dict) or not isinstance(row.get("kty"), str):
        raise ValueError(f"{where} is not a JWK")
    kid = row.get("kid")
    if not isinstance(kid, str | None):
        raise ValueError(f"{where}: kid must be a string")
    if not _wanted(row):
        return None
    if any(member in row for member in _PRIVATE_MEMBERS):
        raise ValueError(f"{where} is a private key; verifying needs only the public one")
    try:
        return _load_jwk(row, kid)
    except (PyJWTError, ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"{where}: {exc}") from exc


def _wanted(row: dict[str, Any]) -> bool:
    """False for keys that are for something else than our four algorithms."""
    kind = {"oct": "HS256", "RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}.get(row["kty"])
    operations = row.get("key_ops", ["verify"])
    return (
        kind is not None
        and row.get("alg", kind) == kind
        and row.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
        and row.get("crv", "") in ("", "P-256", "Ed25519")
    )


def _load_jwk(row: dict[str, Any], kid: str | None) -> JwtKey:
    if row["kty"] == "oct":
        return hmac_key(HMACAlgorithm.from_jwk(row), kid)
    if row["kty"] == "RSA":
        return _bound(RSAAlgorithm.from_jwk(row), kid)
    if row["kty"] == "EC":
        return _bound(ECAlgorithm.from_jwk(row), kid)
    return _bound(OKPAlgorithm.from_jwk(row), kid)


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
