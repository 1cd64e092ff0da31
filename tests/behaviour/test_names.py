"""Names that nobody knows, and parts that are empty: refused, with what was probably meant. A
misspelt `filter=` must not give the whole document, an empty `path=` must not overwrite it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from trio_websocket import ConnectionRejected

from .auth import ADMIN, GUARDED, READ, status
from .clients import Api, check_problem, open_api, open_sse, open_ws
from .conftest import ServerFactory
from .server import Server

pytestmark = pytest.mark.trio

ROOT = {"users": {"ada": 1}, "a": 1}
JSON = {"Content-Type": "application/json"}

QUERIES = [
    ("GET", "/store?pth=.a", "'path'"),
    ("GET", "/store?path=.a&fitler=.a", "'filter'"),
    ("GET", "/store?path=.a&limit=1", "known are: path, filter, at, access_token"),
    ("PUT", "/store?path=.a&creat=true", "'create'"),
    ("PUT", "/store?path=.a&Path=.a", "'path'"),
    ("POST", "/store?filter=.a", "known are: path"),
    ("PATCH", "/store?path=.a&iff=x:1", "'if'"),
    ("DELETE", "/store?path=.a&create=true", "known are: path, if"),
    ("POST", "/store/batch?path=.a", "known are: access_token"),
    ("GET", "/events?filters=.users", "'filter'"),
    ("GET", "/events?fitler=.users", "'filter'"),
    ("GET", "/events?path=.users", "'path'"),
    ("GET", "/events?filter=.a&tags.x=1", "unknown parameter 'tags.x'"),
    ("POST", "/events?filter=.a", "known are: access_token"),
    ("POST", "/publish?room=x", "known are: access_token"),
    ("GET", "/connections?ids=c_1", "'id'"),
    ("POST", "/connections/close?tags.x=1", "tag.NAME"),
    ("POST", "/tokens?ttl_s=1", "known are: access_token"),
    ("GET", "/tokens?before=1", "known are: limit, after"),
    ("GET", "/token?id=1", "known are: access_token"),
    ("GET", "/stats?client=all", "'clients'"),
    ("GET", "/metrics?x=1", "unknown parameter 'x'"),
    ("GET", "/health?x=1", "unknown parameter 'x'"),
    ("GET", "/healthz?x=1", "unknown parameter 'x'"),
    ("GET", "/openapi.json?x=1", "unknown parameter 'x'"),
    ("GET", "/client.js?version=1", "unknown parameter 'version'"),
]


@pytest.mark.parametrize(("method", "url", "said"), QUERIES, ids=lambda value: str(value)[:40])
async def test_an_unknown_parameter_is_refused(api: Api, method: str, url: str, said: str) -> None:
    await api.reset(ROOT)
    content = b"[]" if method in ("PUT", "POST", "PATCH") else None
    response = await api.request(method, url, content=content, headers=JSON)
    assert response.status_code == 400
    assert said in response.json()["detail"]
    assert response.json()["parameter"] in url
    assert await api.get(".") == ROOT


async def test_known_parameters_are_let_be(api: Api) -> None:
    await api.reset(ROOT)
    for url in ("/client.js?v=2", "/?v=2", "/docs", "/stats?clients=slow&limit=3"):
        assert (await api.request("GET", url)).status_code == 200, url


async def test_a_stranger_is_not_told_what_is_known(guarded: Server, admin: Api) -> None:
    assert await status(guarded, None, "GET", "/store?fitler=.a") == 401
    assert await status(guarded, ADMIN, "GET", f"{READ}&access_token={ADMIN}") == 200


EMPTY = [
    ("PUT", "/store?path="),
    ("POST", "/store?path="),
    ("PATCH", "/store?path="),
    ("DELETE", "/store?path="),
    ("GET", "/store?path="),
    ("GET", "/store?filter="),
    ("GET", "/store?filter=,.a"),
    ("GET", "/store?filter=.a,"),
    ("GET", "/store?filter=.a,,.users"),
    ("GET", "/store?filter=.a&filter="),
    ("GET", "/events?filter="),
    ("GET", "/events?filter=,.a"),
    ("GET", "/events?filter=.users,"),
    ("GET", "/events?filter=.a&room="),
]


@pytest.mark.parametrize(("method", "url"), EMPTY)
async def test_an_empty_part_is_refused(api: Api, method: str, url: str) -> None:
    await api.reset(ROOT)
    content = None if method == "GET" else b"1"
    response = await api.request(method, url, content=content, headers=JSON)
    assert response.status_code == 400
    assert await api.get(".") == ROOT


async def test_the_handshake_of_a_websocket_refuses_the_same(server: Server, api: Api) -> None:
    await api.reset(ROOT)
    for query in ("fitler=.a", "filter=", "filter=.a,", "path=.a"):
        with pytest.raises(ConnectionRejected) as caught:
            async with open_ws(server, f"/ws?{query}"):
                pass
        assert caught.value.status_code == 400, query


COMMANDS: list[tuple[dict[str, Any], str]] = [
    ({"type": "set", "path": ".a", "vale": 1}, "'value'"),
    ({"type": "set", "path": ".a", "value": 2, "creat": True}, "'create'"),
    ({"type": "set", "path": "", "value": 2}, "empty"),
    ({"type": "merge", "path": ".a", "patch": {}, "create": True}, "unknown member 'create'"),
    ({"type": "delete", "path": ".a", "If": "x:1"}, "'if'"),
    ({"type": "increment", "path": ".a", "value": 2}, "unknown member 'value'"),
    ({"type": "append", "path": ".users", "vlaue": 2}, "'value'"),
    ({"type": "get", "fitler": ".a"}, "'filter'"),
    ({"type": "get", "filter": ""}, "empty"),
    ({"type": "batch", "ops": [], "atomik": True}, "'atomic'"),
    ({"type": "publish", "room": "r", "dat": 1}, "'data'"),
    ({"type": "sett", "path": ".a", "value": 2}, "'set'"),
]
SESSION: list[tuple[dict[str, Any], str]] = [
    ({"type": "subscribe", "filter": ".a", "polisy": "latest"}, "'policy'"),
    ({"type": "subscribe", "filter": ""}, "empty"),
    ({"type": "unsubscribe", "filters": ".a"}, "'filter'"),
    ({"type": "join", "rooms": "r"}, "'room'"),
    ({"type": "leave", "room": "r", "all": True}, "unknown member 'all'"),
    ({"type": "tag", "tag": {}}, "'tags'"),
    ({"type": "auth", "tokn": "x"}, "'token'"),
    ({"type": "ping", "tme": 1}, "unknown member 'tme'"),
]


@pytest.mark.parametrize(("command", "said"), COMMANDS + SESSION, ids=str)
async def test_an_unknown_member_of_a_command(
    server: Server, api: Api, command: dict[str, Any], said: str
) -> None:
    await api.reset(ROOT)
    members = {name: value for name, value in command.items() if name != "type"}
    async with open_ws(server, "/ws?filter=.none&snapshot=none") as ws:
        answer = await ws.refused(command["type"], **members)
        assert answer["status"] == 400
        assert said in answer["detail"]
    assert await api.get(".") == ROOT


@pytest.mark.parametrize(("command", "said"), COMMANDS, ids=str)
async def test_a_batch_refuses_the_same(api: Api, command: dict[str, Any], said: str) -> None:
    await api.reset(ROOT)
    [answer] = (await api.request("POST", "/store/batch", json=[command])).json()
    assert answer["status"] == 400
    assert said in answer["detail"]
    inner = {"type": "batch", "atomic": True, "ops": [command]}
    [answer] = (await api.request("POST", "/store/batch", json=[inner])).json()
    assert answer["status"] == 400
    assert await api.get(".") == ROOT


BODIES: list[tuple[str, Any, str]] = [
    ("/events", {"fitler": ".a"}, "'filter'"),
    ("/events", {"filter": ".a", "tags.x": "1"}, "'tags'"),
    ("/events", {"filter": ""}, "empty"),
    ("/events", {"filter": [".a", ""]}, "empty"),
    ("/publish", {"room": "r", "evnt": "e"}, "'event'"),
    ("/connections/send", {"date": 1}, "'data'"),
    ("/connections/tags", {"tag": {}}, "'tags'"),
    ("/tokens", {"reads": [".a"]}, "'read'"),
    ("/tokens", {"grant": {"write": [], "room": ["*"]}}, "'rooms'"),
    ("/tokens", {"ttl": 5}, "'ttl_s'"),
]


@pytest.mark.parametrize(("url", "body", "said"), BODIES, ids=str)
async def test_an_unknown_member_of_a_body(api: Api, url: str, body: Any, said: str) -> None:
    response = await api.request("POST", url, json=body)
    assert response.status_code == 400
    assert said in response.json()["detail"]


async def test_anonymous_read_opens_what_it_names(make_server: ServerFactory) -> None:
    server = make_server(**GUARDED, anonymous_read=".public")
    async with open_api(server, token=ADMIN) as admin:
        await admin.reset({"secret": "s3cret", "public": 1})
    assert await status(server, None, "GET", "/store?path=.public") == 200
    assert await status(server, None, "GET", "/store?path=.secret") == 403
    async with open_api(server) as stranger:
        grant = (await stranger.request("GET", "/token")).json()["grant"]
    assert grant == {
        "read": [".public"],
        "write": [],
        "rooms": [],
        "metrics": False,
        "admin": False,
    }


# Texts and numbers

ROOMS = ["👩‍👩‍👧", "क्‍ष", "\U0001fae9 newer than this Python", "a\u00a0b", "‮"]


@pytest.mark.parametrize("name", ROOMS, ids=ascii)
async def test_rooms_and_tags_take_any_text(server: Server, name: str) -> None:
    async with open_ws(server, "/ws?filter=.none&snapshot=none") as ws:
        await ws.ok("join", room=name)
        await ws.ok("publish", room=name, event="e", data=1, echo=True)
        assert (await ws.next())["room"] == name
        assert (await ws.ok("tag", tags={"x": name}))["tags"] == {"x": name}


@pytest.mark.parametrize("char", ["\0", "\n", "\x1b", "\x7f", "\x85", "\u2028"], ids=ascii)
async def test_control_characters_are_refused(server: Server, api: Api, char: str) -> None:
    async with open_ws(server, "/ws?filter=.none&snapshot=none") as ws:
        assert (await ws.refused("join", room=f"a{char}b"))["status"] == 400
        assert (await ws.refused("publish", room=f"a{char}b", data=1))["status"] == 400
        assert (await ws.refused("tag", tags={"x": f"a{char}b"}))["status"] == 400
    params = {"filter": ".none", "room": f"a{char}b"}
    assert (await api.request("GET", "/events", params=params)).status_code == 400
    params = {"filter": ".none", "tag.x": f"a{char}b"}
    assert (await api.request("GET", "/events", params=params)).status_code == 400


LARGEST = 2**1024 - 2**970 - 1  # the last integer that does not round up beyond a double's range


async def test_an_integer_beyond_a_double_is_refused(server: Server, api: Api) -> None:
    await api.reset({"n": 0})
    for number in (LARGEST + 1, -(10**400)):
        response = await api.write("PUT", ".n", b"%d" % number, "application/json")
        assert response.status_code == 400
        assert "out of range" in response.json()["detail"]
        line = b'{"type":"increment","path":".n","by":%d}' % number
        headers = {"Content-Type": "application/x-ndjson"}
        response = await api.request("POST", "/store/batch", content=line, headers=headers)
        assert json.loads(response.content)["status"] == 400
    assert await api.put(".n", LARGEST)
    async with open_ws(server, "/ws?filter=.none&snapshot=none") as ws:
        assert (await ws.refused("increment", path=".n", by=1))["status"] == 422
    assert await api.get(".n") == LARGEST


@pytest.mark.parametrize("text", [f"$[?@.n<{10**309}]", f".a[n>-{10**309}]"], ids=lambda t: t[:8])
async def test_an_integer_beyond_a_double_in_a_filter(server: Server, api: Api, text: str) -> None:
    response = await api.request("GET", "/store", params={"filter": text})
    assert response.status_code == 400
    assert "out of range" in check_problem(response)["detail"]
    assert response.json()["column"] == text.index("1") + (1 if text[0] == "$" else 0)
    async with open_sse(server.port, "/events?filter=.none") as stream:
        assert stream.status == 200
