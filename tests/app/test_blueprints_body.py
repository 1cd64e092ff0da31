"""How much of a body is read, how long it may take, and what clients see that are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from trio.testing import MockClock

from tests.app.web import ADMIN, JSON, Web, problem_of, serving
from triode.app.blueprints.request_body import DISCARD_S, FIRST_DEADLINE_S, MIN_BYTES_PER_S

LIMIT = 20 * 1024 * 1024
CHUNK = 256 * 1024


def text_of(size: int) -> bytes:
    return b'"' + b"x" * (size - 2) + b'"'


def in_chunks(data: bytes) -> list[bytes]:
    return [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    ("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413), (21 * 1024 * 1024, 413)]
)
async def test_the_limit_is_exact(size: int, status: int, declared: bool) -> None:
    async with serving({}) as web:
        headers = JSON | (
            {"Content-Length": str(size)} if declared else {"Transfer-Encoding": "chunked"}
        )
        exchange = web.exchange("PUT", "/store?path=.a", in_chunks(text_of(size)), headers)
        answer = await web.run(exchange)
        assert answer.status == status
        if status == 413:
            assert problem_of(answer, 413)["limit"] == LIMIT
            assert web.triode.store.seq == 0


async def test_a_declared_length_is_refused_before_anything_is_read() -> None:
    async with serving({}) as web:
        answered_after: list[int] = []

        async def note(_answer: Any) -> None:
            answered_after.append(exchange.sent_bytes)

        headers = JSON | {"Content-Length": str(10**12), "Expect": "100-continue"}
        exchange = web.exchange(
            "PUT", "/store?path=.a", [b"x" * CHUNK] * 50, headers, complete=False, take=note
        )
        exchange.hang_up.set()
        answer = await web.run(exchange)
        problem_of(answer, 413)
        assert answered_after[0] <= 2 * CHUNK


async def test_an_endless_body_is_refused_at_the_limit() -> None:
    async with serving({}, max_body_bytes=1024 * 1024) as web:
        answered_after: list[int] = []

        async def note(_answer: Any) -> None:
            answered_after.append(exchange.sent_bytes)
            exchange.hang_up.set()

        headers = JSON | {"Transfer-Encoding": "chunked"}
        exchange = web.exchange(
            "PUT", "/store?path=.a", [b"1" * CHUNK] * 100, headers, complete=False, take=note
        )
        problem_of(await web.run(exchange), 413)
        # Four chunks are the limit; some more arrive while the answer is on its way.
        assert answered_after[0] <= 12 * CHUNK


async def test_what_nobody_reads_is_not_kept() -> None:
    async with serving({"a": 1}, max_body_bytes=CHUNK) as web:
        exchange = web.exchange(
            "GET", "/store?path=.a", [b"x" * CHUNK] * 100, {"Transfer-Encoding": "chunked"}
        )
        assert (await web.run(exchange)).status == 200


async def test_a_body_that_does_not_come_has_a_deadline(autojump_clock: MockClock) -> None:
    async with serving({}) as web:
        started = trio.current_time()
        exchange = web.exchange(
            "PUT", "/store?path=.a", [b'"x'], JSON | {"Content-Length": "99"}, complete=False
        )
        problem_of(await web.run(exchange), 408)
        took = trio.current_time() - started
        assert FIRST_DEADLINE_S <= took <= FIRST_DEADLINE_S + DISCARD_S + 1


async def test_a_large_body_over_a_thin_line_has_its_time(autojump_clock: MockClock) -> None:
    async with serving({}) as web:
        data = text_of(40 * CHUNK)
        exchange = web.exchange(
            "PUT", "/store?path=.a", in_chunks(data), JSON | {"Content-Length": str(len(data))}
        )
        quick = exchange.receive

        async def slow() -> dict[str, Any]:
            await trio.sleep(0.9 * CHUNK / MIN_BYTES_PER_S)
            return await quick()

        exchange.receive = slow  # type: ignore[method-assign]
        started = trio.current_time()
        answer = await web.run_for(exchange, 1000)
        assert answer.status == 200
        assert trio.current_time() - started > FIRST_DEADLINE_S


async def test_decoding_a_large_body_lets_others_run() -> None:
    body = b'{"a":[' + b",".join(b'{"n":%d}' % n for n in range(200_000)) + b"]}"
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def watch() -> None:
        while True:
            in_hand.add(web.triode.metrics.large_bodies)
            await trio.lowlevel.checkpoint()

    in_hand: set[int] = set()
    async with serving({}) as web, trio.open_nursery() as nursery:
        await web.ask("PUT", "/store?path=.a", 1)
        nursery.start_soon(count)
        before = turns
        nursery.start_soon(watch)
        assert (await web.ask("PUT", "/store?path=.a", raw=body, headers=JSON)).status == 200
        nursery.cancel_scope.cancel()
        assert turns - before > len(body) / CHUNK
        assert in_hand == {0, 1}
        assert web.triode.metrics.large_bodies == 0


@asynccontextmanager
async def over_tcp(web: Web, *, graceful_s: float = 3.0) -> AsyncIterator[int]:
    """Hypercorn before the application; gives its port."""
    config = Config()
    config.graceful_timeout = graceful_s
    config.bind = ["127.0.0.1:0"]
    config.accesslog = config.errorlog = None
    stop = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            target: Any = web.app
            await target(scope, receive, send)
            return
        while True:  # the services run already, so its lifespan must not start them
            event = (await receive())["type"]
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return

    async with trio.open_nursery() as nursery:
        start: Any = partial(serve, app, config, shutdown_trigger=stop.wait, mode="asgi")
        binds = await nursery.start(start)
        yield int(binds[0].rpartition(":")[2])
        stop.set()


async def exchange_over_tcp(port: int, head: str, body: Iterator[bytes]) -> bytes:
    """Send all of a request, as a simple client does, and only then read. A reset raises."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(head.replace("\n", "\r\n").encode())
        for piece in body:
            await stream.send_all(piece)
        received = bytearray()
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            data = await stream.receive_some()
            if not data:
                break
            received += data
        return bytes(received)


