"""Tokens and grants on a server with authentication: how they are presented, what they allow, how they end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
import trio
from trio_websocket import ConnectionRejected

from .clients import Api, check_problem, open_api, open_raw_ws, open_socket, open_ws, query, upgrade
from .clients import watch as subscribe
from .conftest import ServerFactory
from .server import Server
from .sse import open_sse

pytestmark = pytest.mark.trio

ADMIN = "admin-token-of-the-behaviour-tests-0123456789"
SECRET = "a-shared-secret-of-the-behaviour-tests-0123456789"
DOCUMENT: dict[str, Any] = {
    "users": [{"name": "Ann", "mail": "a@x"}, {"name": "Bob", "mail": "b@x"}],
    "prices": {"A": 1},
    "fence": "",
}


@pytest.fixture(scope="session")
def guarded(make_server: ServerFactory) -> Server:
    """A server that asks for tokens: an admin's, its own, and JWTs of HS256."""
    return make_server(admin_token=ADMIN, jwt_key=f"hs256:{SECRET}")


@pytest.fixture
async def admin(guarded: Server) -> AsyncIterator[Api]:
    async with open_api(guarded, token=ADMIN) as api:
        await api.reset(DOCUMENT)
        yield api


async def issue(api: Api, /, **request: Any) -> dict[str, Any]:
    """A new token: its `id` and, this once, its secret as `token`."""
    response = await api.request("POST", "/tokens", json=request)
    assert response.status_code in (200, 201), response.text
    issued: dict[str, Any] = response.json()
    return issued


