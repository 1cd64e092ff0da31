"""The life of a subscriber: how it ends, who is woken by that, and what is left to send then."""

from __future__ import annotations

import gc
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast
from unittest.mock import patch

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect, start
from tests.app.watcher import ByteLane, Reader
from triode.app.blueprints.events import AsgiLane, EventStream
from triode.app.delivery.flusher import PASS_BYTES
from triode.app.delivery.group import Group
from triode.app.delivery.subscriber import Client
from triode.app.service.session import Session
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.app.wire.end_reasons import How
from triode.store.draft import Draft
from triode.store.operation import Set
from triode.store.value import Json, encode

settle = trio.testing.wait_all_tasks_blocked


async def test_what_is_told_to_one_that_has_gone_holds_nobody_up(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0})
    client = connect(triode, FakeLane())
    await settle()
    triode.hub.end(client, end_reasons.CLIENT_LOST, "silently")
    triode.hub.tell(client, "ok", {"positions": ["x"] * PASS_BYTES})
    assert not triode.hub.flusher.full
    with trio.move_on_after(1) as limit:
        await triode.write(Set(("a",), 1))
    assert not limit.cancelled_caught


async def test_what_is_published_during_a_pass_holds_nobody_up_after_it(
    nursery: trio.Nursery,
) -> None:
    """The pass takes it along where its group has not had its turn: there is no other then."""
    triode = await start(nursery, {"a": 0, "b": "x" * (PASS_BYTES + 1)})
    for name in "ab":
        connect(triode, FakeLane(), f".{name}")
    await settle()
    flush, others = Group.flush, [True]

    def publishing_flush(group: Group[Client]) -> int:
        """As whoever runs at a checkpoint of the pass may publish."""
        written = flush(group)
        if others:
            others.clear()
            triode.write_nowait(Set(("b",), "y" * (PASS_BYTES + 1)))
        return written

    with patch.object(Group, "flush", publishing_flush):
        triode.write_nowait(Set((), {"a": 1, "b": 2}))
        await settle()
    assert not others
    assert not triode.hub.flusher.full


async def test_a_frame_is_counted_once_however_many_get_it(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0, "b": 0})
    for name in ("a", "b"):
        connect(triode, FakeLane(), ".a", rooms=(name,))  # two groups
    await settle()
    before = triode.hub.flusher._pass_bytes
    triode.write_nowait(Set(("a",), "x" * 1000))
    assert 1000 < triode.hub.flusher._pass_bytes - before < 1200


@pytest.mark.parametrize("how", ["goodbye", "at once", "silently"])
async def test_a_session_whose_answers_are_unread_ends_with_its_client(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, how: How
) -> None:
    triode = await start(nursery, {"a": "x" * 100_000})
    lane = FakeLane(0)
    client = connect(triode, lane)
    session = Session(triode, client)

    async def ask() -> None:
        while not client.has_ended():
            await session.receive(encode({"type": "get", "filter": ".a"}))
            await settle()

    with trio.move_on_after(60) as limit:
        async with trio.open_nursery() as asking:
            asking.start_soon(ask)
            for _ in range(20):
                await settle()
            assert asking.child_tasks
            triode.hub.end(client, end_reasons.TOKEN_ENDED, how)
    assert not limit.cancelled_caught
    assert client.state == ("finishing" if how == "goodbye" else "gone")
    assert lane.aborted is (how == "at once")


