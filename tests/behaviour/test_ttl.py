"""Values that end (docs/wire.md): over HTTP, WebSocket and NDJSON, and after `kill -9`."""

from __future__ import annotations

import json

import httpx
import pytest
import trio

from .clients import TRANSPORTS, Api, open_api, open_ws, watch
from .conftest import ServerFactory
from .server import Server

pytestmark = pytest.mark.trio

JSON = "application/json"
PATIENCE_S = 30


@pytest.fixture(scope="session")
def ending(make_server: ServerFactory) -> Server:
    """A server that keeps its document in a folder, and is killed."""
    return make_server(data="ending")


async def gone(api: Api, path: str) -> None:
    with trio.fail_after(PATIENCE_S):
        while (await read(api, path)).status_code != 404:  # noqa: ASYNC110 # another process
            await trio.sleep(0.05)


async def read(api: Api, path: str) -> httpx.Response:
    return await api.client.get("/store", params={"path": path})


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_it_ends_and_who_watches_is_told(server: Server, api: Api, transport: str) -> None:
    await api.reset({"a": {"b": 0}})
    async with watch(server, transport, ".a") as client:
        await client.snapshot()
        response = await api.write("PUT", ".a.b", b"1", JSON, ttl="0.3")
        assert response.status_code == 200
        frames = await client.take(2)
        assert [frame["type"] for frame in frames] == ["update", "delete"]
    assert await api.get(".a") == {}


async def test_each_way_takes_a_ttl_and_tells_it(server: Server, api: Api) -> None:
    await api.reset({"a": {}})
    await api.write("PUT", ".a.put", b"1", JSON, ttl="100")
    await api.write("PATCH", ".a.patch", b"1", JSON, ttl="100")
    pushed = await api.write("POST", ".a", b"1", JSON, push="true", ttl="100")
    async with open_ws(server, "/ws") as ws:
        await ws.ok("set", path=".a.ws", value=1, ttl=99.5)
        ops = [{"type": "increment", "path": ".a.batch", "ttl": 100}]
        await ws.ok("batch", ops=ops, atomic=True)
        assert (await ws.refused("set", path=".a", value=1, ttl=0))["status"] == 400
        assert (await ws.refused("touch", path=".a.none", ttl=1))["status"] == 404
        assert (await ws.refused("set", path=".", value=1, ttl=1))["status"] == 422
    line = json.dumps({"type": "merge", "path": ".a.line", "patch": {"x": 1}, "ttl": 100})
    headers = {"Content-Type": "application/x-ndjson"}
    await api.request("POST", "/store/batch", content=line.encode(), headers=headers)
    for name in ("put", "patch", pushed.json()["key"], "ws", "batch", "line"):
        left = (await read(api, f".a.{name}")).headers["expires-in"]
        assert 60 < int(left) <= 100
    touched = await api.write("POST", ".a.put", b"", JSON, touch="true", ttl="5000")
    assert touched.status_code == 200
    assert int((await read(api, ".a.put")).headers["expires-in"]) > 4000
    await api.write("PUT", ".a.put", b"2", JSON)
    assert "expires-in" not in (await read(api, ".a.put")).headers
    await api.write("POST", ".a.ws", b"", JSON, touch="true", ttl="null")
    assert "expires-in" not in (await read(api, ".a.ws")).headers
    refused = await api.write("PUT", ".a.put", b"2", JSON, ttl="soon")
    assert refused.status_code == 400


async def test_it_ends_after_a_kill_too(ending: Server) -> None:
    async with open_api(ending) as api:
        await api.reset({"short": 0, "long": 0, "never": 0})
        await api.write("PUT", ".never", b"1", JSON, ttl="0.5")
        await api.write("PUT", ".never", b"2", JSON)
        await api.write("PUT", ".long", b"1", JSON, ttl="5000")
        await api.write("PUT", ".short", b"1", JSON, ttl="1")
    with trio.fail_after(PATIENCE_S):
        await trio.to_thread.run_sync(ending.kill)
        # The wall clock of another process cannot be faked.
        await trio.sleep(1.2)
        ending._stop_until_s = None
        await trio.to_thread.run_sync(ending.start, ending.port)
    async with open_api(ending) as api:
        assert await api.get(".") == {"long": 1, "never": 2}, "at once"
        assert int((await read(api, ".long")).headers["expires-in"]) > 4000
        await api.write("POST", ".long", b"", JSON, touch="true", ttl="0.2")
        await gone(api, ".long")
