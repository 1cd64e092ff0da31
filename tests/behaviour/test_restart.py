"""With `--data` nothing that was answered is lost, and every client resumes where it was."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed

from .auth import ADMIN, GUARDED
from .clients import TRANSPORTS, Api, open_api, open_ws, watch
from .conftest import ServerFactory
from .server import Server

pytestmark = pytest.mark.trio

JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=["killed", "ended"])
def ending(request: pytest.FixtureRequest) -> str:
    """How the server goes."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="session")
def lasting(make_server: ServerFactory) -> Server:
    """A server that keeps its document in a folder."""
    return make_server(data="kept")


async def again(server: Server, ending: str) -> None:
    """A new process in the place of the old one."""

    def anew() -> None:
        server.kill() if ending == "killed" else server.stop()
        server._stop_until_s = None
        server.start(server.port)

    await trio.to_thread.run_sync(anew)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_all_is_there_and_clients_resume_exactly(
    lasting: Server, ending: str, transport: str
) -> None:
    async with open_api(lasting) as api:
        await api.reset({"a": {"x": 0}, "n": 0, "list": [1]})
        async with watch(lasting, transport, ".") as one:
            epoch = one.connected["epoch"]
            await one.snapshot()
            since = await api.put(".a.x", 1)
            assert [frame["id"] for frame in await one.take(1)] == [since]
        ids = [await api.put(".a.y", [2]), await api.merge(".", {"a": {"x": None}, "m": 3})]
        lines = [
            {"type": "increment", "path": ".n"},
            {"type": "append", "path": ".list", "value": 2},
        ]
        answer = await api.client.post(
            "/store/batch",
            content="\n".join(map(json.dumps, lines)),
            headers={"Content-Type": "application/x-ndjson"},
        )
        ids += [json.loads(line)["id"] for line in answer.text.splitlines()]
        async with open_ws(lasting) as ws:
            ok = await ws.ok("patch", path=".", patch=[{"op": "move", "from": "/m", "path": "/z"}])
            ids.append(ok["id"])
        document = await api.get(".")
    assert document == {"a": {"y": [2]}, "n": 1, "list": [1, 2], "z": 3}
    await again(lasting, ending)
    async with (
        open_api(lasting) as api,
        watch(lasting, transport, ".", since=since) as one,
        watch(lasting, transport, ".", since=ids[-1]) as two,
    ):
        assert await api.get(".") == document
        assert one.connected["resumed"] is True
        assert one.connected["epoch"] == epoch
        assert two.connected["resumed"] is True
        last = await api.put(".last", True)
        seen = [f["id"] for f in await one.until(".last", True) if "id" in f]
        assert seen == [*ids, last][: len(seen)] if last in seen else seen == ids
        assert [frame["id"] for frame in await two.take(1)] == [last]


async def test_conditions_hold_over_a_restart(lasting: Server, ending: str) -> None:
    async with open_api(lasting) as api:
        await api.reset({"a": 0, "b": 0})
        seen = await api.put(".a", 1)
        await api.put(".b", 1)
    await again(lasting, ending)
    async with open_api(lasting) as api:
        kept = await api.client.get("/store?path=.a", headers={"If-None-Match": f'"{seen}"'})
        assert kept.status_code == 304
        changed = await api.client.get("/store?path=.b", headers={"If-None-Match": f'"{seen}"'})
        assert changed.status_code == 200
        for path, status in ((".b", 412), (".a", 200)):
            params = {"path": path, "if": seen}
            answer = await api.client.put("/store", params=params, content=b"2", headers=JSON)
            assert answer.status_code == status


async def say(api: Api, room: str, *data: Any) -> None:
    for one in data:
        body = {"room": room, "data": one}
        assert (await api.request("POST", "/publish", json=body)).status_code == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_rooms_go_on_after_a_restart_and_after_a_crash(
    lasting: Server, ending: str, transport: str
) -> None:
    room = f"{transport} {ending}"
    async with open_api(lasting) as api:
        async with watch(lasting, transport, room=room) as one:
            await say(api, room, 1, 2, 3)
            since = (await one.take(3))[0]["id"]
    await again(lasting, ending)
    async with (
        open_api(lasting) as api,
        watch(lasting, transport, room=room, since=since) as one,
    ):
        assert one.connected["resumed"] is True
        await say(api, room, 4)
        assert [frame["data"] for frame in await one.take(3)] == [2, 3, 4]


