"""Who floods the server waits for its turn; who says little does not wait for those."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.app.test_exactness_found import connect, start
from triode.app.lanes import native
from triode.app.lanes.native import NativeLane
from triode.app.runtime.effort import FREE_S, FREE_SHARE, MOST_OF_STEP_S, MOST_S, Effort
from triode.app.runtime.turns import turn, turn_at_once

PING = b"\x89\x80" + bytes(4)


async def test_an_effort_is_what_was_taken_lately(autojump_clock: trio.testing.MockClock) -> None:
    effort = Effort()

    async def work(seconds: float) -> None:
        since = trio.current_time()
        await trio.sleep(seconds)
        effort.add(since)

    for _ in range(2):
        await work(0.002)
    assert effort.is_light(trio.current_time())
    await work(0.002)
    assert not effort.is_light(trio.current_time())
    await trio.sleep((0.006 - FREE_S) / FREE_SHARE + 0.001)
    assert effort.is_light(trio.current_time())


async def test_a_long_step_counts_little_and_all_of_them_are_forgotten_soon(
    autojump_clock: trio.testing.MockClock,
) -> None:
    effort = Effort()
    await trio.sleep(10)
    effort.add(trio.current_time() - 5)
    assert MOST_OF_STEP_S < FREE_S
    assert effort.is_light(trio.current_time())
    for _ in range(1000):
        effort.add(trio.current_time() - 0.002)
    assert not effort.is_light(trio.current_time())
    assert effort.is_light(trio.current_time() + MOST_S / FREE_SHARE)


async def test_one_has_its_turn_in_each_round() -> None:
    assert turn_at_once()
    assert not turn_at_once()
    await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert turn_at_once()


async def test_nobody_takes_a_turn_before_those_who_wait(nursery: trio.Nursery) -> None:
    for _ in range(5):
        nursery.start_soon(turn)
    for _ in range(2):
        await trio.lowlevel.checkpoint()
    assert not turn_at_once()


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

    async def counted(*args: Any) -> None:
        nonlocal turns
        turns += 1
        await take(*args)

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
    for _ in range(10):
        quiet.waits = trio.Event()
        before = turns
        await quiet.send.send(data)
        await quiet.waits.wait()
        assert turns - before <= 5  # fifty wait in the line
    nursery.cancel_scope.cancel()
