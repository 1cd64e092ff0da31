"""Asking other people's servers: whatever they do, it costs a deadline and some bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from triode.app.backends.http import NoAnswer, ask, open_pool

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    """Its URL, while it serves."""
    async with trio.open_nursery() as nursery:
        serving = partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        [listener] = await nursery.start(serving)
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/hook?token=secret"
        nursery.cancel_scope.cancel()


def saying(*parts: bytes) -> Serve:
    async def serve(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some(65536)
            for part in parts:
                await stream.send_all(part)
            await trio.sleep_forever()
        except trio.BrokenResourceError:
            pass

    return serve


async def test_an_answer_is_given_whatever_its_status() -> None:
    body = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n{}"
    async with server(saying(body)) as url, open_pool(1) as pool:
        answer = await ask(pool, url, b"{}", {}, deadline_s=5)
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, b"{}", "7")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "no answer within 0.2 s"),
        ([b"HTTP/1.1 200 OK\r\n"], "no answer within 0.2 s"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"{"], "no answer within 0.2 s"),
        ([b"no HTTP at all\r\n\r\n"], "the connection broke (RemoteProtocolError)"),
        (
            [b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", *[b"a" * 65536] * 30],
            "the answer is larger than 65536 bytes",
        ),
        (
            [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n"],
            "the answer is compressed, which was not asked for",
        ),
    ],
)
async def test_what_is_no_answer(parts: list[bytes], reason: str) -> None:
    async with server(saying(*parts)) as url, open_pool(1) as pool:
        with pytest.raises(NoAnswer) as caught:
            await ask(pool, url, b"{}", {}, deadline_s=0.2)
    assert str(caught.value) == reason


async def test_a_redirect_is_not_followed() -> None:
    head = b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with server(saying(head)) as url, open_pool(1) as pool:
        assert (await ask(pool, url, b"{}", {}, deadline_s=5)).status == 307


async def test_nobody_is_there() -> None:
    async with open_pool(1) as pool:
        with pytest.raises(NoAnswer, match="it cannot be reached"):
            await ask(pool, "http://127.0.0.1:1/?token=secret", b"{}", {}, deadline_s=5)