async def test_a_crash_after_a_restart_passes_over_nothing_said_in_between(lasting: Server) -> None:
    async with open_api(lasting) as api, watch(lasting, "ws", room="r") as one:
        await say(api, "r", 1)
        [first] = await one.take(1)
    await again(lasting, "ended")
    async with open_api(lasting) as api, watch(lasting, "ws", room="r", since=first["id"]) as one:
        assert one.connected["resumed"] is True
        await say(api, "r", 2)
        await one.take(1)
    await again(lasting, "killed")
    async with watch(lasting, "ws", room="r", since=first["id"]) as one:
        assert one.connected["resumed"] is True
        assert [frame["data"] for frame in await one.take(1)] == [2]


async def test_tokens_hold_and_revoked_ones_do_not(make_server: ServerFactory, ending: str) -> None:
    guarded = make_server(**GUARDED, data="kept")
    async with open_api(guarded, token=ADMIN) as admin:
        made = []
        for label in ("kept", "revoked"):
            answer = await admin.client.post("/tokens", json={"read": "*", "label": label})
            made.append(answer.json())
        url = f"/tokens/{made[1]['id']}"
        assert (await admin.request("DELETE", url)).status_code == 204
    await again(guarded, ending)
    async with open_api(guarded, token=made[0]["token"]) as api:
        who = (await api.request("GET", "/token")).json()
        assert (who["id"], who["name"]) == (made[0]["id"], "kept")
    async with open_api(guarded, token=made[1]["token"]) as api:
        assert (await api.request("GET", "/token")).status_code == 401
    async with open_api(guarded, token=ADMIN) as admin:
        listed = (await admin.request("GET", "/tokens")).json()["tokens"]
        assert made[0]["id"] in [each["id"] for each in listed]
        assert made[1]["id"] not in [each["id"] for each in listed]


async def test_nothing_acknowledged_is_missing_after_a_kill(lasting: Server) -> None:
    """A few writers at once, on each way in; the server dies under them."""
    async with open_api(lasting) as api:
        await api.reset({"w": {}})
    answered: dict[str, int] = {}

    async def write_http(name: str) -> None:
        async with open_api(lasting) as api:
            for number in range(100_000):
                await api.put(f".w.{name}", number)
                answered[name] = number

    async def write_ws(name: str) -> None:
        async with open_ws(lasting) as ws:
            for number in range(100_000):
                await ws.send({"type": "set", "path": f".w.{name}", "value": number, "ref": number})
                if number >= 20:
                    answered[name] = (await ws.next())["ref"]

    async def quietly(writer: Any, name: str) -> None:
        try:
            await writer(name)
        except (httpx.HTTPError, ConnectionClosed, AssertionError, OSError):
            pass  # its server has died

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(quietly, write_http, f"http{number}")
            nursery.start_soon(quietly, write_ws, f"ws{number}")
        with trio.fail_after(30):
            while len(answered) < 6:  # noqa: ASYNC110 # an answer sets no event
                await trio.sleep(0.02)
        await trio.sleep(0.5)
        await trio.to_thread.run_sync(lasting.kill)
        nursery.cancel_scope.deadline = trio.current_time() + 2
    assert len(answered) == 6
    lasting.start(lasting.port)
    async with open_api(lasting) as api:
        kept = await api.get(".w")
    for name, number in answered.items():
        assert kept[name] >= number


async def test_two_servers_do_not_share_a_folder(lasting: Server, tmp_path: Any) -> None:
    other = Server(lasting.lane, {**lasting.settings, "data": str(lasting.home / "kept")}, tmp_path)
    with pytest.raises(AssertionError, match="in use by another Triode"):
        await trio.to_thread.run_sync(other.start)
