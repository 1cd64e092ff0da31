"""A topic of the Python client over its life: snapshots, gaps, cuts, resuming. No server."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from triode_client import MISSING, Change, Message, NotAllowed, TriodeError
from triode_client.errors import refused
from triode_client.room import Hall, Room
from triode_client.topic import Topic


def snapshot(*items: tuple[str, Any], more: bool = False, id: str | None = None) -> dict[str, Any]:
    frame = {
        "type": "snapshot",
        "items": [{"path": path, "value": value} for path, value in items],
        "more": more,
    }
    return frame | ({"id": id} if id else {})


def update(path: str, value: Any) -> dict[str, Any]:
    return {"type": "update", "path": path, "value": value}


GAP = {"type": "gap", "missed": 1}


def is_stale(topic: Topic) -> bool:
    """Asked anew each time, which a type checker does not expect of an attribute."""
    return topic.stale


async def loaded(filter: str = ".*") -> Topic:
    """A topic that is whole at e:1."""
    topic = Topic(filter, None)
    topic.begin(resumed=False)
    topic.take(snapshot((".a", 1), id="e:1"))
    return topic


async def test_a_snapshot_is_seen_when_it_is_whole() -> None:
    topic = await loaded()
    topic.begin(resumed=False)
    topic.take(snapshot((".b", 1), more=True))
    assert topic.value == {".a": 1}
    topic.take(snapshot((".c", 1), id="e:5"))
    assert topic.value == {".b": 1, ".c": 1}
    assert topic.position == "e:5"


async def test_a_snapshot_that_was_cut_off_counts_for_nothing() -> None:
    topic = await loaded()
    topic.take(GAP)
    topic.take(snapshot((".b", 1), more=True))
    topic.cut()
    assert topic.value == {".a": 1}
    assert "since" not in topic.command()
    topic.begin(resumed=False)
    topic.take(snapshot((".c", 1)))
    assert topic.value == {".c": 1}


async def test_events_before_the_ok_are_for_a_subscription_before_it() -> None:
    topic = Topic(".*", None)
    topic.take(snapshot((".a", 1), id="e:1"))
    topic.reached("e:1")
    assert not topic.has_state
    assert topic.position is None
    topic.begin(resumed=False)
    topic.take(update(".a", 2))  # nor do those before the snapshot
    topic.reached("e:2")
    assert not topic.has_state
    assert topic.position is None


async def test_in_a_gap_nothing_counts_and_it_is_not_resumed_from() -> None:
    topic = await loaded()
    topic.take(GAP)
    assert is_stale(topic)
    topic.take(update(".a", 2))
    topic.reached("e:9")
    assert topic.value == {".a": 1}
    assert topic.position == "e:1"
    assert topic.command() == {"type": "subscribe", "filter": ".*"}
    topic.take(snapshot((".a", 3), id="e:10"))
    assert not is_stale(topic)
    assert topic.command()["since"] == "e:10"


async def test_a_resumed_topic_is_stale_until_it_has_caught_up() -> None:
    topic = await loaded()
    topic.cut()
    assert is_stale(topic)
    topic.begin(resumed=True)
    topic.take(update(".a", 2))
    assert is_stale(topic)
    topic.caught_up()
    assert not is_stale(topic)
    assert topic.value == {".a": 2}


async def test_what_is_sent_again_may_have_been_done_and_what_is_not_must_fit() -> None:
    topic = await loaded()
    pop = {"type": "delete", "path": ".a[1]"}
    topic.take(update(".a", [1, 2]))
    assert topic.take(pop)
    topic.cut()
    topic.begin(resumed=True)
    assert topic.take(pop)
    assert topic.value == {".a": [1]}
    topic.caught_up()
    assert not topic.take(pop)
    assert is_stale(topic)
    assert "since" not in topic.command()


async def test_a_gap_while_catching_up_stays_a_gap() -> None:
    topic = await loaded()
    topic.cut()
    topic.begin(resumed=True)
    topic.take(GAP)
    topic.caught_up()
    assert is_stale(topic)


async def test_waiters_are_told_once_for_several_changes_and_of_a_failure() -> None:
    topic = await loaded(".a")
    seen = topic.version
    for number in range(3):
        topic.take(update(".a", number))
    seen = await topic.wait_changed(seen)
    assert topic.value == 2
    with trio.move_on_after(0) as scope:
        await topic.wait_changed(seen)
    assert scope.cancelled_caught
    topic.fail(refused({"status": 403}))
    assert is_stale(topic)
    with pytest.raises(NotAllowed):
        await topic.wait_changed(topic.version)


async def test_a_listener_gets_every_change_with_its_state() -> None:
    class Ear:
        def __init__(self) -> None:
            self.changes: list[Change] = []

        def push(self, change: Change) -> None:
            self.changes.append(change)

        def fail(self, failure: TriodeError) -> None:
            raise failure

    topic, ear = await loaded(".a"), Ear()
    topic.listeners.add(ear)
    topic.reached("e:2")
    topic.take(update(".a", [1]))
    topic.take(update(".a[1]", 2))
    topic.take({"type": "delete", "path": ".a"})
    assert [change.value for change in ear.changes] == [[1], [1, 2], MISSING]
    assert [change.position for change in ear.changes] == ["e:2"] * 3


async def nobody(event: str, data: Any, echo: bool) -> int:
    return 0


def said(number: int) -> dict[str, Any]:
    return {
        "type": "message",
        "room": "r",
        "event": "n",
        "data": number,
        "time": 0,
        "id": f"r:{number}",
    }


async def heard(room: Room) -> list[tuple[Any, int | None]]:
    messages: list[Message] = []
    with trio.move_on_after(0.01):
        async for message in room:
            messages.append(message)
    return [(message.data, message.missed) for message in messages]


async def test_what_a_room_missed_is_counted_from_every_side() -> None:
    hall = Hall("r")
    room = Room(hall, nobody, 2)
    hall.rooms.add(room)
    hall.take(said(0))  # before we were in it
    hall.begin(position="r:0")
    hall.take(said(1))
    hall.take({"type": "gap", "room": "r", "missed": 3})
    hall.take(said(2))
    assert await heard(room) == [(1, 0), (2, 3)]
    hall.take({"type": "gap", "room": "r", "missed": 2})
    for number in range(3, 8):
        hall.take(said(number))
    assert await heard(room) == [(6, 5), (7, 0)]
    hall.cut()
    hall.take(said(8))  # we are out
    hall.begin(position="r:7", resumed=True)
    for number in (8, 9):
        hall.take(said(number))
    assert await heard(room) == [(8, 0), (9, 0)]
    assert hall.position == "r:9"
    hall.cut()
    hall.begin()
    for number in (10, 11, 12):
        hall.take(said(number))
    assert await heard(room) == [(11, None), (12, 0)]