@pytest.mark.parametrize("expect", ["", "Expect: 100-continue\n"])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_client_that_sends_too_much_gets_its_answer_and_no_reset(
    chunked: bool, expect: str
) -> None:
    async with serving({}) as web, over_tcp(web) as port:
        size = 24 * 1024 * 1024
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        head = "PUT /store?path=.a HTTP/1.1\nHost: localhost\nContent-Type: application/json\n"
        head += f"{expect}{framing}\n\n"

        def body() -> Iterator[bytes]:
            for _ in range(size // CHUNK):
                yield (
                    (b"%x\r\n" % CHUNK if chunked else b"")
                    + b"1" * CHUNK
                    + (b"\r\n" if chunked else b"")
                )
            if chunked:
                yield b"0\r\n\r\n"

        with trio.fail_after(30):
            answer = await exchange_over_tcp(port, head, body())
        assert b" 413 " in answer
        assert b'"limit":20971520' in answer


async def test_a_refused_upload_without_a_token_gets_its_answer_too() -> None:
    async with serving({}, admin_token=ADMIN) as web, over_tcp(web) as port:
        size = 8 * 1024 * 1024
        head = f"PUT /store?path=.a HTTP/1.1\nHost: localhost\nContent-Length: {size}\n\n"
        with trio.fail_after(30):
            answer = await exchange_over_tcp(port, head, iter([b"1" * CHUNK] * (size // CHUNK)))
        assert b" 401 " in answer


@pytest.mark.parametrize("target", ["/health", "/store?path=.", "/nothing"])
async def test_connection_close_is_obeyed_at_once(target: str) -> None:
    async with serving({}) as web, over_tcp(web) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            await stream.send_all(head.encode())
            with trio.fail_after(3):
                while await stream.receive_some():
                    pass
