"""What is kept for those who ask for the same next: counted, bounded, and nobody's loss when it
goes.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import connect, running
from triode.app.delivery import resume, shelf
from triode.app.delivery.shelf import Shelf
from triode.app.service.holdings import clear_caches, settle
from triode.app.service.triode import Triode
from triode.app.wire.stream_request import StreamRequest
from triode.store.operation import Set

ROOT = {"a": [f"{number}" * 1000 for number in range(10, 100)] * 10}  # 1.8 MB
KIB = 1024
quiet = trio.testing.wait_all_tasks_blocked


def items(lane: FakeLane) -> list[object]:
    """The values of all snapshots that it has."""
    found: list[object] = []
    for message in lane.messages():
        if message["type"] == "snapshot":
            held = message["items"]
            assert isinstance(held, list)
            found += [item["value"] for item in held]
    return found


async def test_what_readers_of_big_snapshots_hold_is_counted(autojump_clock: object) -> None:
    async with running(root=ROOT) as triode:
        # Each has taken 300 KB, and a piece is on its way to each: the same one.
        lanes = [FakeLane(300 * KIB) for _ in range(5)]
        for lane in lanes:
            connect(triode, lane, ".a[*]")
        await quiet()
        settle(triode.ledger)
        held = {name: account.held for name, account in triode.ledger.accounts.items()}
        assert 300 * KIB < held["shelf"] < 450 * KIB
        assert 50 * KIB < held["queues"] < 80 * KIB
        for lane in lanes:
            lane.feed(None)
        await quiet()
        settle(triode.ledger)
        assert triode.ledger.accounts["shelf"].held == 0
        assert triode.ledger.accounts["queues"].held == 0
        assert [items(lane) for lane in lanes] == [ROOT["a"]] * 5


async def test_all_feeds_together_keep_no_more_than_their_bound(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "FEEDS_BYTES", 600 * KIB)
    async with running(root=ROOT) as triode:
        lanes = [FakeLane(500 * KIB) for _ in range(6)]
        for number, lane in enumerate(lanes):
            connect(triode, lane, f".a[{number}:]")
            await quiet()
            settle(triode.ledger)
            assert triode.ledger.accounts["shelf"].held <= 600 * KIB
        late = FakeLane()
        connect(triode, late, ".a[0:]")
        await quiet()
        for lane in lanes:
            lane.feed(None)
        await quiet()
        for number, lane in enumerate(lanes):
            assert items(lane) == ROOT["a"][number:]
        assert items(late) == ROOT["a"]


async def test_above_the_limit_the_shelf_is_cleared_and_nobody_notices(
    autojump_clock: object,
) -> None:
    async with running(root=ROOT) as triode:
        lanes = [FakeLane(400 * KIB), FakeLane(100 * KIB)]
        for lane in lanes:
            connect(triode, lane, ".a[*]")
        await quiet()
        settle(triode.ledger)
        assert triode.ledger.accounts["shelf"].held > 300 * KIB
        clear_caches()
        triode.ledger.settle()
        triode.ledger.limit = triode.ledger.held - 1
        settle(triode.ledger)
        assert triode.ledger.accounts["shelf"].held == 0
        assert triode.ledger.relieved["shelf"] == 1
        for lane in lanes:
            lane.feed(None)
        await quiet()
        assert [items(lane) for lane in lanes] == [ROOT["a"]] * 2


def replayed(triode: Triode, request: StreamRequest, texts: list[str]) -> list[bytes]:
    client = connect(triode, FakeLane(), *texts)
    audiences = [each.audience for each in client.subscriptions.values()]
    frames = resume.missed(triode.hub, "ws", audiences, request)
    assert frames is not None
    return [frame.data for frame in frames]


async def test_replays_are_counted_until_the_next_change(autojump_clock: object) -> None:
    async with running(root={"a": "", "b": ""}) as triode:
        request = StreamRequest(since=triode.store.position, resume=True)
        for key in "ab":
            await triode.write(Set((key,), "x" * 10_000))
        kept: Shelf = triode.hub.shelf
        before = kept.bytes
        first = replayed(triode, request, [".a"])
        snapshots = sum(frame.size for frame in kept.snapshots)
        assert kept.replays.bytes == sum(map(len, first)) > 10_000
        assert kept.bytes == before + snapshots + kept.replays.bytes
        kept.clear()
        assert kept.bytes == 0
        assert replayed(triode, request, [".a"]) == first
