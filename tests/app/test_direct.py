"""Direct routes: the same answers, byte for byte, by whichever of the two ways they are given:
through Hypercorn and Quart's dispatch, and past both.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import pytest
import trio
from hypercorn.typing import ASGIFramework
from quart import Response, request

from tests.app.serving import Client, Server, running
from tests.app.web import ADMIN
from triode.app.application import create_app
from triode.app.config.settings import Settings
from triode.app.lanes import hypercorn_stream
from triode.app.lanes.handoff_limits import HandoffLimits
from triode.app.lanes.http_fast_path import BODY_BYTES, DIRECT
from triode.app.net import dispatcher, request_head
from triode.app.service.triode import Triode
from triode.limits.grant import Grant
from triode.limits.rate import Rate

JSON: Final = {"Content-Type": "application/json"}
MERGE: Final = {"Content-Type": "application/merge-patch+json"}
PATCH: Final = {"Content-Type": "application/json-patch+json"}
TOKEN: Final = {"Authorization": f"Bearer {ADMIN}"}
READER: Final = "a-reader-who-may-only-read-the-public-part"
ORIGIN: Final = {"Origin": "https://app.example"}
LARGE: Final = {f"key {number}": "x" * 100 for number in range(2000)}

Case = tuple[str, str, Any, dict[str, str]]

# In this order, on one server each: later answers depend on earlier writes.
CASES: Final[list[Case]] = [
    ("GET", "/store?path=.", None, TOKEN),
    ("PUT", "/store?path=.a", {"b": 1}, JSON | TOKEN),
    ("PATCH", "/store?path=.a.b", 2, JSON | TOKEN),
    ("PATCH", "/store?path=.a", {"c": [1, 2], "b": None}, MERGE | TOKEN),
    ("PATCH", "/store?path=.a", [{"op": "add", "path": "/d", "value": 1}], PATCH | TOKEN),
    ("PATCH", "/store?path=.a", [{"op": "test", "path": "/d", "value": 2}], PATCH | TOKEN),
    ("PATCH", "/store?path=.a", {"op": "add"}, PATCH | TOKEN),
    ("GET", "/store?path=.a", None, TOKEN),
    ("GET", "/store?path=.a.c[*]", None, TOKEN),
    ("GET", "/store?filter=.a.c[*],.a.d", None, TOKEN | ORIGIN),
    ("GET", "/store?path=.none", None, TOKEN),
    ("GET", "/store?path=.a&filter=.a", None, TOKEN),
    ("GET", "/store?path=.a", None, TOKEN | {"If-None-Match": "*"}),
    ("GET", "/store?path=..[", None, TOKEN),
    ("GET", "/store", None, TOKEN),
    ("HEAD", "/store?path=.a", None, TOKEN),
    ("PUT", "/store?path=.x.y.z", 1, JSON | TOKEN),
    ("PUT", "/store?path=.x.y.z&create=true", 1, JSON | TOKEN | ORIGIN),
    ("PUT", "/store?path=.x&create=maybe", 1, JSON | TOKEN),
    ("PUT", "/store?path=.x&path=.y", 1, JSON | TOKEN),
    ("PUT", "/store?path=.x%ff", 1, JSON | TOKEN),
    ("PUT", "/store", 1, JSON | TOKEN),
    ("PUT", "/store?path=.a", b"{", JSON | TOKEN),
    ("PUT", "/store?path=.a", b"", JSON | TOKEN),
    ("PUT", "/store?path=.a", b"\xff", JSON | TOKEN),
    ("PUT", "/store?path=.a", 1, {"Content-Type": "text/plain"} | TOKEN | ORIGIN),
    ("PATCH", "/store?path=.a", 1, TOKEN),
    ("PUT", "/store?path=.a", 1, JSON | TOKEN | {"If-Match": '"other:1"'}),
    ("PUT", "/store?path=.a", 1, JSON | TOKEN | {"If-None-Match": "*"}),
    ("PUT", "/store?path=.a", 1, JSON),
    ("PUT", "/store?path=.a", 1, JSON | {"Authorization": "Bearer wrong"} | ORIGIN),
    ("PUT", "/store?path=.a", 1, JSON | {"Authorization": f"Bearer {READER}"}),
    ("GET", "/store?path=.public", None, {"X-API-Key": READER}),
    ("PUT", "/store?path=.big", "x" * 2000, JSON | TOKEN),
    ("DELETE", "/store?path=.a.d", None, TOKEN),
    ("DELETE", "/store?path=.a.d", None, TOKEN),
    ("POST", "/store", LARGE | {"public": 1}, JSON | TOKEN),
    ("GET", "/store?path=.", None, TOKEN | ORIGIN),
    ("HEAD", "/store?path=.", None, TOKEN),
    ("POST", "/publish", {"room": "r", "event": "e", "data": 1}, JSON | TOKEN | ORIGIN),
    ("POST", "/publish", {"event": "e", "data": 1}, JSON | TOKEN),
    ("POST", "/publish", {"room": "r", "wrong": 1}, JSON | TOKEN),
    ("POST", "/publish?access_token=" + ADMIN, {"room": "r"}, JSON),
    ("PATCH", "/store?path=.a", 1, JSON | TOKEN | {"Connection": "keep-alive"}),
    ("PATCH", "/store?path=.a", 1, JSON | TOKEN | {"Connection": "close"}),
]
NAMES: Final = [f"{number} {case[0]} {case[1]}" for number, case in enumerate(CASES)]


def make_triode(**options: Any) -> Triode:
    """A server with tokens, CORS, and a rate that the table does not reach."""
    chosen: dict[str, Any] = {
        "admin_token": ADMIN,
        "cors_origins": ("https://app.example",),
        "http_rate": Rate(1e-3, 1000),
        "max_body_bytes": 1_000_000,
        **options,
    }
    triode = Triode(Settings(**chosen), {"public": 1})
    grant = Grant(read=(".public",), write=(), rooms=(), admin=False)
    triode.tokens.adopt(READER, grant, now=triode.clock.unix_s(), label="reader")
    return triode


@asynccontextmanager
async def way(
    name: str, handoff: HandoffLimits | None = None, **options: Any
) -> AsyncIterator[tuple[Server, Triode]]:
    """A listening side that answers direct routes in one of the two ways."""
    triode = make_triode(**options)
    app = create_app(triode)
    app.config["BACKGROUND_TASK_SHUTDOWN_TIMEOUT"] = None
    direct = app.extensions[DIRECT] if name == "exchange" else None
    async with running(app=cast(ASGIFramework, app), direct=direct, handoff=handoff) as server:
        yield server, triode


def raw(method: str, target: str, body: Any, fields: dict[str, str]) -> bytes:
    """A request as bytes; `body` None has none, bytes are as they are, all else is JSON."""
    lines = [f"{method} {target} HTTP/1.1", "Host: triode.localhost"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    data = b""
    if body is not None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode() + data


async def answered(client: Client, method: str) -> bytes:
    """All bytes of the next answer."""
    head = await client.until(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    if method == "HEAD" or head.startswith((b"HTTP/1.1 304", b"HTTP/1.1 204")):
        return head
    if length is None:
        return head + await client.until(b"\r\n0\r\n\r\n")
    with trio.fail_after(5):
        while len(client.buffer) < int(length[1]):
            client.buffer += await client.stream.receive_some()
    body, client.buffer = client.buffer[: int(length[1])], client.buffer[int(length[1]) :]
    return head + body


def comparable(answer: bytes, triode: Triode) -> bytes:
    """Without what may differ: the date, the epoch, seconds, how a long body is cut."""
    answer = re.sub(rb"\r\ndate: [^\r]+", b"\r\ndate: D", answer)
    answer = answer.replace(triode.store.epoch.encode(), b"EPOCH")
    # Seconds until something: the clock goes on between two ways.
    answer = re.sub(rb"(?i)(;t=|retry[-_a-z]*\W+|in )[0-9.]+", rb"\1T", answer)
    if answer.startswith(b"HTTP/1.1 429"):
        answer = re.sub(rb"content-length: \d+", b"content-length: L", answer)
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        body = re.sub(rb"(?:^|\r\n)[0-9a-f]+\r\n", b"", body)
    return head + b"\r\n\r\n" + body


async def answers(name: str, cases: list[Case], **options: Any) -> list[bytes]:
    """The answers to all, one after another; and what was counted."""
    found = []
    async with way(name, **options) as (server, triode):
        client = await server.connect()
        for method, target, body, fields in cases:
            await client.send(raw(method, target, body, fields))
            found.append(comparable(await answered(client, method), triode))
            if fields.get("Connection") == "close":
                await client.close()
                client = await server.connect()
        metrics = triode.metrics
        counts = metrics.http_requests, metrics.writes_total, dict(metrics.refused)
        found.append(repr((counts, metrics.rate_limited, metrics.errors_total)).encode())
        await client.close()
    return found


async def test_the_ways_answer_alike() -> None:
    expected = await answers("quart", CASES)
    got = await answers("exchange", CASES)
    for label, one, other in zip([*NAMES, "counts"], got, expected, strict=True):
        assert one == other, label
    statuses = {int(one[9:12]) for one in expected[:-1]}
    assert statuses >= {200, 304, 400, 401, 403, 404, 412, 415}


async def test_refused_ones_are_charged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.5)
    kinds: list[Case] = [
        ("PUT", "/store?path=.a", 1, JSON | TOKEN),
        ("PUT", "/store?path=..", 1, JSON | TOKEN),
        ("PUT", "/store?path=.a", 1, JSON),
        ("PUT", "/store?path=.a", 1, {"Content-Type": "text/plain"} | TOKEN),
    ]
    strict = {"http_rate": Rate(0.001, 6)}
    got = await answers("exchange", kinds * 6, **strict)
    assert got == await answers("quart", kinds * 6, **strict)
    assert sum(one.startswith(b"HTTP/1.1 429") for one in got) > 8


async def test_requests_that_come_in_any_pieces() -> None:
    """Head and body together, apart, byte by byte, several at once."""
    async with way("exchange") as (server, triode):
        client = await server.connect()
        one = raw("PUT", "/store?path=.a", [1, 2, 3], JSON | TOKEN)
        await client.send(one * 5)
        for _ in range(5):
            assert (await answered(client, "PUT")).startswith(b"HTTP/1.1 200")
        cut = one.index(b"\r\n\r\n") + 4
        await client.send(one[:cut])
        await trio.sleep(0.01)
        await client.send(one[cut:])
        assert (await answered(client, "PUT")).startswith(b"HTTP/1.1 200")
        for byte in one:
            await client.send(bytes([byte]))
        assert (await answered(client, "PUT")).startswith(b"HTTP/1.1 200")
        assert triode.metrics.writes_total == 7
        await client.close()


async def test_other_ways_to_ask_on_the_same_connection() -> None:
    """Chunked, long, expecting: Hypercorn's; then direct again."""
    async with way("exchange") as (server, triode):
        client = await server.connect()
        simple = raw("PUT", "/store?path=.a", 1, JSON | TOKEN)
        fields = "".join(f"{name}: {value}\r\n" for name, value in (JSON | TOKEN).items())
        chunked = (
            f"PUT /store?path=.b HTTP/1.1\r\nHost: localhost\r\n{fields}"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        long = raw("PUT", "/store?path=.c", "x" * BODY_BYTES, JSON | TOKEN)
        for request_bytes in (simple, chunked.encode() + b"1\r\n7\r\n0\r\n\r\n", long, simple):
            await client.send(request_bytes)
            assert (await answered(client, "PUT")).startswith(b"HTTP/1.1 200")
        await client.send(
            raw("PUT", "/store?path=.d", 1, JSON | TOKEN | {"Expect": "100-continue"})
        )
        assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        assert (await answered(client, "PUT")).startswith(b"HTTP/1.1 200")
        assert triode.store.document.get(("b",)) == 7
        assert (await client.get("/healthz"))[0] == 200
        await client.send(simple)
        assert (await answered(client, "PUT")).startswith(b"HTTP/1.1 200")
        assert server.counts.handed_off == 1
        await client.close()


async def test_a_body_that_stops_coming() -> None:
    quick = HandoffLimits(body_idle_s=0.2, linger_s=0.1)
    async with way("exchange", quick) as (server, triode):
        client = await server.connect()
        await client.send(raw("PUT", "/store?path=.a", "long enough", JSON | TOKEN)[:-3])
        assert (await client.ended()).startswith(b"HTTP/1.1 408")
        await client.close()
        assert triode.metrics.writes_total == 0
        leaver = await server.connect()
        await leaver.send(raw("PUT", "/store?path=.a", "long enough", JSON | TOKEN)[:-3])
        await leaver.close()
        await server.settled()
        assert triode.metrics.writes_total == 0


async def test_idle_connections_are_kept_and_closed_as_hypercorns_are() -> None:
    quick = HandoffLimits(keep_alive_s=0.3, linger_s=0.1)
    async with way("exchange", quick) as (server, _triode):
        client = await server.connect()
        simple = raw("PUT", "/store?path=.a", 1, JSON | TOKEN)
        for _ in range(4):  # longer than the keep-alive in all
            await client.send(simple)
            assert (await answered(client, "PUT")).startswith(b"HTTP/1.1 200")
            await trio.sleep(0.15)
        assert await client.ended() == b""
        await client.close()
        busy = await server.connect()
        await busy.send(simple)
        await answered(busy, "PUT")
        await server.hypercorn.drain()
        assert await busy.ended() == b""
        await busy.close()
        await server.settled()


async def test_a_reader_who_stops_reading_a_long_answer_is_cut_off() -> None:
    strict = HandoffLimits(write_deadline_s=0.3, linger_s=0.1)
    async with way("exchange", strict) as (server, triode):
        await triode.set(".big", ["x" * 1000] * 20_000)
        client = await server.connect()
        await client.send(raw("GET", "/store?path=.big", None, TOKEN))
        await server.settled()
        assert not triode.store.document._pins
        await client.close()


async def test_hooks_of_the_application_are_not_passed_by() -> None:
    async with way("exchange") as (server, _triode):
        seen = []

        async def look() -> Response | None:
            seen.append(request.path)
            return Response("no", 403)

        app: Any = server.hypercorn._app.app
        app.before_request(look)
        client = await server.connect()
        await client.send(raw("PUT", "/store?path=.a", 1, JSON | TOKEN))
        assert (await answered(client, "PUT")).startswith(b"HTTP/1.1 403")
        assert seen == ["/store"]
        await client.close()


async def test_a_bug_is_answered_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with way("exchange") as (server, triode):

        async def fail(*_what: Any) -> None:
            raise ZeroDivisionError("inside")

        monkeypatch.setattr(triode, "write", fail)
        client = await server.connect()
        await client.send(raw("PUT", "/store?path=.a", 1, JSON | TOKEN))
        answer = await answered(client, "PUT")
        assert answer.startswith(b"HTTP/1.1 500")
        assert b"inside" not in answer
        assert "ZeroDivisionError" in caplog.text
        assert triode.metrics.errors_total == 1
        await client.close()


@pytest.mark.parametrize("name", ["exchange", "hypercorn"])
async def test_each_head_is_parsed_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        found = request_head.parse_head(*arguments, **options)
        if found is not None:
            parsed.append(found[0].path)
        return found

    monkeypatch.setattr(dispatcher, "parse_head", counted)
    monkeypatch.setattr(hypercorn_stream, "parse_head", counted)
    async with way(name) as (server, _):
        client = await server.connect()
        for _ in range(2):
            await client.send(raw("PUT", "/store?path=.a", 1, JSON | TOKEN))
            await answered(client, "PUT")
        await client.send(raw("GET", "/events", None, {}))  # taken back from Hypercorn
        await client.until(b"data: native")
        await client.close()
        await server.settled()
    assert parsed == ["/store", "/store", "/events"]
