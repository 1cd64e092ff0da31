"""Filters that take too much: evaluated at growing pauses, with every write counted and told."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect, start
from triode.app.delivery.rest import Rest
from triode.app.service.triode import Triode
from triode.limits.cpu_share import STEPS_A_SECOND
from triode.limits.grant import FULL
from triode.limits.policy import Policy
from triode.limits.principal import Principal
from triode.store.operation import Set
from triode.store.value import Json

SOME: Json = [{"x": n} for n in range(50)]
MUCH: Json = [[] for _ in range(300)]
FILTER = "$.a[?@.x >= 0]"


def about(lane: FakeLane, *types: str) -> list[dict[str, Any]]:
    return [message for message in lane.messages() if message["type"] in types]


def account(lane: FakeLane) -> int:
    """The changes of its one filter that a client has got or was told of: `missed`, and snapshots
    in place of events. Those after a gap, and the first one, are state.
    """
    count, gapped = 0, True
    for message in about(lane, "snapshot", "update", "gap"):
        if message["type"] == "gap":
            count += message["missed"]
            gapped = True
        elif message["type"] == "update" or not message["more"]:
            count += not gapped
            gapped = gapped and message["type"] == "update"
    return count


async def write(triode: Triode, number: int) -> None:
    await triode.write(Set(("a", number % 50, "x"), number))


@pytest.mark.parametrize("policy", list(Policy))
async def test_each_write_that_a_resting_filter_missed_is_counted_and_told(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, policy: Policy
) -> None:
    triode = await start(nursery, {"a": SOME, "b": 0}, match_work=20)
    lane, late = FakeLane(), FakeLane()
    client = connect(triode, lane, FILTER, policy=policy)
    await trio.sleep(1)
    for number in range(100):
        await write(triode, number)
        if number % 10 == 5:
            await trio.sleep(0.3)
        if number == 42:
            connect(triode, late, FILTER, policy=policy)
    await trio.sleep(5)
    for each, matched in ((lane, 100), (late, 57)):
        assert account(each) == matched
        last = about(each, "snapshot", "gap", "update")[-1]
        assert [item["value"]["x"] for item in last["items"]] == [*range(50, 100)]
        assert last["id"] == str(triode.store.position)
        assert {gap["reason"] for gap in about(each, "gap")} == {"too_costly"}
    assert client.state == "flowing"


async def test_a_refused_filter_is_tried_again_at_growing_pauses(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    triode = await start(nursery, {"a": MUCH, "b": 0}, max_work=200, match_work=100, idle_s=9999)
    lane = FakeLane()
    connect(triode, lane, "$..a")
    tries: list[float] = []
    began = trio.current_time()

    def refused(self: Rest, now: float, most_s: float) -> None:
        tries.append(round(now - began))
        original(self, now, most_s)

    original = Rest.refused
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rest, "refused", refused)
        for number in range(600):
            await triode.write(Set(("b",), number))
            await trio.sleep(0.5)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    # A heartbeat begins each try.
    wanted = (1, 2, 4, 8, 16, 32, 64, 64, 64)
    assert all(w <= pause <= w + 1 for w, pause in zip(wanted, pauses, strict=False)), pauses
    assert 9 <= len(tries) <= 10
    assert lane.types()[:2] == ["connected", "gap"]
    await triode.write(Set(("a",), 1))
    await trio.sleep(70)
    last = about(lane, "snapshot", "gap")[-1]
    assert last["items"] == [{"path": ".a", "value": 1}]
    assert account(lane) == 601
    for value in (2, 3):
        await triode.write(Set(("a",), value))
        await trio.sleep(0.1)
    assert lane.messages()[-1]["value"] == 3


async def test_no_position_is_told_while_a_filter_rests(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Whoever is cut off meanwhile resumes from before what it has lost."""
    triode = await start(nursery, {"a": SOME, "b": 0}, max_work=200, match_work=20)
    lane = FakeLane()
    client = connect(triode, lane, FILTER, ".b")
    await trio.sleep(1)
    await triode.write(Set(("a",), MUCH))  # told by a snapshot, which is refused
    for number in range(5):
        await triode.write(Set(("b",), number))
        if number == 2:  # the first are queued behind it
            await trio.sleep(0.1)
    await trio.sleep(0.1)
    after = lane.messages()[lane.types().index("gap") :]
    assert [message["type"] for message in after] == ["gap", *["update"] * 5]
    assert not any("id" in message for message in after)
    await triode.write(Set(("a",), SOME))
    await trio.sleep(5)
    assert "id" in about(lane, "snapshot")[-1]
    await triode.write(Set(("b",), 9))
    await trio.sleep(0.1)
    assert lane.messages()[-1]["id"] == str(triode.store.position)
    assert client.state == "flowing"


