"""Grants: what a token allows (reading, writing, rooms, administration), and the same in a JWT."""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest
import trio
from trio_websocket import ConnectionRejected

from .auth import DOCUMENT, GUARDED, READ, SECRET, bearer, issue, signed, status
from .clients import (
    Api,
    check_problem,
    open_api,
    open_sse,
    open_ws,
    query,
    watch,
)
from .conftest import ServerFactory
from .server import Server

pytestmark = pytest.mark.trio


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
        batch.append({"type": "get", "filter": ".users"})
        answers = (await api.request("POST", "/store/batch", json=batch)).json()
        assert answers[0]["status"] == answers[2]["status"] == 403
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


@pytest.mark.parametrize("said", ["*", ["*"], ["."]], ids=str)
async def test_everything_has_to_be_said(guarded: Server, admin: Api, said: Any) -> None:
    rooms = "*" if said == ["."] else said  # a room may be called "."
    issued = await issue(admin, read=said, write=said, rooms=rooms)
    assert issued["grant"] == {
        "read": ["*"],
        "write": ["*"],
        "rooms": ["*"],
        "metrics": False,
        "admin": False,
    }
    everything = issued["token"]
    message = {"room": "any", "event": "e", "data": 1}
    async with open_api(guarded, token=everything) as api:
        assert (await api.request("GET", "/store?path=.")).status_code == 200
        await api.put(".prices.A", 5)
        assert (await api.request("POST", "/publish", json=message)).status_code == 200
        assert (await api.request("GET", "/tokens")).status_code == 403, "admin is never implied"


@pytest.mark.parametrize("grant", [{}, {"read": [], "write": [], "rooms": []}], ids=str)
async def test_what_is_not_granted_is_denied(
    guarded: Server, admin: Api, grant: dict[str, Any]
) -> None:
    message = {"room": "any", "event": "e", "data": 1}
    own = (await issue(admin, **grant))["token"]
    for nothing in (own, signed({}), signed({"triode": grant})):
        await check_denied(guarded, nothing, message)
    # One right says nothing about the others.
    reader = (await issue(admin, read=[".prices"]))["token"]
    assert await status(guarded, reader, "GET", READ) == 200
    assert await status(guarded, reader, "PUT", READ, json=1) == 403
    assert await status(guarded, reader, "POST", "/publish", json=message) == 403


async def check_denied(server: Server, token: str, message: dict[str, Any]) -> None:
    async with open_api(server, token=token) as api:
        assert (await api.request("GET", "/store?path=.prices")).status_code == 403
        assert (await api.write("PUT", ".prices.A", b"1", "application/json")).status_code == 403
        assert (await api.request("POST", "/publish", json=message)).status_code == 403
        assert (await api.request("GET", "/stats")).status_code == 403


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
        {"reed": [".users"]},
        {"grant": {"Read": [".users"]}},
        {"read": [""]},
        {"ttl": 3},
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


async def test_a_caller_is_told_what_it_may(guarded: Server, admin: Api) -> None:
    issued = await issue(admin, read=[".prices"], label="ticker")
    async with open_api(guarded, token=issued["token"]) as api:
        assert (await api.request("GET", "/token")).json() == {
            "name": "ticker",
            "source": "token",
            "id": issued["id"],
            "grant": {
                "read": [".prices"],
                "write": [],
                "rooms": [],
                "metrics": False,
                "admin": False,
            },
            "expires_at": issued["expires_at"],
        }
    ends_at = float(int(time.time()) + 60)
    async with open_api(guarded, token=signed({"exp": ends_at, "rooms": "*"})) as api:
        assert (await api.request("GET", "/token")).json() == {
            "name": "ann",
            "source": "jwt",
            "id": None,
            "grant": {"read": [], "write": [], "rooms": ["*"], "metrics": False, "admin": False},
            "expires_at": ends_at,
        }
    assert await status(guarded, None, "GET", "/token") == 401


async def test_a_stranger_is_not_told_unknown_from_ended(guarded: Server, admin: Api) -> None:
    short = await issue(admin, read=["*"], ttl_s=0.05)
    revoked = await issue(admin, read=["*"])
    await admin.request("DELETE", f"/tokens/{revoked['id']}")
    await trio.sleep(0.1)  # the server's own clock, in another process
    answers = []
    for token in ("never-issued-by-this-server", short["token"], revoked["token"], short["token"]):
        async with open_api(guarded, token=token) as api:
            response = await api.request("GET", READ)
        fields = {"www-authenticate": response.headers["www-authenticate"]}
        answers.append((response.status_code, response.json(), fields))
    assert answers[0][0] == 401
    assert answers == answers[:1] * 4


# JWT


async def test_the_grant_of_a_jwt_without_one_is_an_option(make_server: ServerFactory) -> None:
    server = make_server(**GUARDED, jwt_default_grant='{"read":["*"]}')
    assert await status(server, signed({}), "GET", "/store?path=.") == 200
    assert await status(server, signed({}), "PUT", READ, json=1) == 403
    assert await status(server, signed({"triode": {}}), "GET", "/store?path=.") == 403


async def test_claims_of_ours_are_known_ones(guarded: Server, admin: Api) -> None:
    several: list[dict[str, Any]] = [
        {"triode": {"reed": ["*"]}},
        {"Triode": {}},
        {"triode": {}, "read": ["*"]},
    ]
    for claims in several:
        async with open_api(guarded, token=signed(claims)) as api:
            response = await api.request("GET", READ)
        assert response.status_code == 401, claims
    assert "not both" in response.json()["detail"]
    other = {"triode": {"read": [".prices"]}, "scope": "x", "roles": [], "https://x.example/y": 1}
    assert await status(guarded, signed(other), "GET", READ) == 200


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
    async with watch(guarded, "ws", ".prices", headers=bearer(good)) as one:
        assert (await one.snapshot())[0]["value"] == {"A": 1}


async def test_wrong_jwts_are_refused(guarded: Server, admin: Api) -> None:
    now = time.time()
    good = signed({"exp": now + 60, "triode": {"read": [".prices"]}})
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
