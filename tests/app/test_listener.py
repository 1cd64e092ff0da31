"""Sockets, the accept loop, and what connections go through before a lane serves them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.app.certificate import make_certificate
from tests.app.serving import running
from triode.app.config.tls import tls_context
from triode.app.net import door
from triode.app.net.connection import Connection
from triode.app.net.dispatcher import ListenerLimits, peer_ip
from triode.app.net.door import HTTP_BYTES
from triode.app.net.listener import ListenerCounts, open_sockets, serve
from triode.limits.address import Networks, Share
from triode.limits.admission import Admission

EVENTS = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n"
NEVER = "GET /never HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK = ListenerLimits(head_deadline_s=0.2, linger_s=0.2)
RESET = struct.pack("ii", 1, 0)


def test_sockets_have_their_options() -> None:
    (listener,) = open_sockets(
        "127.0.0.1", 0, send_buffer_bytes=20_000, receive_buffer_bytes=30_000, user_timeout_s=7
    )
    with listener, socket.create_connection(listener.getsockname()):
        sock, _ = listener.accept()
        with sock:
            assert not listener.getblocking()
            for one in (listener, sock):
                assert one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
                assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
                # Linux doubles what is asked for, for its own use.
                assert one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 40_000
                assert one.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 60_000


@pytest.mark.parametrize("host", ["", "::"])
def test_both_families_on_one_port(host: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    sockets = open_sockets(host, 0)
    port = sockets[0].getsockname()[1]
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, port)):
            sock, peer = sockets[0].accept()
            sock.close()
            assert peer_ip(peer) == address
    for sock in sockets:
        sock.close()


def test_every_address_of_a_name_shares_the_port() -> None:
    sockets = open_sockets("localhost", 0)
    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    for sock in sockets:
        sock.close()


def test_a_port_that_is_taken() -> None:
    (listener,) = open_sockets("127.0.0.1", 0)
    with listener, pytest.raises(OSError, match="in use"):
        open_sockets("127.0.0.1", listener.getsockname()[1])


@pytest.mark.parametrize(
    ("address", "ip"),
    [
        (("1.2.3.4", 5), "1.2.3.4"),
        (("::ffff:1.2.3.4", 5, 0, 0), "1.2.3.4"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::1"),
        ("", "127.0.0.1"),  # a Unix socket
    ],
)
def test_peer_ip(address: Any, ip: str) -> None:
    assert peer_ip(address) == ip


async def test_accept_survives_exhaustion(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Pauses 100 ms for each, counts all, logs at most one line in 10 s."""
    errors = [errno.EMFILE] * 150 + [errno.ENFILE, errno.ENOMEM, errno.ECONNABORTED]
    counts = ListenerCounts()
    done = trio.Event()

    def accept(listener: socket.socket) -> tuple[socket.socket, Any]:
        if errors:
            code = errors.pop(0)
            raise OSError(code, os.strerror(code))
        return listener.accept()

    async def connect(sock: socket.socket, address: Any) -> None:
        sock.close()
        done.set()

    (listener,) = open_sockets("127.0.0.1", 0)
    caplog.set_level(logging.WARNING)
    with socket.create_connection(listener.getsockname()):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: serve(
                    [listener], connect=connect, nursery=nursery, counts=counts, accept=accept
                )
            )
            began = trio.current_time()
            await done.wait()
            nursery.cancel_scope.cancel()
    assert trio.current_time() - began == pytest.approx(15.2, abs=0.01)
    assert (counts.accepted, counts.accept_errors) == (1, 153)
    assert len(caplog.records) == 2
    assert listener.fileno() == -1


