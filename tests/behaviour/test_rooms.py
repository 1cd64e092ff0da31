"""Rooms, messages and tags: who gets what, who does not, and that nothing is left behind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from .clients import (
    TRANSPORTS,
    Api,
    Fence,
    Frame,
    Watch,
    Ws,
    check_problem,
    eventually,
    open_ws,
    query,
    watch,
)
from .server import Server

pytestmark = pytest.mark.trio


@pytest.fixture
async def document(api: Api) -> str:
    return await api.reset({"fence": ""})


@contextlib.asynccontextmanager
async def members(server: Server, count: int, target: str = "") -> AsyncIterator[list[Ws]]:
    """`count` WebSocket clients that watch the fence only."""
    target = "/ws" + query([".fence"], snapshot="none") + target
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_ws(server, target)) for _ in range(count)]


async def publish(api: Api, **body: Any) -> int:
    """`POST /publish`; returns the number reached."""
    response = await api.request("POST", "/publish", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer.keys() == {"reached"}
    count: int = answer["reached"]
    return count


def size(answer: Frame) -> int:
    """How many members a room has by the `ok` of `join` or `leave`: their ids, each once."""
    ids: list[str] = answer["members"]
    assert all(one.startswith("c_") for one in ids)
    assert len(set(ids)) == len(ids)
    return len(ids)


async def received(fence: Fence, *clients: Ws) -> list[list[Frame]]:
    """The messages each got so far."""
    return await fence.pass_through(*[Watch(one) for one in clients])


async def test_join_leave_and_members(server: Server, fence: Fence, document: str) -> None:
    async with members(server, 2) as (one, two):
        assert size(await one.ok("join", room="jl")) == 1
        assert size(await two.ok("join", room="jl")) == 2
        assert size(await two.ok("join", room="jl")) == 2, "twice is once"
        assert size(await one.ok("leave", room="jl")) == 1
        assert (await one.ok("publish", room="jl", event="e", data={"k": [1]}))["reached"] == 1
        got_one, got_two = await received(fence, one, two)
        assert got_one == []
        [message] = got_two
        assert message["type"] == "message"
        assert message["room"] == "jl"
        assert message["event"] == "e"
        assert message["data"] == {"k": [1]}
        assert message["from"].startswith("c_")
        assert isinstance(message["time"], int)


async def test_join_takes_a_list(server: Server, fence: Fence, document: str) -> None:
    async with members(server, 2) as (one, two):
        await one.ok("join", room=["la", "lb", "lc"])
        await one.ok("leave", room=["la", "lb"])
        for room in ("la", "lb", "lc"):
            await two.ok("publish", room=room, event=room, data=None)
        [got] = await received(fence, one)
        assert [m["event"] for m in got] == ["lc"]


async def test_the_sender_only_with_echo(server: Server, fence: Fence, document: str) -> None:
    async with members(server, 2) as (one, two):
        for ws in (one, two):
            await ws.ok("join", room="echo")
        assert (await one.ok("publish", room="echo", event="quiet", data=1))["reached"] == 1
        loud = await one.ok("publish", room="echo", event="loud", data=2, echo=True)
        assert loud["reached"] == 2
        got_one, got_two = await received(fence, one, two)
        assert [m["event"] for m in got_one] == ["loud"]
        assert [m["event"] for m in got_two] == ["quiet", "loud"]


async def test_a_message_to_one_client(server: Server, fence: Fence, document: str) -> None:
    target = "/ws" + query([".fence"], snapshot="none")
    async with members(server, 1) as (one,), open_ws(server, target, greet=False) as two:
        name = (await two.next())["client"]
        assert (await one.ok("publish", to=name, event="psst", data="x"))["reached"] == 1
        assert (await one.ok("publish", to="c_nobody", event="psst", data="x"))["reached"] == 0
        got_one, got_two = await received(fence, one, two)
        assert got_one == []
        assert [(m["event"], m["data"]) for m in got_two] == [("psst", "x")]
        assert got_two[0].get("room") is None


async def test_several_rooms_reach_each_client_once(
    server: Server, api: Api, fence: Fence, document: str
) -> None:
    async with members(server, 2) as (one, two):
        await one.ok("join", room=["m1", "m2"])
        await two.ok("join", room="m2")
        assert await publish(api, room=["m1", "m2"], event="x", data=1) == 2
        got = await received(fence, one, two)
        assert [len(messages) for messages in got] == [1, 1]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_rooms_of_the_query(
    server: Server, api: Api, fence: Fence, document: str, transport: str
) -> None:
    rooms = ["q1", "q2"]
    async with watch(server, transport, ".fence", snapshot="none", room=rooms) as one:
        for room in ("q1", "q2", "q3"):
            assert await publish(api, room=room, event="e", data=room) == int(room in rooms)
        [got] = await fence.pass_through(one)
        assert [(m["room"], m["data"]) for m in got] == [("q1", "q1"), ("q2", "q2")]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_message_ids_count_in_the_room(
    server: Server, api: Api, fence: Fence, document: str, transport: str
) -> None:
    async with watch(server, transport, ".fence", snapshot="none", room="ids") as one:
        for number in range(3):
            await api.put(".other", number)
            await publish(api, room="ids", event="e", data=number)
            await publish(api, room="ids-of-others", event="e", data=number)
        [got] = await fence.pass_through(one)
    assert [m["data"] for m in got] == [0, 1, 2]
    if transport == "ws":
        numbers = [int(str(m["id"]).rpartition(":")[2]) for m in got]
        assert numbers == list(range(numbers[0], numbers[0] + 3)), "the room's own log"
    assert all(m["room"] == "ids" for m in got)


async def test_messages_keep_the_order_of_their_sender(
    server: Server, fence: Fence, document: str
) -> None:
    async with members(server, 2) as (one, two):
        await two.ok("join", room="order")
        for number in range(50):
            await one.send({"type": "publish", "room": "order", "event": "e", "data": number})
        await one.ok("get", filter=".fence")
        [got] = await received(fence, two)
        assert [m["data"] for m in got] == list(range(50))


async def test_publish_over_http(server: Server, api: Api, fence: Fence, document: str) -> None:
    async with members(server, 1) as (one,):
        await one.ok("join", room="http")
        assert await publish(api, room="http", event="e", data=[None, True]) == 1
        assert await publish(api, room="empty", event="e", data=1) == 0
        [got] = await received(fence, one)
        assert [(m["event"], m["data"]) for m in got] == [("e", [None, True])]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"event": "e", "data": 1},
        {"room": 5, "event": "e", "data": 1},
        {"room": "r", "event": "gap", "data": 1},
        {"room": "r", "event": "error", "data": 1},
        {"room": "r", "event": 5, "data": 1},
        {"room": "r", "to": "c_x", "event": "e", "data": 1},
        {"tags": "vip", "event": "e", "data": 1},
        [],
    ],
    ids=str,
)
async def test_publish_refuses_what_it_does_not_understand(api: Api, body: Any) -> None:
    response = await api.request("POST", "/publish", json=body)
    assert response.status_code == 400
    check_problem(response)


async def test_a_room_without_members_is_gone(server: Server, api: Api, document: str) -> None:
    async with members(server, 1) as (one,):
        await one.ok("join", room="vanish")
        assert await publish(api, room="vanish", event="e", data=1) == 1
        await one.ok("leave", room="vanish")
        assert await publish(api, room="vanish", event="e", data=1) == 0
        assert size(await one.ok("join", room="vanish")) == 1


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tags_of_the_query_select_clients(
    server: Server, api: Api, fence: Fence, document: str, transport: str
) -> None:
    base: dict[str, Any] = {"snapshot": "none", "tag.group": f"g-{transport}"}
    async with (
        watch(server, transport, ".fence", **(base | {"tag.user": "1"})) as one,
        watch(server, transport, ".fence", **(base | {"tag.user": "2"})) as two,
    ):
        group = f"g-{transport}"
        second = {"client.group": group, "client.user": "2"}
        third = {"client.group": group, "client.user": "3"}
        assert await publish(api, tags={"client.group": group}, event="all", data=0) == 2
        assert await publish(api, tags=second, event="and", data=0) == 1
        assert await publish(api, tags=third, event="no", data=0) == 0
        assert await publish(api, tags={"ghost": ""}, event="no", data=0) == 0
        got_one, got_two = await fence.pass_through(one, two)
        assert [m["event"] for m in got_one] == ["all"]
        assert [m["event"] for m in got_two] == ["all", "and"]


async def test_no_tags_select_nobody(server: Server, api: Api, document: str) -> None:
    async with members(server, 1, "&tag.some=thing"):
        response = await api.request("POST", "/publish", json={"tags": {}, "event": "e", "data": 1})
        assert response.status_code == 400 or response.json() == {"reached": 0}


async def test_the_tag_command(server: Server, api: Api, document: str) -> None:
    async with members(server, 1) as (one,):
        await one.ok("tag", tags={"mood": "good", "team": "x"})
        assert await publish(api, tags={"client.mood": "good"}, event="e", data=1) == 1
        await one.ok("tag", tags={"mood": "bad", "ghost": None})
        assert await publish(api, tags={"client.mood": "good"}, event="e", data=1) == 0
        assert (
            await publish(api, tags={"client.mood": "bad", "client.team": "x"}, event="e", data=1)
            == 1
        )
        await one.ok("tag", tags={"mood": None})
        assert await publish(api, tags={"client.mood": "bad"}, event="e", data=1) == 0
        assert (await one.refused("tag", tags={"mood": 5}))["status"] == 400
        assert (await one.refused("tag", tags=[]))["status"] == 400
    assert await publish(api, tags={"client.team": "x"}, event="e", data=1) == 0, (
        "gone with its client"
    )


async def test_one_clients_rooms_do_not_outlive_it(server: Server, api: Api, document: str) -> None:
    async with members(server, 1) as (stays,):
        await stays.ok("join", room="outlive")
        async with members(server, 1) as (goes,):
            assert size(await goes.ok("join", room="outlive")) == 2

        async def alone() -> bool:
            return size(await stays.ok("join", room="outlive")) == 1

        await eventually(alone)
