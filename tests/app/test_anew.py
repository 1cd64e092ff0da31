"""The document becomes another one under those who watch: they are told, and go on with that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_exactness_found import connect, start
from triode.app.delivery.anew import begin_anew
from triode.app.service.triode import Triode
from triode.limits.policy import Policy
from triode.store.checksum import Checksum
from triode.store.deadlines import Deadlines
from triode.store.lineage import Lineage
from triode.store.operation import Set
from triode.store.outcomes import Outcomes
from triode.store.records import Records
from triode.store.store import Store
from triode.store.touched import Touched

settle = trio.testing.wait_all_tasks_blocked


def replace(triode: Triode, root: Any, seq: int, lost: int = 3) -> list[str]:
    """Another document, in the epoch `new`; the ids of those who have to go."""
    empty = Store(root, epoch="x", history_items=1, history_bytes=1)
    put = partial(
        triode.store.restore, root, seq, Lineage("new"), size=empty.bytes,
        footprint=empty.footprint, touches=Touched().state(), outcomes=Outcomes(),
        records=Records(), deadlines=Deadlines(), time_ms=0, checksum=Checksum(),
    )  # fmt: skip
    return [client.id for client in begin_anew(triode.hub, put, "rewound", lost)]


@pytest.fixture
async def triode() -> AsyncIterator[Triode]:
    async with trio.open_nursery() as nursery:
        yield await start(nursery, {"a": 1, "b": {"c": 2}})
        nursery.cancel_scope.cancel()


def told(lane: FakeLane) -> list[dict[str, Any]]:
    return [m for m in lane.messages() if m["type"] not in ("connected", "ok")]


@pytest.mark.parametrize("policy", [Policy.DROP_NEWEST, Policy.DROP_OLDEST, Policy.LATEST])
@pytest.mark.parametrize("appetite", [None, 0])
async def test_who_watches_is_told_and_resynced(
    triode: Triode, policy: Policy, appetite: int | None
) -> None:
    """Also one that takes nothing yet: what it was owed comes first."""
    lane = FakeLane()
    client = connect(triode, lane, ".a", "$..c", policy=policy)
    await settle()
    lane.appetite = appetite
    old = triode.write_nowait(Set(("a",), 2))
    # Positions are as high as before, and mean something else.
    assert replace(triode, {"a": 7, "b": {"c": 8}}, old.seq) == []
    triode.write_nowait(Set(("a",), 9))
    lane.feed(1_000_000)
    await settle()
    assert client.end is None
    assert client.losses is None
    events = told(lane)
    at = [m["type"] for m in events].index("gap")
    assert {"type": "update", "filter": ".a", "path": ".a", "value": 2}.items() <= events[
        at - 1
    ].items()
    gaps = {m["filter"]: m for m in events[at : at + 2]}
    assert set(gaps) == {".a", "$..c"}
    for gap in gaps.values():
        assert (gap["reason"], gap["after"], gap["lost"]) == ("rewound", str(old), 3)
        assert gap["to"].startswith("new:")
    view = {m["filter"]: m["items"] for m in events[at + 2 :] if m["type"] == "snapshot"}
    assert view == {
        ".a": [{"path": ".a", "value": 9}],
        "$..c": [{"path": ".b.c", "value": 8}],
    }
    triode.write_nowait(Set(("b", "c"), 1))
    lane.feed(1_000_000)
    await settle()
    assert (told(lane)[-1]["value"], told(lane)[-1]["id"]) == (1, str(triode.store.position))


async def test_a_snapshot_of_before_is_not_taken_for_one_of_now(triode: Triode) -> None:
    """It was made at the same number."""
    connect(triode, FakeLane(), ".")
    replace(triode, {"a": "new"}, triode.store.seq)
    lane = FakeLane()
    connect(triode, lane, ".")
    await settle()
    assert told(lane)[0]["items"] == [{"path": ".", "value": {"a": "new"}}]


async def test_it_happens_twice_before_a_client_takes_anything(triode: Triode) -> None:
    lane = FakeLane()
    connect(triode, lane, ".a")
    await settle()
    lane.appetite = 0
    old = triode.write_nowait(Set(("a",), 2))
    for number in range(2):
        replace(triode, {"a": number}, 5, lost=2)
    lane.feed(1_000_000)
    await settle()
    gaps = [m for m in told(lane) if m["type"] == "gap"]
    assert [(gap["after"], gap["lost"]) for gap in gaps] == [(str(old), 4)]
    assert told(lane)[-1]["items"] == [{"path": ".a", "value": 1}]


async def test_who_would_rather_be_cut_off_is(triode: Triode) -> None:
    goes, stays = (
        connect(triode, FakeLane(), ".a", policy=policy)
        for policy in (Policy.DISCONNECT, Policy.LATEST)
    )
    hears_rooms_alone = connect(triode, FakeLane(), rooms=("r",))
    await settle()
    assert replace(triode, {"a": 5}, 1) == [goes.id, hears_rooms_alone.id], "it has positions"
    await settle()
    assert stays.end is None
    assert hears_rooms_alone.losses is None
