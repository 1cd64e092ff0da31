"""What waits for slow clients is held once, however many it waits for, and counted exactly."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import connect, running
from triode.app.config.settings import Settings
from triode.app.delivery.backlog import Backlog
from triode.app.delivery.outbox import Outbox
from triode.app.delivery.slow_writer import WRITE_BYTES
from triode.app.service.holdings import settle
from triode.app.wire import end_reasons
from triode.app.wire.frame import TEXT, Frame, Remainder, ws_frame
from triode.store.operation import Set

MIB = 1024 * 1024
ALL = None
LONG = "x" * 200_000


async def test_a_frame_that_many_took_a_part_of_is_held_once(autojump_clock: object) -> None:
    async with running(Settings(), {"a": ""}) as triode:
        lanes = [FakeLane(ALL) for _ in range(30)]
        for lane in lanes:
            connect(triode, lane, ".a")
        await trio.testing.wait_all_tasks_blocked()
        for number, lane in enumerate(lanes):
            lane.feed(1_000 + number)
        await triode.write(Set(("a",), LONG))
        await trio.testing.wait_all_tasks_blocked()
        backlog = triode.hub.backlog
        # And each has a piece of it in hand.
        assert len(LONG) < backlog.bytes - 30 * WRITE_BYTES < len(LONG) + 200
        settle(triode.ledger)
        assert triode.ledger.accounts["queues"].held == backlog.bytes
        for lane in lanes:
            lane.feed(ALL)
        await trio.testing.wait_all_tasks_blocked()
        assert backlog.bytes == 0
        assert [client.outbox for client in triode.hub.clients.values()] == [None] * 30
        for lane in lanes:
            assert lane.messages()[-1]["value"] == LONG


async def test_what_many_have_lost_their_position_of_is_held_once(autojump_clock: object) -> None:
    async with running(Settings(queue_items=1), {"a": "", "b": ""}) as triode:
        lanes = [FakeLane(0) for _ in range(10)]
        for lane in lanes:
            connect(triode, lane, ".a", ".b")
        await trio.testing.wait_all_tasks_blocked()
        for value in ("1", "2", "3"):
            await triode.write(Set(("a",), value * 1_000))
            await trio.testing.wait_all_tasks_blocked()
        clients = list(triode.hub.clients.values())
        assert all(client.losses for client in clients)
        before = triode.hub.backlog.bytes
        body = b'{"type":"said","id":"abc:1","value":"%b"}' % (b"x" * 50_000)
        assert triode.hub.send(clients, lambda _: Frame(ws_frame(TEXT, body))) == 10
        await trio.testing.wait_all_tasks_blocked()
        assert before + 50_000 < triode.hub.backlog.bytes < before + 51_000
        for client in clients:
            triode.hub.end(client, end_reasons.MEMORY, "at once")
        await trio.testing.wait_all_tasks_blocked()
        assert triode.hub.backlog.bytes == 0


async def test_clients_are_ended_until_enough_is_free_and_no_further() -> None:
    async with running(Settings(memory=MIB, history_items=1), {"a": "", "b": ""}) as triode:
        lanes = [FakeLane(0) for _ in range(3)]
        paths = (".a", ".a", ".b")
        clients = [connect(triode, *pair) for pair in zip(lanes, paths, strict=True)]
        await trio.testing.wait_all_tasks_blocked()
        await triode.write(Set(("a",), "x" * 200_000))
        await triode.write(Set(("b",), "x" * 190_000))
        await trio.testing.wait_all_tasks_blocked()
        triode.ledger.limit = triode.store.footprint + 300_000
        settle(triode.ledger)
        # Both of `.a`: with one of them nothing is free, and then that is enough.
        assert [client.end for client in clients] == [end_reasons.MEMORY] * 2 + [None]


async def test_what_is_being_written_counts_against_the_bound() -> None:
    backlog = Backlog()
    outbox = Outbox(10, 1_000, backlog=backlog)
    source = object()

    def data(size: int) -> Frame:
        return Frame(b"x" * size, source)  # type: ignore[arg-type] # only told apart from None

    assert outbox.put(data(900), 0.0)
    assert outbox.take_nowait(100)
    assert (outbox.bytes, outbox.in_hand, backlog.bytes) == (0, 900, 900)
    assert outbox.put(data(100), 0.0)
    assert not outbox.put(data(1), 0.0)
    # One alone is always taken, but not on top of more than the bound.
    taken = outbox.take_nowait(100)
    assert [frame.size for frame in taken] == [100]
    assert outbox.put(data(5_000), 0.0)
    assert len(outbox.take_nowait(100)) == 1
    assert not outbox.put(data(5_000), 0.0)
    assert backlog.bytes == outbox.in_hand == 5_000
    assert outbox.take_nowait(100) == []
    assert backlog.bytes == outbox.in_hand == 0
    await trio.lowlevel.checkpoint()


async def test_whoever_closes_lets_go_of_all() -> None:
    backlog = Backlog()
    outbox = Outbox(10, 1_000, backlog=backlog)
    whole = Frame(b"x" * 500)
    assert outbox.put(Remainder(whole, memoryview(whole.data)[100:]), 0.0)
    assert outbox.put(Frame(b"y" * 50), 0.0)
    assert (outbox.bytes, backlog.bytes) == (450, 550)
    outbox.take_nowait(1)
    outbox.close()
    assert (backlog.bytes, whole.holders) == (0, 0)

    outbox = Outbox(10, 1_000, backlog=backlog)
    async with trio.open_nursery() as nursery:

        async def take() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await outbox.take(100)

        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        outbox.put(Frame(b"handed over"), 0.0)
        outbox.close()
    assert backlog.bytes == 0
