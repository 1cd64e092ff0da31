"""Hostile clients: the server lives, its memory stays flat, and the others notice nothing.

In each test healthy subscribers of both transports are beside the hostile one (`bystanders`).
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from .bystanders import Bystanders, bystanders
from .clients import (
    PATIENCE_S,
    Api,
    RawWs,
    eventually,
    exchange,
    open_api,
    open_raw_ws,
    open_socket,
    open_sse,
    open_ws,
    upgrade,
)
from .conftest import ServerFactory
from .server import Lane, Server

pytestmark = pytest.mark.trio

CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA
MIB = 2**20
# What a process may grow by for reasons of its own.
SLACK_BYTES = 16 * MIB
frame = RawWs.frame


@pytest.fixture
async def healthy(server: Server, api: Api) -> AsyncIterator[Bystanders]:
    await api.reset({})
    async with bystanders(server, api) as them:
        yield them


async def pour(raw: RawWs, data: bytes, times: int) -> bool:
    """Send the same over and over, without reading, for as long as the server takes it. False: it
    was cut off, within a frame.
    """
    with trio.move_on_after(1.5) as scope:
        for _ in range(times):
            await raw.send(data)
    return not scope.cancelled_caught


# ── control frames and fragments ────────────────────────────────────────────────────────────────


async def test_a_flood_of_pings_that_reads_no_pongs(server: Server, healthy: Bystanders) -> None:
    before = server.memory()
    async with open_raw_ws(server) as raw:
        await pour(raw, frame(PING, bytes(125)) * 500, times=400)  # 26 MB
        assert server.memory() - before < SLACK_BYTES
        await healthy.more(3)


async def test_a_flood_of_pings_is_answered_by_the_newest_at_least(
    server: Server, healthy: Bystanders
) -> None:
    async with open_raw_ws(server) as raw, trio.open_nursery() as nursery:
        pings = b"".join(frame(PING, b"%d" % number) for number in range(20_000))
        nursery.start_soon(raw.send, pings)
        numbers: list[int] = []
        with trio.fail_after(PATIENCE_S):
            while not numbers or numbers[-1] != 19_999:
                got = await raw.receive()
                assert got is not None
                if got[0] == PONG:
                    numbers.append(int(got[1]))
        assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "a byte"])
async def test_a_message_in_endless_fragments(
    server: Server, healthy: Bystanders, payload: bytes
) -> None:
    """Empty ones are no breach of any length; nor may they take any room."""
    before = server.memory()
    async with open_raw_ws(server) as raw:
        await raw.send(frame(TEXT, b'"', fin=False))
        whole = await pour(raw, frame(CONTINUATION, payload, fin=False) * 4000, times=100)
        assert server.memory() - before < SLACK_BYTES
        await healthy.more(3)
        if whole and not payload:
            await raw.send(frame(CONTINUATION, b'"'))
            assert b'"error"' in await next_text(raw)


async def next_text(raw: RawWs) -> bytes:
    """The next message that is not the greeting."""
    with trio.fail_after(PATIENCE_S):
        while True:
            got = await raw.receive()
            assert got is not None
            if got[0] == TEXT and b'"connected"' not in got[1]:
                return got[1]


async def test_many_messages_that_are_too_long(server: Server, healthy: Bystanders) -> None:
    before = server.memory()

    async def overdo() -> None:
        async with open_raw_ws(server) as raw, trio.open_nursery() as nursery:
            nursery.start_soon(raw.send, frame(TEXT, b"1" * (MIB + 1)))
            assert await raw.close_code() == 1009
            nursery.cancel_scope.cancel()

    for _ in range(4):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(overdo)
    assert server.memory() - before < 5 * 2 * MIB + SLACK_BYTES


# ── those who do not read ───────────────────────────────────────────────────────────────────────


async def test_commands_whose_answers_nobody_reads(
    server: Server, api: Api, healthy: Bystanders
) -> None:
    """Who does not read the answers is not asked for more questions."""
    await api.put(".big", "x" * 100_000)
    before = server.memory()
    command = frame(TEXT, b'{"type":"get","filter":".big"}')
    async with open_raw_ws(server) as raw:
        await pour(raw, command * 100, times=100)  # answers of 1 GB
        assert server.memory() - before < SLACK_BYTES
        await healthy.more(3)


async def test_all_answers_come_to_a_client_that_reads_them_late(
    server: Server, api: Api, healthy: Bystanders
) -> None:
    await api.put(".big", "x" * 100_000)
    async with open_raw_ws(server, "/ws?filter=.none&snapshot=none") as raw:
        commands = b"".join(
            frame(TEXT, b'{"type":"get","filter":".big","ref":%d}' % ref) for ref in range(200)
        )
        await raw.send(commands)
        await healthy.more(20)
        for ref in range(200):
            text = await next_text(raw)
            assert text.startswith((b'{"type":"ok","ref":%d,' % ref, b'{"ref":%d,' % ref))


async def test_frozen_clients_are_gone_after_the_write_deadline(
    make_server: ServerFactory, lane: Lane
) -> None:
    server = make_server(write_deadline=1, queue_bytes=20_000, send_buffer_bytes=16_384)
    async with open_api(server) as api, bystanders(server, api) as healthy:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                await stack.enter_async_context(open_raw_ws(server, "/ws?filter=.load"))
                await stack.enter_async_context(open_sse(server.port, "/events?filter=.load"))
            assert await clients(api) == 22
            for number in range(200):  # more than the buffers of both kernels
                await api.put(".load", f"{number}" + "x" * 30_000)
            began = time.monotonic()

            async def frozen_are_gone() -> bool:
                return await clients(api) == 2

            await eventually(frozen_are_gone, 5)
            # Over ASGI there is a look at it once a second.
            assert time.monotonic() - began < (2 if lane == "native" else 3)
            assert (await counters(api))["ends_total"]["write_timeout"] == 20
            await healthy.more(3)


async def counters(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = (await api.request("GET", "/stats")).json()["counters"]
    return found


async def clients(api: Api) -> int:
    count: int = (await api.request("GET", "/health")).json()["connections"]
    return count


@pytest.mark.native(reason="Hypercorn closes the socket itself")
async def test_who_was_sent_away_and_stays_is_cut_off(server: Server, healthy: Bystanders) -> None:
    """The close frame is out and the client is out of every count; so must be its connection."""
    files = server.open_files()
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            raw = await stack.enter_async_context(open_raw_ws(server))
            await raw.send(frame(TEXT, b"nonsense") * 100)
            assert await raw.close_code() == 1008

        async def as_before() -> bool:
            return server.open_files() <= files

        await eventually(as_before, 5)
        await healthy.more(3)


async def test_a_close_comes_after_all_that_was_owed(
    server: Server, api: Api, healthy: Bystanders, lane: Lane
) -> None:
    """Also to one who has been slow to read when it says goodbye."""
    await api.put(".big", "x" * 500_000)
    async with open_raw_ws(server, "/ws?filter=.none&snapshot=none") as raw:
        command = frame(TEXT, b'{"type":"get","filter":".big"}')
        await raw.send(command * 10 + frame(CLOSE, (1000).to_bytes(2, "big")))
        await healthy.more(20)
        got: list[int] = []
        with trio.fail_after(PATIENCE_S):
            while (one := await raw.receive()) is not None:
                got.append(one[0])
        # Hypercorn answers a close by itself, at once, and sends nothing after it.
        assert got == [TEXT] * 11 + [CLOSE] or (lane == "hypercorn" and got[-1] == CLOSE)


# ── half of a connection ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", ["/ws", "/ws?filter=.", "/events?filter=.", "half a head"])
async def test_half_closed_connections_leave_nothing(
    server: Server, api: Api, healthy: Bystanders, target: str
) -> None:
    request = upgrade(target)
    if target.startswith("/events"):
        request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    elif target.startswith("half"):
        request = upgrade()[:40]
    before = await clients(api)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(20):
            stream = await stack.enter_async_context(open_socket(server))
            await stream.send_all(request)
            if not target.startswith("half"):
                with trio.fail_after(PATIENCE_S):
                    assert (await stream.receive_some(65536))[:9] == b"HTTP/1.1 "
            await stream.send_eof()

        async def nobody_is_left() -> bool:
            return await clients(api) == before

        await eventually(nobody_is_left, 5)
    await healthy.more(3)


@pytest.mark.native(reason="a WebSocket of Hypercorn's is pinged by Hypercorn, if it is told to")
async def test_who_answers_no_ping_is_dead(make_server: ServerFactory) -> None:
    server = make_server(heartbeat="300ms", idle="2s")
    async with open_api(server) as api, bystanders(server, api) as healthy:
        began = time.monotonic()
        async with open_raw_ws(server) as silent, open_ws(server) as alive:
            with trio.fail_after(PATIENCE_S):
                while await silent.receive() is not None:
                    pass
            assert 1.9 < time.monotonic() - began < 8
            await healthy.more(3)
            assert (await alive.ask("ping"))["type"] == "pong"


# ── heads and bodies that do not end ────────────────────────────────────────────────────────────


async def test_heads_that_come_in_drops(server: Server, healthy: Bystanders) -> None:
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_socket(server)) for _ in range(200)]
        for byte in b"GET /even":
            for stream in streams:
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(bytes([byte]))
            await healthy.more(1)


async def test_heads_without_end(server: Server, healthy: Bystanders) -> None:
    before = server.memory()

    async def go_on() -> None:
        line = b"X-Endless: " + b"y" * 1000 + b"\r\n"
        async with open_socket(server) as stream:
            with trio.fail_after(PATIENCE_S), contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n")
                while True:
                    await stream.send_all(line * 10)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(go_on)
    assert server.memory() - before < SLACK_BYTES
    await healthy.more(3)


async def test_bodies_that_come_in_drops(server: Server, healthy: Bystanders) -> None:
    head = (
        b"PUT /store?path=.n HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000000\r\n\r\n"
    )
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_socket(server)) for _ in range(200)]
        for data in (head, b'"', b"a", b"b", b"c"):
            for stream in streams:
                await stream.send_all(data)
            await healthy.more(1)


async def test_a_body_announced_as_endless_is_refused_before_it_comes(
    server: Server, healthy: Bystanders
) -> None:
    before = server.memory()
    head = (
        b"PUT /store?path=.n HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 9000000000000\r\n\r\n"
    )
    answer = await exchange(server, head + bytes(MIB))
    assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
    assert server.memory() - before < SLACK_BYTES
    await healthy.more(1)


# ── no file descriptors left ────────────────────────────────────────────────────────────────────


@pytest.mark.native(reason="Hypercorn leaves it to Trio, which survives it too, and logs each time")
async def test_without_file_descriptors_the_living_go_on(
    make_server: ServerFactory,
) -> None:
    server = make_server(queue_items=101)  # one of its own: its limit is lowered
    async with open_api(server) as api, bystanders(server, api) as healthy:
        files = server.open_files()
        server.limit_files(files + 20)
        try:
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(60):  # the kernel accepts them, the server cannot
                    await stack.enter_async_context(open_socket(server))
                await healthy.more(20)
                assert server.open_files() <= files + 20
            async with open_ws(server) as ws:  # once they are gone
                assert (await ws.ask("ping"))["type"] == "pong"
            assert (await counters(api))["accept_errors_total"] > 0
        finally:
            server.limit_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        await healthy.more(3)


async def test_connections_that_are_reset_at_once(server: Server, healthy: Bystanders) -> None:
    for _ in range(5):
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", server.port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await healthy.more(1)


# ── ends ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_batch_whose_sender_is_gone_holds_no_writes_up(server: Server, api: Api) -> None:
    """Its answer, of half a megabyte, is owed to nobody. (No other client: what is sent to one
    would let the writes go on.)
    """
    await api.reset({"x": 0})
    ops: list[Any] = [{"type": "set", "path": ".x", "value": n} for n in range(5_000)]
    ops += [{"type": "delete", "path": ".x.y"}] * 5_000
    async with open_raw_ws(server, "/ws?filter=.x") as raw:
        batch = json.dumps({"type": "batch", "ops": ops}).encode()
        await raw.send(frame(TEXT, batch))

        async def has_begun() -> bool:
            return bool(await api.get(".x"))

        # A reset overtakes what is still to be read.
        await eventually(has_begun, PATIENCE_S)
        raw.reset()

    seen: list[int] = [0]

    async def is_over() -> bool:
        await trio.sleep(0.3)
        seen.append(await api.get(".x"))
        return 0 < seen[-1] == seen[-2]

    await eventually(is_over, PATIENCE_S)
    with trio.fail_after(PATIENCE_S):
        for value in range(3):
            await api.put(".x", value)
