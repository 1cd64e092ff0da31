"""The acceptance cases of limits, run as data on the library.

The folder is `TRIODE_CASES`, else `tests/cases/data`. Cases about an HTTP server
or a client library are named below, with where they are covered; shapes that nobody here knows fail
rather than pass unseen.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cases.overruled import OVERRULED
from triode.limits.address import Networks, client_ip
from triode.limits.grant import FULL, Grant
from triode.limits.principal import (
    TokenRefused,
    anonymous,
    authenticate,
    credentials,
    token_check,
)
from triode.limits.rate import Buckets, Rate, per_replica
from triode.limits.token import Tokens

FOLDER = Path(os.environ.get("TRIODE_CASES") or Path(__file__).parents[1] / "cases" / "data")
FILES = ("ratelimit", "token", "token.security", "auth", "authorize", "whitelist")

Case = dict[str, Any]

ELSEWHERE = {
    "cplug.ratelimit.009": "an HTTP server's 429 and body: tests of app on the running server",
    "cplug.auth.011": "what a client library sends: tests of clients",
    "cplug.auth.013": "what a client library sends: tests of clients",
}


def load() -> list[Case]:
    paths = [FOLDER / f"{name}.jsonl" for name in FILES]
    lines = [line for path in paths if path.is_file() for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.strip()]


CASES = load()


@pytest.mark.skipif(not CASES, reason=f"no acceptance cases in {FOLDER}")
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_case(case: Case) -> None:
    given = case["given"]
    if case["id"] in ELSEWHERE or "http" in given or "client" in given:
        pytest.skip("covered elsewhere: " + ELSEWHERE.get(case["id"], "an HTTP server or a client"))
    _reason, expect = OVERRULED.get(case["id"], ("", case["expect"]))
    AREAS[case["area"]](given, expect)


# ---- rate limits ----


def ratelimit(given: Case, expect: Case) -> None:
    if "calls" in given:
        _calls(given, expect)
    elif "headers" in given:
        assert _limit_key(given["headers"], given["peer"]) == expect["key"]
    elif "replicas" in given:
        shares = [per_replica(given["target_rps"], n) for n in given["replicas"]]
        assert shares == expect["per_replica"]
    else:
        pytest.fail("unknown shape of case")


def _calls(given: Case, expect: Case) -> None:
    buckets = Buckets(_rate(given.get("rate")))
    allowed, now_s = [], 0.0
    for now_s, key, *changed in given["calls"]:
        if changed:
            buckets.set_rate(_rate(changed[0]))
        allowed.append(buckets.allow(key, now_s))
    if "allowed" in expect:
        assert allowed == expect["allowed"]
    if "buckets" in expect:
        for minute in range(1, int((now_s + given.get("advance_s", 0)) // 60) + 1):
            buckets.sweep(60.0 * minute)
        assert len(buckets) == expect["buckets"]


def _rate(data: Case | None) -> Rate | None:
    return None if data is None else Rate(data["rps"], data["burst"])


def _limit_key(headers: dict[str, str], peer: str) -> str:
    presented = credentials({k.lower(): v for k, v in headers.items()}.get, {})
    principal = authenticate(presented, []) or anonymous(peer, FULL)
    return principal.key


# ---- tokens. The cases' ids (`test-runtime`) are labels here: a secret alone names its token ----


def token(given: Case, expect: Case) -> None:
    if "register_n" in given:
        _concurrent(given, expect)
    elif "issue_for" in given:
        info = Tokens().issue(FULL, now=0, label=given["issue_for"]).info
        assert info.expires_at == pytest.approx(expect["ttl_s"], abs=expect["tolerance_s"])
    else:
        tokens = Tokens()
        for label, secret, options in given["register"]:
            tokens.adopt(secret, FULL, now=0, label=label, **options)
        valid = [_valid(tokens, label, secret, now) for now, label, secret in given["validate"]]
        assert valid == expect["valid"]
        assert len(tokens) == expect["stored_after"]


def _valid(tokens: Tokens, label: str, secret: str, now: float) -> bool:
    info = tokens.validate(secret, now)
    return info is not None and info.label == label


def _concurrent(given: Case, expect: Case) -> None:
    tokens = Tokens()
    issued = [tokens.issue(FULL, now=0, ttl_s=given["ttl_s"]) for _ in range(given["register_n"])]

    def check(secret: str) -> list[bool]:
        times = [given["every_s"] * step for step in range(given["validate_each"])]
        return [tokens.validate(secret, now) is not None for now in times]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(check, [one.secret for one in issued]))
    assert all(result == sorted(result, reverse=True) for result in results)
    assert expect["no_error"]
    assert len(tokens) == 0


def token_security(given: Case, expect: Case) -> None:
    if "generate" in given:
        secrets = [Tokens().issue(FULL, now=0).secret for _ in range(1000)]
        assert all(len(secret) == expect["length"] for secret in secrets)
        assert all(re.fullmatch(r"[A-Za-z0-9_-]+={0,2}", secret) for secret in secrets)
        assert len(set(secrets)) == len(secrets)
    elif "validate" in given:
        tokens = Tokens()
        if given["registered"]:
            label, secret = given["registered"]
            tokens.adopt(secret, FULL, now=0, label=label)
        label, secret = given["validate"]
        assert _valid(tokens, label, secret, 1.0) is expect["valid"]
    elif "mismatch_at" in given:
        # The useful half of the case: the primitive is the constant-time one, on digests.
        assert {"compare_digest", "_digest"} <= set(Tokens.validate.__code__.co_names)
    else:
        pytest.fail("unknown shape of case")


# ---- authentication: tokens of the kinds the case calls valid stand in for its providers ----

BEARERS = {"valid-token": "user-789"}
KEYS = {"valid-api-key": "service-account", "valid-key": "user-from-provider2"}


def auth(given: Case, expect: Case) -> None:
    providers = given.get("providers", [given.get("provider", "token")])
    tokens = Tokens()
    for secret, name in (BEARERS | KEYS).items():
        tokens.adopt(secret, FULL, now=0, label=name)
    headers = {name.lower(): value for name, value in given["headers"].items()}
    presented = credentials(headers.get, given.get("params", {}))
    try:
        principal = authenticate(presented, [token_check(tokens, 1.0)])
    except TokenRefused:
        assert expect["status"] == 401
        return
    if principal is None:
        assert expect["status"] == (200 if not providers else 401)
        return
    assert expect["status"] == 200
    assert principal.name == expect.get("identity", principal.name)


def authorize(given: Case, expect: Case) -> None:
    allowed = given["allowed"]
    grant = Grant.from_json({} if allowed is None else {"rooms": allowed, "read": allowed})
    for name in given["register"]:
        assert grant.may_room(name) is expect["ok"]
        assert grant.may_read(name, lambda granted, asked: granted == asked) is expect["ok"]


# ---- whitelist: forwarded headers are believed of nobody ----


def whitelist(given: Case, expect: Case) -> None:
    networks = Networks(given["whitelist"])
    forwarded = given.get("x_forwarded_for")
    peers = given.get("peers", [given.get("peer")])
    clients = [client_ip(peer, forwarded, Networks([])) for peer in peers]
    allowed = [networks.contains(client) for client in clients]
    expected = expect["allowed"]
    assert allowed == (expected if isinstance(expected, list) else [expected])
    assert bool(networks.bad) is ("log" in expect)


AREAS: dict[str, Callable[[Case, Case], None]] = {
    "ratelimit": ratelimit,
    "token": token,
    "token.security": token_security,
    "auth": auth,
    "authorize": authorize,
    "whitelist": whitelist,
}