async def test_a_newcomer_of_a_refused_filter_costs_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    triode = await start(nursery, {"a": MUCH}, max_work=200, match_work=100)
    first = FakeLane()
    connect(triode, first, "$..a")
    await trio.sleep(0.1)
    [selection] = triode.store.index.evaluated
    assert selection.evaluated is not None
    spent = selection.evaluated.total
    assert spent >= 200
    for _ in range(10):
        lane = FakeLane()
        connect(triode, lane, "$..a")
        await trio.sleep(0.01)
        assert lane.types() == ["connected", "gap"]
        assert lane.messages()[-1]["missed"] == 0
    assert selection.evaluated.total == spent


async def test_who_would_rather_be_disconnected_is_not_for_a_filter_that_rests(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """It is not the client that is slow."""
    triode = await start(nursery, {"a": 1}, max_work=200, match_work=100)
    lane = FakeLane()
    client = connect(triode, lane, "..x", policy=Policy.DISCONNECT)
    for value in (MUCH, 1):
        await triode.write(Set(("a",), value))
        await trio.sleep(0.1)
    await triode.write(Set(("a",), {"x": 2}))
    await trio.sleep(5)
    assert (client.state, account(lane)) == ("flowing", 3)
    assert about(lane, "snapshot", "gap")[-1]["items"] == [{"path": ".a.x", "value": 2}]


async def test_over_its_share_a_client_is_told_and_hears_nothing_of_what_is_evaluated(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    triode = await start(nursery, {"a": SOME, "b": 0}, cpu_share_s=20)
    dear, other = (Principal(key=key, name=key, grant=FULL) for key in ("dear", "other"))
    lane, beside = FakeLane(), FakeLane()
    client, neighbour = connect(triode, lane, FILTER, ".b"), connect(triode, beside, FILTER)
    client.principal, neighbour.principal = dear, other
    await write(triode, 50)
    triode.gate.charge_work(dear, 25 * STEPS_A_SECOND)
    await trio.sleep(1.5)
    assert about(lane, "gap")[0] == {
        "type": "gap",
        "filter": FILTER,
        "missed": 0,
        "after": str(triode.store.position),
        "to": str(triode.store.position),
        "reason": "too_costly",
    }
    for number in range(51, 60):
        await write(triode, number)
        await triode.write(Set(("b",), number))
        await trio.sleep(0.5)
    assert len(about(beside, "update", "gap")) == 10
    assert not about(beside, "gap")
    since = lane.messages()[lane.types().index("gap") + 1 :]
    assert [message["filter"] for message in since] == [".b"] * 9
    assert not any("id" in message for message in since)
    await trio.sleep(20)
    told, healed = lane.messages()[-2:]
    assert (told["missed"], healed["type"]) == (9, "snapshot")
    assert healed["id"] == str(triode.store.position)
    await write(triode, 60)
    await trio.sleep(0.1)
    assert lane.messages()[-1]["value"] == 60
    assert client.state == "flowing"


async def test_what_nobody_may_hear_is_not_evaluated(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    triode = await start(nursery, {"a": SOME}, cpu_share_s=20)
    lane = FakeLane()
    connect(triode, lane, FILTER).principal = Principal(key="dear", name="dear", grant=FULL)
    await write(triode, 50)
    triode.gate.cpu.charge("dear", 25 * STEPS_A_SECOND, trio.current_time())
    await trio.sleep(1.5)
    [selection] = triode.store.index.evaluated
    assert selection.evaluated is not None
    spent = selection.evaluated.total
    for number in range(51, 61):
        await write(triode, number)
        await trio.sleep(0.5)
    assert selection.evaluated.total == spent
    await trio.sleep(20)
    assert account(lane) == 11
    assert lane.types()[-1] == "snapshot"
    assert selection.evaluated.total > spent


async def test_what_rooms_have_said_keeps_its_position_while_a_filter_rests(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    triode = await start(nursery, {"a": SOME}, match_work=20, queue_items=2)
    lane = FakeLane()
    connect(triode, lane, FILTER, rooms=("r",), policy=Policy.DROP_OLDEST)
    for number in (1, 2):
        await trio.testing.wait_all_tasks_blocked()
        await write(triode, number)
    lane.feed(0)
    for number in range(8):
        triode.publish(rooms=["r"], data=number)
        await trio.testing.wait_all_tasks_blocked()
    lane.feed(None)
    await trio.testing.wait_all_tasks_blocked()
    assert about(lane, "gap")[-1]["room"] == "r"
    assert [message["data"] for message in about(lane, "message")][-2:] == [6, 7]
    assert all("id" in message for message in about(lane, "message"))
