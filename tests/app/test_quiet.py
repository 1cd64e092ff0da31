"""Sockets of which nothing is expected: every way in which one who waits for them is woken."""

from __future__ import annotations

import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from triode.app.net import idle_wait

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@asynccontextmanager
async def watching(on: bool) -> AsyncIterator[None]:
    """With the watch running, or without: the functions are to behave alike."""
    async with trio.open_nursery() as nursery:
        if on:
            nursery.start_soon(idle_wait.watch)
            await trio.testing.wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("on", [True, False])
async def test_woken_by_bytes_and_by_the_end(pair: Pair, on: bool) -> None:
    ours, theirs = pair
    async with watching(on):
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(quiet_wait, ours)
                await trio.testing.wait_all_tasks_blocked()
                theirs.send(b"x")
            assert ours.recv(10) == b"x"
        theirs.close()
        with trio.fail_after(1):
            await idle_wait.wait_readable(ours)
        assert ours.recv(10) == b""


async def quiet_wait(sock: socket.socket) -> None:
    with trio.fail_after(2):
        await idle_wait.wait_readable(sock)


@pytest.mark.parametrize("on", [True, False])
async def test_woken_by_one_who_closes(pair: Pair, on: bool) -> None:
    ours, _theirs = pair

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await idle_wait.wait_readable(ours)

    async with watching(on), trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        idle_wait.notify_closing(ours)
        idle_wait.notify_closing(ours)  # nobody waits any more: nothing


@pytest.mark.parametrize("on", [True, False])
async def test_cancelled_it_leaves_nothing_behind(pair: Pair, on: bool) -> None:
    ours, theirs = pair
    async with watching(on):
        for _ in range(2):
            with trio.move_on_after(0.01) as scope:
                await idle_wait.wait_readable(ours)
            assert scope.cancelled_caught
        theirs.send(b"x")
        await quiet_wait(ours)


async def test_many_are_woken_each_by_its_own() -> None:
    pairs = [socket.socketpair() for _ in range(2 * idle_wait.BATCH)]
    woken = []

    async def wait(number: int, sock: socket.socket) -> None:
        await idle_wait.wait_readable(sock)
        woken.append(number)

    try:
        async with watching(True), trio.open_nursery() as nursery:
            for number, (ours, _theirs) in enumerate(pairs):
                nursery.start_soon(wait, number, ours)
            await trio.testing.wait_all_tasks_blocked()
            pairs[7][1].send(b"x")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert woken == [7]
            for _ours, theirs in pairs[8:]:
                theirs.close()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert sorted(woken) == list(range(7, len(pairs)))
            nursery.cancel_scope.cancel()
    finally:
        for ours, theirs in pairs:
            ours.close()
            theirs.close()


async def test_a_descriptor_that_is_used_again(pair: Pair) -> None:
    """A closed socket's number comes back with the next connection."""
    async with watching(True):
        for _ in range(3):
            ours, theirs = socket.socketpair()
            with trio.move_on_after(0.01):
                await idle_wait.wait_readable(ours)
            idle_wait.notify_closing(ours)
            ours.close()
            theirs.close()
        pair[1].send(b"x")
        await quiet_wait(pair[0])


async def test_who_still_waits_when_the_watch_ends_is_told(pair: Pair) -> None:
    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await idle_wait.wait_readable(pair[0])

    async with trio.open_nursery() as nursery:
        async with watching(True):
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_system_without_epoll(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    await idle_wait.watch()
    pair[1].send(b"x")
    await quiet_wait(pair[0])
