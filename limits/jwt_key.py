"""Keys that check the signatures of tokens: HMAC secrets, PEM, and JWK Sets (RFC 7517).

A key has one algorithm from the start (RFC 8725 section 3.1): that of its `alg`; else the one that
the configuration names for its kind; else the one of its kind that everybody uses: HS256, RS256,
EdDSA, and on a curve the one that belongs to it.

What could be taken for something else is refused whole, not in part: two keys of one `kid`, secrets
beside public keys in one set, base64 that is not the one spelling of its bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError, PyJWTError

from triode.limits.base64url import is_base64url

MIN_HMAC_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 section 3.2
MIN_RSA_BITS: Final = 2_048
RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# By the curve's name in a JWK, and in OpenSSL.
CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_OPENSSL: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ALGORITHMS: Final = (*MIN_HMAC_BYTES, *RSA_ALGORITHMS, *CURVES.values(), "EdDSA")

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

_HMAC = HMACAlgorithm(HMACAlgorithm.SHA256)
_PRIVATE_MEMBERS = ("d", "p", "q", "dp", "dq", "qi", "oth")
_BYTE_MEMBERS = ("k", "n", "e", "x", "y")
# Keys of a broken chip have a modulus that is a power of 65537 modulo each small prime (ROCA,
# CVE-2017-15361). Of other keys one in 200 million looks so modulo all of these.
_ROCA_PRIMES = (
    11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157,
)  # fmt: skip
_ROCA_GENERATOR = 65_537


@dataclass(frozen=True, slots=True)
class JwtKey:
    """A verification key and the one algorithm it may be used with."""

    algorithm: str
    material: bytes | PublicKey = field(repr=False)
    kid: str | None = None


def hmac_key(secret: str | bytes, kid: str | None = None, algorithm: str = "HS256") -> JwtKey:
    """A secret. Raises ValueError when it is shorter than the hash of its algorithm, and for what
    is a public key or a JWK.
    """
    material = secret.encode() if isinstance(secret, str) else secret
    least = MIN_HMAC_BYTES[algorithm]
    if len(material) < least:
        raise ValueError(f"an {algorithm} key must have at least {least} bytes (RFC 7518 3.2)")
    try:
        return JwtKey(algorithm, _HMAC.prepare_key(material), kid)
    except InvalidKeyError as exc:
        raise ValueError(f"not an {algorithm} key: {exc}") from exc


def pem_key(text: str | bytes, kid: str | None = None) -> JwtKey:
    """The key of a PEM public key or certificate: RSA is RS256."""
    return pem_keys(text, kid)[0]


def pem_keys(text: str | bytes, kid: str | None = None, wanted: Iterable[str] = ()) -> list[JwtKey]:
    """The same, once for each of the `wanted` algorithms that it can do.

    Raises ValueError for anything else, private keys among it.
    """
    data = text.encode() if isinstance(text, str) else text
    if b"PRIVATE KEY" in data:
        raise ValueError("this is a private key; verifying needs only the public one")
    try:
        if b"BEGIN CERTIFICATE" in data:
            return _bound(load_pem_x509_certificate(data).public_key(), kid, wanted)
        return _bound(load_pem_public_key(data), kid, wanted)
    except UnsupportedAlgorithm as exc:
        raise ValueError(f"unsupported key: {exc}") from exc


def jwks(text: str | bytes, wanted: Iterable[str] = ()) -> list[JwtKey]:
    """The usable keys of a JWK Set, or of a single JWK; those without an `alg` are for each of the
    `wanted` algorithms that they can do.

    Keys of unknown types, for other algorithms or for encryption are left out, as the RFC asks.
    Raises ValueError when a key is broken, weak or private, when the set is ambiguous, or when none
    is left.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ValueError("a JWK Set must be JSON") from exc
    rows = data.get("keys", [data]) if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise ValueError('a JWK Set must be {"keys": […]}')
    found = [keys for index, row in enumerate(rows) if (keys := _from_jwk(index, row, wanted))]
    if not found:
        raise ValueError(f"the JWK Set has no key for {', '.join(ALGORITHMS)}")
    _check_set(found)
    return [key for keys in found for key in keys]


