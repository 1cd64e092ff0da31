"""A field that holds one value and comes twice is refused: whichever is meant, somebody on the way
believed the other. The same on every lane, and over HTTP/2.
"""

from __future__ import annotations

import h2.events
import pytest
import trio

from .clients import Api, exchange, upgrade
from .server import Server
from .test_http2 import Http2Client, open_http2

pytestmark = pytest.mark.trio

FIELDS = ["Authorization", "X-API-Key", "Origin", "Last-Event-ID", "Idempotency-Key",
          "If-Position"]  # fmt: skip
WRITE = b"PUT /store?path=.twice HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
STREAM = b"GET /events HTTP/1.1\r\nHost: localhost\r\n"
HEADS = {"write": WRITE, "stream": STREAM, "websocket": upgrade().removesuffix(b"\r\n")}


def two(field: str, first: str = "same", second: str = "same") -> bytes:
    return f"{field}: {first}\r\n{field}: {second}\r\n".encode()


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("kind", HEADS)
async def test_a_field_of_one_value_that_comes_twice(
    server: Server, api: Api, kind: str, field: str
) -> None:
    end = b"Content-Length: 1\r\n\r\n1" if kind == "write" else b"\r\n"
    await api.reset({})
    for second in ("same", "other"):
        answer = await exchange(server, HEADS[kind] + two(field, second=second) + end)
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert f"{field} is there more than once".encode() in answer
    assert await api.get(".") == {}


async def answer(client: Http2Client, stream: int, *lines: tuple[str, str]) -> bytes | None:
    """The status over HTTP/2; None: the stream was reset, or the connection ended."""
    client.get(stream, "/store?path=.", lines=lines)
    await client.send()
    while events := await client.receive():
        for event in events:
            if isinstance(event, h2.events.ResponseReceived):
                status: bytes = dict(event.headers)[b":status"]
                return status
            if isinstance(event, h2.events.StreamReset):
                return None
    return None


@pytest.mark.parametrize("field", [*FIELDS, "Host", "Content-Length"])
async def test_over_http2(server: Server, field: str) -> None:
    with trio.fail_after(10):
        for second in ("0", "1"):
            async with open_http2(server) as client:
                lines = [(field.lower(), text) for text in ("0", second)]
                assert await answer(client, 1, *lines) in (b"400", None)


async def test_host_beside_authority_over_http2(server: Server) -> None:
    """The same in both is what a client may send (RFC 9113 section 8.3.1); two are refused."""
    with trio.fail_after(10):
        async with open_http2(server) as client:
            assert await answer(client, 1, ("host", "localhost")) == b"200"
            assert await answer(client, 3, ("host", "other")) in (b"400", None)


async def test_a_list_may_come_in_several_lines(server: Server, api: Api) -> None:
    at = await api.reset({"n": 1})
    write = WRITE.replace(b".twice", b".n")
    end = b"Content-Length: 1\r\nConnection: close\r\n\r\n2"
    lines = f'If-Match: "nowhere:1"\r\nIf-Match: "{at}"\r\n'.encode()
    assert (await exchange(server, write + lines + end)).startswith(b"HTTP/1.1 200")
