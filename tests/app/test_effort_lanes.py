"""What connections bring is read, parsed and carried out in turns, on each lane."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from statistics import median
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.test_exactness_found import connect, start
from triode.app.lanes import hypercorn_stream, native
from triode.app.lanes.handoff_limits import HandoffLimits
from triode.app.lanes.hypercorn_stream import HandoffStream
from triode.app.lanes.native import NativeLane
from triode.app.net.door import IdleConnections
from triode.app.net.request_head import Head, parse_head
from triode.app.runtime import effort as module
from triode.app.runtime.effort import DIRECT_S, FIRST_S, ROUND_S

PING = b"\x89\x80" + bytes(4)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Costs:
    made = Costs()
    monkeypatch.setattr(module, "_clock", lambda: made.now_s)
    monkeypatch.setattr(module, "ROUND_SHARE", 0.0)  # rounds last as long as the machine is busy
    return made


class Costs:
    """A processor's clock that goes on when somebody is said to have worked."""

    now_s = 0.0


class Requests:
    """A connection that brought so many requests in one piece, and no more."""

    secure = closed = False
    peer = "192.0.2.1"
    parsed = sock = None

    def __init__(self, count: int) -> None:
        self.buffer = bytearray(b"GET /store HTTP/1.1\r\nHost: a\r\n\r\n" * count)

    async def receive_new(self, turn: Any = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""


class Waiting(Requests):
    """A connection whose next request comes at the same moment as all others'."""

    def __init__(self, event: trio.Event) -> None:
        super().__init__(0)
        self._event = event

    async def receive_new(self, turn: Any = None) -> bytes:
        await self._event.wait()
        if turn is not None:
            await turn()
        return bytes(Requests(1).buffer)


class CountedDirect:
    """Answers every request, and counts them."""

    served = 0

    def find(self, head: Head) -> bool:
        return True

    async def serve(self, route: Any, head: Head, body: bytes, send: Any) -> None:
        self.served += 1
        await trio.lowlevel.checkpoint()


async def test_requests_that_are_answered_directly_have_turns(
    costs: Costs, nursery: trio.Nursery
) -> None:
    direct, rounds = CountedDirect(), 0
    for _ in range(50):
        connection: Any = Requests(4)
        stream = HandoffStream(
            connection,
            lambda _head: False,
            HandoffLimits(),
            opaque=False,
            idle=IdleConnections(),
            direct=direct,
        )
        nursery.start_soon(stream.receive_some)
    while direct.served < 200:
        await trio.lowlevel.checkpoint()
        rounds += 1
    assert rounds == pytest.approx(200 * DIRECT_S / ROUND_S, rel=0.25)


async def test_reading_the_next_requests_has_turns(
    costs: Costs, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred that came at once were read and parsed in one round."""
    heads: list[int] = []
    round_no = 0

    def counted(buffer: bytearray, **named: Any) -> Any:
        if buffer:
            heads.append(round_no)
        return parse_head(buffer, **named)

    monkeypatch.setattr(hypercorn_stream, "parse_head", counted)
    event, direct = trio.Event(), CountedDirect()
    for _ in range(100):
        connection: Any = Waiting(event)
        stream = HandoffStream(
            connection,
            lambda _head: False,
            HandoffLimits(),
            opaque=False,
            idle=IdleConnections(),
            direct=direct,
        )
        nursery.start_soon(stream.receive_some)
    await trio.testing.wait_all_tasks_blocked()
    event.set()
    while direct.served < 100:
        await trio.lowlevel.checkpoint()
        round_no += 1
    assert max(Counter(heads).values()) <= 2 * ROUND_S / DIRECT_S + 2
    nursery.cancel_scope.cancel()


async def test_first_reads_have_turns(costs: Costs, nursery: trio.Nursery) -> None:
    triode = await start(nursery, {})
    taken = rounds = 0

    class Newcomer(Flood):
        waits_cheaply = True

        def __init__(self) -> None:
            self.sock, self.other = socket.socketpair()
            self.sock.setblocking(False)
            self.other.send(b"x")

        def receive_now(self, max_bytes: int) -> bytes:
            nonlocal taken
            taken += 1
            costs.now_s += FIRST_S
            return b""

    async def live(connection: Any) -> None:
        with contextlib.closing(connection.sock), contextlib.closing(connection.other):
            lane = NativeLane(connection, 10.0)
            await native._receive_messages(triode, connection, connect(triode, lane))

    for _ in range(100):
        nursery.start_soon(live, Newcomer())
    while taken < 100:
        await trio.lowlevel.checkpoint()
        rounds += 1
    assert rounds >= 0.75 * 100 * FIRST_S / ROUND_S
    nursery.cancel_scope.cancel()


class Flood:
    """A connection that brings more whenever it is read, and takes all it is sent."""

    secure = True
    waits_cheaply = False
    closed = False

    async def receive(self, max_bytes: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return PING * (max_bytes // len(PING))

    async def send_all(self, data: bytes, deadline_s: float) -> None:
        await trio.lowlevel.checkpoint()


class Quiet(Flood):
    """One that sends a ping when it is told to."""

    def __init__(self) -> None:
        self.send, self.receive_some = trio.open_memory_channel[bytes](1)
        self.waits = trio.Event()

    async def receive(self, max_bytes: int) -> bytes:
        self.waits.set()
        return await self.receive_some.receive()


@pytest.mark.parametrize("data", [PING, PING * 20], ids=["one ping", "twenty"])
async def test_a_light_client_does_not_wait_for_those_who_flood(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    triode = await start(nursery, {})
    turns = 0
    take = native._Talk._take

    async def counted(*args: Any, **named: Any) -> None:
        nonlocal turns
        turns += 1
        await take(*args, **named)

    monkeypatch.setattr(native._Talk, "_take", counted)

    async def live(connection: Any) -> None:
        lane = NativeLane(connection, 10.0)
        client = connect(triode, lane)
        await native._receive_messages(triode, connection, client)

    quiet = Quiet()
    nursery.start_soon(live, quiet)
    for _ in range(50):
        nursery.start_soon(live, Flood())
    while turns < 150:  # noqa: ASYNC110 # it is turns that are counted
        await trio.lowlevel.checkpoint()
    waited = []
    for _ in range(11):
        quiet.waits = trio.Event()
        before = turns
        await quiet.send.send(data)
        await quiet.waits.wait()
        waited.append(turns - before)
    # Fifty wait in the line. Whom Trio runs first in a round is chance: one may take longer.
    assert median(waited) < 40, waited
    nursery.cancel_scope.cancel()
