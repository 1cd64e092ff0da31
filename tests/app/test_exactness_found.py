"""What the proof of exactness has found, each as small as it gets."""

from __future__ import annotations

import gc
from unittest.mock import patch

import pytest
import trio
import trio.testing

import app.snapshot
from app import ends, opening
from app.blueprints.events import AsgiLane, EventStream
from app.client import Client
from app.frame import CLOSE, Kind, unwrap
from app.problem import Refusal
from app.request import StreamRequest
from app.session import Session
from app.settings import Settings
from app.triode import OWNER, Triode
from limits.policy import Policy
from store.change import Position
from store.operation import Batch, Delete, Merge, Patch, Set
from store.value import Json, encode
from tests.app.lanes import FakeLane
from tests.app.watcher import ByteLane, Reader

settle = trio.testing.wait_all_tasks_blocked


async def start(nursery: trio.Nursery, root: Json, **options: int) -> Triode:
    triode = Triode(Settings(**options), root)  # type: ignore[arg-type] # all of these are ints
    await nursery.start(triode.run)
    return triode


def connect(
    triode: Triode,
    lane: FakeLane | AsgiLane,
    *filters: str,
    kind: Kind = "ws",
    rooms: tuple[str, ...] = (),
    since: int | None = None,
    policy: Policy = Policy.DROP_NEWEST,
) -> Client:
    position = None if since is None else Position(triode.store.epoch, since)
    request = StreamRequest(filters, rooms, policy, since=position, resume=since is not None)
    client = triode.hub.open(kind, lane, OWNER, "", {})
    opening.begin(triode.hub, client, request, version="0")
    return client


async def say(triode: Triode, client: Client, **command: Json) -> None:
    await Session(triode, client).receive(encode(dict(command)))


def seqs(lane: FakeLane) -> list[int]:
    """The positions of the document events, in the order of their arrival."""
    events = [m for m in lane.messages() if m["type"] in ("snapshot", "update", "delete")]
    return [int(str(m["id"]).partition(":")[2]) for m in events if "id" in m]


async def test_no_position_passes_a_loss_that_is_not_healed(nursery: trio.Nursery) -> None:
    """Who is cut off behind such a position resumes from it, and never gets what was lost."""
    triode = await start(nursery, {"a": 0, "b": 0}, queue_items=1)
    lane = FakeLane()
    connect(triode, lane, ".a", ".b")
    await settle()
    lane.feed(0)
    for path, value in (("b", 1), ("b", 2), ("a", 3)):  # written, queued, lost
        await triode.write(Set((path,), value))
        await settle()
    lane.feed(60)  # the queue has room again
    await settle()
    lane.feed(0)
    await triode.write(Set(("b",), 4))
    await settle()
    lane.feed(None)
    await settle()
    before_gap = lane.messages()[: lane.types().index("gap")]
    epoch = triode.store.epoch
    assert [m["id"] for m in before_gap if "id" in m] == [f"{epoch}:{n}" for n in (0, 1, 2)]


async def test_no_position_passes_what_an_unsubscribe_took_back(nursery: trio.Nursery) -> None:
    """Until its `ok` has come, a client that is cut off resumes with the filter."""
    triode = await start(nursery, {"a": 0, "b": 0})
    lane = FakeLane()
    client = connect(triode, lane, ".a", ".b")
    await settle()
    triode.write_nowait(Set((), {"a": 1, "b": 1}))
    await say(triode, client, type="unsubscribe", filter=".a")
    await settle()
    events = lane.messages()[3:]
    paths = [m.get("path") for m in events if m["type"] == "update"]
    assert paths == [".a", ".b"] or "id" not in events[0]


async def test_nothing_is_lost_of_what_was_left(nursery: trio.Nursery) -> None:
    """What its last events find no room for is no gap any more: its `ok` is the end of it."""
    triode = await start(nursery, {"a": 0}, queue_items=1)
    lane = FakeLane()
    client = connect(triode, lane, ".a", rooms=("r",))
    await settle()
    lane.feed(0)
    for value in (1, 2):  # written, queued
        await triode.write(Set(("a",), value))
        await settle()
    triode.write_nowait(Set(("a",), 3))
    triode.publish(rooms=["r"], data=3)
    await say(triode, client, type="unsubscribe", filter=".a")
    await say(triode, client, type="leave", room="r")
    await settle()
    lane.feed(None)
    await settle()
    assert lane.types()[-1] == "ok"


async def test_positions_never_go_back_when_a_filter_is_resumed(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0, "b": 0})
    lane = FakeLane()
    client = connect(triode, lane, ".a")
    for path in ("b", "b", "a"):
        await triode.write(Set((path,), 1))
    await say(triode, client, type="subscribe", filter=".b", since=f"{triode.store.epoch}:0")
    await settle()
    assert lane.types()[-2:] == ["update", "update"]
    assert seqs(lane) == sorted(seqs(lane))


