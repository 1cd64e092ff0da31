"""Keys that check tokens: every algorithm, and the sets and spellings that are refused."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from triode.app.config.jwt_key import read_keys
from triode.app.config.readers import JWT_ALGORITHMS
from triode.limits.base64url import is_base64url
from triode.limits.jwt import JwtVerifier
from triode.limits.jwt_key import (
    ALGORITHMS,
    RSA_ALGORITHMS,
    jwks,
    pem_key,
    pem_keys,
)
from triode.limits.principal import TokenRefused

NOW = 1_763_692_800.0
RSA = rsa.generate_private_key(65537, 2048)
CURVES = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
PRIVATE: dict[str, Any] = {
    **dict.fromkeys(("HS256", "HS384", "HS512"), b"0123456789abcdef" * 4),
    **dict.fromkeys(RSA_ALGORITHMS, RSA),
    **{name: ec.generate_private_key(curve) for name, curve in CURVES.items()},
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def pem(private: Any) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(private.public_key().public_bytes(serialization.Encoding.PEM, spki), "ascii")


def jwk(algorithm: str, **members: Any) -> dict[str, Any]:
    """The JWK to check tokens of this algorithm with."""
    key = PRIVATE[algorithm]
    if isinstance(key, bytes):
        row = HMACAlgorithm.to_jwk(key, as_dict=True)
        row.pop("key_ops", None)
    elif algorithm in RSA_ALGORITHMS:
        row = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    elif algorithm in CURVES:
        row = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        row = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**row, "alg": algorithm, **members}


def sign(algorithm: str, **headers: Any) -> str:
    return pyjwt.PyJWS().encode(b'{"sub":"ann"}', PRIVATE[algorithm], algorithm, headers or None)


def key_set(*rows: dict[str, Any]) -> str:
    return json.dumps({"keys": list(rows)})


def test_the_configuration_knows_the_same_algorithms() -> None:
    assert set(JWT_ALGORITHMS) == set(ALGORITHMS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_by_its_jwk_and_by_no_other(algorithm: str) -> None:
    verifier = JwtVerifier(jwks(key_set(jwk(algorithm, kid="k"))))
    assert verifier.verify(sign(algorithm, kid="k"), NOW).name == "ann"
    for other in ALGORITHMS:
        if other != algorithm:
            with pytest.raises(TokenRefused):
                verifier.verify(sign(other, kid="k"), NOW)


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512", "EdDSA", *RSA_ALGORITHMS])
def test_each_algorithm_by_a_pem(algorithm: str) -> None:
    keys = read_keys(pem(PRIVATE[algorithm]), (algorithm,))
    assert [key.algorithm for key in keys] == [algorithm]
    assert JwtVerifier(keys).verify(sign(algorithm), NOW).name == "ann"


def test_an_rsa_key_is_for_rs256_unless_others_are_named() -> None:
    assert pem_key(pem(RSA)).algorithm == "RS256"
    assert [key.algorithm for key in pem_keys(pem(RSA), wanted=["PS256", "RS512", "ES256"])] == [
        "RS512",
        "PS256",
    ]
    bare = {name: value for name, value in jwk("RS256").items() if name != "alg"}
    assert [key.algorithm for key in jwks(key_set(bare))] == ["RS256"]
    assert [key.algorithm for key in jwks(key_set(bare), ["PS384"])] == ["PS384"]


@pytest.mark.parametrize(("name", "size"), [("hs256", 32), ("hs384", 48), ("HS512", 64)])
def test_a_secret_is_as_long_as_its_hash(name: str, size: int) -> None:
    assert read_keys(f"{name}:" + "s" * size)[0].algorithm == name.upper()
    with pytest.raises(ValueError, match=f"at least {size} bytes"):
        read_keys(f"{name}:" + "s" * (size - 1))
    short = base64.urlsafe_b64encode(b"s" * (size - 1)).decode().rstrip("=")
    with pytest.raises(ValueError, match=f"at least {size} bytes"):
        jwks(key_set({"kty": "oct", "alg": name.upper(), "k": short}))


def test_a_kid_is_there_once() -> None:
    with pytest.raises(ValueError, match="kid 'a'"):
        jwks(key_set(jwk("ES256", kid="a"), jwk("RS256", kid="a")))
    with pytest.raises(ValueError, match="kid 'a'"):
        jwks(key_set(jwk("HS256", kid="a"), jwk("HS256", kid="a")))
    # A key for encryption is not ours, and its name neither.
    assert len(jwks(key_set(jwk("ES256", kid="a"), jwk("RS256", kid="a", use="enc")))) == 1
    # One key that serves two algorithms is one key.
    bare = {name: value for name, value in jwk("RS256", kid="a").items() if name != "alg"}
    assert len(jwks(key_set(bare), ["RS256", "PS256"])) == 2


def test_secrets_and_public_keys_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="beside public keys"):
        jwks(key_set(jwk("HS256", kid="a"), jwk("ES256", kid="b")))
    assert len(jwks(key_set(jwk("HS256", kid="a"), jwk("HS384", kid="b")))) == 2


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("", True), ("AA", True), ("AAA", True), ("AAAA", True), ("-_-_", True),
        ("A", False), ("AAAAA", False), ("AB", False), ("AAB", False), ("AA==", False),
        ("AAA=", False), ("A A", False), ("AA\n", False), ("+/AA", False), ("AA?", False),
        ("ÄÄ", False),
    ],
)  # fmt: skip
def test_base64url_has_one_spelling(text: str, good: bool) -> None:
    assert is_base64url(text) is good


@pytest.mark.parametrize("size", range(1, 40))
def test_what_an_encoder_writes_is_base64url(size: int) -> None:
    text = base64.urlsafe_b64encode(os.urandom(size)).decode().rstrip("=")
    assert is_base64url(text)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("spoil", ["{}=", "{}==", " {}", "{}?", "{}\n", "#{}"])
def test_a_token_that_is_spelt_otherwise_is_refused(part: int, spoil: str) -> None:
    verifier = JwtVerifier(jwks(key_set(jwk("HS256"))))
    parts = sign("HS256").split(".")
    parts[part] = spoil.format(parts[part])
    with pytest.raises(TokenRefused):
        verifier.verify(".".join(parts), NOW)


@pytest.mark.parametrize("member", ["n", "e"])
@pytest.mark.parametrize("spoil", ["{}=", " {}", "{}\n"])
def test_a_jwk_that_is_spelt_otherwise_is_refused(member: str, spoil: str) -> None:
    row = jwk("RS256")
    with pytest.raises(ValueError, match="base64url"):
        jwks(key_set(row | {member: spoil.format(row[member])}))


def roca_like() -> rsa.RSAPublicKey:
    """A modulus that looks as those of the broken chips do: a power of 65537 modulo each small
    prime. No private key is needed to refuse it.
    """
    product = 1
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157):
        product *= prime
    modulus = (1 << 2047) // product * product + pow(65537, 12345, product)
    while modulus.bit_length() < 2048 or modulus % 2 == 0:
        modulus += product
    return rsa.RSAPublicNumbers(65537, modulus).public_key()


def test_keys_of_the_broken_chips_are_refused() -> None:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    text = roca_like().public_bytes(serialization.Encoding.PEM, spki)
    with pytest.raises(ValueError, match="ROCA"):
        pem_key(text)
    with pytest.raises(ValueError, match="ROCA"):
        jwks(key_set(RSAAlgorithm.to_jwk(roca_like(), as_dict=True)))
