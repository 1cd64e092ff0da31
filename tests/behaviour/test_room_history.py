"""What members of rooms missed while they were away, over real sockets."""

from __future__ import annotations

from typing import Any

import pytest

from .clients import TRANSPORTS, Api, Frame, Ws, eventually, open_ws, watch
from .conftest import ServerFactory
from .server import Server

pytestmark = pytest.mark.trio


async def say(api: Api, room: str, *data: Any) -> None:
    for one in data:
        response = await api.request("POST", "/publish", json={"room": room, "data": one})
        assert response.status_code == 200, response.text


async def members(api: Api) -> int:
    stats: dict[str, Any] = (await api.request("GET", "/stats")).json()
    count: int = stats["gauges"]["rooms"]
    return count


async def hear(ws: Ws, count: int) -> list[Frame]:
    frames = [await ws.next() for _ in range(count)]
    assert [frame["type"] for frame in frames] == ["message"] * count
    return frames


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stream_of_one_room_resumes(server: Server, api: Api, transport: str) -> None:
    room = f"history-{transport}"
    others = await members(api)
    async with watch(server, transport, room=room) as one:
        await say(api, room, 1, 2)
        first, _ = await one.take(2)

    async def is_empty() -> bool:
        return await members(api) <= others

    await eventually(is_empty)
    await say(api, room, 3)
    async with watch(server, transport, room=room, since=first["id"]) as back:
        assert back.connected["resumed"] is True
        assert [frame["data"] for frame in await back.take(2)] == [2, 3]
        await say(api, room, 4)
        assert (await back.next())["data"] == 4
        last = back.last_id
    if transport == "sse":
        headers = [("Last-Event-ID", last)]
        async with watch(server, "sse", room=room, headers=headers) as again:
            assert again.connected["resumed"] is True
            await say(api, room, 5)
            assert (await again.next())["data"] == 5


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_cannot_be_resumed_is_said(server: Server, api: Api, transport: str) -> None:
    room = f"lost-{transport}"
    async with watch(server, transport, room=room, since="abcdef-012345:7") as one:
        assert one.connected["resumed"] is False
        await say(api, room, 1)
        assert (await one.next())["data"] == 1


async def test_join_resumes(server: Server, api: Api) -> None:
    async with open_ws(server, "/ws") as stays:
        await stays.ok("join", room=["j1", "j2"])
        async with open_ws(server, "/ws", greet=False) as goes:
            me = (await goes.next())["client"]
            positions = (await goes.ok("join", room=["j1", "j2"]))["positions"]
            await goes.ok("publish", room="j1", event="e", data="mine")
        await stays.ok("publish", room="j1", event="e", data="one")
        await stays.ok("publish", room=["j1", "j2"], event="e", data="both")
        async with open_ws(server, "/ws") as back:
            answer = await back.ok("join", room=["j1", "j2"], since=positions, was=me)
            assert answer["resumed"] == {"j1": True, "j2": True}
            assert answer["positions"] == positions
            assert [frame["data"] for frame in await hear(back, 2)] == ["one", "both"]
            answer = await back.ok("join", room="j1", since="garbage")
            assert answer["resumed"] is False
            assert (await back.refused("join", room="j1", since=7))["status"] == 400
            await stays.ok("publish", room="j2", event="e", data="now")
            assert [frame["data"] for frame in await hear(back, 1)] == ["now"]


async def test_no_more_is_kept_than_was_set(make_server: ServerFactory) -> None:
    server = make_server(room_history=2)
    async with open_ws(server, "/ws") as one, open_ws(server, "/ws") as two:
        position = (await one.ok("join", room="r"))["positions"]["r"]
        for number in range(3):
            await one.ok("publish", room="r", event="e", data=number)
        assert (await two.ok("join", room="r", since=position))["resumed"] is False
        epoch = position.partition(":")[0]
        assert (await two.ok("join", room="r", since=f"{epoch}:1"))["resumed"] is True
        assert [frame["data"] for frame in await hear(two, 2)] == [1, 2]
