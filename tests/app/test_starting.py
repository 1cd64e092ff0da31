"""While a long log is read the port answers and says how far it is; a short start is waited for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from triode.app.config.settings import Settings
from triode.app.lanes.starting import PATIENCE_S, start
from triode.app.net.listener import open_sockets
from triode.app.service.triode import Triode

EVENT_SOURCE = {"Accept": "text/event-stream"}


class Starting:
    """A start that takes as long as the test wants, on a free port."""

    def __init__(self) -> None:
        self.triode = Triode(Settings())
        self.sockets = open_sockets("127.0.0.1", 0)
        self.done = trio.Event()
        self.fault: Exception | None = None

    async def begin(self) -> None:
        self.triode.progress.begin("redoing the log", 200, "writes")
        self.triode.progress.step(50)
        await self.done.wait()
        if self.fault is not None:
            raise self.fault

    async def ask(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Status, head, body."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.sockets[0].getsockname()[1])
        async with stream:
            lines = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode())
            data = b"".join([part async for part in stream])
        head, _, body = data.decode().partition("\r\n\r\n")
        return int(head.split()[1]), head, body


@pytest.fixture
def one() -> Iterator[Starting]:
    """One that has not begun."""
    made = Starting()
    yield made
    for sock in made.sockets:
        sock.close()


@pytest.fixture
async def starting(one: Starting, nursery: trio.Nursery, mock_clock: MockClock) -> Starting:
    """One that has taken ten seconds."""
    nursery.start_soon(partial(start, one.triode, one.sockets, None, one.begin))
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(10)
    await trio.testing.wait_all_tasks_blocked(0.01)
    return one


async def test_all_are_told_how_far_it_is(starting: Starting, mock_clock: MockClock) -> None:
    for path in ("/readyz", "/health", "/store?path=.", "/nothing"):
        status, head, body = await starting.ask(path)
        assert status == 503
        assert "Retry-After: 30" in head, "a quarter took ten seconds"
        told: dict[str, Any] = json.loads(body)
        assert told["title"] == "Starting"
        assert told["booting"] == {
            "phase": "redoing the log", "done": 50, "total": 200, "unit": "writes", "percent": 25
        }  # fmt: skip
    starting.triode.progress.step(100)
    assert (await starting.ask("/readyz"))[1].endswith("Retry-After: 3")


async def test_it_lives_and_an_event_source_comes_back(
    starting: Starting, mock_clock: MockClock
) -> None:
    assert (await starting.ask("/healthz"))[::2] == (200, "starting\n")
    status, head, body = await starting.ask("/events?filter=.", EVENT_SOURCE)
    assert status == 200
    assert "text/event-stream" in head
    assert body.startswith("retry: 3")
    status, _, body = await starting.ask(
        "/ws",
        {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        },
    )
    assert (status, json.loads(body)["title"]) == (503, "Starting")


async def test_a_short_start_is_waited_for(one: Starting, mock_clock: MockClock) -> None:
    answers: list[bytes] = []

    async def ask() -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", one.sockets[0].getsockname()[1])
        async with stream:
            await stream.send_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answers.append(await stream.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        async with trio.open_nursery() as beginning:
            beginning.start_soon(start, one.triode, one.sockets, None, one.begin)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(PATIENCE_S * 0.9)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not answers
            one.done.set()
        # The sockets are as they were: who waited is accepted by whoever comes next.
        sock, _ = await trio.to_thread.run_sync(partial(accept, one))
        sock.send(b"served")
        sock.close()
    assert answers == [b"served"]


def accept(one: Starting) -> Any:
    one.sockets[0].setblocking(True)
    return one.sockets[0].accept()


@pytest.mark.parametrize("late", [False, True])
async def test_what_is_wrong_with_the_log_is_raised_as_it_is(
    one: Starting, mock_clock: MockClock, late: bool
) -> None:
    one.fault = LookupError("no log")

    async def fails() -> None:
        with pytest.raises(LookupError, match="no log"):
            await start(one.triode, one.sockets, None, one.begin)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails)
        await trio.testing.wait_all_tasks_blocked()
        if late:
            mock_clock.jump(10)
            await trio.testing.wait_all_tasks_blocked(0.01)
        one.done.set()
