"""`connect`: what it leaves behind, what comes out of it, what it does without a server."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trio

from tests.app.certificate import make_certificate
from tests.behaviour.api import Api, eventually
from tests.behaviour.server import Server, free_port
from tests.clients.doors import Connect, open_door
from tests.clients.proxy import Proxy
from triode_client import (
    AsyncTriode,
    CannotConnect,
    Closed,
    Ended,
    Fetch,
    NotAllowed,
    NotFound,
    Options,
    View,
    Watch,
)

QUICK = Options(delay_s=0.02, max_delay_s=0.2, connect_s=5, idle_s=5)


async def subscribers(api: Api) -> int:
    """How many connections the server has."""
    count: int = (await api.client.get("/health")).json()["connections"]
    return count


async def test_the_block_leaves_nothing_behind(server: Server, api: Api) -> None:
    connect = open_door("trio")
    held: list[tuple[AsyncTriode, View, Watch]] = []
    before = trio.lowlevel.current_statistics().tasks_living
    connections = await subscribers(api)
    async with connect(f"http://127.0.0.1:{server.port}", tags={"who": "test"}) as t:
        watch = t.watch(".")
        await anext(watch)
        async with t.view(".a") as view:
            held.append((t, view, watch))
        states = [t.state]
        assert await subscribers(api) == connections + 1
    assert trio.lowlevel.current_statistics().tasks_living <= before

    async def is_gone() -> bool:
        return await subscribers(api) == connections

    await eventually(is_gone)
    assert [*states, t.state] == ["connected", "closed"]
    assert t.client_id is None
    for use in (t.get(), t.set(".a", 1), anext(watch), view.wait_changed()):
        with pytest.raises(Closed):
            await use


async def test_an_exception_of_the_block_comes_out_as_it_is(
    connect: Connect, server: Server
) -> None:
    error = RuntimeError("mine")
    with pytest.raises(RuntimeError) as caught:
        async with connect(f"http://127.0.0.1:{server.port}"):
            raise error
    assert caught.value is error


@pytest.mark.not_sync("nobody cancels it")
async def test_a_cancelled_block_ends_at_once(connect: Connect, proxy: Proxy) -> None:
    with trio.fail_after(1):
        with trio.move_on_after(0.1) as scope:
            async with connect(proxy.url, options=QUICK):
                proxy.freeze()  # no goodbye would be answered
                await trio.sleep_forever()
    assert scope.cancelled_caught
    proxy.thaw()


async def test_tags_are_the_connections(connect: Connect, server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}"
    async with connect(url, tags={"kind": "player"}) as t, connect(url) as admin:
        async with t.inbox() as inbox:
            assert await admin.publish("all", 1, tags={"client.kind": "player"}) == 1
            assert (await anext(inbox)).data == 1


async def test_nobody_answers(autojump_clock: trio.testing.MockClock) -> None:
    connect = open_door("trio")
    url = f"http://127.0.0.1:{free_port()}"
    began = trio.current_time()
    with pytest.raises(CannotConnect, match="cannot connect to"):
        async with connect(url, options=Options(jitter=0)):
            pass
    assert trio.current_time() - began == pytest.approx(1 + 2 + 4 + 8)


async def test_what_answers_is_no_triode(connect: Connect) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        port = listener.socket.getsockname()[1]
        with pytest.raises(NotFound, match="is this a Triode"):
            async with connect(f"http://127.0.0.1:{port}"):
                pass
        nursery.cancel_scope.cancel()


async def test_tcp_that_never_upgrades_is_given_up(connect: Connect) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    with pytest.raises(CannotConnect, match="Connection timeout"):
        async with connect(f"http://127.0.0.1:{port}", options=Options(connect_s=0.2, attempts=1)):
            pass
    await listener.aclose()


async def test_tcp_that_is_closed_at_once_is_known_at_once(connect: Connect, proxy: Proxy) -> None:
    proxy.refuses = True
    with trio.fail_after(5), pytest.raises(CannotConnect, match=r"handshake|connect to"):
        async with connect(proxy.url, options=Options(attempts=2, delay_s=0.01)):
            pass
    assert proxy.accepted == 2


async def test_a_path_that_is_no_socket_is_refused(connect: Connect, server: Server) -> None:
    with pytest.raises(NotFound):
        async with connect(f"http://127.0.0.1:{server.port}/nope"):
            pass


async def test_an_event_larger_than_we_take_is_an_end_that_says_so(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"big": "x" * 100_000})
    options = Options(max_message_bytes=10_000)
    with pytest.raises(Ended, match="max_message_bytes"):
        async with connect(f"http://127.0.0.1:{server.port}", options=options) as t:
            await t.get(".big")


async def test_no_token_where_one_is_needed(connect: Connect, guarded: Server) -> None:
    with pytest.raises(NotAllowed) as caught:
        async with connect(f"http://127.0.0.1:{guarded.port}"):
            pass
    assert caught.value.status == 401


async def test_tls(connect: Connect, server: Server, api: Api, tmp_path: Path) -> None:
    """In front of the server stands what ends TLS, with a certificate of its own."""
    make_certificate(tmp_path / "tls.pem")
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.load_cert_chain(tmp_path / "tls.pem")
    theirs = ssl.create_default_context(cafile=str(tmp_path / "tls.pem"))
    proxy = Proxy(server.port)
    [listener] = await trio.open_ssl_over_tcp_listeners(0, ours, host="127.0.0.1")
    assert isinstance(listener.transport_listener, trio.SocketListener)
    port = listener.transport_listener.socket.getsockname()[1]
    await api.reset({"a": 1})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, [listener])
        async with connect(f"https://127.0.0.1:{port}", options=Options(ssl_context=theirs)) as t:
            assert await t.get(".a") == 1
        with pytest.raises(CannotConnect, match="CERTIFICATE_VERIFY_FAILED"):
            async with connect(f"wss://127.0.0.1:{port}", options=Options(attempts=1)):
                pass
        nursery.cancel_scope.cancel()


async def test_a_value_longer_than_max_event_is_to_be_fetched(
    connect: Connect, server: Server, api: Api
) -> None:
    await api.reset({"big": "x" * 10_000, "small": 1})
    with trio.fail_after(20):
        async with connect(f"http://127.0.0.1:{server.port}", options=Options(max_event=2048)) as t:
            async with t.view(".big", type=str) as view:
                assert view.value == Fetch(".big")
                assert await t.get(view.value.path) == "x" * 10_000
                with pytest.raises(TypeError):
                    await t.set(".copy", view.value)
            watch = t.watch(".*")
            assert (await anext(watch)).items == {".big": Fetch(".big"), ".small": 1}
            await t.set(".small", "y" * 10_000)
            assert (await anext(watch)).items[".small"] == Fetch(".small")
            await t.set(".small", 2)
            assert (await anext(watch)).items[".small"] == 2


@pytest.mark.parametrize("bytes", [0, 1023, (1 << 30) + 1])
def test_a_bound_that_no_server_takes_is_refused_here(bytes: int) -> None:
    with pytest.raises(ValueError, match="max_event"):
        Options(max_event=bytes)
