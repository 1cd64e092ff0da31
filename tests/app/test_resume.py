"""Coming back after a long time: nothing is missing, nobody else waits for it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.test_hub import running, settle
from triode.app.config.settings import Settings
from triode.app.delivery import resume
from triode.app.delivery.resume import EDITS_AT_ONCE
from triode.app.service import stream_start
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.app.wire.stream_request import StreamRequest
from triode.limits.principal import OWNER
from triode.store.change import Position
from triode.store.filter import parse_filter
from triode.store.operation import Set

MANY = 4 * EDITS_AT_ONCE


async def write_many(triode: Triode, size: int = 1) -> Position:
    since = triode.store.position
    for number in range(MANY):
        await triode.write(Set(("a",), f"{number}" + "x" * size))
    return since


def come_back(triode: Triode, since: Position, *filters: str, appetite: int | None) -> FakeLane:
    lane = FakeLane(appetite)
    client = triode.hub.open("ws", lane, OWNER, "", {})
    request = StreamRequest(tuple(map(parse_filter, filters)), since=since, resume=True)
    stream_start.begin(triode.hub, client, request, version="0")
    return lane


async def test_a_long_absence_is_replayed_as_it_is_taken() -> None:
    async with running() as triode:
        since = await write_many(triode)
        lane = come_back(triode, since, ".a", appetite=300)
        await settle()
        await triode.write(Set(("a",), "live"))
        await settle()
        lane.feed(None)
        await settle()
        connected, *updates = lane.messages()
        assert connected["resumed"] is True
        assert [m["value"] for m in updates] == [f"{n}x" for n in range(MANY)] + ["live"]
        assert [m["id"] for m in updates] == [
            f"{triode.store.epoch}:{seq}" for seq in range(1, MANY + 2)
        ]
        assert triode.store.document._pins == 0


async def test_a_long_replay_lets_others_run() -> None:
    async with running() as triode:
        since = await write_many(triode)
        lane = come_back(triode, since, ".a", appetite=None)
        turns = 0
        last = b'"id":"%b"' % str(triode.store.position).encode()
        while last not in lane.taken:  # noqa: ASYNC110 # whether others get a turn is the question
            await trio.lowlevel.checkpoint()
            turns += 1
        assert turns > MANY / 100


async def test_who_is_cut_off_in_a_replay_has_come_further() -> None:
    async with running() as triode:
        since = await write_many(triode)
        lane = come_back(triode, since, ".a", appetite=0)
        await settle()
        lane.feed(1)  # one write of the writer's
        await settle()
        lane.feed(1)
        await settle()
        ids = [m["id"] for m in lane.messages() if m["type"] == "update"]
        assert 0 < len(ids) < MANY
        triode.hub.end(next(iter(triode.hub.clients.values())), end_reasons.CLIENT_LOST, "silently")
        lane.feed(None)
        await settle()
        reached = Position(triode.store.epoch, int(str(ids[-1]).partition(":")[2]))
        again = come_back(triode, reached, ".a", appetite=None)
        await settle()
        assert [m["value"] for m in again.messages()[1:]] == [
            f"{n}x" for n in range(reached.seq, MANY)
        ]


async def test_what_is_too_long_to_replay_is_a_gap_and_a_snapshot() -> None:
    async with running(Settings(resume_bytes=100_000)) as triode:
        since = await write_many(triode, size=200)
        lane = come_back(triode, since, ".a", ".b.c", appetite=None)
        await settle()
        _, *updates, gap, snapshot = lane.messages()
        assert {m["type"] for m in updates} == {"update"}
        assert len(updates) + int(str(gap["missed"])) == MANY
        assert (gap["filter"], gap["reason"]) == (".a", "resume_too_long")
        assert (gap["after"], gap["to"]) == (updates[-1]["id"], str(triode.store.position))
        assert snapshot["id"] == str(triode.store.position)
        assert snapshot["items"] == [{"path": ".a", "value": f"{MANY - 1}" + "x" * 200}]


async def test_a_replay_that_nobody_takes_any_more_lets_go() -> None:
    async with running() as triode:
        since = await write_many(triode)
        lane = come_back(triode, since, ".a", appetite=0)
        await settle()
        assert triode.store.document._pins == 1
        triode.hub.end(next(iter(triode.hub.clients.values())), end_reasons.CLIENT_LOST, "silently")
        lane.lost = True
        lane.feed(None)
        await settle()
        assert triode.store.document._pins == 0


@pytest.mark.parametrize(("steps", "resumed"), [(1000, True), (10, False)])
async def test_a_filter_that_is_slow_to_evaluate_is_not_resumed(
    steps: int, resumed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change costs an evaluation, of a second perhaps, and nobody runs meanwhile."""
    monkeypatch.setattr(resume, "MATCHING_STEPS", steps)
    async with running(root={"a": [1, 2, 3]}) as triode:
        since = triode.store.position
        for number in range(3):
            await triode.write(Set(("a", 0), number))
        lane = come_back(triode, since, "$.a[?@>1]", appetite=None)
        plain = come_back(triode, since, ".a", appetite=None)
        await settle()
        assert lane.messages()[0]["resumed"] is resumed
        assert plain.messages()[0]["resumed"] is True


async def test_the_position_of_a_document_is_none_of_a_room() -> None:
    async with running() as triode:
        since = triode.store.position
        await triode.write(Set(("a",), 1))
        lane = FakeLane()
        client = triode.hub.open("ws", lane, OWNER, "", {})
        request = StreamRequest((parse_filter(".a"),), ("r",), since=since, resume=True)
        stream_start.begin(triode.hub, client, request, version="0")
        await settle()
        room = client.rooms["r"]
        connected = lane.messages()[0]
        assert connected["resumed"] is True
        assert connected["positions"] == {"r": str(triode.hub.rooms.position(room))}


async def test_looking_through_a_long_history_is_not_done_in_one_step() -> None:
    """Those who come back to a part where little happens wait for their turns with it."""
    async with running(Settings(history_items=20_000)) as triode:
        since = triode.store.position
        await triode.write(Set(("b", "y"), 0))
        for number in range(9000):
            triode.write_nowait(Set(("b", "x"), number))
        lane = come_back(triode, since, ".b.y", appetite=None)
        turns = 0
        last = b'"value":0'
        while last not in lane.taken:  # noqa: ASYNC110 # whether others get a turn is the question
            await trio.lowlevel.checkpoint()
            turns += 1
        assert turns > 10
        await settle()
        assert [m["type"] for m in lane.messages()] == ["connected", "update"]
        assert lane.messages()[0]["resumed"] is True
        assert triode.store.document._pins == 0


async def test_matching_a_long_past_is_done_in_turns() -> None:
    """A condition over an array that was put anew, again and again."""
    async with running(root={"a": []}) as triode:
        since = triode.store.position
        for number in range(20):
            triode.write_nowait(Set(("a",), [{"x": n} for n in range(number, number + 2000)]))
        lane = come_back(triode, since, ".a[x=2015]", appetite=None)
        turns = 0
        last = b'"id":"%b"' % str(triode.store.position).encode()
        while last not in lane.taken:  # noqa: ASYNC110 # as above
            await trio.lowlevel.checkpoint()
            turns += 1
        assert turns > 20
        await settle()
        connected, *updates = lane.messages()
        assert connected["resumed"] is True
        assert len(updates) == 4 + 3  # there since the 16th; before each but the first a delete
