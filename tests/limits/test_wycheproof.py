"""Wycheproof's JSON Web Signatures and Keys: tokens and key sets made to be taken wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from triode.limits.jwt import JwtVerifier
from triode.limits.jwt_key import jwks
from triode.limits.principal import TokenRefused

_SUITE = Path(__file__).parents[1] / "suites" / "wycheproof"
# Accepted there by some, not asked of anybody: characters that are no base64url, an `alg` that
# RFC 7518 does not have (ES521), a key that is for another algorithm than the token's.
STRICTER = {"json_web_signature": {372, 373, 346, 347, 350, 351}}
# In the published file the padding got lost: these are the same token as the valid 357.
UNSPOILT = {"json_web_signature": {367, 370}}


def groups(kind: str) -> list[dict[str, Any]]:
    content = json.loads((_SUITE / f"{kind}_test.json").read_text("utf-8"))
    loaded: list[dict[str, Any]] = content["testGroups"]
    assert sum(len(group["tests"]) for group in loaded) == content["numberOfTests"]
    return loaded


def accepts(group: dict[str, Any], token: str) -> bool:
    try:
        keys = jwks(json.dumps(group.get("public", group.get("private"))))
        JwtVerifier(keys)._signed_payload(token)
    except (ValueError, TokenRefused):
        return False
    return True


@pytest.mark.parametrize(
    ("kind", "number"),
    [("json_web_signature", 401), ("json_web_key", 26)],
)
def test_wycheproof(kind: str, number: int) -> None:
    tests = [(group, test) for group in groups(kind) for test in group["tests"]]
    assert len(tests) == number
    wrong = [
        (test["tcId"], test["comment"])
        for group, test in tests
        if test["tcId"] not in UNSPOILT.get(kind, ())
        and accepts(group, test["jws"])
        is not (test["result"] == "valid" and test["tcId"] not in STRICTER.get(kind, ()))
    ]
    assert not wrong
