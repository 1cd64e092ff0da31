"""The hub on virtual time, with lanes whose appetite the test decides."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trio
import trio.testing

from tests.app.lanes import FakeLane
from tests.app.registries import registered
from triode.app.config.settings import Settings
from triode.app.config.socket_route import SocketRoute
from triode.app.delivery.group import SIZE
from triode.app.delivery.subscriber import Client
from triode.app.service import renewal
from triode.app.service.running import run
from triode.app.service.session import Session
from triode.app.service.triode import Triode
from triode.app.wire import end_reasons
from triode.app.wire.frame import Frame, control
from triode.app.wire.stream_request import StreamRequest
from triode.limits.grant import Grant
from triode.limits.policy import Policy
from triode.limits.principal import OWNER
from triode.limits.rate import Rate
from triode.store.filter import parse_filter
from triode.store.operation import Batch, Set


@asynccontextmanager
async def running(settings: Settings | None = None, root: Any = None) -> AsyncIterator[Triode]:
    triode = Triode(settings or Settings(), root or {"a": 0, "b": {"c": 1}})
    async with trio.open_nursery() as nursery:
        await nursery.start(run, triode)
        yield triode
        nursery.cancel_scope.cancel()


def connect(
    triode: Triode, lane: FakeLane, *filters: str, policy: Policy = Policy.DROP_NEWEST
) -> Client:
    from triode.app.service import stream_start

    client = triode.hub.open("ws", lane, OWNER, "127.0.0.1", {})
    stream_start.begin(
        triode.hub,
        client,
        StreamRequest(tuple(map(parse_filter, filters)), policy=policy),
        version="0",
    )
    return client


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_a_subscriber_gets_the_state_and_then_each_change() -> None:
    async with running() as triode:
        lane = FakeLane()
        connect(triode, lane, ".a")
        await triode.write(Set(("a",), 1))
        await triode.write(Set(("b", "c"), 2))
        await triode.write(Set(("a",), 3))
        await settle()
        connected, snapshot, first, second = lane.messages()
        assert connected["type"] == "connected"
        assert snapshot["items"] == [{"path": ".a", "value": 0}]
        assert [first["value"], second["value"]] == [1, 3]
        assert [first["id"], second["id"]] == [f"{triode.store.epoch}:1", f"{triode.store.epoch}:3"]


async def test_only_the_last_frame_of_a_change_carries_the_position() -> None:
    async with running() as triode:
        lane = FakeLane()
        connect(triode, lane, ".a", ".b.c")
        await triode.write(Set((), {"a": 5, "b": {"c": 6}}))
        await settle()
        updates = [m for m in lane.messages() if m["type"] == "update"]
        assert ["id" in m for m in updates] == [False, True]


async def test_a_newcomer_between_publish_and_flush_gets_nothing_older_than_its_snapshot() -> None:
    async with running() as triode:
        early, late = FakeLane(), FakeLane()
        connect(triode, early, ".a")
        triode.write_nowait(Set(("a",), 1))
        connect(triode, late, ".a")  # the same group, its frames not flushed yet
        triode.write_nowait(Set(("a",), 2))
        await settle()
        assert [m.get("value") for m in early.messages()[2:]] == [1, 2]
        assert late.messages()[1]["items"] == [{"path": ".a", "value": 1}]
        assert [m["value"] for m in late.messages()[2:]] == [2]


async def test_own_frames_keep_their_place_among_the_groups() -> None:
    async with running() as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a")
        await settle()
        triode.write_nowait(Set(("a",), 1))
        triode.hub.push(client, Frame(control("ws", "ok", {"ref": 1})))
        triode.write_nowait(Set(("a",), 2))
        await settle()
        assert lane.types()[2:] == ["update", "ok", "update"]


async def test_nothing_of_a_filter_arrives_after_unsubscribe() -> None:
    async with running() as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a", ".b")
        await settle()
        triode.write_nowait(Set(("a",), 1))
        triode.write_nowait(Set(("b",), 2))
        triode.hub.unsubscribe(client, ".a")
        triode.hub.push(client, Frame(control("ws", "ok", {})))
        triode.write_nowait(Set(("a",), 3))
        await settle()
        assert [(m["type"], m.get("filter")) for m in lane.messages()[3:]] == [
            ("update", ".a"),  # owed when it asked
            ("update", ".b"),
            ("ok", None),
        ]


async def test_a_room_message_reaches_all_but_its_sender() -> None:
    async with running() as triode:
        lanes = [FakeLane() for _ in range(3)]
        clients = [connect(triode, lane) for lane in lanes]
        for client in clients:
            triode.hub.join(client, "r")
        assert triode.publish(rooms=["r"], data=1, sender=clients[0]).reached == 2
        assert triode.publish(rooms=["r"], data=2, sender=clients[0], echo=True).reached == 3
        await settle()
        got = [[m["data"] for m in lane.messages() if m["type"] == "message"] for lane in lanes]
        assert got == [[2], [1, 2], [1, 2]]


async def test_several_rooms_reach_each_client_once() -> None:
    async with running() as triode:
        lane = FakeLane()
        client = connect(triode, lane)
        triode.hub.join(client, "r1")
        triode.hub.join(client, "r2")
        assert triode.publish(rooms=["r1", "r2"], data="x").reached == 1
        await settle()
        assert lane.types().count("message") == 1


async def test_an_empty_room_vanishes() -> None:
    async with running() as triode:
        client = connect(triode, FakeLane())
        triode.hub.join(client, "r")
        triode.hub.leave(client, "r")
        assert triode.hub.rooms == {}
        triode.hub.join(client, "r")
        triode.hub.end(client, end_reasons.CLIENT_CLOSED, "silently")
        assert triode.hub.rooms == {}


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    async with running() as triode:
        client = connect(triode, FakeLane(), ".a", "..c")
        triode.hub.join(client, "r")
        triode.hub.tags.update(client, {"k": "v"})
        triode.hub.end(client, end_reasons.CLIENT_CLOSED, "silently")
        triode.hub.end(client, end_reasons.CLIENT_CLOSED, "silently")
        hub = triode.hub
        assert (hub.clients, hub.rooms, hub.tags.index, len(triode.store.index)) == ({}, {}, {}, 0)
        assert registered(hub)["groups"] == 0
        assert triode.metrics.ends["client_closed"] == 1


async def test_groups_have_a_bounded_size_and_all_members_hear() -> None:
    async with running() as triode:
        lanes = [FakeLane() for _ in range(SIZE + 10)]
        for lane in lanes:
            connect(triode, lane, ".a")
        await triode.write(Set(("a",), 9))
        await settle()
        assert registered(triode.hub)["groups"] == 2
        assert all(lane.messages()[-1]["value"] == 9 for lane in lanes)


async def test_a_part_of_a_frame_is_completed_before_anything_else() -> None:
    async with running() as triode:
        lane = FakeLane()
        connect(triode, lane, ".a")
        await settle()
        lane.feed(7)  # not even the next frame's head and first bytes
        await triode.write(Set(("a",), 1))
        await settle()
        await triode.write(Set(("a",), 2))
        await settle()
        lane.feed(None)
        await settle()
        assert [m["value"] for m in lane.messages()[2:]] == [1, 2]
        await triode.write(Set(("a",), 3))  # it flows again
        await settle()
        assert registered(triode.hub)["slow"] == 0
        assert lane.messages()[-1]["value"] == 3


@pytest.mark.parametrize("missing", [1, 2])
async def test_the_end_of_a_chunk_needs_no_event_behind_it(missing: int) -> None:
    """All frames were taken, but not the last bytes of their chunk: nobody saw to those."""
    async with running() as triode:
        lane = FakeLane(chunked=True)
        client = triode.hub.open("sse", lane, OWNER, "127.0.0.1", {})
        assert client.chunks is not None
        await settle()
        triode.hub.tell(client, "hello", {})
        await settle()
        length = len(lane.taken)
        lane.feed(length - missing)
        triode.hub.tell(client, "hello", {})
        await settle()
        lane.feed(None)
        await settle()
        assert lane.taken == 2 * lane.taken[:length]
        assert registered(triode.hub)["slow"] == 0


async def test_what_a_slow_client_loses_is_counted_announced_and_healed() -> None:
    async with running(Settings(queue_items=3)) as triode:
        lane, healthy = FakeLane(), FakeLane()
        connect(triode, lane, ".a")
        connect(triode, healthy, ".a")
        await settle()
        lane.feed(0)
        for value in range(1, 11):
            await triode.write(Set(("a",), value))
            await settle()
        lane.feed(None)
        await settle()
        await triode.write(Set(("a",), 99))
        await settle()
        messages = lane.messages()[2:]
        # The writer holds one, the queue three; six of ten are lost.
        assert [m["type"] for m in messages] == ["update"] * 4 + ["gap", "snapshot", "update"]
        gap, snapshot, last = messages[4:]
        epoch = triode.store.epoch
        assert (gap["missed"], gap["after"], gap["to"]) == (6, f"{epoch}:4", f"{epoch}:10")
        assert gap["reason"] == "queue_full"
        assert snapshot["items"] == [{"path": ".a", "value": 10}]
        assert last["value"] == 99
        assert triode.metrics.drops["drop-newest", "queue_full"] == 6
        assert [m["value"] for m in healthy.messages()[2:]] == [*range(1, 11), 99]


async def test_after_a_loss_nothing_carries_a_position_until_it_is_healed() -> None:
    async with running(Settings(queue_items=2)) as triode:
        lane = FakeLane()
        connect(triode, lane, ".a", ".b")
        await settle()
        lane.feed(0)
        for value in range(1, 5):  # one with the writer, two in the queue, one lost
            await triode.write(Set(("a",), value))
            await settle()
        lane.feed(1)  # the writer takes the queue, and waits with it
        await settle()
        await triode.write(Set(("b",), "not lost"))
        await settle()
        lane.feed(None)
        await settle()
        messages = lane.messages()[3:]
        kinds = [(m["type"], m.get("filter"), "id" in m) for m in messages]
        assert kinds == [
            ("update", ".a", True),
            ("update", ".a", True),
            ("update", ".a", True),
            ("update", ".b", False),
            ("gap", ".a", False),
            ("snapshot", ".a", True),
        ]


async def test_the_disconnect_policy_ends_the_client() -> None:
    async with running(Settings(queue_items=2)) as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a", policy=Policy.DISCONNECT)
        await settle()
        lane.feed(0)
        for value in range(9):
            await triode.write(Set(("a",), value))
            await settle()
        assert client.end is end_reasons.SLOW
        assert triode.hub.clients == {}


async def test_a_lost_socket_ends_its_client_only() -> None:
    async with running() as triode:
        lane, other = FakeLane(), FakeLane()
        client = connect(triode, lane, ".a")
        connect(triode, other, ".a")
        await settle()
        lane.lost = True
        await triode.write(Set(("a",), 1))
        await settle()
        assert client.end is end_reasons.CLIENT_LOST
        assert lane.aborted
        assert other.messages()[-1]["value"] == 1


async def test_finish_sends_what_is_owed_then_the_goodbye() -> None:
    async with running() as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a")
        await settle()
        triode.write_nowait(Set(("a",), 1))
        triode.hub.end(client, end_reasons.RESTART, retry_ms=123)
        assert lane.types()[-1] == "update"
        assert bytes(lane.taken).endswith(b'\x03\xf4{"retry_ms":123}')  # 1012
        assert lane.woken == 1
        assert triode.hub.clients == {}


@pytest.mark.parametrize("size", [10, 70_000, 300_000])
async def test_snapshots_of_any_size_arrive_whole(size: int) -> None:
    root = {"big": [{"n": i, "text": "x" * 90} for i in range(size // 100)]}
    async with running(root=copy.deepcopy(root)) as triode:
        lane, each = FakeLane(), FakeLane()
        connect(triode, lane, ".big[*]")
        connect(triode, each, ".big")
        await settle()
        if size > 1000:
            triode.write_nowait(Set(("big", 0, "n"), -1))
            await settle()
            assert lane.messages()[-1]["value"] == -1
        snapshots = [m for m in lane.messages() if m["type"] == "snapshot"]
        items = [item for m in snapshots for item in m["items"]]  # type: ignore[attr-defined]
        assert [item["value"] for item in items] == root["big"]
        assert [m["more"] for m in snapshots] == [True] * (len(snapshots) - 1) + [False]
        assert ["id" in m for m in snapshots] == [not m["more"] for m in snapshots]


async def test_a_change_too_big_to_encode_at_once_comes_as_a_snapshot_in_pieces() -> None:
    async with running(root={"big": [0], "a": 0}) as triode:
        lanes = [FakeLane(), FakeLane()]
        for lane in lanes:
            connect(triode, lane, ".big[*]")
        await settle()
        await triode.write(Set(("big",), list(range(5000))))
        await triode.write(Set(("big", 4), "after"))
        await settle()
        for lane in lanes:
            *snapshots, update = lane.messages()[2:]
            items = [item["value"] for m in snapshots for item in m["items"]]  # type: ignore[attr-defined]
            assert items == list(range(5000))
            assert len(snapshots) > 2
            assert (update["path"], update["value"]) == (".big[4]", "after")


async def test_publishers_wait_for_the_flusher() -> None:
    async with running() as triode:
        connect(triode, FakeLane(), ".a")
        await settle()
        with trio.testing.assert_checkpoints():
            for _ in range(10):
                await triode.write(Set(("a",), "x" * 50_000))
            await triode.write(Set(("a",), 1))


async def test_heartbeats_and_idle(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a")
        await trio.sleep(16)
        assert bytes(lane.taken).count(b"\x89\x00") == 1
        await trio.sleep(50)
        assert client.end is end_reasons.IDLE


async def test_a_stream_ends_with_its_token(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as triode:
        issued = triode.tokens.issue(OWNER.grant, now=triode.clock.unix_s(), ttl_s=40)
        lane = FakeLane()
        client = connect(triode, lane, ".a")
        renewal.authenticate(triode, client, issued.secret)
        await trio.sleep(12)
        assert lane.types()[-1] == "expiring"
        await trio.sleep(30)
        assert client.end is end_reasons.TOKEN_ENDED


async def test_a_short_token_is_not_asked_for_each_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as triode:
        lane = FakeLane()
        client = connect(triode, lane, ".a")
        for _ in range(3):  # each is renewed as soon as it is told to end
            issued = triode.tokens.issue(OWNER.grant, now=triode.clock.unix_s(), ttl_s=21)
            renewal.authenticate(triode, client, issued.secret)
            before = lane.types().count("expiring")
            await trio.sleep(2.5 if before == 0 else 12)
            assert lane.types().count("expiring") == max(before, 1)
            await trio.sleep(0 if before == 0 else 4)
            assert lane.types().count("expiring") == before + 1


async def test_revocation_ends_the_stream_within_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running() as triode:
        issued = triode.tokens.issue(OWNER.grant, now=triode.clock.unix_s())
        client = connect(triode, FakeLane(), ".a")
        renewal.authenticate(triode, client, issued.secret)
        triode.tokens.revoke(issued.info.id)
        await trio.sleep(1.1)
        assert client.end is end_reasons.TOKEN_ENDED


async def test_resume_gives_exactly_what_was_missed() -> None:
    from triode.app.service import stream_start

    async with running() as triode:
        await triode.write(Set(("a",), 1))
        since = triode.store.position
        await triode.write(Set(("a",), 2))
        await triode.write(Set(("b", "c"), 3))
        await triode.write(Set(("a",), 4))
        lane = FakeLane()
        client = triode.hub.open("ws", lane, OWNER, "", {})
        request = StreamRequest((parse_filter(".a"),), since=since, resume=True)
        stream_start.begin(triode.hub, client, request, version="0")
        await settle()
        connected, *missed = lane.messages()
        assert connected["resumed"] is True
        assert [(m["type"], m["value"]) for m in missed] == [("update", 2), ("update", 4)]


async def test_a_document_is_loaded_before_the_server_is_ready(tmp_path: Path) -> None:
    file = tmp_path / "document.json"
    file.write_text('{"a": [1, 2]}')
    async with running(Settings(load=file)) as triode:
        assert triode.store.document.root == {"a": [1, 2]}


async def test_a_broken_file_stops_the_start_and_says_why(tmp_path: Path) -> None:
    file = tmp_path / "document.json"
    file.write_text('{"a": [1, 2')
    with pytest.raises(ValueError, match=r"document\.json cannot be loaded"):
        await run(Triode(Settings(load=file)))


async def test_a_route_has_a_rate_of_its_own() -> None:
    route = SocketRoute("/game/{table}", rate=Rate(1, 2))
    async with running(Settings(sockets=(route,))) as triode:
        lane = FakeLane()
        client = connect(triode, lane)
        client.rates = triode.gate.rates_of(route)
        session = Session(triode, client)
        for _ in range(3):
            await session.receive(b'{"type":"ping","ref":1}')
        await settle()
        assert lane.types()[1:] == ["pong", "pong", "error"]
        assert lane.messages()[-1]["status"] == 429
        assert lane.messages()[-1]["ref"] == 1


async def test_a_smaller_grant_ends_what_it_does_not_cover() -> None:
    async with running() as triode:
        narrow = triode.tokens.issue(Grant(read=(".a",)), now=triode.clock.unix_s())
        lane = FakeLane()
        client = connect(triode, lane, ".a", ".b")
        renewal.authenticate(triode, client, narrow.secret)
        await triode.write(Set((), {"a": 1, "b": 2}))
        await settle()
        assert [m["filter"] for m in lane.messages() if m["type"] == "update"] == [".a"]


async def test_much_of_one_change_is_one_snapshot_however_many_edits_it_has() -> None:
    async with running(root={"a": [0] * 5000, "b": 0}) as triode:
        lane, beside = FakeLane(), FakeLane()
        connect(triode, lane, ".a[*]", ".b")
        connect(triode, beside, ".b")
        await settle()
        before = len(lane.messages())
        ops = tuple(Set(("a", index), 1) for index in range(5000))
        await triode.write(Batch((*ops, Set(("b",), 1))))
        await settle()
        told = lane.messages()[before:]
        whole = [m for m in told if m["type"] == "snapshot"]
        assert sum(len(m["items"]) for m in whole) == 5000  # type: ignore[misc, arg-type]
        assert [m["filter"] for m in told if m["type"] == "update"] == [".b"]
        assert len(whole) == len(told) - 1
        assert ["id" in m for m in told] == [False] * (len(told) - 1) + [True]
        assert beside.types()[2:] == ["update"]


async def test_up_to_500_events_of_one_change_come_one_by_one() -> None:
    async with running(root={"a": [0] * 500}) as triode:
        lane = FakeLane()
        connect(triode, lane, ".a[*]")
        await settle()
        await triode.write(Batch(tuple(Set(("a", index), 1) for index in range(500))))
        await settle()
        assert lane.types()[2:] == ["update"] * 500


async def test_who_could_not_be_told_of_a_change_ends_and_can_resume() -> None:
    async with running(root={"a": 0, "b": 0}) as triode:
        concerned, other = FakeLane(), FakeLane()
        client, bystander = connect(triode, concerned, ".a"), connect(triode, other, ".b")
        await settle()
        position = triode.store.position
        with patch("triode.app.delivery.fan_out.document_frame", side_effect=MemoryError):
            await triode.write(Set(("a",), 1))
        await settle()
        assert (client.end, bystander.end) == (end_reasons.FAULT, None)
        assert f"{position}" == [m["id"] for m in concerned.messages() if "id" in m][-1]
        await triode.write(Set(("b",), 1))
        await settle()
        assert other.types()[2:] == ["update"]
