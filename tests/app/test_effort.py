"""Who floods the server waits for its turn; who says little does not wait for those."""

from __future__ import annotations

import contextlib
import socket
from statistics import median
from typing import Any

import pytest
import trio

from tests.app.test_exactness_found import connect, start
from triode.app.lanes import native
from triode.app.lanes.handoff_limits import HandoffLimits
from triode.app.lanes.hypercorn_stream import HandoffStream
from triode.app.lanes.native import NativeLane
from triode.app.net.dispatcher import Beginning
from triode.app.net.door import IdleConnections
from triode.app.net.request_head import Head
from triode.app.runtime import effort as module
from triode.app.runtime.effort import APP_S, BEGIN_S, DIRECT_S, READ_S, ROUND_S, Effort, admit

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


async def work(costs: Costs, effort: Effort, seconds: float, said: list[str], name: str) -> None:
    """Turns without end, each of which takes so long."""
    while True:
        await effort.turn()
        said.append(name)
        costs.now_s += seconds
        effort.done()


async def test_a_round_is_for_a_few_and_the_others_wait(
    costs: Costs, nursery: trio.Nursery
) -> None:
    said: list[str] = []
    for number in range(20):
        nursery.start_soon(work, costs, Effort(), 0.0003, said, str(number))
    for _ in range(100):
        await trio.lowlevel.checkpoint()
    rounds, before = 50, len(said)
    for _ in range(rounds):
        await trio.lowlevel.checkpoint()
    taken_s = (len(said) - before) * 0.0003
    assert 0.7 * rounds * ROUND_S <= taken_s <= 1.2 * rounds * ROUND_S + 0.0006
    counts = [said.count(str(number)) for number in range(20)]
    assert max(counts) - min(counts) <= 2, "all have as much"
    nursery.cancel_scope.cancel()


class Rounds(trio.abc.Instrument):
    """What was taken in each round."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._before_s = 0.0
        self.longest_s = 0.0

    def before_io_wait(self, timeout: float) -> None:
        self.longest_s = max(self.longest_s, self._costs.now_s - self._before_s)
        self._before_s = self._costs.now_s


async def test_a_round_is_no_longer_when_turns_take_longer_than_before(
    costs: Costs, nursery: trio.Nursery
) -> None:
    rounds = Rounds(costs)
    trio.lowlevel.add_instrument(rounds)

    async def live() -> None:
        effort = Effort()
        while True:
            for seconds in (0.00001, 0.0005):
                await effort.turn()
                costs.now_s += seconds
                effort.done()

    for _ in range(50):
        nursery.start_soon(live)
    for _ in range(300):
        await trio.lowlevel.checkpoint()
    trio.lowlevel.remove_instrument(rounds)
    assert rounds.longest_s < 2 * ROUND_S + 2 * 0.0005
    nursery.cancel_scope.cancel()


async def test_who_says_little_is_next(costs: Costs, nursery: trio.Nursery) -> None:
    said: list[str] = []
    quiet = Effort()
    for number in range(100):
        nursery.start_soon(work, costs, Effort(), (0.0003, 0.002)[number % 2], said, "flood")
    for _ in range(500):
        await trio.lowlevel.checkpoint()
    for _ in range(100):
        before = len(said)
        await quiet.turn()
        assert len(said) - before <= 12  # a hundred wait
        costs.now_s += 0.00005
        quiet.done()
        for _ in range(20):
            await trio.lowlevel.checkpoint()
    nursery.cancel_scope.cancel()


async def test_a_crowd_of_new_ones_comes_after_those_who_are_there(
    costs: Costs, nursery: trio.Nursery
) -> None:
    there = Effort()
    served = 0

    async def new() -> None:
        nonlocal served
        await Effort().step(APP_S)
        served += 1

    for _ in range(100):
        nursery.start_soon(new)
    for _ in range(30):
        before = served
        await there.turn()
        assert served - before <= 3
        costs.now_s += 0.00005
        there.done()
        for _ in range(3):
            await trio.lowlevel.checkpoint()
    while served < 100:  # noqa: ASYNC110 # it is rounds that are counted
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("what", ["stream", "other", "tls"])
async def test_of_those_who_begin_a_few_do_in_each_round(
    costs: Costs, nursery: trio.Nursery, what: Beginning
) -> None:
    begun = rounds = 0

    async def begin() -> None:
        nonlocal begun
        await admit(what)
        begun += 1

    for _ in range(100):
        nursery.start_soon(begin)
    while begun < 100:
        await trio.lowlevel.checkpoint()
        rounds += 1
    assert rounds == pytest.approx(100 * BEGIN_S[what] / ROUND_S, rel=0.2)


async def test_alone_one_never_waits_long(costs: Costs) -> None:
    effort = Effort()
    assert await effort.turn()
    assert not await effort.turn(), "somebody has had one in this round"
    costs.now_s += 1.0
    effort.done()
    with trio.fail_after(5):
        assert not await effort.turn()


async def test_who_is_cancelled_leaves_the_line(costs: Costs, nursery: trio.Nursery) -> None:
    first, second = Effort(), Effort()
    await first.step(0.1)
    with trio.move_on_after(0) as scope:
        await second.turn()
    assert scope.cancelled_caught
    assert not await second.turn(), "behind nobody"


class Requests:
    """A connection that brought so many requests in one piece, and no more."""

    secure = closed = False
    peer = "192.0.2.1"
    parsed = sock = None

    def __init__(self, count: int) -> None:
        self.buffer = bytearray(b"GET /store HTTP/1.1\r\nHost: a\r\n\r\n" * count)

    async def receive_new(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""


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
    assert rounds >= 0.75 * 100 * READ_S / ROUND_S
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
