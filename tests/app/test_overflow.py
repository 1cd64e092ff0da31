"""What happens when a queue is full, on virtual time: each policy, gap, heal, and the pauses."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import connect, running, settle
from triode.app.config.settings import Settings
from triode.app.delivery.subscriber import Client
from triode.app.service import stream_start
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.app.wire.stream_request import StreamRequest
from triode.limits.policy import Policy
from triode.limits.principal import OWNER
from triode.store.filter import parse_filter
from triode.store.operation import Append, Delete, Set

BOARD = {"prices": {"A": 0, "B": 0, "C": 0}, "log": []}


async def starve(lane: FakeLane, triode: Triode, *path: str) -> None:
    """From now on it takes nothing; one change is with the writer, so that all further wait."""
    await settle()
    lane.feed(0)
    await triode.write(Set(path, "in flight"))
    await settle()


def events(lane: FakeLane) -> list[tuple[Any, ...]]:
    """All that came since the snapshot, short."""
    return [
        (m["type"], m.get("path") or m.get("data"), m.get("value"), m.get("missed"))
        for m in lane.messages()
        if m["type"] in ("update", "delete", "gap", "message")
    ]


async def test_latest_keeps_the_newest_of_each_place_in_the_order_of_its_last_change() -> None:
    async with running(Settings(queue_items=3), BOARD) as triode:
        lane = FakeLane()
        connect(triode, lane, ".prices.*", policy=Policy.LATEST)
        await starve(lane, triode, "prices", "A")
        for name, value in [("A", 1), ("B", 2), ("C", 3), ("A", 4), ("C", 5), ("A", 6)]:
            await triode.write(Set(("prices", name), value))
            await settle()
        lane.feed(None)
        await settle()
        assert events(lane)[1:] == [
            ("update", ".prices.B", 2, None),
            ("update", ".prices.C", 5, 1),
            ("update", ".prices.A", 6, 2),
        ]
        ids = ["id" in m for m in lane.messages()[-3:]]
        assert ids == [False, False, True]
        assert lane.messages()[-1]["id"] == str(triode.store.position)
        assert triode.metrics.drops["latest", "superseded"] == 3


async def test_before_its_queue_is_full_latest_loses_nothing() -> None:
    async with running(Settings(queue_items=10), BOARD) as triode:
        lane = FakeLane()
        connect(triode, lane, ".prices.A", policy=Policy.LATEST)
        await starve(lane, triode, "prices", "A")
        for value in range(10):
            await triode.write(Set(("prices", "A"), value))
        await settle()
        lane.feed(None)
        await settle()
        assert [m["value"] for m in lane.messages()[3:]] == [*range(10)]


async def test_a_place_stands_for_all_inside_of_it() -> None:
    async with running(Settings(queue_items=2), {"a": {"b": {"c": 0}}, "x": 0}) as triode:
        lane = FakeLane()
        connect(triode, lane, ".a", policy=Policy.LATEST)
        await starve(lane, triode, "a", "b", "c")
        writes: list[tuple[tuple[str, ...], Any]]
        writes = [(("c",), 1), (("d",), 2), ((), {"e": 3}), (("f",), 4)]
        for path, value in writes:
            await triode.write(Set(("a", "b", *path), value))
            await settle()
        lane.feed(None)
        await settle()
        assert events(lane)[1:] == [("update", ".a.b", {"e": 3, "f": 4}, 3)]


async def test_what_is_gone_is_deleted_and_what_came_back_is_there() -> None:
    async with running(Settings(queue_items=2), BOARD) as triode:
        lane = FakeLane()
        connect(triode, lane, ".prices", policy=Policy.LATEST)
        await starve(lane, triode, "prices", "A")
        await triode.write(Set(("prices", "C"), 7))
        await triode.write(Delete(("prices", "B")))
        await triode.write(Set(("prices", "B"), 8))
        await triode.write(Delete(("prices", "C")))
        await settle()
        lane.feed(None)
        await settle()
        assert events(lane)[1:] == [
            ("update", ".prices.B", 8, 1),
            ("delete", ".prices.C", None, 1),
        ]


async def test_what_was_appended_arrives_in_the_order_of_the_array() -> None:
    async with running(Settings(queue_items=3), BOARD) as triode:
        lane = FakeLane()
        connect(triode, lane, ".", policy=Policy.LATEST)
        await starve(lane, triode, "prices", "A")
        for value in (1, 2, 3):
            await triode.write(Append(("log",), value))
        await triode.write(Set(("log", 0), "changed"))
        await settle()
        lane.feed(None)
        await settle()
        assert events(lane)[1:] == [
            ("update", ".log[0]", "changed", 1),
            ("update", ".log[1]", 2, None),
            ("update", ".log[2]", 3, None),
        ]


async def test_too_many_places_are_a_gap_and_a_snapshot() -> None:
    async with running(Settings(queue_items=2), BOARD) as triode:
        lane = FakeLane()
        connect(triode, lane, ".prices.*", policy=Policy.LATEST)
        await starve(lane, triode, "prices", "A")
        for value in range(3):
            for name in "ABC":
                await triode.write(Set(("prices", name), value))
                await settle()
        lane.feed(None)
        await settle()
        gap, snapshot = lane.messages()[-2:]
        assert (gap["type"], gap["missed"]) == ("gap", 9)
        assert [item["value"] for item in snapshot["items"]] == [2, 2, 2]  # type: ignore[attr-defined]


async def test_a_filter_that_has_to_be_evaluated_is_healed_as_a_whole() -> None:
    async with running(Settings(queue_items=2), BOARD) as triode:
        lane = FakeLane()
        connect(triode, lane, "..A", policy=Policy.LATEST)
        await starve(lane, triode, "prices", "A")
        for value in range(4):
            await triode.write(Set(("prices", "A"), value))
            await settle()
        lane.feed(None)
        await settle()
        # Also what still waited: the queue is freed for the newest.
        assert [(m["type"], m.get("missed")) for m in lane.messages()[3:]] == [
            ("gap", 4),
            ("snapshot", None),
        ]


async def test_drop_oldest_keeps_the_newest_events() -> None:
    async with running(Settings(queue_items=3), BOARD) as triode:
        lane = FakeLane()
        connect(triode, lane, ".prices.A", policy=Policy.DROP_OLDEST)
        await starve(lane, triode, "prices", "A")
        for value in range(2, 12):
            await triode.write(Set(("prices", "A"), value))
            await settle()
        lane.feed(None)
        await settle()
        gap, *newest, snapshot = lane.messages()[3:]
        epoch = triode.store.epoch
        assert (gap["missed"], gap["after"], gap["to"]) == (7, f"{epoch}:1", f"{epoch}:8")
        assert [m["value"] for m in newest] == [9, 10, 11]
        assert not any("id" in m for m in newest)
        assert (snapshot["type"], snapshot["id"]) == ("snapshot", f"{epoch}:11")


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Policy.DROP_NEWEST, [1, 2, 3]),
        (Policy.DROP_OLDEST, [8, 9, 10]),
        (Policy.LATEST, [8, 9, 10]),
    ],
)
async def test_rooms_lose_by_the_policy_of_the_connection(policy: Policy, kept: list[int]) -> None:
    async with running(Settings(queue_items=3)) as triode:
        lane = FakeLane()
        client = triode.hub.open("ws", lane, OWNER, "", {})
        stream_start.begin(
            triode.hub, client, StreamRequest((), ("r",), policy=policy), version="0"
        )
        await settle()
        lane.feed(0)
        for number in range(11):
            triode.publish(rooms=["r"], data=number)
            await settle()
        lane.feed(None)
        await settle()
        messages = [m for m in lane.messages() if m["type"] in ("message", "gap")]
        assert [m["data"] for m in messages if m["type"] == "message"] == [0, *kept]
        gap = next(m for m in messages if m["type"] == "gap")
        assert (gap["room"], gap["missed"]) == ("r", 7)
        # Told where it is.
        assert messages.index(gap) == (1 if policy is not Policy.DROP_NEWEST else 4)


async def test_rooms_too_can_end_who_is_slow() -> None:
    async with running(Settings(queue_items=3)) as triode:
        client = triode.hub.open("ws", FakeLane(0), OWNER, "", {})
        request = StreamRequest((), ("r",), policy=Policy.DISCONNECT)
        stream_start.begin(triode.hub, client, request, version="0")
        for number in range(11):
            triode.publish(rooms=["r"], data=number)
            await settle()
        assert client.end is not None


async def test_one_filter_gives_way_and_the_other_keeps_its_order() -> None:
    async with running(Settings(queue_items=4), {"a": 0, "b": 0}) as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a", policy=Policy.LATEST)
        triode.hub.subscribe(client, [(parse_filter(".b"), Policy.DROP_NEWEST)])
        await starve(lane, triode, "a")
        for value in range(1, 4):
            await triode.write(Set(("a",), value))
            await triode.write(Set(("b",), value))
            await settle()
        lane.feed(None)
        await settle()
        assert events(lane)[1:] == [
            ("update", ".b", 1, None),
            ("update", ".b", 2, None),
            ("update", ".b", 3, None),
            ("update", ".a", 3, 2),
        ]
        ids = [str(m["id"]).partition(":")[2] for m in lane.messages()[3:] if "id" in m]
        assert ids == ["7"]  # nothing before it: .a was behind


async def test_nothing_of_a_filter_comes_after_it_was_left() -> None:
    async with running(Settings(queue_items=2), {"a": 0, "b": 0}) as triode:
        for policy in (Policy.LATEST, Policy.DROP_OLDEST, Policy.DROP_NEWEST):
            lane = FakeLane()
            client = connect(triode, lane, ".a", ".b", policy=policy)
            await starve(lane, triode, "a")
            for value in range(5):
                await triode.write(Set(("a",), value))
                await settle()
            triode.hub.unsubscribe(client, ".a")
            triode.hub.tell(client, "ok", {})
            lane.feed(None)
            await settle()
            types = lane.types()
            assert "ok" not in types[: types.index("update")]
            assert types[types.index("ok") + 1 :] == []
            await triode.write(Set(("b",), str(policy)))
            await settle()
            assert lane.messages()[-1]["id"] == str(triode.store.position)
            assert client.outbox is None
            assert not client.losses


async def overflow(triode: Triode, lane: FakeLane) -> int:
    """Fill its queue, let it take all that can be had at once. Says how many heals it has had."""
    lane.feed(0)
    for value in range(6):
        await triode.write(Set(("a",), value))
        await settle()
    lane.feed(None)
    await settle()
    return lane.types().count("gap")


async def test_who_never_keeps_up_is_healed_ever_more_seldom(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(Settings(queue_items=2, heal_wait_max_s=8)) as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a")
        await settle()
        healed_at = []
        for _ in range(7):
            before = lane.types().count("gap")
            while await overflow(triode, lane) == before:
                await trio.sleep(0.5)
                await settle()
                if lane.types().count("gap") > before:
                    break
            healed_at.append(round(trio.current_time()))
        assert [b - a for a, b in pairwise(healed_at)] == [0, 1, 2, 4, 8, 8]
        missed = sum(m["missed"] for m in lane.messages() if m["type"] == "gap")  # type: ignore[misc]
        updates = lane.types().count("update")
        assert missed + updates == triode.store.seq
        assert client.heals == 7


async def test_who_has_kept_up_for_a_while_is_healed_at_once_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(Settings(queue_items=2)) as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a")
        await settle()
        for _ in range(3):
            await overflow(triode, lane)
        assert client.losses  # the third has to wait
        await trio.sleep(2.1)
        assert not client.losses
        await trio.sleep(20)
        heals = client.heals
        await overflow(triode, lane)
        assert (client.heals, client.heal_wait_s) == (heals + 1, 0)


async def test_who_waits_for_its_heal_still_gets_all_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(Settings(queue_items=2)) as triode:
        lane = FakeLane()
        client: Client = connect(triode, lane, ".a", ".b.c")
        await settle()
        for _ in range(3):
            await overflow(triode, lane)
        await triode.write(Set(("b", "c"), "now"))
        await settle()
        last = lane.messages()[-1]
        assert (last["path"], last["value"], "id" in last) == (".b.c", "now", False)
        assert client.outbox is not None
        await trio.sleep(2.1)
        assert lane.messages()[-1]["id"] == str(triode.store.position)
        assert client.outbox is None  # it flows again


async def test_a_queue_that_is_emptied_by_its_overflow_is_settled_at_once() -> None:
    """All of it was about one place, and came in one flush."""
    async with running(Settings(queue_items=2)) as triode:
        lane = FakeLane()
        connect(triode, lane, ".a", policy=Policy.LATEST)
        await settle()
        lane.feed(0)
        for value in range(6):
            triode.write_nowait(Set(("a",), value))
        await settle()
        lane.feed(None)
        await settle()
        assert events(lane) == [("update", ".a", 5, 5)]


async def test_newest_values_are_bounded_for_all_filters_together() -> None:
    root = {name: {"x": 0, "y": 0, "big": ""} for name in "ab"}
    async with running(Settings(queue_items=3), root) as triode:
        lane = FakeLane()
        connect(triode, lane, ".a.*", ".b.*", policy=Policy.LATEST)
        await starve(lane, triode, "a", "x")
        for value in range(3):
            for name, key in ("ax", "ay", "bx", "by"):
                await triode.write(Set((name, key), value))
                await settle()
        lane.feed(None)
        await settle()
        assert [m["missed"] for m in lane.messages() if m["type"] == "gap"] == [6]  # of one
        await starve(lane, triode, "a", "x")
        for name in "abab":
            await triode.write(Set((name, "big"), "x" * 40_000))
            await settle()
        taken = len(lane.taken)
        lane.feed(None)
        await settle()
        assert lane.types()[-3:] == ["gap", "update", "snapshot"]
        assert len(lane.taken) - taken < 100_000


async def test_what_may_not_be_dropped_any_more_leaves_room_for_answers() -> None:
    """Else a heartbeat would end who has left a filter with a full queue."""
    async with running(Settings(queue_items=100), {"a": 0, "b": 0}) as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a", ".b")
        await starve(lane, triode, "a")
        for key in "ab":
            for value in range(200):
                await triode.write(Set((key,), value))
            await settle()
            triode.hub.unsubscribe(client, ".a")
        for _ in range(30):
            triode.hub.tell(client, "ok", {})
        await settle()
        assert client.end is None
        lane.feed(None)
        await settle()
        assert lane.types()[-2:] == ["gap", "snapshot"]


async def test_big_messages_of_an_admin_are_bounded_in_bytes() -> None:
    async with running() as triode:
        client = connect(triode, FakeLane(0), ".a")
        for _ in range(8):
            triode.hub.tell(client, "message", {"data": "x" * 1_000_000})
            await settle()
        assert client.end is end_reasons.SLOW
