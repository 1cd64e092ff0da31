"""A connection whose peer reads slowly, or not at all: real sockets, virtual time."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from triode.app.net.connection import Connection

DEADLINE_S = 10.0
DATA = bytes(256 * 1024)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Connection, socket.socket]]:
    """A connection and its peer, with a small buffer between them. Not TCP, whose kernel threads
    would take real time.
    """
    ours, peer = socket.socketpair()
    with peer:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * 1024)
        ours.setblocking(False)
        peer.setblocking(False)
        connection = Connection(ours, "127.0.0.1")
        yield connection, peer
        connection.abort()


async def test_who_reads_nothing_is_cut_at_the_deadline(
    autojump_clock: trio.testing.MockClock, ends: tuple[Connection, socket.socket]
) -> None:
    connection, _peer = ends
    started = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        await connection.send_all(DATA, DEADLINE_S)
    assert DEADLINE_S <= trio.current_time() - started <= 1.2 * DEADLINE_S
    assert connection.closed


async def test_who_reads_slowly_gets_all(
    autojump_clock: trio.testing.MockClock,
    ends: tuple[Connection, socket.socket],
    nursery: trio.Nursery,
) -> None:
    connection, peer = ends
    taken = 0

    async def read_slowly() -> None:
        nonlocal taken
        while True:
            await trio.sleep(DEADLINE_S / 2)
            try:
                taken += len(peer.recv(4096))
            except BlockingIOError:
                pass

    nursery.start_soon(read_slowly)
    started = trio.current_time()
    await connection.send_all(DATA, DEADLINE_S)
    assert trio.current_time() - started > 5 * DEADLINE_S
    assert not connection.closed


async def test_who_ceases_to_read_is_cut_a_deadline_later(
    autojump_clock: trio.testing.MockClock,
    ends: tuple[Connection, socket.socket],
    nursery: trio.Nursery,
) -> None:
    connection, peer = ends
    ceased = 4.5 * DEADLINE_S

    async def read_for_a_while() -> None:
        while trio.current_time() < ceased:
            await trio.sleep(DEADLINE_S / 2)
            try:
                peer.recv(4096)
            except BlockingIOError:
                pass

    nursery.start_soon(read_for_a_while)
    with pytest.raises(trio.TooSlowError):
        await connection.send_all(DATA, DEADLINE_S)
    assert ceased < trio.current_time() < ceased + 2 * DEADLINE_S
