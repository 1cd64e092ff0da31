"""What the proof of exactness has found, each as small as it gets."""

from __future__ import annotations

import gc
from unittest.mock import patch

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.registries import registered
from tests.app.watcher import ByteLane, Reader
from triode.app.blueprints.events import AsgiLane, EventStream
from triode.app.config.settings import Settings
from triode.app.delivery import lazy_frame as lazy_frame_module
from triode.app.delivery import snapshot as snapshot_module
from triode.app.delivery.lazy_frame import SharedLazyFrame
from triode.app.delivery.subscriber import Client
from triode.app.lanes.native import NativeLane
from triode.app.service import running, stream_start
from triode.app.service.session import Session
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.app.wire.frame import CLOSE, PONG, Kind, unwrap, without_id, ws_frame
from triode.app.wire.refusal import Refusal
from triode.app.wire.stream_request import StreamRequest
from triode.limits.policy import Policy
from triode.limits.principal import OWNER
from triode.store.change import Position
from triode.store.filter import parse_filter
from triode.store.operation import Batch, Delete, Merge, Patch, Set
from triode.store.value import Json, encode

settle = trio.testing.wait_all_tasks_blocked


async def start(nursery: trio.Nursery, root: Json, **options: int) -> Triode:
    triode = Triode(Settings(**options), root)  # type: ignore[arg-type] # all of these are ints
    await nursery.start(running.run, triode)
    return triode


def connect(
    triode: Triode,
    lane: FakeLane | AsgiLane | NativeLane,
    *filters: str,
    kind: Kind = "ws",
    rooms: tuple[str, ...] = (),
    since: int | None = None,
    policy: Policy = Policy.DROP_NEWEST,
) -> Client:
    position = None if since is None else Position(triode.store.epoch, since)
    request = StreamRequest(
        tuple(map(parse_filter, filters)), rooms, policy, since=position, resume=since is not None
    )
    client = triode.hub.open(kind, lane, OWNER, "", {})
    stream_start.begin(triode.hub, client, request, version="0")
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
    assert client.end is end_reasons.SLOW
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
    triode.hub.end(client, end_reasons.IDLE, "silently")
    await settle()
    assert ended.is_set()


async def test_a_snapshot_that_nobody_reads_any_more_lets_go(nursery: trio.Nursery) -> None:
    """At once: the collector may have put aside what only it could free."""
    with patch.object(snapshot_module, "FRAME_BYTES", 100):
        triode = await start(nursery, {"a": list(range(100))})
        lane = ByteLane(0)
        client = connect(triode, lane, ".a[*]")
        await settle()
        gc.disable()
        try:
            triode.hub.end(client, end_reasons.CLIENT_LOST, "silently")
            lane.lose()
            del client
            await settle()
            assert triode.store.document._pins == 0
        finally:
            gc.enable()


async def test_a_big_snapshot_is_not_kept_when_all_have_it(nursery: trio.Nursery) -> None:
    with patch.object(snapshot_module, "FRAME_BYTES", 100):
        triode = await start(nursery, {"a": list(range(1000))})
        client = connect(triode, FakeLane(), ".a[*]")
        await settle()
        await triode.write(Set(("a", 0), 1))
        await settle()
        [subscription] = client.subscriptions.values()
        assert [known() for _, known in subscription.audience.snapshots.values()] == [None]


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


MUCH: Json = [[] for _ in range(300)]