async def test_idle_connections_are_closed_for_new_ones_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And when there are none, who comes waits; streams and requests under way go on."""
    monkeypatch.setattr(door, "MIN_IDLE_S", 0.0)
    held: list[socket.socket] = []

    def accept(listener: socket.socket) -> tuple[socket.socket, Any]:
        if sum(sock.fileno() >= 0 for sock in held) >= 4:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        sock, address = listener.accept()
        held.append(sock)
        return sock, address

    async with running(accept=accept) as server:
        stream, busy, first, second = [await server.connect() for _ in range(4)]
        await stream.send(EVENTS)
        await stream.event()
        await busy.send(NEVER)
        assert (await first.get("/first"))[0] == 200
        assert (await second.get("/second"))[0] == 200
        third = await server.connect()
        assert (await third.get("/third"))[0] == 200
        assert await first.ended() == b""
        fourth = await server.connect()
        assert (await fourth.get("/fourth"))[0] == 200
        assert await second.ended() == b""
        await third.send(NEVER)
        await fourth.send(NEVER)
        await trio.testing.wait_all_tasks_blocked(0.01)
        fifth = await server.connect()
        before = server.counts.accept_errors
        with trio.move_on_after(0.3) as waiting:
            await fifth.get("/fifth")
        assert waiting.cancelled_caught
        assert 0 < server.counts.accept_errors - before < 10
        await busy.close()
        assert (await fifth.answer())[0] == 200
        assert server.counts.idle_closed == 2
        for client in (stream, third, fourth):
            with trio.move_on_after(0.05) as alive:
                await client.ended()
            assert alive.cancelled_caught
        for client in (stream, first, second, third, fourth, fifth):
            await client.close()
        await server.settled()


async def test_room_that_does_not_help_is_not_made_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Where the whole system has no descriptors, another process takes what we let go."""
    made = 0

    def accept(_listener: socket.socket) -> tuple[socket.socket, Any]:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    async def connect(_sock: socket.socket, _address: Any) -> None:
        raise AssertionError

    def make_room() -> bool:
        nonlocal made
        made += 1
        return True

    (listener,) = open_sockets("127.0.0.1", 0)
    with socket.create_connection(listener.getsockname()), trio.move_on_after(0.95):
        async with trio.open_nursery() as nursery:
            await serve(
                [listener],
                connect=connect,
                nursery=nursery,
                accept=accept,
                make_room=make_room,
            )
    assert made == 10


async def test_a_broken_listening_socket_ends_the_loop() -> None:
    def accept(listener: socket.socket) -> tuple[socket.socket, Any]:
        raise OSError(errno.EINVAL, "not listening")

    async def connect(sock: socket.socket, address: Any) -> None:
        raise AssertionError

    (listener,) = open_sockets("127.0.0.1", 0)
    with socket.create_connection(listener.getsockname()):
        async with trio.open_nursery() as nursery:
            with pytest.RaisesGroup(OSError):
                await serve([listener], connect=connect, nursery=nursery, accept=accept)


UPGRADE = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-We"
# The beginning of a TLS record with a ClientHello of 508 bytes.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)


@pytest.mark.parametrize(
    "begun", ["GET /events HTT", "GET /events HTTP/1.1\r\nHost: x\r\n", UPGRADE]
)
async def test_a_slow_head_is_cut_and_told(begun: str) -> None:
    async with running(listener=QUICK) as server:
        client = await server.connect()
        await client.send(begun)
        status, body = await client.answer()
        assert status == 408
        assert b'"status":408' in body
        assert await client.ended() == b""
        assert server.counts.late_heads == 1
        await client.close()
        await server.settled()


async def test_bytes_that_trickle_buy_no_time() -> None:
    async with running(listener=QUICK) as server:
        client = await server.connect()
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await client.trickle("GET /" + "a" * 1000)
        # The answer comes at the deadline; the reset once the server no longer reads after it.
        assert 0.15 < trio.current_time() - began < 1
        await client.close()
        await server.settled()


@pytest.mark.parametrize("said", [b"\x16", HELLO], ids=["a byte", "half a hello"])
async def test_a_handshake_that_stands_still_is_cut_and_counted(
    tmp_path: Path, said: bytes
) -> None:
    make_certificate(tmp_path / "pem")
    context = tls_context(tmp_path / "pem", tmp_path / "pem")
    async with running(listener=QUICK, ssl_context=context) as server:
        client = await server.connect()
        await client.send(said)
        assert await client.ended() == b""
        assert (server.counts.late_handshakes, server.counts.silent) == (1, 0)
        silent = await server.connect()
        assert await silent.ended() == b""
        assert (server.counts.late_handshakes, server.counts.silent) == (1, 1)
        for one in (client, silent):
            await one.close()
        await server.settled()


