"""`/store` and its neighbours saying no: media types, methods, routes, malformed JSON, sizes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from .clients import Api, exchange, position, upgrade
from .server import Server
from .small_document import DOCUMENT

pytestmark = pytest.mark.trio

JSON = "application/json"
MERGE = "application/merge-patch+json"
PATCH = "application/json-patch+json"


async def fetch(api: Api, **params: Any) -> httpx.Response:
    return await api.request("GET", "/store", params=params)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/jsonx", "json"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_other_content_types_are_415(api: Api, document: str, method: str, kind: str) -> None:
    response = await api.write(method, ".config", b"{}", kind)
    assert response.status_code == 415
    if method == "PATCH":
        offered = response.headers["accept-patch"]
        assert all(one in offered for one in (JSON, MERGE, PATCH))
    assert await api.get(".") == DOCUMENT


async def test_no_content_type_is_415(api: Api, document: str) -> None:
    response = await api.request("PUT", "/store", params={"path": ".a"}, content=b"1")
    assert response.status_code == 415


async def test_a_charset_of_json_is_fine(api: Api, document: str) -> None:
    position(await api.write("PUT", ".a", b"1", "application/json; charset=utf-8"))
    position(await api.write("PUT", ".a", b"1", "Application/JSON;charset=UTF-8"))


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("POST", "/store?path=."),
        ("TRACE", "/store?path=."),
        ("PUT", "/health"),
        ("DELETE", "/stats"),
        ("GET", "/publish"),
        ("GET", "/store/batch"),
        ("POST", "/metrics"),
    ],
)
async def test_other_methods_are_405_and_say_which(api: Api, method: str, url: str) -> None:
    if (method, url) == ("POST", "/store?path=."):
        method = "LOCK"
    response = await api.request(method, url)
    assert response.status_code == 405
    assert method not in response.headers["allow"]
    assert len(response.headers["allow"]) >= 3


@pytest.mark.parametrize("url", ["/none", "/store/none", "/events/none", "/%2e%2e/etc", "/STORE"])
async def test_other_routes_are_404(api: Api, url: str) -> None:
    assert (await api.request("GET", url)).status_code == 404


BAD_BODIES = [
    b"",
    b"{",
    b'{"a":1,}',
    b'{"a":1}{',
    b"nul",
    b"'a'",
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"1e400",
    b"01",
    b"+1",
    b".5",
    b'{"a":1,"a":1}',
    b'{"x":[{"b":1,"c":2,"b":3}]}',
    b'"\\ud800"',
    b'"\\x"',
    b'"\x01"',
    b'"\xff"',
    b'"\xc0\xaf"',
    b'"\xed\xa0\x80"',
    b"\xef\xbb\xbf1",
    b"\x00",
    b"[" * 257 + b"]" * 257,
    b"[" * 100_000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
]


@pytest.mark.parametrize("kind", [JSON, MERGE, PATCH])
async def test_malformed_json_is_400_and_changes_nothing(
    api: Api, document: str, kind: str
) -> None:
    for body in BAD_BODIES:
        response = await api.write("PATCH", ".config", body, kind)
        assert response.status_code == 400, body[:40]
    assert await api.get(".") == DOCUMENT


async def test_deep_is_fine_up_to_256(api: Api, document: str) -> None:
    position(await api.write("PUT", ".deep", b"[" * 254 + b"]" * 254, JSON))


async def test_depth_of_the_document_is_bounded_too(api: Api, document: str) -> None:
    """Two writes within the bound must not make a document beyond what can be read back."""
    await api.reset({"a": 0})
    body = b'{"a":' * 250 + b"0" + b"}" * 250
    position(await api.write("PUT", ".a", body, JSON))
    path = ".a" * 251
    response = await api.write("PUT", path, body, JSON)
    assert response.status_code in (200, 400, 422)
    assert (await fetch(api, path=".")).status_code == 200


# sizes


async def test_a_body_of_20_mib_is_taken(api: Api, document: str) -> None:
    body = b'"' + b"x" * (20 * 2**20 - 2) + b'"'
    position(await api.write("PUT", ".big", body, JSON))
    assert len((await fetch(api, path=".big")).content) == 20 * 2**20
    await api.reset(DOCUMENT)


async def test_a_body_over_20_mib_is_413(server: Server, api: Api, document: str) -> None:
    size = 20 * 2**20 + 1
    head = (
        "PUT /store?path=.big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: {JSON}\r\nContent-Length: {size}\r\n\r\n"
    )
    answer = await exchange(server, head.encode() + b'"' + b"x" * (size - 2) + b'"')
    assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
    assert b"application/problem+json" in answer
    problem = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert problem["status"] == 413
    assert problem["limit"] == 20 * 2**20
    assert await api.get(".") == DOCUMENT


async def test_a_body_of_unknown_length_over_20_mib_is_413(
    server: Server, api: Api, document: str
) -> None:
    head = (
        "PUT /store?path=.big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"100000\r\n" + b"1" * 2**20 + b"\r\n"
    answer = await exchange(server, head.encode() + chunk * 21 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
    assert await api.get(".") == DOCUMENT


async def test_a_refusal_says_that_it_is_triodes(server: Server, api: Api) -> None:
    """By which a client knows it from a proxy's, after which it comes back."""
    for target in ("/nothing-here", "/store?filter=][", "/events?filter=]["):
        response = await api.request("GET", target)
        assert response.status_code in (400, 404)
        assert response.headers["triode"] == "refused"
    answer = await exchange(server, upgrade("/ws?filter=]["))
    assert b"\r\ntriode: refused\r\n" in answer.lower()