async def test_a_filter_that_costs_too_much_cannot_be_healed_and_harms_nobody(
    mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """The repair evaluates the filter; what that raised ended the hub."""
    triode = await start(nursery, {"a": [], "b": 0}, queue_items=1, max_work=200, match_work=100)
    lane, other = FakeLane(), FakeLane()
    connect(triode, lane, "$..a")
    connect(triode, other, ".b")
    await settle()
    lane.feed(0)
    for value in ([1], [2]):  # written, queued
        await triode.write(Set(("a",), value))
        await settle()
    mock_clock.jump(1)
    await triode.write(Set(("a",), MUCH))
    await settle()
    lane.feed(None)
    await settle()
    reasons = [message["reason"] for message in lane.messages() if message["type"] == "gap"]
    assert reasons == ["queue_full", "too_costly"]
    await triode.write(Set(("a",), [4]))
    await triode.write(Set(("b",), 1))
    for _ in range(3):
        await settle()
        mock_clock.jump(1)
    await settle()
    assert lane.messages()[-1]["items"] == [{"path": ".a", "value": [4]}]
    assert other.types()[-1] == "update"


async def test_newcomers_of_a_filter_that_costs_too_much_are_told(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": []}, max_work=200, match_work=100)
    first, second, third = FakeLane(), FakeLane(), FakeLane()
    connect(triode, first, "$..a")
    clients = [connect(triode, second), connect(triode, third)]
    await triode.write(Set(("a",), MUCH))
    await say(triode, clients[0], type="subscribe", filter="$..a")
    await say(triode, clients[1], type="subscribe", filter="$..b")
    await settle()
    assert second.types() == ["connected", "ok", "gap"]
    assert third.types() == ["connected", "ok", "gap"]
    assert [m["reason"] for m in third.messages() if m["type"] == "gap"] == ["too_costly"]


async def test_a_filter_may_come_to_cost_too_much_in_the_middle_of_a_change(
    nursery: trio.Nursery,
) -> None:
    """Then the snapshot that its first part asks for cannot be made, with the change applied."""
    triode = await start(nursery, {"a": []}, max_work=200, match_work=100)
    lane = FakeLane()
    connect(triode, lane, "$..a")
    await settle()
    nested: Json = {"a": [{"a": 1}]}
    await triode.write(Batch((Set(("a",), [nested]), Set(("b",), MUCH))))
    await settle()
    assert lane.types() == ["connected", "snapshot", "gap"]


async def test_a_fault_in_writing_to_one_client_is_its_own(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    triode = await start(nursery, {"a": 0})
    lane, other = FakeLane(0), FakeLane()
    client = connect(triode, lane, ".a")
    connect(triode, other, ".a")

    async def fail(data: bytes) -> None:
        raise RuntimeError("a fault of ours")

    lane.send_all = fail  # type: ignore[method-assign]
    await settle()
    await triode.write(Set(("a",), 1))
    await settle()
    assert client.end is end_reasons.FAULT
    assert lane.aborted
    assert other.types() == ["connected", "snapshot", "update"]
    assert "could not be written" in caplog.text


def positions_before_the_last_answer(lane: FakeLane) -> list[object]:
    """Those of what a client of two filters is told after its first snapshots."""
    messages = lane.messages()
    last = max(i for i, message in enumerate(messages) if message["type"] == "ok")
    return [m["id"] for m in messages[3:last] if "id" in m and m["type"] != "ok"]


@pytest.mark.parametrize("recorded", [False, True])
async def test_no_position_passes_the_loss_of_a_filter_that_is_being_left(
    nursery: trio.Nursery, recorded: bool
) -> None:
    """Until the `ok` has come, a client that is cut off resumes with that filter."""
    triode = await start(nursery, {"a": 0, "b": 0}, queue_items=1)
    lane = FakeLane()
    client = connect(triode, lane, ".a", ".b")
    await settle()
    lane.feed(0)
    for value in (1, 2):  # written, queued
        await triode.write(Set(("a",), value))
        await settle()
    await triode.write(Set(("a",), 3))  # lost
    if recorded:
        await settle()
        lane.feed(60)  # the queue has room again
        await settle()
        lane.feed(0)
        await triode.write(Set(("b",), 4))
    await say(triode, client, type="subscribe", filter=".b")
    await say(triode, client, type="unsubscribe", filter=".a")
    await settle()
    lane.feed(None)
    await settle()
    epoch = triode.store.epoch
    assert positions_before_the_last_answer(lane) == [f"{epoch}:1", f"{epoch}:2"]
    await triode.write(Set(("b",), 5))
    await settle()
    assert lane.messages()[-1]["id"] == str(triode.store.position)


async def test_a_client_may_end_by_subscribing_again(nursery: trio.Nursery) -> None:
    """What it is owed comes first, and that may be too much for one that asked to be ended."""
    triode = await start(nursery, {"a": 0}, queue_items=1)
    client = connect(triode, FakeLane(0), ".a", policy=Policy.DISCONNECT)
    await settle()
    for value in (1, 2):
        await triode.write(Set(("a",), value))
        await settle()
    triode.write_nowait(Set(("a",), 3))
    await say(triode, client, type="subscribe", filter=".a")
    assert client.end is end_reasons.SLOW
    assert len(triode.store.index) == 0
    assert not any(registered(triode.hub).values())


async def starved(triode: Triode, lane: FakeLane, *path: str) -> None:
    """It takes nothing any more, and has lost a change of this place."""
    await settle()
    lane.feed(0)
    for value in range(triode.hub.settings.queue_items + 2):
        await triode.write(Set(path, value))
        await settle()


async def test_the_answer_to_a_write_has_its_position_whatever_is_lost(
    nursery: trio.Nursery,
) -> None:
    triode = await start(nursery, {"a": 0, "b": 0}, queue_items=1)
    lane = FakeLane()
    client = connect(triode, lane, ".a")
    await starved(triode, lane, "a")
    await say(triode, client, type="set", path=".b", value=1)  # without a ref
    lane.feed(None)
    await settle()
    [answer] = [message for message in lane.messages() if message["type"] == "ok"]
    assert answer["id"] == str(triode.store.position)


@pytest.mark.parametrize(
    "frame",
    [
        ws_frame(0, b',"id":"k7","x":1}'),  # a fragment of a large object
        ws_frame(PONG, b'x,"id":"k7"'),
    ],
)
def test_only_positions_are_taken_out_of_frames(frame: bytes) -> None:
    assert without_id(frame, "ws") == frame


async def test_the_first_frame_keeps_its_position_whatever_is_lost_later(
    nursery: trio.Nursery,
) -> None:
    """With `snapshot=none` there is no other to say from where on it hears."""
    triode = await start(nursery, {"a": 0, "b": 0}, queue_items=2)
    lane = FakeLane(0)
    client = triode.hub.open("ws", lane, OWNER, "", {})
    request = StreamRequest((parse_filter(".a"),), ("r",), policy=Policy.LATEST, snapshot=False)
    stream_start.begin(triode.hub, client, request, version="0")
    for number in range(3):
        triode.write_nowait(Set(("a",), number))
    for number in range(3):
        triode.publish(rooms=["r"], data=number)
    await settle()
    lane.feed(None)
    await settle()
    assert lane.messages()[0]["id"] == f"{triode.store.epoch}:0"


async def test_messages_of_a_room_keep_their_position_when_it_is_left(
    nursery: trio.Nursery,
) -> None:
    triode = await start(nursery, {"a": 0, "b": 0}, queue_items=2)
    lane = FakeLane()
    client = connect(triode, lane, ".b", rooms=("r",))
    triode.hub.subscribe(client, [(parse_filter(".a"), Policy.LATEST)])
    await settle()
    lane.feed(0)
    for number in range(2):  # with the writer, and in the queue
        triode.publish(rooms=["r"], data=number)
        await settle()
    for value in range(2):  # in the queue, and lost
        await triode.write(Set(("b",), value))
        await settle()
    await say(triode, client, type="leave", room="r")
    for value in range(2):  # in the queue, and out of it for newer ones
        await triode.write(Set(("a",), value))
        await settle()
    lane.feed(None)
    await settle()
    messages = [message for message in lane.messages() if message["type"] == "message"]
    assert ["id" in message for message in messages] == [True, True]


async def test_a_big_answer_comes_in_pieces_and_is_of_its_moment(nursery: trio.Nursery) -> None:
    with patch.object(snapshot_module, "FRAME_BYTES", 300):
        root: Json = {"a": [{"n": number, "id": "x"} for number in range(200)], "b": 0}
        triode = await start(nursery, root)
        lane = ByteLane(0)
        client = connect(triode, lane, ".b")
        await say(triode, client, type="get", filter=".a[*]", ref=1)
        position = str(triode.store.position)
        await triode.write(Set(("a", 0, "n"), "later"))
        await settle()
        assert client.outbox is not None
        assert client.outbox.bytes < 64 * 1024
        lane.feed(None)
        await settle()
        [answer] = [event for event in Reader("ws", lane).read() if event["type"] == "ok"]
        assert (answer["ref"], answer["id"]) == (1, position)
        assert [item["value"]["n"] for item in answer["items"]] == [*range(200)]
        assert triode.store.document._pins == 0


async def test_who_hardly_reads_a_big_snapshot_does_not_make_us_keep_it(
    nursery: trio.Nursery,
) -> None:
    """It gets the same as the others all the same."""
    with (
        patch.object(snapshot_module, "FRAME_BYTES", 300),
        patch.object(lazy_frame_module, "KEPT_BYTES", 1500),
    ):
        triode = await start(nursery, {"a": [*range(2000)]})
        quick, slow = ByteLane(), ByteLane(1000)
        client = connect(triode, slow, ".a[*]")
        await settle()
        connect(triode, quick, ".a[*]")
        await settle()
        [subscription] = client.subscriptions.values()
        [(_, known)] = subscription.audience.snapshots.values()
        feed = known()
        assert isinstance(feed, SharedLazyFrame)
        assert sum(map(len, feed._made)) <= 1500
        del feed
        await triode.write(Set(("a", 0), "later"))
        slow.feed(None)
        await settle()
        states = [
            [item["value"] for event in Reader("ws", lane).read()[1:-1] for item in event["items"]]
            for lane in (quick, slow)
        ]
        assert states == [[*range(2000)]] * 2
        assert triode.store.document._pins == 0


async def test_snapshots_of_many_filters_are_made_as_they_are_taken(nursery: trio.Nursery) -> None:
    """And are not kept for each of the filters when they are out."""
    root: Json = {f"k{number}": "x" * 10_000 for number in range(90)}
    triode = await start(nursery, root)
    lane = ByteLane()
    lane.send_now = None
    client = connect(triode, lane, *[f".k{number}" for number in range(90)])
    await settle()
    assert client.outbox is not None
    assert client.outbox.bytes < 2 * 64 * 1024
    for data in triode.hub.writers.drain(client):
        lane.taken += data
    last = Reader("ws", lane).read()[-1]
    assert last["id"] == str(triode.store.position)
    assert len(lane.taken) > 900_000
    assert sum(len(frame.data) for frame in triode.hub.shelf.snapshots) < 2 * 64 * 1024
    assert triode.store.document._pins == 0


async def test_a_replay_counts_as_what_it_holds_whatever_is_lost(nursery: trio.Nursery) -> None:
    triode = await start(nursery, {"a": 0, "b": 0}, queue_items=1)
    for value in range(600):
        triode.write_nowait(Set(("b",), value))
    lane = FakeLane()
    client = connect(triode, lane, ".a")
    await starved(triode, lane, "a")
    await say(triode, client, type="subscribe", filter=".b", since=f"{triode.store.epoch}:0")
    lane.feed(None)
    await settle()
    assert client.group is not None
    sent, _ = client.group.sent_to(client)
    assert sent == len(lane.messages())


async def test_a_gap_says_nothing_of_what_was_owed_before_it_was_heard_again(
    nursery: trio.Nursery,
) -> None:
    triode = await start(nursery, {"a": 0, "b": 0}, queue_items=1)
    lane = FakeLane()
    client = connect(triode, lane, ".a", ".b")
    await settle()
    lane.feed(0)
    for value in range(5):
        triode.write_nowait(Set(("a",), value))
    connect(triode, FakeLane(), ".a")  # so that it is the same audience
    await say(triode, client, type="unsubscribe", filter=".a")
    await say(triode, client, type="subscribe", filter=".a")
    for value in range(3):
        triode.write_nowait(Set(("a",), value))
    await settle()
    lane.feed(None)
    await settle()
    answered = lane.messages()[lane.types().index("ok") + 1 :]
    missed = sum(int(str(m["missed"])) for m in answered if m["type"] == "gap")
    assert missed + sum(m["type"] == "update" for m in answered) == 3