def bearer(token: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {token}")]


async def status(server: Server, token: str | None, method: str, url: str, **options: Any) -> int:
    async with open_api(server, token=token) as api:
        return (await api.request(method, url, **options)).status_code


READ = "/store?path=.prices"


# presenting


async def test_without_a_token_nothing_is_open_but_the_probes(guarded: Server, admin: Api) -> None:
    async with open_api(guarded) as api:
        for method, url in [
            ("GET", READ),
            ("PUT", READ),
            ("PATCH", READ),
            ("DELETE", READ),
            ("POST", "/store"),
            ("POST", "/store/batch"),
            ("POST", "/publish"),
            ("GET", "/tokens"),
            ("POST", "/tokens"),
            ("GET", "/events"),
            ("GET", "/stats"),
            ("GET", "/metrics"),
        ]:
            response = await api.request(method, url)
            assert response.status_code == 401, (method, url)
            challenge = response.headers["www-authenticate"]
            assert challenge.startswith("Bearer")
            assert "error=" not in challenge, "RFC 6750 3: no error when no token was shown"
        for url in ("/healthz", "/readyz"):
            assert (await api.request("GET", url)).status_code == 200
    assert await admin.get(".") == DOCUMENT


@pytest.mark.parametrize("way", ["bearer", "api key", "query"])
async def test_three_ways_to_present_a_token(guarded: Server, admin: Api, way: str) -> None:
    token = (await issue(admin, read=[".prices"]))["token"]
    headers = {"bearer": bearer(token), "api key": [("X-API-Key", token)], "query": []}[way]
    extra = {"access_token": token} if way == "query" else {}
    target = query([".prices"], **extra)
    async with open_sse(guarded.port, "/events" + target, headers=headers) as stream:
        assert stream.status == 200
        assert (await stream.next()).event == "connected"
    async with open_ws(guarded, "/ws" + target, headers=headers) as ws:
        assert (await ws.next())["type"] == "snapshot"
    if way != "query":
        async with open_api(guarded) as api:
            assert (await api.request("GET", READ, headers=headers)).status_code == 200


@pytest.mark.parametrize("name", ["bearer", "Bearer", "BEARER"])
async def test_the_scheme_has_no_case(guarded: Server, admin: Api, name: str) -> None:
    async with open_api(guarded) as api:
        headers = {"Authorization": f"{name} {ADMIN}"}
        assert (await api.request("GET", READ, headers=headers)).status_code == 200


async def test_a_wrong_token_is_401_with_the_error(guarded: Server, admin: Api) -> None:
    good = (await issue(admin))["token"]
    wrong = [good[:-1], good + "A", good.swapcase(), "nonsense", "a.b.c", "x" * 5000, "\xff", "é"]
    for token in wrong:
        answer = await raw_get(guarded, READ, f"Authorization: Bearer {token}".encode("latin-1"))
        assert answer.startswith(b"HTTP/1.1 401"), (token, answer[:200])
        assert b'error="invalid_token"' in answer, (token, answer[:400])
        assert b"application/problem+json" in answer
    async with open_sse(guarded.port, "/events?access_token=nonsense") as stream:
        assert stream.status == 401
        stream.problem(await stream.content())
    with pytest.raises(ConnectionRejected) as caught:
        async with open_ws(guarded, "/ws", headers=bearer("nonsense")):
            pass
    assert caught.value.status_code == 401


async def raw_get(server: Server, target: str, header: bytes) -> bytes:
    head = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
    async with open_socket(server) as stream:
        await stream.send_all(head + header + b"\r\n\r\n")
        answer = b""
        with trio.fail_after(10):
            while data := await stream.receive_some(65536):
                answer += data
    return answer


async def test_an_empty_token_is_no_token(guarded: Server, admin: Api) -> None:
    for header in (b"Authorization: Bearer ", b"Authorization: Bearer", b"X-API-Key: "):
        assert (await raw_get(guarded, READ, header)).startswith(b"HTTP/1.1 401")
    assert (await raw_get(guarded, READ + "&access_token=", b"A: b")).startswith(b"HTTP/1.1 401")


@pytest.mark.parametrize(
    "name", ["X-User", "X-Forwarded-User", "Remote-User", "X-Plugin-Runtime-Id", "X-Identity"]
)
async def test_a_header_that_names_an_identity_does_nothing(
    guarded: Server, admin: Api, name: str
) -> None:
    async with open_api(guarded) as api:
        response = await api.request("GET", READ, headers={name: "admin"})
        assert response.status_code == 401
    # And beside a valid token it gives no more than the token.
    token = (await issue(admin, read=[".prices"], write=[]))["token"]
    async with open_api(guarded, token=token) as api:
        for url in ("/stats", "/store?path=.users"):
            response = await api.request("GET", url, headers={name: "admin"})
            assert response.status_code == 403


# issuing, listing, ending


async def test_the_secret_is_shown_once(guarded: Server, admin: Api) -> None:
    issued = await issue(admin, read=["."], label="once")
    assert len(issued["token"]) >= 43, "256 bits"
    listing = (await admin.request("GET", "/tokens")).text
    assert issued["id"] in listing
    assert issued["token"] not in listing
    assert ADMIN not in listing


async def test_a_token_holds_a_day_by_default(guarded: Server, admin: Api) -> None:
    issued = await issue(admin)
    assert abs(issued["expires_at"] - time.time() - 86_400) < 30


async def test_a_revoked_token_is_refused_at_once(guarded: Server, admin: Api) -> None:
    issued = await issue(admin, read=[".prices"])
    async with open_api(guarded, token=issued["token"]) as api:
        assert (await api.request("GET", READ)).status_code == 200
        gone = await admin.request("DELETE", f"/tokens/{issued['id']}")
        assert gone.status_code in (200, 204)
        response = await api.request("GET", READ)
        assert response.status_code == 401
        assert 'error="invalid_token"' in response.headers["www-authenticate"]
    again = await admin.request("DELETE", f"/tokens/{issued['id']}")
    assert again.status_code == 404


async def test_an_expired_token_is_refused_at_once(guarded: Server, admin: Api) -> None:
    issued = await issue(admin, read=[".prices"], ttl_s=0.5)
    until = time.monotonic() + 0.5
    async with open_api(guarded, token=issued["token"]) as api:
        assert (await api.request("GET", READ)).status_code == 200
        while (code := (await api.request("GET", READ)).status_code) == 200:
            assert time.monotonic() < until + 0.3
            await trio.sleep(0.02)
    assert code == 401


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_token_that_ends_closes_its_connections(
    guarded: Server, admin: Api, end: str
) -> None:
    """Never a silent fall to anonymous: `expiring` before, then `closing` and 4401."""
    ttl = {"ttl_s": 1.0} if end == "expired" else {}
    issued = await issue(admin, read=[".prices"], **ttl)
    target = query([".prices"], snapshot="none")
    headers = bearer(issued["token"])
    async with (
        open_sse(guarded.port, "/events" + target, headers=headers) as sse,
        open_ws(guarded, "/ws" + target, headers=headers) as ws,
    ):
        assert (await sse.next()).event == "connected"
        if end == "revoked":
            await admin.request("DELETE", f"/tokens/{issued['id']}")
        events = []
        with contextlib.suppress(EOFError):
            while True:
                events.append(await sse.next(5))
        assert [one.event for one in events][-1:] == ["closing"]
        closing = events[-1].frame()
        assert closing["reason"]
        assert closing["retry_ms"] >= 0
        assert (await ws.closed())[0] == 4401
        if end == "expired":
            assert events[0].event == "expiring"
            assert 0 <= events[0].frame()["in_s"] <= 1
    assert await admin.get(".prices") == {"A": 1}


async def test_expiring_then_auth_renews_a_websocket(guarded: Server, admin: Api) -> None:
    short = await issue(admin, read=[".prices"], ttl_s=1.0)
    long = await issue(admin, read=[".prices"])
    target = "/ws" + query([".prices"], snapshot="none")
    async with open_ws(guarded, target, headers=bearer(short["token"])) as ws:
        assert (await ws.next())["type"] == "expiring"
        await ws.ok("auth", token=long["token"])
        await trio.sleep(max(0.0, short["expires_at"] - time.time()) + 0.2)
        await admin.put(".prices.A", 2)
        frame = await ws.next()
        assert (frame["type"], frame["value"]) == ("update", 2)


async def test_renewing_the_token_of_a_living_stream(guarded: Server, admin: Api) -> None:
    short = await issue(admin, read=[".prices"], ttl_s=1.0)
    long = await issue(admin, read=[".prices"])
    target = "/events" + query([".prices"], snapshot="none", access_token=short["token"])
    async with open_sse(guarded.port, target) as stream:
        client = (await stream.next()).frame()["client"]
        assert (await stream.next()).event == "expiring"
        url = f"/streams/{client}/token"
        async with open_api(guarded) as api:
            bad = await api.request("POST", url, json={"token": "nonsense"})
            assert bad.status_code == 401
            unknown = "/streams/c_nobody/token"
            gone = await api.request("POST", unknown, json={"token": long["token"]})
            assert gone.status_code == 404
            good = await api.request("POST", url, json={"token": long["token"]})
            assert good.status_code in (200, 204)
        await trio.sleep(max(0.0, short["expires_at"] - time.time()) + 0.2)
        await admin.put(".prices.A", 3)
        assert (await stream.next()).frame()["value"] == 3


async def test_auth_raises_rights_on_the_living_connection(guarded: Server, admin: Api) -> None:
    small = await issue(admin, read=[".prices"], write=[])
    target = "/ws" + query([".prices"], snapshot="none")
    async with open_ws(guarded, target, headers=bearer(small["token"])) as ws:
        assert (await ws.refused("set", path=".users[0].name", value="x"))["status"] == 403
        assert (await ws.refused("auth", token="nonsense"))["status"] == 401
        assert (await ws.refused("set", path=".users[0].name", value="x"))["status"] == 403
        await ws.ok("auth", token=ADMIN)
        await ws.ok("set", path=".users[0].name", value="x")
    assert await admin.get(".users[0].name") == "x"


# grants


async def test_scopes_of_reading(guarded: Server, admin: Api) -> None:
    token = (await issue(admin, read=[".users[*].name", ".prices"]))["token"]
    async with open_api(guarded, token=token) as api:
        for asked, code in [
            (".users[*].name", 200),
            (".users[0].name", 200),
            (".prices.A", 200),
            (".prices.*", 200),
            ("$.prices.A", 200),
            (".users", 403),
            (".users[*]", 403),
            (".users[0].mail", 403),
            (".users[*].mail", 403),
            (".", 403),
            ("$", 403),
            ("$..name", 403),
            ("..A", 403),
            ("/users/0/mail", 403),
        ]:
            response = await api.request("GET", "/store", params={"filter": asked})
            assert response.status_code == code, asked
            if code == 403:
                assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
    async with open_sse(guarded.port, "/events?filter=.users", headers=bearer(token)) as stream:
        assert stream.status == 403
        stream.problem(await stream.content())
    async with open_sse(guarded.port, "/events", headers=bearer(token)) as stream:
        assert stream.status == 403, "no filter is the whole document"
    with pytest.raises(ConnectionRejected) as caught:
        async with open_ws(guarded, "/ws?filter=.users", headers=bearer(token)):
            pass
    assert caught.value.status_code == 403
    async with open_ws(guarded, "/ws?filter=.prices", headers=bearer(token)) as ws:
        assert (await ws.refused("subscribe", filter=".users"))["status"] == 403
        assert (await ws.refused("get", filter=".users"))["status"] == 403
        await ws.ok("get", filter=".users[1].name")


async def test_scopes_of_writing(guarded: Server, admin: Api) -> None:
    token = (await issue(admin, read=[], write=[".prices", ".users[*].name"]))["token"]
    async with open_api(guarded, token=token) as api:
        for method, path, body, kind, code in [
            ("PUT", ".prices.A", b"2", "json", 200),
            ("PUT", ".prices", b"{}", "json", 200),
            ("PUT", ".users[0].name", b'"X"', "json", 200),
            ("PUT", ".users[0].mail", b'"X"', "json", 403),
            ("PUT", ".users[0]", b"{}", "json", 403),
            ("PUT", ".", b"{}", "json", 403),
            ("PATCH", ".", b'{"users":null}', "merge-patch+json", 403),
            ("PATCH", ".", b'[{"op":"remove","path":"/users"}]', "json-patch+json", 403),
            ("PATCH", ".prices", b'[{"op":"add","path":"/B","value":1}]', "json-patch+json", 200),
        ]:
            response = await api.write(method, path, body, f"application/{kind}")
            assert response.status_code == code, (method, path)
        assert (await api.request("POST", "/store", json={})).status_code == 403
        gone = await api.request("DELETE", "/store", params={"path": ".users"})
        assert gone.status_code == 403
        batch = [
            {"type": "set", "path": ".users", "value": 1},
            {"type": "batch", "atomic": True, "ops": [{"type": "delete", "path": ".users"}]},
        ]
        await api.request("POST", "/store/batch", json=batch)
        assert (await api.request("GET", READ)).status_code == 403, "it may not read"
    assert await admin.get(".") == {
        **DOCUMENT,
        "users": [{"name": "X", "mail": "a@x"}, DOCUMENT["users"][1]],
        "prices": {"B": 1},
    }


async def test_an_answer_to_a_write_leaks_nothing(guarded: Server, admin: Api) -> None:
    """A JSON Patch could read by `copy` or `test`, a subscription by its error."""
    await admin.put(".prices.hidden", "s3cret")
    token = (await issue(admin, read=[".users"], write=[".users"]))["token"]
    async with open_api(guarded, token=token) as api:
        for path in ("/../prices/hidden", "/prices/hidden"):
            body = json.dumps([{"op": "copy", "from": path, "path": "/x"}]).encode()
            response = await api.write("PATCH", ".users", body, "application/json-patch+json")
            assert response.status_code >= 400
            assert "s3cret" not in response.text


async def test_absent_scopes_allow_all_and_empty_ones_nothing(guarded: Server, admin: Api) -> None:
    everything = (await issue(admin))["token"]
    nothing = (await issue(admin, read=[], write=[], rooms=[]))["token"]
    async with open_api(guarded, token=everything) as api:
        assert (await api.request("GET", "/store?path=.")).status_code == 200
        await api.put(".prices.A", 5)
        message = {"room": "any", "event": "e", "data": 1}
        assert (await api.request("POST", "/publish", json=message)).status_code == 200
        assert (await api.request("GET", "/tokens")).status_code == 403, "admin is never implied"
    async with open_api(guarded, token=nothing) as api:
        assert (await api.request("GET", "/store?path=.prices")).status_code == 403
        assert (await api.write("PUT", ".prices.A", b"1", "application/json")).status_code == 403
        assert (await api.request("POST", "/publish", json=message)).status_code == 403


async def test_scopes_of_rooms(guarded: Server, admin: Api) -> None:
    token = (await issue(admin, read=[".prices"], rooms=["chat-*", "lobby"]))["token"]
    headers = bearer(token)
    target = "/ws" + query([".prices"], snapshot="none")
    async with open_ws(guarded, target, headers=headers) as ws:
        await ws.ok("join", room=["chat-1", "lobby"])
        await ws.ok("publish", room="chat-2", event="e", data=1)
        assert (await ws.refused("join", room="staff"))["status"] == 403
        assert (await ws.refused("join", room=["chat-3", "staff"]))["status"] == 403
        assert (await ws.refused("publish", room="staff", event="e", data=1))["status"] == 403
        # Nothing half done: the refused list joined nobody to its first room.
        message = {"room": "chat-3", "event": "e", "data": 1}
        assert (await admin.request("POST", "/publish", json=message)).json() == {"reached": 0}
    async with open_sse(guarded.port, "/events?filter=.prices&room=staff", headers=headers) as no:
        assert no.status == 403
    async with open_sse(guarded.port, "/events?filter=.prices&room=chat-9", headers=headers) as yes:
        assert yes.status == 200


async def test_the_admin_grant(guarded: Server, admin: Api) -> None:
    plain = (await issue(admin, admin=False))["token"]
    boss = (await issue(admin, admin=True))["token"]
    for token, code in ((plain, 403), (boss, 200)):
        for url in ("/tokens", "/stats", "/metrics"):
            assert await status(guarded, token, "GET", url) == code, url
    assert await status(guarded, plain, "POST", "/tokens", json={}) == 403


@pytest.mark.parametrize(
    "request_body",
    [
        {"read": ".users"},
        {"read": [".users["]},
        {"read": [7]},
        {"rooms": "x"},
        {"admin": "yes"},
        {"ttl_s": -1},
        {"ttl_s": "long"},
        [],
    ],
    ids=str,
)
async def test_a_wrong_grant_is_refused(guarded: Server, admin: Api, request_body: Any) -> None:
    response = await admin.request("POST", "/tokens", json=request_body)
    assert response.status_code in (400, 422)
    check_problem(response)


# JWT


def signed(claims: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode({"sub": "ann", **claims}, secret, algorithm=algorithm)


async def test_a_jwt_is_a_token(guarded: Server, admin: Api) -> None:
    now = time.time()
    grant = {"read": [".prices"], "write": []}
    good = signed({"exp": now + 60, "nbf": now - 60, "triode": grant})
    assert await status(guarded, good, "GET", READ) == 200
    assert await status(guarded, good, "GET", "/store?path=.users") == 403
    assert await status(guarded, good, "PUT", READ, json=1) == 403
    target = query([".prices"], access_token=good)
    async with open_sse(guarded.port, "/events" + target) as stream:
        assert stream.status == 200
    async with subscribe(guarded, "ws", ".prices", headers=bearer(good)) as one:
        assert (await one.snapshot())[0]["value"] == {"A": 1}


async def test_wrong_jwts_are_refused(guarded: Server, admin: Api) -> None:
    now = time.time()
    good = signed({"exp": now + 60})
    head, body, signature = good.split(".")
    none_head = jwt.encode({"sub": "ann"}, "", algorithm="none").split(".")[0]
    wrong = {
        "another secret": signed({"exp": now + 60}, secret=SECRET[::-1]),
        "expired": signed({"exp": now - 3600}),
        "not yet": signed({"nbf": now + 3600}),
        "another algorithm": signed({"exp": now + 60}, secret=SECRET * 2, algorithm="HS512"),
        "alg none": f"{none_head}.{body}.",
        "no signature": f"{head}.{body}.",
        "another body": f"{head}.{signed({'exp': now + 99}).split('.')[1]}.{signature}",
        "for somebody": signed({"exp": now + 60, "aud": "other-service"}),
        "bad grant": signed({"exp": now + 60, "triode": {"read": ".prices"}}),
    }
    assert await status(guarded, good, "GET", READ) == 200
    for name, token in wrong.items():
        async with open_api(guarded, token=token) as api:
            response = await api.request("GET", READ)
        assert response.status_code == 401, name
        assert 'error="invalid_token"' in response.headers["www-authenticate"], name


async def test_a_jwt_that_ends_closes_its_connection(guarded: Server, admin: Api) -> None:
    token = signed({"exp": time.time() + 1.2, "triode": {"read": [".prices"]}})
    target = "/ws" + query([".prices"], snapshot="none")
    async with open_ws(guarded, target, headers=bearer(token)) as ws:
        assert (await ws.closed())[0] == 4401


# order of things


async def test_nothing_is_read_before_the_token_is_checked(guarded: Server, admin: Api) -> None:
    """Commands sent right behind a handshake with a wrong token are never carried out."""
    from .clients import RawWs

    command = b'{"type":"set","path":".prices.A","value":"hacked"}'
    async with open_socket(guarded) as stream:
        head = upgrade("/ws", "Authorization: Bearer nonsense")
        await stream.send_all(head + RawWs.frame(0x1, command))
        answer = b""
        with trio.fail_after(10), contextlib.suppress(trio.BrokenResourceError):
            while b"\r\n\r\n" not in answer and (data := await stream.receive_some(65536)):
                answer += data
    assert answer.startswith(b"HTTP/1.1 401"), answer[:200]
    assert await admin.get(".prices.A") == 1


async def test_no_secret_is_in_the_log(guarded: Server, admin: Api) -> None:
    issued = await issue(admin, read=[".prices"])
    target = query([".prices"], access_token=issued["token"])
    async with open_sse(guarded.port, "/events" + target) as stream:
        assert stream.status == 200
    async with open_raw_ws(guarded, "/ws" + target):
        pass
    async with open_api(guarded) as api:
        await api.request("GET", READ + "&access_token=" + issued["token"][:-1])
    log = guarded.log()
    for secret in (ADMIN, SECRET, issued["token"], issued["token"][:-1]):
        assert secret not in log
