"""permessage-deflate as a client of another make sees it, over a real socket."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
from websockets.sync.client import ClientConnection, connect

from .bystanders import bystanders
from .clients import Api, RawWs, open_socket, upgrade
from .server import Lane, Server
from .sse import PATIENCE_S

pytestmark = pytest.mark.trio

TEXT, CLOSE = 0x1, 0x8
MIB = 2**20
ROWS = [{"id": n, "name": f"user{n}", "status": "open"} for n in range(100)]
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


async def in_thread(function: Callable[[], Any]) -> Any:
    with trio.fail_after(PATIENCE_S):
        return await trio.to_thread.run_sync(function)


@pytest.fixture
async def client(server: Server, api: Api) -> AsyncIterator[ClientConnection]:
    """Of the `websockets` library, which offers compression unless told not to."""
    await api.reset({"rows": ROWS})
    url = f"ws://127.0.0.1:{server.port}/ws?filter=.rows"
    context = connect(url)
    yield await in_thread(context.__enter__)
    await in_thread(lambda: context.__exit__(None, None, None))


async def test_another_library_understands_it(api: Api, client: ClientConnection) -> None:
    async def take() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await in_thread(lambda: client.recv(PATIENCE_S)))
        return found

    assert [type(one).__name__ for one in client.protocol.extensions] == ["PerMessageDeflate"]
    assert (await take())["type"] == "connected"
    assert (await take())["items"] == [{"path": ".rows", "value": ROWS}]
    await api.put(".rows", ROWS[:90])
    assert (await take())["value"] == ROWS[:90]
    command = json.dumps({"type": "set", "path": ".rows", "value": ROWS[:80]})
    await in_thread(lambda: client.send(command))  # it compresses this
    both = [await take(), await take()]
    assert [one["value"] for one in both if one["type"] == "update"] == [ROWS[:80]]


@pytest.mark.native(reason="Hypercorn agrees to a context of its own for each connection")
async def test_what_is_agreed_and_how_little_is_sent(server: Server, api: Api) -> None:
    await api.reset({"rows": ROWS})
    async with open_socket(server) as stream:
        await stream.send_all(upgrade("/ws?filter=.rows", OFFER))
        taken = b""
        with trio.fail_after(PATIENCE_S):
            while len(taken) < 600:
                taken += await stream.receive_some(65536)
    head, _, rest = taken.partition(b"\r\n\r\n")
    assert b"server_no_context_takeover; client_no_context_takeover" in head
    assert b'"connected"' in rest, "too small to be compressed"
    assert b"user50" not in rest
    assert len(rest) < len(json.dumps(ROWS)) / 3


async def test_zip_bombs(server: Server, api: Api, lane: Lane) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(b"0" * (20 * MIB)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    data = RawWs.frame(TEXT, bomb[:-4], rsv=4)
    before = server.memory()
    async with bystanders(server, api) as healthy:
        for _ in range(5):
            async with open_socket(server) as stream:
                await stream.send_all(upgrade("/ws", OFFER))
                raw = RawWs(stream)
                with trio.fail_after(PATIENCE_S):
                    while b"\r\n\r\n" not in raw._buffer:
                        raw._buffer += await stream.receive_some(65536)
                raw._buffer = raw._buffer.partition(b"\r\n\r\n")[2]
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(raw.send, data)
                    code = await raw.close_code()
                    nursery.cancel_scope.cancel()
                assert code == 1009
        await healthy.more(3)
    if lane == "native":  # Hypercorn inflates before anybody is asked
        assert server.memory() - before < 16 * MIB
