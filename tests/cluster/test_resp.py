"""The connection to a server: replies in their order, nothing repeated, nothing waited for longer
than was said.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.app.certificate import make_certificate
from tests.clients.proxy import open_proxy
from tests.cluster.server import Server, free_port, running
from triode.app.config.log_address import LogAddress
from triode.app.log.shared.resp import Connection, Lost, ServerError, connect


class Far:
    """The other end of a connection in memory."""

    def __init__(self, **options: int) -> None:
        near, self.stream = trio.testing.lockstep_stream_pair()
        self.connection = Connection(near, LogAddress("valkey://far"), **options)

    async def read(self, wanted: bytes) -> None:
        got = b""
        while len(got) < len(wanted):
            got += await self.stream.receive_some(100_000)
        assert got == wanted


async def test_replies_come_in_the_order_of_commands() -> None:
    far = Far()

    async def answer() -> None:
        await far.read(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n")
        for part in (b"$2\r\nx", b"y\r\n*2\r\n:7\r\n$-1", b"\r\n"):
            await far.stream.send_all(part)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        assert await far.connection.calls([("GET", "a"), ("GET", b"b")]) == [b"xy", [7, None]]


async def test_an_error_is_of_its_command_alone() -> None:
    far = Far()

    async def answer() -> None:
        await far.stream.receive_some(1000)
        await far.stream.send_all(b"-OOM no room\r\n+OK\r\n")
        await far.stream.receive_some(1000)
        await far.stream.send_all(b"-NOSCRIPT none\r\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        failed, fine = await far.connection.calls([("SET", "a", 1), ("SET", "b", 2)])
        assert failed.code == "OOM"
        assert fine == b"OK"
        with pytest.raises(ServerError, match="NOSCRIPT"):
            await far.connection.call("EVALSHA", "x", 0)


async def test_calls_wait_for_their_turn() -> None:
    far = Far()
    got = []

    async def ask(what: str) -> None:
        got.append((what, await far.connection.call("GET", what)))

    async with trio.open_nursery() as nursery:
        for what in "abc":
            nursery.start_soon(ask, what)
            await trio.testing.wait_all_tasks_blocked()
        for name in (b"a", b"b", b"c"):
            await far.read(b"*2\r\n$3\r\nGET\r\n$1\r\n%s\r\n" % name)
            await far.stream.send_all(b"+%s\r\n" % name)
    assert got == [("a", b"a"), ("b", b"b"), ("c", b"c")]


async def test_no_answer_in_time(autojump_clock: trio.testing.MockClock) -> None:
    far = Far()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.stream.receive_some)
        with pytest.raises(Lost, match="has not answered for 2 s") as lost:
            await far.connection.call("GET", "a", deadline_s=2)
        assert lost.value.is_sent
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 2
    # A late reply would be taken for that of the next command.
    with pytest.raises(Lost, match="is closed") as lost:
        await far.connection.call("GET", "b")
    assert not lost.value.is_sent


async def test_cancelled_in_the_middle_it_is_closed() -> None:
    far = Far()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(far.connection.call, "GET", "a")
        await far.stream.receive_some()
        nursery.cancel_scope.cancel()
    assert far.connection.is_closed
    assert await far.stream.receive_some() == b""


async def test_cancelled_before_its_turn_nothing_is_sent() -> None:
    far = Far()

    async def first() -> None:
        assert await far.connection.call("GET", "a") == b"1"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await far.stream.receive_some(1000)
        with trio.CancelScope() as scope:
            scope.cancel()
            await far.connection.call("GET", "b")
        await far.stream.send_all(b"+1\r\n")
    assert not far.connection.is_closed


@pytest.mark.parametrize(
    ("sent", "text"),
    [(b"", "has closed the connection"), (b"HTTP/1.1 400\r\n", "does not speak RESP"),
     (b"$900000\r\n" + bytes(500_000), "more than 200000 bytes")],
)  # fmt: skip
async def test_what_is_no_answer(sent: bytes, text: str) -> None:
    far = Far(max_reply_bytes=200_000)

    async def answer() -> None:
        await far.stream.receive_some(1000)
        try:
            await far.stream.send_all(sent)
        except trio.BrokenResourceError:
            return
        await far.stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        with pytest.raises(Lost, match=text):
            await far.connection.call("GET", "a")
    assert far.connection.is_closed


async def test_with_a_server(each_server: Server) -> None:
    connection = await connect(replace(each_server.address, database=3))
    big = bytes(range(256)) * 20_000
    commands = [("SET", "big", big), ("GET", "big"), ("INCR", "n"), ("INCR", "big")]
    done, got, one, failed = await connection.calls(commands)
    assert (done, got == big, one) == (b"OK", True, 1)
    assert isinstance(failed, ServerError)
    await connection.aclose()
    other = await connect(each_server.address)
    assert await other.call("GET", "n") is None  # it is in another database
    await other.aclose()
    with pytest.raises(ServerError, match="DB index"):
        await connect(replace(each_server.address, database=99))


async def test_who_is_not_let_in(tmp_path: Path, each_server: Server) -> None:
    await each_server.call("CONFIG", "SET", "requirepass", "secret")
    with pytest.raises(ServerError, match="NOAUTH"):
        await connect(each_server.address)
    with pytest.raises(ServerError, match="WRONGPASS"):
        await connect(replace(each_server.address, password="wrong"))
    for user in ("", "default"):
        connection = await connect(replace(each_server.address, user=user, password="secret"))
        await connection.aclose()


async def test_nobody_is_there() -> None:
    with pytest.raises(Lost, match="cannot be reached") as lost:
        await connect(Server(Path("none"), Path()).address)
    assert not lost.value.is_sent


async def test_a_cut_connection(server: Server) -> None:
    async with open_proxy(server.port) as proxy:
        connection = await connect(replace(server.address, port=proxy.port))
        proxy.cut_after = 3  # of the reply: the command was carried out
        with pytest.raises(Lost) as lost:
            await connection.call("INCR", "n")
        assert lost.value.is_sent
    assert await server.call("GET", "n") == b"1"


async def test_with_tls(server: Server, tmp_path: Path) -> None:
    """Through a proxy that speaks TLS: not every server is built with it."""
    pem = tmp_path / "server.pem"
    make_certificate(pem)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)

    async def serve(near: trio.SSLStream[trio.SocketStream]) -> None:
        far = await trio.open_tcp_stream("127.0.0.1", server.port)
        with contextlib.suppress(trio.BrokenResourceError):  # who does not trust us hangs up
            async with near, far:
                while data := await near.receive_some(65536):
                    await far.send_all(data)
                    await near.send_all(await far.receive_some(65536))

    port = free_port()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(trio.serve_ssl_over_tcp, serve, port, context, host="127.0.0.1")
        )
        address = replace(server.address, port=port, tls=True)
        with pytest.raises(Lost, match="certificate"):
            await connect(address)
        trusting = ssl.create_default_context(cafile=pem)
        connection = await connect(address, ssl_context=trusting)
        assert await connection.call("SET", "a", 1) == b"OK"
        await connection.aclose()
        nursery.cancel_scope.cancel()


async def test_a_server_that_keeps_its_file(tmp_path: Path, each_server: Server) -> None:
    """The servers of these tests come back with what they had."""
    from tests.cluster.conftest import FOUND, NAMES

    async with running(FOUND[NAMES[0]], tmp_path, "--appendonly", "yes") as server:
        await server.call("SET", "a", 1)
        server.kill()
        await server.start()
        assert await server.call("GET", "a") == b"1"