async def test_an_end_at_once_overtakes_a_goodbye(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": "x" * 1000})
    lane = FakeLane(0)
    client = connect(triode, lane, ".a")
    await settle()
    triode.hub.end(client, end_reasons.TOKEN_ENDED)
    assert client.state == "finishing"
    triode.hub.end(client, end_reasons.IDLE)  # no second goodbye
    assert (client.state, lane.woken) == ("finishing", 0)
    triode.hub.end(client, end_reasons.WRITE_TIMEOUT, "at once")
    assert (client.state, client.end) == ("gone", end_reasons.TOKEN_ENDED)
    assert (client.outbox, lane.woken, lane.aborted) == (None, 1, True)
    assert triode.metrics.ends["token_ended"] == 1
    assert triode.metrics.ends["write_timeout"] == 0


async def test_who_says_goodbye_keeps_its_place_until_it_is_gone(nursery: trio.Nursery) -> None:
    """Else one that reads nothing would cost as much as ever and not be counted."""
    triode = await start(nursery, {"a": 0})
    lane = FakeLane(0)
    client = connect(triode, lane, ".a")
    client.ticket = triode.gate.admit("192.0.2.1", client.principal)
    triode.hub.end(client, end_reasons.TOKEN_ENDED)
    await settle()
    assert any(triode.gate.admission.statistics().values())
    lane.feed(None)
    await settle()
    assert client.state == "gone"
    assert not any(triode.gate.admission.statistics().values())


@pytest.mark.parametrize("appetite", [None, 1000])
async def test_a_goodbye_leaves_out_nothing_that_its_positions_count_on(
    nursery: trio.Nursery, appetite: int | None
) -> None:
    """A snapshot in pieces was skipped, and what came after it said that it had arrived."""
    root: Json = {f"k{number}": "x" * 1000 for number in range(300)}
    triode = await start(nursery, root)
    lane = ByteLane(appetite)
    client = connect(triode, lane, ".")  # nothing of it is flushed yet
    triode.write_nowait(Set(("k0",), "newer"))
    triode.hub.end(client, end_reasons.RESTART)
    lane.feed(None)
    await settle()
    assert client.state == "gone"
    told = Reader("ws", lane).read()
    assert [m["type"] for m in told if m["type"] != "snapshot"] == [
        "connected",
        "update",
        "closing",
    ]
    assert sum(len(m["items"]) for m in told if m["type"] == "snapshot") == 1
    assert told[-2]["id"] == str(triode.store.position)
    assert triode.store.document._pins == 0


async def test_the_states_of_a_life(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0}, queue_items=1)
    lane = FakeLane()
    client = connect(triode, lane, ".a")
    assert client.state == "flowing"
    await settle()
    lane.feed(0)
    for value, state in ((1, "slow"), (2, "slow"), (3, "healing")):
        await triode.write(Set(("a",), value))
        await settle()
        assert client.state == state
        assert f" {state}>" in repr(client)
    lane.feed(None)
    await settle()
    assert client.state == "flowing"
    triode.hub.end(client, end_reasons.NORMAL)
    assert client.state == "gone"
    assert connect(triode, AsgiLane()).state == "slow"


@pytest.mark.parametrize("direct", [True, False], ids=["native", "asgi"])
async def test_heartbeats_do_not_end_who_takes_a_big_snapshot_slowly(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock, direct: bool
) -> None:
    """A piece every 20 s, within the write deadline, for more than an hour."""
    root: Json = {f"k{number}": "x" * 60_000 for number in range(200)}
    triode = await start(nursery, root)
    lane = SlowLane() if direct else AsgiLane()
    client = connect(triode, lane, ".*", kind="sse")
    if isinstance(lane, AsgiLane):
        nursery.start_soon(read_slowly, triode, client)
    started = trio.current_time()
    while triode.store.document._pins:
        await trio.sleep(60)
        assert not client.has_ended()
    assert trio.current_time() - started > 3600
    beats = triode.metrics.heartbeats
    await trio.sleep(60)
    assert triode.metrics.heartbeats > beats


class SlowLane(FakeLane):
    """Takes nothing at once, and each piece after a while."""

    def __init__(self) -> None:
        super().__init__(0)

    async def send_all(self, data: bytes) -> None:
        await trio.sleep(20)


async def read_slowly(triode: Triode, client: Client) -> None:
    async with (
        EventStream(triode.hub, client) as body,
        aclosing(cast("AsyncGenerator[bytes]", body)) as pieces,
    ):
        async for _ in pieces:
            await trio.sleep(20)


async def test_a_stream_that_nobody_serves_is_ended_in_the_next_turn(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A finalizer runs at any moment, also while the registries are walked: it only asks for it.
    Who comes back at once must not find itself in the room already.
    """
    triode = await start(nursery, {"a": 0})
    client = connect(triode, AsgiLane(), ".a", kind="sse")
    stream = EventStream(triode.hub, client)
    del stream
    gc.collect()
    assert not client.has_ended()
    await trio.testing.wait_all_tasks_blocked()
    assert client.state == "gone"


async def test_a_pin_may_end_in_the_middle_of_a_write(nursery: trio.Nursery) -> None:
    """In a finalizer; the write goes on with the draft that it has begun with."""
    triode = await start(nursery, {"a": {"b": 0}})
    document = triode.store.document
    pin = document.pin()
    old = pin.__enter__()
    replace = Draft.replace

    def replace_and_collect(draft: Draft, *edit: Any) -> Any:
        pin.__exit__(None, None, None)
        return replace(draft, *edit)

    with patch.object(Draft, "replace", replace_and_collect):
        triode.write_nowait(Set(("a", "b"), 1))
    assert (old, document.root) == ({"a": {"b": 0}}, {"a": {"b": 1}})
    triode.write_nowait(Set(("a", "b"), 2))
    assert (old, document.root) == ({"a": {"b": 0}}, {"a": {"b": 2}})
