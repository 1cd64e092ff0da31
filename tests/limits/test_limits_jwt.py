from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from triode.limits.grant import ALL, FULL, NONE, Grant
from triode.limits.jwt import JwtKey, JwtVerifier, hmac_key, jwks, looks_like_jwt, pem_key
from triode.limits.principal import TokenRefused, authenticate, token_check
from triode.limits.token import Tokens

NOW = 1_763_692_800.0
SECRET = "0123456789abcdef0123456789abcdef"
RSA = rsa.generate_private_key(65537, 2048)
RSA_OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(private: Any) -> str:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(private.public_key().public_bytes(serialization.Encoding.PEM, spki), "ascii")


def sign(claims: object, key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return pyjwt.PyJWS().encode(payload, key, algorithm, headers or None)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def hand_made(header: dict[str, Any], claims: dict[str, Any], secret: bytes | None) -> str:
    """A token PyJWT would not make."""
    body = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    tag = b"" if secret is None else hmac.new(secret, body.encode(), hashlib.sha256).digest()
    return f"{body}.{b64(tag)}"


HS = JwtVerifier([hmac_key(SECRET)])


def refusal(verifier: JwtVerifier, text: str, now: float = NOW) -> str:
    with pytest.raises(TokenRefused) as caught:
        verifier.verify(text, now)
    assert caught.value.error == "invalid_token"
    if len(text) > 8:
        assert text not in caught.value.detail
    return caught.value.detail


@pytest.mark.parametrize(
    ("private", "public", "algorithm"),
    [
        (SECRET, hmac_key(SECRET), "HS256"),
        (RSA, pem_key(pem(RSA)), "RS256"),
        (EC, pem_key(pem(EC).encode()), "ES256"),
        (ED, pem_key(pem(ED)), "EdDSA"),
    ],
)
def test_each_algorithm(private: Any, public: JwtKey, algorithm: str) -> None:
    claims = {"sub": "alice", "exp": NOW + 60, "triode": {"read": [".a"], "write": []}}
    text = sign(claims, private, algorithm)
    principal = JwtVerifier([public]).verify(text, NOW)
    assert public.algorithm == algorithm
    assert (principal.key, principal.name, principal.source) == ("jwt:alice", "alice", "jwt")
    assert principal.grant == Grant(read=(".a",), write=())
    assert (principal.expires_at, principal.token_id) == (NOW + 60, None)
    head, body, tag = text.split(".")
    forged = b64(json.dumps(claims | {"sub": "root"}).encode())
    assert "signature" in refusal(JwtVerifier([public]), f"{head}.{forged}.{tag}")
    flipped = ("B" if tag[0] == "A" else "A") + tag[1:]
    assert "signature" in refusal(JwtVerifier([public]), f"{head}.{body}.{flipped}")


def test_all_keys_at_once() -> None:
    keys = [hmac_key(SECRET), pem_key(pem(RSA)), pem_key(pem(EC)), pem_key(pem(ED))]
    verifier = JwtVerifier(keys)
    for private, algorithm in ((SECRET, "HS256"), (RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")):
        assert verifier.verify(sign({"sub": "a"}, private, algorithm), NOW).name == "a"


# ---- the algorithm is the key's ----


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("secret", [None, b"", SECRET.encode()])
def test_none_is_refused(algorithm: str, secret: bytes | None) -> None:
    text = hand_made({"alg": algorithm, "typ": "JWT"}, {"sub": "root"}, secret)
    for verifier in (HS, JwtVerifier([pem_key(pem(RSA))])):
        refusal(verifier, text)


@pytest.mark.parametrize("private", [RSA, EC, ED])
def test_public_key_as_hmac_secret_is_refused(private: Any) -> None:
    public = pem(private)
    for secret in (public.encode(), public.strip().encode()):
        text = hand_made({"alg": "HS256"}, {"sub": "root"}, secret)
        refusal(JwtVerifier([pem_key(public)]), text)
        refusal(JwtVerifier([pem_key(public), hmac_key(SECRET)]), text)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "RS512", "ES384", 7, None, ["HS256"]])
def test_other_algorithms_are_refused(algorithm: Any) -> None:
    refusal(HS, hand_made({"alg": algorithm}, {"sub": "root"}, SECRET.encode()))


def test_rs512_and_ps256_with_the_right_key_are_refused() -> None:
    for algorithm in ("RS384", "RS512", "PS256"):
        refusal(JwtVerifier([pem_key(pem(RSA))]), sign({"sub": "a"}, RSA, algorithm))


def test_missing_alg_and_critical_extensions() -> None:
    refusal(HS, hand_made({}, {"sub": "root"}, SECRET.encode()))
    unencoded = {"b64": False, "crit": ["b64"]}
    critical: list[dict[str, Any]] = [{"crit": ["x"], "x": 1}, {"crit": []}, unencoded]
    for header in critical:
        refusal(HS, hand_made({"alg": "HS256"} | header, {"sub": "root"}, SECRET.encode()))


def test_keys_that_the_token_brings_are_not_looked_at() -> None:
    own = json.loads(RSAAlgorithm.to_jwk(RSA_OTHER.public_key()))
    text = sign({"sub": "root"}, RSA_OTHER, "RS256", jwk=own, jku="https://evil.example/")
    assert "signature" in refusal(JwtVerifier([pem_key(pem(RSA))]), text)


# ---- keys ----


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, b"y" * 31])
def test_short_hmac_keys_are_refused(secret: str | bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        hmac_key(secret)


def test_hmac_keys_that_are_public_keys_are_refused() -> None:
    der = RSA.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for secret in (pem(RSA), pem(ED).encode(), der, RSAAlgorithm.to_jwk(RSA.public_key())):
        with pytest.raises(ValueError, match="not an HS256 key"):
            hmac_key(secret)


def test_pem_keys_that_are_refused() -> None:
    private = ED.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    weak = pem(rsa.generate_private_key(65537, 1024))
    k256, e448 = ec.generate_private_key(ec.SECP256K1()), ed448.Ed448PrivateKey.generate()
    for text in (private, weak, pem(k256), pem(e448), "nonsense", ""):
        with pytest.raises(ValueError, match=r"key|PEM"):
            pem_key(text)


def test_key_material_is_not_shown() -> None:
    assert SECRET not in repr(hmac_key(SECRET))


def jwk(private: Any, **more: object) -> dict[str, Any]:
    if isinstance(private, str):
        return {"kty": "oct", "k": b64(private.encode())} | more
    algorithm: Any = OKPAlgorithm
    if isinstance(private, rsa.RSAPrivateKey):
        algorithm = RSAAlgorithm
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        algorithm = ECAlgorithm
    row: dict[str, Any] = json.loads(algorithm.to_jwk(private.public_key()))
    row.pop("key_ops", None)
    return row | more


def test_jwks_selects_by_kid() -> None:
    other = jwk(RSA_OTHER, kid="other", use="sig", alg="RS256")
    rows = [jwk(RSA, kid="one"), other, jwk(EC, kid="ec"), jwk(ED)]
    verifier = JwtVerifier(jwks(json.dumps({"keys": rows})))
    assert verifier.verify(sign({"sub": "a"}, RSA, "RS256", kid="one"), NOW).name == "a"
    assert verifier.verify(sign({"sub": "a"}, RSA_OTHER, "RS256", kid="other"), NOW).name == "a"
    assert verifier.verify(sign({"sub": "a"}, EC, "ES256", kid="ec"), NOW).name == "a"
    assert verifier.verify(sign({"sub": "a"}, ED, "EdDSA"), NOW).name == "a"
    # Without a kid each is tried.
    assert verifier.verify(sign({"sub": "a"}, RSA, "RS256"), NOW).name == "a"
    refusal(verifier, sign({"sub": "a"}, RSA, "RS256", kid="other"))
    refusal(verifier, sign({"sub": "a"}, RSA, "RS256", kid="gone"))
    refusal(verifier, sign({"sub": "a"}, SECRET, kid="one"))


def test_jwks_leaves_out_what_is_for_others() -> None:
    rows = [
        jwk(RSA, alg="RSA-OAEP"), jwk(RSA, use="enc"), jwk(RSA, key_ops=["encrypt"]),
        {"kty": "new"}, jwk(EC) | {"crv": "secp256k1"}, jwk(ED, kid="x"),
    ]  # fmt: skip
    assert [(k.algorithm, k.kid) for k in jwks(json.dumps({"keys": rows}))] == [("EdDSA", "x")]
    assert jwks(json.dumps(jwk(ED)))[0].algorithm == "EdDSA"


@pytest.mark.parametrize(
    "data",
    [
        {"keys": []}, {"keys": [{"kty": "new"}]}, {"keys": 1}, [], 1, {"keys": [1]},
        {"keys": [{"kty": "RSA", "n": "!", "e": "AQAB"}]},
        {"keys": [{"kty": "EC", "crv": "P-256"}]},
        {"keys": [jwk(ED, kid=1)]}, {"keys": [jwk("short")]}, {"keys": [{"kty": "oct"}]},
        {"keys": [json.loads(RSAAlgorithm.to_jwk(RSA)) | {"key_ops": ["verify"]}]},
        {"keys": [jwk(rsa.generate_private_key(65537, 1024))]},
    ],
)  # fmt: skip
def test_jwks_refuses(data: object) -> None:
    with pytest.raises(ValueError, match=r"JWK|keys\["):
        jwks(json.dumps(data))
    with pytest.raises(ValueError, match="JSON"):
        jwks("{")


# ---- claims ----


def test_times_are_those_of_the_argument() -> None:
    text = sign({"sub": "a", "exp": 1000, "nbf": 500, "iat": 400})
    assert HS.verify(text, 500).expires_at == 1000
    assert HS.verify(text, 999.9).name == "a"
    assert "expired" in refusal(HS, text, 1000)
    assert "nbf" in refusal(HS, text, 499.9)
    lenient = JwtVerifier([hmac_key(SECRET)], leeway_s=5)
    assert lenient.verify(text, 1004.9).expires_at == 1005
    assert lenient.verify(text, 495).name == "a"
    assert "expired" in refusal(lenient, text, 1005)
    assert "nbf" in refusal(lenient, text, 494.9)


def test_exp_may_be_absent_unless_required() -> None:
    assert HS.verify(sign({"sub": "a"}), NOW).expires_at is None
    strict = JwtVerifier([hmac_key(SECRET)], require_exp=True)
    assert "no exp" in refusal(strict, sign({"sub": "a"}))


@pytest.mark.parametrize("value", ["1e9", True, None, [], "NaN", 10**400])
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_times_that_are_none(name: str, value: object) -> None:
    assert name in refusal(HS, sign({name: value}))


def test_issuer_and_audience() -> None:
    key = hmac_key(SECRET)
    verifier = JwtVerifier([key], audience=["triode", "t2"], issuer="https://id.example")
    good: dict[str, Any] = {"sub": "a", "iss": "https://id.example", "aud": "triode"}
    assert verifier.verify(sign(good), NOW).key == "jwt:a"
    assert verifier.verify(sign(good | {"aud": ["x", "t2"]}), NOW).name == "a"
    for aud in ("x", [], None, [1], {"triode": 1}):
        assert "aud" in refusal(verifier, sign(good | {"aud": aud}))
    del good["aud"]
    assert "audience" in refusal(verifier, sign(good))
    for iss in ("https://evil.example", None, ["https://id.example"]):
        assert "issuer" in refusal(verifier, sign(good | {"aud": "triode", "iss": iss}))


def test_a_token_for_somebody_else_is_refused_without_audience() -> None:
    assert "audience" in refusal(HS, sign({"sub": "a", "aud": "other"}))


def test_identity() -> None:
    assert HS.verify(sign({"sub": "a", "iss": "i"}), NOW).key == "jwt:i#a"
    unnamed = HS.verify(sign({"jti": "1"}), NOW)
    assert unnamed.key.startswith("jwt:#")
    assert unnamed.key != HS.verify(sign({"jti": "2"}), NOW).key
    malformed: list[dict[str, Any]] = [{"sub": 1}, {"sub": ["a"]}, {"sub": "a", "iss": 1}]
    for bad in malformed:
        assert "strings" in refusal(HS, sign(bad))


def test_grants() -> None:
    assert HS.verify(sign({"sub": "a"}), NOW).grant == NONE
    assert HS.verify(sign({"sub": "a", "triode": {}}), NOW).grant == NONE
    assert HS.verify(sign({"sub": "a", "triode": {"read": "*"}}), NOW).grant == Grant(read=ALL)
    assert HS.verify(sign({"sub": "a", "read": [".a"], "write": []}), NOW).grant == Grant(
        read=(".a",), write=()
    )
    admin = HS.verify(sign({"sub": "a", "triode": {"admin": True}}), NOW).grant
    assert admin == Grant(admin=True)
    open_ = JwtVerifier([hmac_key(SECRET)], default_grant=FULL)
    assert open_.verify(sign({"sub": "a"}), NOW).grant == FULL
    assert open_.verify(sign({"sub": "a", "triode": {}}), NOW).grant == NONE
    malformed: list[Any] = [None, [], "admin", {"reads": []}, {"read": None}, {"admin": 1}]
    for bad in malformed:
        assert "triode" in refusal(HS, sign({"sub": "a", "triode": bad}))


def test_claims_of_ours_are_known_and_others_let_be() -> None:
    other = {"scope": "x", "roles": [], "azp": "a", "https://example.org/x": 1, "reader": 1}
    assert HS.verify(sign({"sub": "a", **other}), NOW).grant == NONE
    for name in ("Triode", "triodes", "triode.read", "triode_grant"):
        said = refusal(HS, sign({"sub": "a", name: {"read": ["*"]}}))
        assert "did you mean 'triode'" in said
    both = sign({"sub": "a", "triode": {}, "read": [".a"]})
    assert "not both" in refusal(HS, both)


def test_grant_filters_are_checked() -> None:
    def check(text: str) -> None:
        raise ValueError("column 3")

    verifier = JwtVerifier([hmac_key(SECRET)], check=check)
    assert "column 3" in refusal(verifier, sign({"triode": {"read": ["[["]}}))


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"[]", b"null", b"{", b'{"sub":"a","sub":"b"}', b'{"exp":NaN}', b'{"exp":Infinity}',
        b'{"exp":1e999}', b'{"sub":"\xff"}', b'{"sub":"\\ud800"}', '{"sub":"a"}'.encode("utf-16"),
        b"[" * 5_000, b'{"a":' + b"9" * 6_000 + b"}",
    ],
)  # fmt: skip
def test_payloads_that_are_no_claims(payload: bytes) -> None:
    refusal(HS, sign(payload))


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "\ud800.a.b", "x" * 20_000, "{}.{}.{}"],
)
def test_garbage(text: str) -> None:
    refusal(HS, text)


def test_beside_the_servers_own_tokens() -> None:
    tokens = Tokens()
    own = tokens.issue(FULL, now=NOW)
    checks = [token_check(tokens, NOW), lambda text: HS(text, NOW)]
    first, second = authenticate([own.secret], checks), authenticate([sign({"sub": "a"})], checks)
    assert first is not None
    assert second is not None
    assert (first.source, second.source) == ("token", "jwt")
    with pytest.raises(TokenRefused, match="expired"):
        authenticate([sign({"sub": "a", "exp": 1})], checks)
    with pytest.raises(TokenRefused, match="unknown"):
        authenticate(["no-jwt"], checks)
    assert not looks_like_jwt(own.secret)


def test_configuration_faults() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        JwtVerifier([])
    with pytest.raises(ValueError, match="leeway"):
        JwtVerifier([hmac_key(SECRET)], leeway_s=-1)
