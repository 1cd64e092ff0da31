"""What rooms remember is there after a restart, as it was."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect, say
from tests.app.test_journal import SlowLog, fresh, running_on
from triode.app.delivery import rooms
from triode.app.log.log import LogFull
from triode.app.log.memory import MemoryLog
from triode.app.service.shutdown import say_goodbye
from triode.app.service.triode import Triode
from triode.limits.principal import OWNER
from triode.store.records import Record


def publish(triode: Triode, *names: str, data: Any, sender: Any = None) -> None:
    triode.publish(rooms=list(names), data=data, sender=sender)


async def answers(triode: Triode, lane: FakeLane) -> list[dict[str, Any]]:
    await trio.testing.wait_all_tasks_blocked(0.01)
    return lane.messages()[1:]


async def join(triode: Triode, **members: Any) -> tuple[Any, list[Any]]:
    """What `join` answers, and the messages that it brings."""
    lane = FakeLane()
    client = connect(triode, lane)
    await say(triode, client, type="join", **members)
    ok, *messages = await answers(triode, lane)
    assert ok["type"] == "ok", ok
    return ok, [(message["room"], message["data"]) for message in messages]


async def test_join_goes_on_where_it_was() -> None:
    log = fresh()
    async with running_on(log, {}) as triode:
        lane = FakeLane()
        client = connect(triode, lane, rooms=("a", "b", "silent"))
        publish(triode, "a", "b", data=1)
        at = {name: str(triode.hub.rooms.position(room)) for name, room in client.rooms.items()}
        publish(triode, "a", data=2)
        publish(triode, "b", "a", data=3)
        publish(triode, "b", data="mine", sender=client)
        was = client.id
    async with running_on(log) as triode:
        ok, missed = await join(triode, room=["a", "b", "silent"], since=at, was=was)
        assert ok["resumed"] == {"a": True, "b": True, "silent": True}
        # What went to both rooms comes once, and what it sent itself not at all.
        assert missed == [("a", 2), ("b", 3)] or missed == [("b", 3), ("a", 2)]
        assert len(triode.store.records) == 0
        publish(triode, "a", data=4)
        ok, missed = await join(triode, room="a", since=at["a"])
        assert [data for _, data in missed] == [2, 3, 4]


async def test_of_what_a_room_forgot_nothing_is_made_up() -> None:
    log = fresh()
    async with running_on(log, {}, room_history=2) as triode:
        client = connect(triode, FakeLane(), rooms=("a",))
        before = []
        for number in range(4):
            before.append(str(triode.hub.rooms.position(client.rooms["a"])))
            publish(triode, "a", data=number)
    async with running_on(log, room_history=2) as triode:
        resumed = [(await join(triode, room="a", since=since))[0]["resumed"] for since in before]
        assert resumed == [False, False, True, True]


async def test_many_rooms_are_kept_while_all_are_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rooms, "EMPTY_ROOMS", 2)
    log = fresh()
    names = [f"r{number}" for number in range(6)]
    async with running_on(log, {}) as triode:
        for name in names:
            connect(triode, FakeLane(), rooms=(name,))
            publish(triode, name, data=1)
        await say_goodbye(triode)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(triode.hub.rooms) == 0
    async with running_on(log) as triode:
        triode.hub.rooms.sweep(trio.current_time())
        assert [name for name, _ in triode.hub.rooms.kept()] == names
        triode.hub.rooms.sweep(trio.current_time() + rooms.EMPTY_S)
        assert [name for name, _ in triode.hub.rooms.kept()] == []


async def test_a_full_log_loses_rooms_and_nothing_else() -> None:
    log = SlowLog()
    log.open_up()
    async with running_on(log, {"a": 1}) as triode:
        connect(triode, FakeLane(), rooms=("r",))
        publish(triode, "r", data=1)
        log.fails_with = LogFull("the disk is full")
    log.fails_with = None
    async with running_on(log) as triode:
        assert triode.store.document.root == {"a": 1}
        assert [*triode.hub.rooms.kept()] == []


@pytest.mark.parametrize(
    "row", [{}, {"epoch": "e", "seq": "x", "log": []}, {"epoch": "e", "seq": 1, "log": [1]},
            {"epoch": "e", "seq": 1, "log": [[1, 2, None, ["r"]]]}],
)  # fmt: skip
async def test_what_cannot_be_read_begins_anew(row: dict[str, Any]) -> None:
    log: MemoryLog = fresh()
    async with running_on(log, {}) as triode:
        assert triode.journal is not None
        await triode.journal.write(Record("room/r", row), OWNER)
    async with running_on(log) as triode:
        assert [*triode.hub.rooms.kept()] == []
        assert len(triode.store.records) == 0