async def test_a_snapshot_of_a_change_stands_for_all_of_it(nursery: trio.Nursery) -> None:
    """It is made of the document as the whole change leaves it: what else there was is in it."""
    triode = await start(nursery, {"name": {"x": 1}})
    lane = FakeLane()
    connect(triode, lane, "..name")
    await settle()
    triode.write_nowait(Batch((Set(("name", "name"), 2), Delete(("name",)))))
    await settle()
    assert lane.types()[2:] in (["snapshot"], ["delete"])


async def test_rooms_leave_the_position_of_an_event_stream_alone(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0})
    lane = ByteLane()
    connect(triode, lane, ".a", kind="sse", rooms=("r1", "r2"))
    triode.publish(rooms=["r1", "r2"], data=1)
    await settle()
    message = Reader("sse", lane).read()[-1]
    assert message["type"] == "message"
    assert "id" not in message


async def test_nothing_is_heard_of_a_room_that_was_left(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0}, queue_items=1)
    lane = FakeLane()
    client = connect(triode, lane, rooms=("r",))
    await settle()
    lane.feed(0)
    for number in range(3):
        triode.publish(rooms=["r"], data=number)
        await settle()
    await say(triode, client, type="leave", room="r")
    lane.feed(None)
    await settle()
    assert lane.types()[-1] == "ok"


async def test_a_long_resume_fits_where_only_a_writer_can_send(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0})
    for value in range(200):
        triode.write_nowait(Set(("a",), value))
    client = connect(triode, AsgiLane(), ".a", kind="sse", since=0)
    await settle()
    assert client.end is None


async def test_gaps_of_many_filters_are_healed(nursery: trio.Nursery) -> None:
    keys = [f"k{number}" for number in range(100)]
    triode = await start(nursery, dict.fromkeys(keys, 0))
    lane = FakeLane()
    client = connect(triode, lane, *[f".{key}" for key in keys])
    await settle()
    lane.feed(0)
    for value in (1, 2, 3):
        await triode.write(Merge((), dict.fromkeys(keys, value)))
        await settle()
    lane.feed(None)
    await settle()
    assert client.end is None
    assert lane.types().count("gap") == len(keys)


async def test_nothing_comes_after_the_goodbye(nursery: trio.Nursery) -> None:
    """A heal flushes first; the flush may find no room and end the client."""
    triode = await start(nursery, {"a": 0}, queue_items=1)
    client = connect(triode, AsgiLane(), ".a", rooms=("r",), policy=Policy.DISCONNECT)
    await settle()
    written = bytearray(b"".join(triode.hub.writers.drain(client)))
    for number in range(3):
        triode.publish(rooms=["r"], data=number)
    await settle()
    for value in range(3):
        triode.write_nowait(Set(("a",), value))
    for data in triode.hub.writers.drain(client):
        written += data
    assert client.end is ends.SLOW
    opcodes = [first for first, _ in unwrap(written)]
    assert opcodes.index(CLOSE) == len(opcodes) - 1


async def test_a_stream_that_waits_ends_when_its_client_is_closed(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0})
    client = connect(triode, AsgiLane(), ".a", kind="sse")
    ended = trio.Event()

    async def serve() -> None:
        async with EventStream(triode.hub, client) as pieces:
            async for _ in pieces:
                pass
        ended.set()

    nursery.start_soon(serve)
    await settle()
    triode.hub.close(client, ends.IDLE)
    await settle()
    assert ended.is_set()


async def test_a_snapshot_that_nobody_reads_any_more_lets_go(nursery: trio.Nursery) -> None:
    """At once: the collector may have put aside what only it could free."""
    with patch.object(app.snapshot, "FRAME_BYTES", 100):
        triode = await start(nursery, {"a": list(range(100))})
        lane = ByteLane(0)
        client = connect(triode, lane, ".a[*]")
        await settle()
        gc.disable()
        try:
            triode.hub.close(client, ends.CLIENT_LOST)
            lane.lose()
            del client
            await settle()
            assert triode.store.document._pins == 0
        finally:
            gc.enable()


async def test_a_big_snapshot_is_not_kept_when_all_have_it(nursery: trio.Nursery) -> None:
    with patch.object(app.snapshot, "FRAME_BYTES", 100):
        triode = await start(nursery, {"a": list(range(1000))})
        client = connect(triode, FakeLane(), ".a[*]")
        await settle()
        await triode.write(Set(("a", 0), 1))
        await settle()
        [subscription] = client.subscriptions.values()
        kept = [frame for _, frame in subscription.audience.snapshots.values()]
        assert sum(len(piece) for frame in kept for piece in getattr(frame, "_made", ())) == 0


async def test_a_condition_and_create_go_together(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {})
    now = triode.store.position
    await triode.write(Set(("a", "b"), 1, create=True, if_position=now))
    with pytest.raises(Refusal, match="changed"):
        await triode.write(Set(("a", "b"), 2, create=True, if_position=now))


async def test_a_patch_may_replace_an_array_it_has_rearranged(nursery: trio.Nursery) -> None:
    triode = await start(nursery, [0])
    steps: Json = [{"op": "add", "path": "/0", "value": 1}, {"op": "add", "path": "", "value": 1}]
    await triode.write(Patch((), steps))
    assert (triode.store.document.root, triode.store.seq) == (1, 1)
