"""The pace of a session: whoever does not read the answers is not asked for more questions."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_deflate import masked
from tests.app.test_exactness_found import connect, start
from triode.app.delivery.outbox import CONTROL_ITEMS
from triode.app.service.session import Session
from triode.app.wire import end_reasons
from triode.app.wire.frame import PING, PONG, TEXT, unwrap, ws_frame
from triode.app.wire.message_reader import MessageReader
from triode.limits.ledger import Ledger
from triode.store.value import encode

settle = trio.testing.wait_all_tasks_blocked


@pytest.mark.parametrize("size", [1, 30_000], ids=["many answers", "long answers"])
async def test_commands_wait_for_the_answers_to_be_taken(nursery: trio.Nursery, size: int) -> None:
    triode = await start(nursery, {"a": "x" * size})
    lane = FakeLane(0)
    client = connect(triode, lane)
    session = Session(triode, client)
    done = 0

    async def ask() -> None:
        nonlocal done
        for ref in range(200):
            await session.receive(encode({"type": "get", "filter": ".a", "ref": ref}))
            await settle()
            done += 1

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        await settle()
        while client.outbox is None or not client.outbox.is_behind:
            await settle()
        for _ in range(10):
            await settle()
        waiting = done
        assert waiting <= (CONTROL_ITEMS if size == 1 else 5)
        assert client.outbox.bytes < triode.settings.queue_bytes + 2 * (size + 100)
        lane.feed(None)
    assert waiting < done == 200
    refs = [message["ref"] for message in lane.messages() if message["type"] == "ok"]
    assert refs == list(range(200))


async def test_a_session_that_waits_ends_with_its_client(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": "x" * 100_000})
    client = connect(triode, FakeLane(0))
    session = Session(triode, client)
    command = encode({"type": "get", "filter": ".a"})

    async def ask() -> None:
        while not client.has_ended():
            await session.receive(command)
            await settle()

    async with trio.open_nursery() as asking:
        asking.start_soon(ask)
        for _ in range(20):
            await settle()
        assert asking.child_tasks
        triode.hub.end(client, end_reasons.CLIENT_LOST, "silently")


async def test_who_takes_what_it_is_sent_is_not_idle(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Its pongs may be a long time in coming: each write has a deadline instead."""
    triode = await start(nursery, {"a": 0}, queue_items=1000)
    lane = FakeLane(0)
    client = connect(triode, lane, ".a")
    for _ in range(60):
        await trio.sleep(5)
        assert not client.has_ended()
    lane.feed(None)
    await trio.sleep(triode.settings.idle_s - 5)
    assert not client.has_ended()
    await trio.sleep(10)
    assert client.end is end_reasons.IDLE


def test_each_ping_is_answered_in_its_place() -> None:
    reader = MessageReader(2**20, Ledger(1 << 40).account("messages", 0))
    pings = b"".join(masked(PING, b"%d" % number) for number in range(1000))
    [pongs] = reader.feed(pings)
    assert list(unwrap(bytearray(pongs))) == [(PONG, b"%d" % number) for number in range(1000)]
    assert reader.feed(masked(PING, b"1") + masked(TEXT, b"{}") + masked(PING, b"2")) == [
        ws_frame(PONG, b"1"),
        b"{}",
        ws_frame(PONG, b"2"),
    ]
    assert reader.answer == b""


def test_unfinished_messages_are_bounded_over_all() -> None:
    held = Ledger(1 << 40).account("messages", 100)
    first, second = MessageReader(2**20, held), MessageReader(2**20, held)
    assert first.feed(masked(0x01, b"1" * 60)) == []
    assert held.held == 60
    assert second.feed(masked(0x01, b"2" * 90)[:70]) == []  # a frame that is still coming
    assert second.end is end_reasons.BUSY
    assert int.from_bytes(second.answer[2:4], "big") == 1013
    assert held.refused == 1
    second.close()
    assert held.held == 60
    assert first.feed(masked(0x80, b"3" * 30)) == [b"1" * 60 + b"3" * 30]
    assert held.held == 0
    first.close()
    assert held.held == 0


def test_fragments_of_nothing_take_no_room() -> None:
    reader = MessageReader(2**20, Ledger(1 << 40).account("messages", 0))
    reader.feed(masked(0x01, b"{"))
    for _ in range(100):
        assert reader.feed(masked(0x00, b"") * 100) == []
    assert reader.feed(masked(0x80, b"}")) == [b"{}"]
    assert reader.feed(ws_frame(TEXT, b"unmasked")) == []
    assert reader.end is end_reasons.PROTOCOL
