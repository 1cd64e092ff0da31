"""Whom the server believes: forwarded addresses, the names it is served under, pages of others."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from trio_websocket import ConnectionRejected

from .api import eventually
from .auth import ADMIN, GUARDED, signed
from .clients import Api, open_api, open_sse, open_ws, upgrade
from .conftest import ServerFactory
from .server import Server, free_port
from .websocket import answer_head

pytestmark = pytest.mark.trio

NEIGHBOUR, STRANGER = "10.9.9.9", "198.51.100.1"
DEV_PAGE = "http://localhost:5173"


def request(method: str, target: str, *fields: str, body: str = "") -> bytes:
    """One request that asks for the end of the connection."""
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {target} HTTP/1.1", "Connection: close", *fields, *length, "", body]
    return "\r\n".join(lines).encode()


async def status(server: Server, data: bytes) -> int:
    """The status of the first answer."""
    answer = await answer_head(server, data)
    return int(answer.split(b" ", 2)[1])


# ── X-Forwarded-For ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="session")
def behind(make_server: ServerFactory) -> Server:
    """A server behind a proxy on this machine, with a back end at an address of its own."""
    return make_server(
        admin_token=ADMIN,
        trusted_proxies="127.0.0.1",
        control_from=NEIGHBOUR,
        http_rate="2/2",
    )


@pytest.mark.parametrize(
    "lines",
    [
        [f"{NEIGHBOUR}, {STRANGER}"],
        [NEIGHBOUR, STRANGER],
        [NEIGHBOUR, "", STRANGER],
        [NEIGHBOUR, f"{NEIGHBOUR},", f" {STRANGER} "],
        [NEIGHBOUR, f"{NEIGHBOUR}, {STRANGER}, 127.0.0.1"],
    ],
)
async def test_a_forged_line_before_the_proxys_own_is_not_believed(
    behind: Server, lines: list[str]
) -> None:
    fields = [f"X-Forwarded-For: {line}" for line in lines]
    assert await status(behind, request("GET", "/connections", "Host: a", *fields)) in (401, 429)


async def test_the_proxys_own_line_is_believed(behind: Server) -> None:
    fields = [f"X-Forwarded-For: {STRANGER}", f"X-Forwarded-For: {NEIGHBOUR}"]
    assert await status(behind, request("GET", "/connections", "Host: a", *fields)) == 200


async def test_limits_count_the_address_that_the_proxy_says(behind: Server) -> None:
    """A new first line for each guess is no new bucket."""
    found = []
    for number in range(5):
        fields = [
            "Host: a",
            f"X-Forwarded-For: 192.0.2.{number}",
            "X-Forwarded-For: 203.0.113.77",
            "Authorization: Bearer guess",
        ]
        found.append(await status(behind, request("GET", "/store?path=.", *fields)))
    assert found[:2] == [401, 401]
    assert 429 in found[2:]


@pytest.fixture
def haproxy(behind: Server, tmp_path: Path) -> Iterator[int]:
    """The port of a real HAProxy before that server."""
    program = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if program is None:
        pytest.skip("haproxy is not installed (apt-get install haproxy)")
    port = free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode http\n  option forwardfor\n  timeout connect 2s\n  timeout client 30s\n"
        f"  timeout server 30s\nfrontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n"
        f"backend b\n  server s 127.0.0.1:{behind.port}\n"
    )
    process = subprocess.Popen([program, "-f", str(config), "-db"], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def test_haproxy_cannot_be_told_to_let_somebody_in(behind: Server, haproxy: int) -> None:
    front = Server(behind.lane, {}, behind.home)
    front.port = haproxy

    async def up() -> bool:
        try:
            return await status(front, request("GET", "/healthz", "Host: a")) == 200
        except (OSError, IndexError):
            return False

    await eventually(up)
    # From an address that is no trusted proxy: what HAProxy adds of it ends the walk.
    async with open_api(front, source="127.0.0.5") as api:
        for method, url in (("GET", "/connections"), ("POST", "/connections/close?id=any")):
            forged = {"X-Forwarded-For": NEIGHBOUR}
            answer = await api.request(method, url, headers=forged)
            assert answer.status_code in (401, 429), method


async def test_a_proxy_that_nobody_named_is_told_of_once(make_server: ServerFactory) -> None:
    server = make_server(max_rooms=77)
    for _ in range(3):
        data = request("GET", "/store?path=.", "Host: localhost", "X-Forwarded-For: 192.0.2.1")
        assert await status(server, data) == 200
    assert server.log().count("--trusted-proxies") == 1


# ── other list fields in several lines ──────────────────────────────────────────────────────────


async def test_conditions_in_several_lines(server: Server, api: Api) -> None:
    position = await api.reset({"a": 1})
    wrong = '"zzzzzz:1"'
    host = "Host: localhost"
    lines = [f"If-None-Match: {wrong}", f'If-None-Match: "{position}"']
    assert await status(server, request("GET", "/store?path=.a", host, *lines)) == 304
    lines = [f"If-Match: {wrong}", f'If-Match: "{position}"', "Content-Type: application/json"]
    assert await status(server, request("PUT", "/store?path=.a", host, *lines, body="2")) == 200


async def test_extensions_in_several_lines(server: Server) -> None:
    head = upgrade("/ws", host="localhost").decode().rstrip("\r\n")
    lines = "Sec-WebSocket-Extensions: x-other\r\nSec-WebSocket-Extensions: permessage-deflate"
    answer = await answer_head(server, f"{head}\r\n{lines}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 101")
    assert b"permessage-deflate" in answer.lower()


async def test_two_tokens_are_no_token(guarded: Server) -> None:
    fields = [f"Authorization: Bearer {ADMIN}", "Authorization: Bearer other"]
    assert await status(guarded, request("GET", "/store?path=.", "Host: a", *fields)) == 400


# ── names: DNS rebinding ────────────────────────────────────────────────────────────────────────

LOOPBACK = ["localhost", "LOCALHOST:1", "app.localhost:5173", "127.0.0.1:9", "127.9.9.9", "[::1]:8"]
FOREIGN = [
    "evil.example:19009",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.1",
    "x",
]


@pytest.mark.parametrize("host", LOOPBACK)
async def test_names_of_loopback_are_served(server: Server, host: str) -> None:
    assert await status(server, request("GET", "/store?path=.", f"Host: {host}")) == 200


@pytest.mark.parametrize("host", FOREIGN)
async def test_other_names_are_not_served_while_nobody_needs_a_token(
    server: Server, api: Api, host: str
) -> None:
    await api.reset({"a": 1})
    fields = [f"Host: {host}", f"Origin: http://{host}"]
    json_type = "Content-Type: application/json"
    for data in (
        request("GET", "/store?path=.", *fields),
        request("HEAD", "/store?path=.", *fields),
        request("OPTIONS", "/store", *fields),
        request("PUT", "/store?path=.a", *fields, json_type, body="2"),
        request("POST", "/store/batch", *fields, json_type, body="[]"),
        request("GET", "/events", *fields),
        request("POST", "/events", *fields, json_type, body="{}"),
        request("GET", "/", *fields),
        request("GET", "/health", *fields),
        request("GET", "/stats", *fields),
        upgrade("/ws", *fields, host=""),
    ):
        assert await status(server, data) == 403, data
    assert await api.get(".a") == 1
    assert server.log().count(f"refused a request for the host {host};") == 1


async def test_names_that_are_allowed(make_server: ServerFactory) -> None:
    server = make_server(allowed_hosts="box.lan,other.lan")
    for host, expected in (("box.lan:80", 200), ("BOX.LAN", 200), ("a.box.lan", 403)):
        assert await status(server, request("GET", "/store?path=.", f"Host: {host}")) == expected


async def test_named_hosts_hold_on_an_open_address_too(make_server: ServerFactory) -> None:
    """In a container the address is open, and the port is published on loopback."""
    server = make_server(insecure="true", host="0.0.0.0", allowed_hosts="box.lan")
    for host, expected in (("box.lan", 200), ("localhost", 200), ("evil.example", 403)):
        assert await status(server, request("GET", "/store?path=.", f"Host: {host}")) == expected


async def test_with_tokens_any_name_is_served(guarded: Server) -> None:
    fields = ["Host: evil.example", f"Authorization: Bearer {ADMIN}"]
    assert await status(guarded, request("GET", "/store?path=.", *fields)) == 200


# ── pages ───────────────────────────────────────────────────────────────────────────────────────


async def test_pages_of_loopback_may_use_an_open_server(server: Server, api: Api) -> None:
    await api.reset({"a": 1})
    answer = await api.request("GET", "/store?path=.", headers={"Origin": DEV_PAGE})
    assert answer.headers["access-control-allow-origin"] == DEV_PAGE
    assert "origin" in answer.headers["vary"].lower()
    preflight = {"Origin": DEV_PAGE, "Access-Control-Request-Method": "PUT"}
    answer = await api.request("OPTIONS", "/store", headers=preflight)
    assert answer.headers["access-control-allow-origin"] == DEV_PAGE
    async with open_sse(server.port, headers=[("Origin", DEV_PAGE)]) as stream:
        assert stream.headers["access-control-allow-origin"] == DEV_PAGE
    async with open_ws(server, headers=[("Origin", DEV_PAGE)]):
        pass


async def test_pages_of_loopback_are_strangers_to_a_server_with_tokens(guarded: Server) -> None:
    async with open_api(guarded, token=ADMIN) as api:
        answer = await api.request("GET", "/store?path=.", headers={"Origin": DEV_PAGE})
        assert "access-control-allow-origin" not in answer.headers
    with pytest.raises(ConnectionRejected):
        async with open_ws(guarded, headers=[("Origin", DEV_PAGE)]):
            pass


async def test_a_refused_page_is_told_of_once(server: Server, api: Api) -> None:
    page = "https://once.example"
    for _ in range(2):
        await api.request("GET", "/store?path=.", headers={"Origin": page})
        with pytest.raises(ConnectionRejected):
            async with open_ws(server, headers=[("Origin", page)]):
                pass
    line = f"refused a page of {page}; --cors-origins would allow it"
    assert server.log().count(line) == 1


@pytest.mark.parametrize(
    ("origin", "fields", "expected"),
    [
        ("https://app.example", ["Host: app.example"], 101),
        ("https://app.example", ["Host: app.example:443"], 101),
        ("http://app.example:8080", ["Host: app.example"], 403),
        (
            "http://app.example:8080",
            ["Host: app.example", "X-Forwarded-Host: app.example:8080"],
            101,
        ),
        ("https://app.example", ["Host: inner", "X-Forwarded-Host: app.example"], 101),
        ("https://app.example", ["Host: inner", "X-Forwarded-Host: other.example"], 403),
        ("https://app.example", ["Host: app.example", "X-Forwarded-Proto: https"], 101),
        ("http://app.example", ["Host: app.example", "X-Forwarded-Proto: https"], 403),
        ("null", ["Host: app.example"], 403),
        ("https://app.example.evil", ["Host: app.example"], 403),
    ],
)
async def test_what_a_trusted_proxy_says_of_the_page(
    make_server: ServerFactory, origin: str, fields: list[str], expected: int
) -> None:
    proxied = make_server(
        trusted_proxies="127.0.0.1", jwt_key="hs256:" + "k" * 32, anonymous_read="."
    )
    data = upgrade("/ws?filter=.", *fields, f"Origin: {origin}", host="")
    assert await status(proxied, data) == expected


async def test_a_stranger_may_not_say_where_a_page_is_from(guarded: Server) -> None:
    fields = ["X-Forwarded-Host: app.example", "Origin: https://app.example"]
    bearer = f"Authorization: Bearer {ADMIN}"
    assert await status(guarded, upgrade("/ws", *fields, bearer, host="inner")) == 403


async def test_more_request_headers_by_option(make_server: ServerFactory) -> None:
    server = make_server(cors_headers="traceparent,X-B3-TraceId")
    headers = {"Origin": DEV_PAGE, "Access-Control-Request-Method": "PUT"}
    async with open_api(server) as api:
        answer = await api.request("OPTIONS", "/store", headers=headers)
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert {"traceparent", "x-b3-traceid", "authorization"} <= set(allowed)


async def test_a_page_can_read_that_a_path_is_unknown(api: Api) -> None:
    answer = await api.request("GET", "/nowhere", headers={"Origin": DEV_PAGE})
    assert answer.status_code == 404
    assert answer.headers["access-control-allow-origin"] == DEV_PAGE
    assert json.loads(answer.content)["status"] == 404


# ── clocks ──────────────────────────────────────────────────────────────────────────────────────


async def test_clocks_may_differ_by_the_leeway(make_server: ServerFactory, guarded: Server) -> None:
    lenient = make_server(**GUARDED, jwt_leeway="30s")
    grant: dict[str, object] = {"triode": {"read": ["."]}}
    for ahead_s in (10, -10):
        claims = grant | {"nbf" if ahead_s > 0 else "exp": time.time() + ahead_s}
        fields = ["Host: a", f"Authorization: Bearer {signed(claims)}"]
        assert await status(lenient, request("GET", "/store?path=.", *fields)) == 200
        assert await status(guarded, request("GET", "/store?path=.", *fields)) == 401
    for name, ahead_s in (("nbf", 60), ("exp", -60)):
        token = signed(grant | {name: time.time() + ahead_s})
        fields = ["Host: a", f"Authorization: Bearer {token}"]
        assert await status(lenient, request("GET", "/store?path=.", *fields)) == 401