async def test_who_says_nothing_behind_a_handshake_is_cut(tmp_path: Path) -> None:
    """As on a plain connection, and in the same time: it began with the connection."""
    make_certificate(tmp_path / "pem")
    context = tls_context(tmp_path / "pem", tmp_path / "pem")
    ours = ssl.create_default_context(cafile=tmp_path / "pem")
    limits = ListenerLimits(head_deadline_s=1, linger_s=0.2)
    async with running(listener=limits, ssl_context=context) as server:
        for said, count in ((b"", "silent"), (b"GET / HT", "late_heads")):
            stream = await trio.open_ssl_over_tcp_stream(
                "127.0.0.1", server.port, ssl_context=ours, https_compatible=True
            )
            await stream.send_all(said)
            await stream.do_handshake()
            with trio.fail_after(5), contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    pass
            await trio.aclose_forcefully(stream)
            assert getattr(server.counts, count) == 1
        await server.settled()


async def test_a_silent_connection_is_closed_without_a_word() -> None:
    async with running(listener=QUICK) as server:
        client = await server.connect()
        assert await client.ended() == b""
        assert (server.counts.silent, server.counts.late_heads) == (1, 0)
        await client.close()
        await server.settled()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x80\x00\x01", 400),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET /" + b"a" * 17_000, 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 17_000, 431),
    ],
)
async def test_a_malformed_head_gets_a_problem(raw: bytes, status: int) -> None:
    async with running(listener=QUICK) as server:
        client = await server.connect()
        await client.send(raw)
        found, body = await client.answer()
        assert found == status
        assert b'"detail":' in body
        assert await client.ended() == b""
        assert server.counts.refused_heads == 1
        await client.close()
        await server.settled()


async def test_tls_on_a_plain_port_is_closed() -> None:
    async with running(listener=QUICK) as server:
        client = await server.connect()
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
        assert await client.ended() == b""
        await client.close()
        await server.settled()


async def test_when_heads_are_full_those_who_come_wait() -> None:
    """Nobody is refused: the next are accepted when a head has been read."""
    async with running(admission=Admission(heads=2)) as server:
        first, second = await server.connect(), await server.connect()
        await first.send("GET")
        await server.accepted(2)
        third, fourth = await server.connect(), await server.connect()
        await third.send(EVENTS)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert server.counts.accepted == 2
        await first.send(EVENTS.removeprefix("GET"))
        assert (await first.event()).startswith("data: native")
        assert (await third.event()).startswith("data: native")
        await fourth.send(EVENTS)
        assert (await fourth.event()).startswith("data: native")
        assert server.counts.turned_away == 0
        for client in (first, second, third, fourth):
            await client.close()
        await server.settled()
        assert server.admission.statistics()["heads"] == 0


async def test_silent_connections_make_room_for_those_who_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "MIN_IDLE_S", 0.05)
    async with running(admission=Admission(heads=3)) as server:
        silent = [await server.connect() for _ in range(3)]
        await server.accepted(3)
        one = await server.connect()
        await one.send(EVENTS)
        assert (await one.event()).startswith("data: native")
        assert await silent[0].ended() == b""
        for client in (*silent, one):
            await client.close()
        await server.settled()


async def test_one_address_stands_in_a_line_of_its_own() -> None:
    share = Share(2, Networks(["127.0.0.9"]))
    async with running(heads=share, http=Share(3), admission=Admission(http_per_ip=3)) as server:
        silent = [await server.connect() for _ in range(2)]
        await server.accepted(2)
        waiting = [await server.connect() for _ in range(3)]
        for client in waiting:
            await client.send(EVENTS)
        await server.accepted(5)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert server.admission.statistics() | {"ips": 0} == {
            "clients": 0,
            "heads": 2,
            "http": 3,
            "ips": 0,
            "principals": 0,
        }
        # Its line has an end. Without an answer: with one an EventSource would be closed for good.
        beyond = await server.connect()
        assert await beyond.ended() == b""
        assert server.counts.turned_away == 1
        # Nobody else waits for it.
        other = await server.connect(source="127.0.0.9")
        await other.send(EVENTS)
        assert (await other.event()).startswith("data: native")
        await silent[0].close()
        for client in waiting:
            assert (await client.event()).startswith("data: native")
        for client in (silent[1], *waiting, beyond, other):
            await client.close()
        await server.settled()
        assert set(server.admission.statistics().values()) == {0}
        assert not server.door._lines


