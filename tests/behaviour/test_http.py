"""HTTP semantics (RFC 9110): methods, conditions, codings; the same on both lanes."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from .clients import Api, exchange, open_sse
from .server import Server

pytestmark = pytest.mark.trio
JSON = {"Content-Type": "application/json"}


# ── methods ─────────────────────────────────────────────────────────────────────────────────────


async def test_what_the_path_of_websockets_says(api: Api) -> None:
    answer = await api.request("OPTIONS", "/ws")
    assert answer.status_code == 204
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await api.request(method, "/ws")
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    answer = await api.request("GET", "/ws")
    assert answer.status_code == 426
    assert answer.headers["upgrade"] == "websocket"


async def test_a_preflight_for_the_path_of_websockets(api: Api) -> None:
    page = "http://localhost:5173"
    headers = {"Origin": page, "Access-Control-Request-Method": "GET"}
    answer = await api.request("OPTIONS", "/ws", headers=headers)
    assert answer.headers["access-control-allow-origin"] == page


# ── conditions ──────────────────────────────────────────────────────────────────────────────────


async def get(api: Api, path: str, **fields: str) -> Any:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return await api.request("GET", "/store", params={"path": path}, headers=headers)


async def put(api: Api, path: str, content: bytes, **fields: str) -> int:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    answer = await api.write("PUT", path, content, "application/json", headers=headers)
    return answer.status_code


async def test_a_read_can_insist_on_what_was_seen(api: Api) -> None:
    old = await api.reset({"a": 1, "b": 1})
    new = await api.put(".a", 2)
    assert (await get(api, ".a", If_Match=f'"{new}"')).status_code == 200
    assert (await get(api, ".a", If_Match=f'"{old}", "{new}"')).status_code == 200
    assert (await get(api, ".b", If_Match=f'"{old}"')).status_code == 200
    assert (await get(api, ".a", If_Match="*")).status_code == 200
    for tags in (f'"{old}"', '"zzzzzz:1"', "nonsense", f'W/"{new}"'):
        assert (await get(api, ".a", If_Match=tags)).status_code == 412, tags
    assert (await get(api, ".none", If_Match="*")).status_code == 404
    # If-Match is looked at first (RFC 9110 section 13.2.2).
    both = await get(api, ".a", If_Match=f'"{old}"', If_None_Match=f'"{new}"')
    assert both.status_code == 412
    answer = await api.request(
        "GET", "/store", params={"filter": ".b"}, headers={"If-Match": f'"{old}"'}
    )
    assert answer.status_code == 200


async def test_a_write_can_insist_on_a_change(api: Api) -> None:
    old = await api.reset({"a": 1, "b": 1})
    new = await api.put(".a", 2)
    assert await put(api, ".a", b"3", If_None_Match=f'"{new}"') == 412
    assert await put(api, ".a", b"3", If_None_Match=f'W/"{new}"') == 412
    assert await put(api, ".b", b"3", If_None_Match=f'"{old}"') == 412
    assert await api.get(".") == {"a": 2, "b": 1}
    assert await put(api, ".a", b"3", If_None_Match=f'"{old}"') == 200
    assert await put(api, ".c", b"3", If_None_Match=f'"{new}"') == 200
    assert await put(api, ".a", b"4", If_None_Match='"zzzzzz:1"') == 200


async def test_tags_that_a_proxy_has_changed(api: Api) -> None:
    at = await api.reset({"a": 1})
    for tag in (f'W/"{at}"', f'"{at}-gzip"', f'"{at};br"', f'W/"{at}-gzip"'):
        answer = await get(api, ".a", If_None_Match=tag)
        assert answer.status_code == 304, tag
        assert answer.headers["etag"] == tag.removeprefix("W/")
    assert await put(api, ".a", b"2", If_Match=f'"{at}-gzip"') == 200
    answer = await api.write(
        "PUT", ".a", b"3", "application/json", headers={"If-Match": f'W/"{at}"'}
    )
    assert answer.status_code == 412
    assert "weak" in answer.json()["detail"]


# ── codings and content ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("coding", ["gzip", "br", "GZIP", "identity, gzip"])
async def test_compressed_bodies_are_refused_with_what_is_accepted(api: Api, coding: str) -> None:
    await api.reset({})
    body = gzip.compress(b"1")
    for method, url in (("PUT", "/store?path=.z"), ("POST", "/store/batch"), ("POST", "/events")):
        headers = JSON | {"Content-Encoding": coding}
        answer = await api.request(method, url, content=body, headers=headers)
        assert answer.status_code == 415, url
        assert answer.headers["accept-encoding"] == "identity"
    assert await api.get(".") == {}


async def test_a_body_that_is_not_coded_may_say_so(api: Api) -> None:
    await api.reset({"z": 0})
    assert await put(api, ".z", b"1", Content_Encoding="identity") == 200


async def test_nothing_may_have_a_type(api: Api) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await api.request("POST", "/connections/close?id=zz", content=b"", headers=headers)
    assert answer.status_code == 200


# ── streams ─────────────────────────────────────────────────────────────────────────────────────


async def test_the_last_id_in_the_query(server: Server, api: Api) -> None:
    at = await api.reset({"a": 1})
    await api.put(".a", 2)
    url = f"/events?filter=.a&lastEventId={at}"
    async with open_sse(server.port, url) as stream:
        connected = await stream.next()
        assert connected.event == "connected"
        assert json.loads(connected.data)["resumed"] is True


async def test_a_body_of_many_small_chunks(server: Server, api: Api) -> None:
    text = json.dumps("x" * 3000).encode()
    head = "PUT /store?path=.a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % one for one in text)
    request = f"{head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
    answer = await exchange(server, request + chunks + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert await api.get(".a") == "x" * 3000
