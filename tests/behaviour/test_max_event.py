"""`max_event`: a value that would make an event too long is fetched, and the view is exact."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .api import Api, open_api
from .clients import TRANSPORTS, Watch, open_ws, query, watch
from .server import Server

pytestmark = pytest.mark.trio

MOST = 4096
LONG = "to be, or not to be " * 500
# Much longer as JSON than in characters.
ESCAPED = "\x01" * 1000


async def fetched(api: Api, told: dict[str, Any]) -> Any:
    """The value of an item or an event, from where it says."""
    if "fetch" not in told:
        return told["value"]
    assert "value" not in told
    response = await api.request("GET", told["fetch"])
    assert response.status_code == 200
    assert "ETag" in response.headers
    return response.json()


def check_length(frame: dict[str, Any]) -> None:
    assert len(json.dumps(frame, separators=(",", ":"), ensure_ascii=False).encode()) <= MOST


async def snapshot(api: Api, stream: Watch) -> dict[str, Any]:
    """The next snapshot, put together."""
    view: dict[str, Any] = {}
    while True:
        frame = await stream.next()
        assert frame["type"] == "snapshot", frame
        check_length(frame)
        for item in frame["items"]:
            view[item["path"]] = await fetched(api, item)
        if not frame["more"]:
            return view


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_too_long_is_fetched(server: Server, transport: str) -> None:
    root = {"a": {"long": LONG, "short": 1, 'od"d key/ü': ESCAPED}, "b": [LONG[:3000]] * 40}
    async with open_api(server) as api:
        await api.reset(root)
        options: Any = {"max_event": MOST}
        async with watch(server, transport, ".a.*", **options) as stream:
            view = await snapshot(api, stream)
            assert view == {".a.long": LONG, ".a.short": 1, '.a["od\\"d key/ü"]': ESCAPED}
            for value in ("short", LONG + "!", ESCAPED, [LONG[:100]] * 3, {"x": LONG}):
                await api.request("PUT", "/store", params={"path": ".a.short"}, json=value)
                frame = await stream.next()
                check_length(frame)
                assert (frame["type"], frame["path"]) == ("update", ".a.short")
                assert await fetched(api, frame) == value
                assert ("fetch" in frame) == (len(json.dumps(value)) > MOST - 200)
            await api.request("DELETE", "/store", params={"path": ".a.long"})
            assert (await stream.next())["type"] == "delete"
        # Frames of many items are cut to the same length.
        async with watch(server, transport, ".b[*]", **options) as stream:
            view = await snapshot(api, stream)
            assert view == {f".b[{index}]": LONG[:3000] for index in range(40)}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_was_missed_is_no_longer(server: Server, transport: str) -> None:
    async with open_api(server) as api:
        since = await api.reset({"a": 0, "b": [1, 2]})
        for value in (1, LONG, 2, LONG * 2):
            await api.request("PUT", "/store", params={"path": ".a"}, json=value)
        last = await api.request("PUT", "/store", params={"path": ".b"}, json=[LONG, 3])
        missed: Any = {"since": since, "max_event": MOST}
        async with watch(server, transport, ".a", "$.b[*]", **missed) as stream:
            frames = [await stream.next() for _ in range(4)]
            assert [frame.get("value") for frame in frames] == [1, None, 2, None]
            assert [await fetched(api, f) for f in frames[1::2]] == [LONG * 2] * 2
            view: dict[str, Any] = {}
            while stream.last_id != last.json()["id"]:
                frame = await stream.next()
                check_length(frame)
                for item in frame["items"] if frame["type"] == "snapshot" else [frame]:
                    view[item["path"]] = await fetched(api, item)
            assert view == {".b[0]": LONG, ".b[1]": 3}


async def test_a_websocket_says_it_with_a_subscription(server: Server) -> None:
    """And it holds for the connection from then on; others get what they always got."""
    async with open_api(server) as api, open_ws(server) as one, open_ws(server) as other:
        await api.reset({"a": LONG, "b": LONG})
        for socket, members in ((one, {"max_event": 5000}), (other, {})):
            await socket.send({"type": "subscribe", "filter": ".a", **members})
            await socket.send({"type": "subscribe", "filter": ".b", "snapshot": "none"})
        items = []
        for socket in (one, other):
            got = [await socket.next() for _ in range(3)]
            items += [item for f in got if f["type"] == "snapshot" for item in f["items"]]
        assert items == [
            {"path": ".a", "fetch": "/store?path=.a"},
            {"path": ".a", "value": LONG},
        ]
        await api.request("PUT", "/store", params={"path": ".b"}, json=LONG + "!")
        assert "value" not in await one.next()
        assert (await other.next())["value"] == LONG + "!"


async def test_other_numbers_are_refused(server: Server) -> None:
    async with open_api(server) as api, open_ws(server) as ws:
        for bad in ("0", "1023", "-5", "1e6", "", "9999999999999"):
            response = await api.request("GET", "/events" + query([".a"], max_event=bad))
            assert response.status_code == 400, bad
            assert "1024" in response.json()["detail"]
        await ws.send({"type": "subscribe", "filter": ".a", "max_event": 1.5})
        assert (await ws.next())["type"] == "error"
