from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from triode.limits.grant import FULL, NONE
from triode.limits.principal import (
    BEARER_PROTOCOL,
    MAX_CREDENTIALS,
    Principal,
    TokenRefused,
    anonymous,
    authenticate,
    credentials,
    from_token,
    token_check,
)
from triode.limits.token import Tokens


def present(headers: dict[str, str], **params: list[str]) -> list[str]:
    return credentials(headers.get, params)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Bearer abc", ["abc"]),
        ("bearer abc", ["abc"]),
        ("BEARER abc", ["abc"]),
        ("  Bearer \t  abc  ", ["abc"]),
        ("Bearer\tabc", ["abc"]),
        ("Bearer a b", ["a b"]),
        ("Bearer abc=", ["abc="]),
        ("Bearer", [""]),
        ("Bearer   ", [""]),
        ("Bearerabc", []),
        ("Basic dXNlcjpwYXNz", []),
        ("abc", []),
        ("", []),
    ],
)
def test_bearer(value: str, expected: list[str]) -> None:
    assert present({"authorization": value}) == expected


def test_order_and_no_doubles() -> None:
    headers = {"authorization": "Bearer a", "x-api-key": " b "}
    assert present(headers, access_token=["c", "a", ""]) == ["a", "b", "c", ""]
    assert present({}, other=["x"]) == []
    assert present({"x-api-key": ""}) == [""]


def packed(text: str | bytes) -> str:
    raw = text if isinstance(text, bytes) else text.encode()
    return BEARER_PROTOCOL + urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ("", []),
        ("triode, mqtt", []),
        (f"triode, {packed('abc=')}", ["abc="]),
        (f"{packed('é')},triode", ["é"]),
        (f"{packed('a')}, {packed('b')}", ["a", "b"]),
        (BEARER_PROTOCOL, [""]),
        (packed("abc=") + "=", [""]),
        (packed(b"\xff"), [""]),
        (BEARER_PROTOCOL + "!", [""]),
        (packed("abc").upper(), []),
    ],
)
def test_subprotocols(offered: str, expected: list[str]) -> None:
    assert credentials({"sec-websocket-protocol": offered}.get, {}) == expected


def test_bounded() -> None:
    assert len(present({}, access_token=[str(n) for n in range(50)])) == MAX_CREDENTIALS


def test_unicode_in_headers() -> None:
    as_latin_1 = "schlüssel-🔑".encode().decode("latin-1")
    assert present({"authorization": f"Bearer {as_latin_1}"}) == ["schlüssel-🔑"]
    assert present({"x-api-key": "schlüssel-🔑"}) == ["schlüssel-🔑"]
    assert present({"x-api-key": "schl\xfcssel"}) == ["schlüssel"]


def test_fallback_from_an_invalid_bearer_to_a_valid_key() -> None:
    tokens = Tokens()
    info = tokens.adopt("valid-key", FULL, now=0, label="service")
    presented = present({"authorization": "Bearer nope", "x-api-key": "valid-key"})
    assert authenticate(presented, [token_check(tokens, 1.0)]) == from_token(info)


def test_nothing_presented_is_nobody_but_an_invalid_one_is_refused() -> None:
    check = token_check(Tokens(), 0)
    assert authenticate([], [check]) is None
    for text in ("", "nope"):
        with pytest.raises(TokenRefused) as caught:
            authenticate([text], [check])
        assert caught.value.error == "invalid_token"
        assert "nope" not in caught.value.detail


def test_the_first_refusal_is_told() -> None:
    def expired(text: str) -> Principal | None:
        raise TokenRefused(f"expired-{len(text)}")

    with pytest.raises(TokenRefused, match="expired-1"):
        authenticate(["a", "bb"], [token_check(Tokens(), 0), expired])


def test_principals() -> None:
    tokens = Tokens()
    issued = tokens.issue(NONE, now=0, ttl_s=60)
    principal = from_token(issued.info)
    assert principal.key == f"token:{issued.info.id}"
    assert (principal.name, principal.token_id) == (issued.info.id, issued.info.id)
    assert (principal.source, principal.expires_at) == ("token", 60)
    nobody = anonymous("9.9.9.9:1234", NONE)
    assert (nobody.key, nobody.source, nobody.expires_at) == ("ip:9.9.9.9", "anonymous", None)
