"""The end of a server: all are told when to come back, and nobody can hold it up."""

from __future__ import annotations

import contextlib
import json
import re
import time

import pytest
import trio

from .clients import (
    PATIENCE_S,
    Api,
    SseStream,
    Ws,
    exchange,
    open_api,
    open_raw_ws,
    open_sse,
    open_ws,
)
from .conftest import ServerFactory
from .server import Lane, Server

pytestmark = pytest.mark.trio

DRAIN_S = 2.0
HYPERCORN_S = 3.0  # its --graceful-timeout, and then there is its main process
EVENT_SOURCE = (
    b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
    b"Connection: close\r\n\r\n"
)
READYZ = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def ending(make_server: ServerFactory, request: pytest.FixtureRequest) -> Server:
    """A server that the test ends, by itself."""
    names = list(request.session.items)
    number = next(i for i, item in enumerate(names) if item.nodeid == request.node.nodeid)
    return make_server(
        drain=f"{DRAIN_S}s", history_items=5000 + number, retry_min="500ms", retry_spread="50ms"
    )


async def end(server: Server) -> float:
    """SIGTERM; exit status 0, nothing bad in the log. Says how many seconds that took."""
    began = time.monotonic()
    await trio.to_thread.run_sync(server.stop)
    return time.monotonic() - began


async def goodbye_of(client: SseStream | Ws) -> int:
    """The `retry_ms` with which it is sent away."""
    if isinstance(client, Ws):
        code, reason = await client.closed()
        assert code == 1012
        found: int = json.loads(reason)["retry_ms"]
        return found
    while (block := await client.next()).event != "closing":
        pass
    body = json.loads(block.data)
    assert body["reason"] == "restart"
    assert client.parser.retry_ms == body["retry_ms"], "what an EventSource goes by"
    with pytest.raises(EOFError):
        await client.next()
    retry_ms: int = body["retry_ms"]
    return retry_ms


async def test_all_are_told_a_time_of_their_own(ending: Server) -> None:
    told: list[int] = []

    async def stay(  # noqa: ASYNC114 # started here only
        context: contextlib.AbstractAsyncContextManager[SseStream | Ws],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        async with context as client:
            task_status.started()
            told.append(await goodbye_of(client))

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            await nursery.start(stay, open_sse(ending.port))
            await nursery.start(stay, open_ws(ending))
        took = await end(ending)
    assert took < DRAIN_S
    assert len(told) == 60
    window_ms = 60 * 50
    assert all(500 <= retry_ms <= 500 + window_ms for retry_ms in told)
    # Even: each third of the window has its share, but for what happens once in 10^6 runs.
    for third in range(3):
        low = 500 + third * window_ms / 3
        assert 3 <= sum(low <= retry_ms <= low + window_ms / 3 for retry_ms in told) <= 40


async def test_frozen_clients_do_not_hold_it_up(ending: Server, lane: Lane) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with open_api(ending) as api:
            await freeze(ending, api, stack)
        healthy = await stack.enter_async_context(open_sse(ending.port, "/events?filter=.none"))
        took = await end(ending)
        assert await goodbye_of(healthy) >= 500
    assert took < (DRAIN_S if lane == "native" else HYPERCORN_S) + 1


async def freeze(server: Server, api: Api, stack: contextlib.AsyncExitStack) -> None:
    """Clients of both transports that have stopped reading, with all that they can be owed."""
    await api.put(".load", 0)
    for _ in range(5):
        await stack.enter_async_context(open_raw_ws(server, "/ws?filter=.load"))
        await stack.enter_async_context(open_sse(server.port, "/events?filter=.load"))
    for number in range(200):
        await api.put(".load", f"{number}" + "x" * 30_000)


@pytest.mark.native(reason="Hypercorn closes its port at once")
async def test_who_comes_during_the_end_is_told_to_wait(ending: Server) -> None:
    waits: list[int] = []
    async with contextlib.AsyncExitStack() as stack:
        async with open_api(ending) as api:
            await freeze(ending, api, stack)  # so that the end takes its time
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end, ending)
            with trio.fail_after(PATIENCE_S):
                while b" 503 " not in (await exchange(ending, READYZ)).split(b"\r\n")[0]:
                    pass
            for _ in range(8):
                async with open_sse(ending.port) as stream:
                    assert stream.status == 503
                    problem = stream.problem(await stream.content())
                    waits.append(int(stream.headers["retry-after"]))
                    assert problem["retry_after"] == waits[-1]
            # An EventSource would never come back after a 503.
            answer = await exchange(ending, EVENT_SOURCE)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"\r\ntriode: refused\r\n" in answer.lower()
            content = answer.partition(b"\r\n\r\n")[2]
            told = re.fullmatch(rb"retry: ([0-9]+)\n: 503, come back later\n\n", content)
            assert told is not None
            assert 2000 <= int(told[1]) <= 8000
    assert min(waits) >= 1
    assert len(set(waits)) > 1