async def test_who_stands_in_a_line_does_not_stand_there_for_ever() -> None:
    limits = ListenerLimits(head_deadline_s=0.2, linger_s=0.1)
    async with running(heads=Share(1), listener=limits) as server:
        clients = [await server.connect() for _ in range(4)]
        for client in clients:
            await client.ended()
            await client.close()
        await server.settled()
        assert server.counts.turned_away + server.counts.silent == 4
        assert set(server.admission.statistics().values()) == {0}
        assert not server.door._lines


async def test_connections_that_are_no_streams_have_places(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "MIN_IDLE_S", 0.0)
    async with running(admission=Admission(http=2)) as server:
        busy, idle = await server.connect(), await server.connect()
        await busy.send(NEVER)
        assert (await idle.get("/a"))[0] == 200
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert server.door.held_bytes() >= 2 * HTTP_BYTES
        # The idle one makes room; after it there is none.
        next_one = await server.connect()
        await next_one.send(NEVER)
        assert await idle.ended() == b""
        last = await server.connect()
        status, body = await last.get("/a")
        assert status == 503
        assert b"(http: 2)" in body
        # A stream needs none of these places, and gives its own back when it was one of them.
        stream = await server.connect()
        await stream.send(EVENTS)
        await stream.event()
        assert server.admission.statistics()["http"] == 2
        for client in (busy, idle, next_one, last, stream):
            await client.close()
        await server.settled()
        assert set(server.admission.statistics().values()) == {0}
        assert server.door.held_bytes() == 0


async def test_a_stream_gives_back_the_place_it_had_as_an_http_connection() -> None:
    async with running() as server:
        client = await server.connect()
        assert (await client.get("/a"))[0] == 200
        assert server.admission.statistics()["http"] == 1
        await client.send(EVENTS)
        await client.event()
        assert server.admission.statistics()["http"] == 0
        await client.close()
        await server.settled()


async def test_connections_are_bounded() -> None:
    """Who is too many is told so when the request is known, and in the way that suits it."""
    async with running(listener=ListenerLimits(connections=1, linger_s=0.1)) as server:
        first = await server.connect()
        await first.send(EVENTS)
        await first.event()
        second = await server.connect()
        await second.send(EVENTS)
        head = await second.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in head
        assert server.counts.turned_away == 1
        await first.close()
        await second.close()
        await server.settled()


async def test_beyond_the_bound_an_idle_connection_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(door, "MIN_IDLE_S", 0.0)
    async with running(listener=ListenerLimits(connections=2, linger_s=0.1)) as server:
        stream, first = [await server.connect() for _ in range(2)]
        await stream.send(EVENTS)
        await stream.event()
        assert (await first.get("/first"))[0] == 200
        await trio.testing.wait_all_tasks_blocked(0.01)
        second = await server.connect()
        assert (await second.get("/second"))[0] == 200
        assert await first.ended() == b""
        assert (server.counts.idle_closed, server.counts.turned_away) == (1, 0)
        for client in (stream, first, second):
            await client.close()
        await server.settled()