def _check_set(found: list[list[JwtKey]]) -> None:
    """Refuse sets in which a token could mean another key than its signer did."""
    kids = [keys[0].kid for keys in found if keys[0].kid is not None]
    twice = {kid for kid in kids if kids.count(kid) > 1}
    if twice:
        raise ValueError(f"two keys of the JWK Set have the kid {min(twice)!r}; make it unique")
    if len({isinstance(keys[0].material, bytes) for keys in found}) > 1:
        raise ValueError(
            "the JWK Set has secrets (oct) beside public keys; whoever may read the public ones "
            "could sign: keep them apart"
        )


def _bound(key: object, kid: str | None, wanted: Iterable[str]) -> list[JwtKey]:
    """Bind a public key to its algorithms: one, unless more are wanted."""
    if isinstance(key, RSAPublicKey):
        _check_rsa(key)
        chosen = [name for name in RSA_ALGORITHMS if name in set(wanted)] or ["RS256"]
        return [JwtKey(name, key, kid) for name in chosen]
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _OPENSSL:
        return [JwtKey(_OPENSSL[key.curve.name], key, kid)]
    if isinstance(key, Ed25519PublicKey):
        return [JwtKey("EdDSA", key, kid)]
    raise ValueError("a key must be RSA, EC on P-256, P-384 or P-521, or Ed25519")


def _check_rsa(key: RSAPublicKey) -> None:
    if key.key_size < MIN_RSA_BITS:
        raise ValueError(f"an RSA key must have at least {MIN_RSA_BITS} bits")
    numbers = key.public_numbers()
    if numbers.e < 3:
        raise ValueError("an RSA key must have an exponent of 3 or more")
    if all(_is_power(numbers.n, prime) for prime in _ROCA_PRIMES):
        raise ValueError("this RSA key can be broken (ROCA, CVE-2017-15361); make a new one")


def _is_power(number: int, prime: int) -> bool:
    """Whether `number` is a power of the generator modulo `prime`."""
    wanted, power = number % prime, 1
    for _ in range(prime):
        if power == wanted:
            return True
        power = power * _ROCA_GENERATOR % prime
    return False


def _from_jwk(index: int, row: object, wanted: Iterable[str]) -> list[JwtKey]:
    where = f"keys[{index}]"
    if not isinstance(row, dict) or not isinstance(row.get("kty"), str):
        raise ValueError(f"{where} is not a JWK")
    kid = row.get("kid")
    if not isinstance(kid, str | None):
        raise ValueError(f"{where}: kid must be a string")
    named = row.get("alg")
    if not _is_for_us(row):
        return []
    if any(member in row for member in _PRIVATE_MEMBERS):
        raise ValueError(f"{where} is a private key; verifying needs only the public one")
    for member in _BYTE_MEMBERS:
        if member in row and not (isinstance(row[member], str) and is_base64url(row[member])):
            raise ValueError(f"{where}: {member} is not base64url without padding")
    try:
        return _load_jwk(row, kid, [named] if isinstance(named, str) else wanted)
    except (PyJWTError, ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"{where}: {exc}") from exc


def _is_for_us(row: dict[str, Any]) -> bool:
    """False for keys that are for something else than our algorithms."""
    curve = row.get("crv")
    possible: dict[str, tuple[str, ...]] = {
        "oct": tuple(MIN_HMAC_BYTES),
        "RSA": RSA_ALGORITHMS,
        "EC": (CURVES[curve],) if isinstance(curve, str) and curve in CURVES else (),
        "OKP": ("EdDSA",) if curve == "Ed25519" else (),
    }
    kinds = possible.get(row["kty"], ())
    operations = row.get("key_ops", ["verify"])
    return (
        bool(kinds)
        and row.get("alg", kinds[0]) in kinds
        and row.get("use", "sig") == "sig"
        and isinstance(operations, list)
        and "verify" in operations
    )


def _load_jwk(row: dict[str, Any], kid: str | None, wanted: Iterable[str]) -> list[JwtKey]:
    if row["kty"] == "oct":
        secret = HMACAlgorithm.from_jwk(row)
        chosen = [name for name in MIN_HMAC_BYTES if name in set(wanted)] or ["HS256"]
        return [hmac_key(secret, kid, name) for name in chosen]
    if row["kty"] == "RSA":
        return _bound(RSAAlgorithm.from_jwk(row), kid, wanted)
    if row["kty"] == "EC":
        return _bound(ECAlgorithm.from_jwk(row), kid, wanted)
    return _bound(OKPAlgorithm.from_jwk(row), kid, wanted)