async def test_who_was_at_work_a_moment_ago_keeps_the_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Else it would lose its place to strangers that say nothing."""
    idle = door.IdleConnections()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        connection = Connection(left, "x")
        idle.add(connection)
        assert not idle.close_oldest()
        await trio.sleep(0.9)
        idle.discard(connection)
        idle.add(connection)
        await trio.sleep(0.9)
        assert not idle.close_oldest()
        await trio.sleep(0.2)
        assert idle.close_oldest()
        assert connection.closed


async def test_a_lane_that_fails_ends_its_connection_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as server:
        client = await server.connect()
        await client.send("GET /events?fail=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.ended() == b""
        await client.close()
        client = await server.connect()
        assert (await client.get("/a"))[0] == 200
        await client.close()
        await server.settled()
        assert server.counts.failed == 1
        assert [record.name for record in caplog.records] == ["triode.listener"]


async def test_a_reset_is_counted_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as server:
        client = await server.connect()
        await client.send("GET /ev")
        await trio.sleep(0.02)
        assert isinstance(client.stream, trio.SocketStream)
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await client.close()
        await server.settled()
        assert (server.counts.broken, server.counts.failed) == (1, 0)
        assert not caplog.records


async def test_keyboard_interrupt_is_not_swallowed() -> None:
    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with running() as server:
            server.hypercorn.serve = interrupted  # type: ignore[method-assign]
            client = await server.connect()
            assert isinstance(client.stream, trio.SocketStream)
            try:
                await client.get("/a")
            finally:
                client.stream.socket.close()


async def interrupted(connection: Connection, opaque: bool = False) -> bool:
    raise KeyboardInterrupt


async def test_a_thousand_come_and_go() -> None:
    """No task, no descriptor, no count is left."""
    async with running() as server:
        warm = await server.connect()
        assert (await warm.get("/a"))[0] == 200
        await warm.close()
        await server.settled()
        files = len(os.listdir("/proc/self/fd"))
        tasks = trio.lowlevel.current_statistics().tasks_living

        async def come_and_go(number: int) -> None:
            client = await server.connect()
            if number % 5 == 1:
                await client.get("/a")
            elif number % 5 == 2:
                await client.send(EVENTS)
                await client.event()
            elif number % 5 == 3:
                await client.send("GET /")
            elif number % 5 == 4:
                await client.send("GET\n")
                await client.ended()
            await client.close()

        for batch in range(20):
            async with trio.open_nursery() as nursery:
                for number in range(50):
                    nursery.start_soon(come_and_go, batch * 50 + number)
        await server.settled()
        assert server.counts.accepted == 1001
        assert server.counts.failed == 0
        assert len(os.listdir("/proc/self/fd")) == files
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert server.admission.statistics()["heads"] == 0


# The connection itself


def pair() -> tuple[Connection, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return Connection(ours, "peer"), theirs


async def test_receive_gives_the_buffer_first() -> None:
    connection, peer = pair()
    connection.buffer += b"abc"
    peer.send(b"def")
    assert await connection.receive(2) == b"ab"
    assert await connection.receive() == b"c"
    assert await connection.receive() == b"def"
    peer.close()
    assert await connection.receive() == b""
    connection.close()
    connection.close()
    connection.abort()


async def test_send_now_takes_what_fits() -> None:
    connection, peer = pair()
    sent = 0
    while taken := connection.send_now(b"x" * 10_000):
        sent += taken
    assert sent
    assert connection.send_now(b"x") == 0
    peer.close()
    with pytest.raises(trio.BrokenResourceError):
        connection.send_now(b"x")
    connection.abort()
    with pytest.raises(trio.BrokenResourceError):
        connection.send_now(b"x")


async def test_send_all_aborts_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    connection, peer = pair()
    with pytest.raises(trio.TooSlowError):
        await connection.send_all(b"x" * 10_000_000, 5)
    assert trio.current_time() == pytest.approx(autojump_clock.current_time())
    assert connection.closed
    with pytest.raises(trio.ClosedResourceError):
        await connection.send_all(b"x", 5)
    peer.close()


async def test_send_all_cancelled() -> None:
    connection, peer = pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.send_all(b"x", 5)
    assert not connection.closed  # nothing was sent
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.send_all, b"x" * 10_000_000, 5)
        await trio.testing.wait_all_tasks_blocked()
        assert connection.send_now(b"y") == 0
        with pytest.raises(trio.BusyResourceError):
            await connection.send_all(b"y", 5)
        nursery.cancel_scope.cancel()
    assert connection.sock.fileno() == -1  # a part was
    peer.close()


@pytest.mark.parametrize("end", ["abort", "close"])
async def test_whoever_waits_is_woken_at_the_end(end: str) -> None:
    connection, peer = pair()

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await connection.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        getattr(connection, end)()
    with pytest.raises(trio.ClosedResourceError):
        await connection.receive()
    peer.close()


async def test_finish_waits_a_bounded_while(autojump_clock: trio.testing.MockClock) -> None:
    connection, peer = pair()
    peer.send(b"unread")
    began = trio.current_time()
    await connection.finish(3)
    assert trio.current_time() - began == pytest.approx(3)
    assert connection.closed
    assert peer.recv(1) == b""
    peer.close()


async def test_a_lane_that_fails_while_it_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """The others are cancelled as ever, and whoever cancels sees nothing of it."""
    async with running() as server:
        clients = [await server.connect() for _ in range(3)]
        for client, query in zip(clients, ("", "?late=1", ""), strict=True):
            await client.send(f"GET /events{query} HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.event()
        server.nursery.cancel_scope.cancel()
    for client in clients:
        await client.ended()
        await client.close()
    assert (server.counts.failed, server.counts.open) == (1, 0)
    assert "failed while it was cancelled" in caplog.text
