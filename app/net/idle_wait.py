"""Waiting for sockets from which nothing is expected: those of event streams, thousands of them,
most of which say nothing until they end.

A task in `trio.lowlevel.wait_readable` keeps four coroutines and Trio's record of the descriptor,
1.3 KB. Here one task waits, on one epoll that holds all these sockets, and wakes theirs; each of
those keeps one coroutine. The price is a second task switch when something does come.

`watch` has to run; where it does not (a system without epoll, some tests) both functions are
Trio's own.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Awaitable
from typing import Any, Final

import outcome
import trio

BATCH: Final = 256


class _Abort:
    """Ends a wait that is cancelled. A `partial` of a method would be 0.2 KB more for each."""

    __slots__ = ("_fd", "_watch")

    def __init__(self, watch: _Watch, fd: int) -> None:
        self._watch = watch
        self._fd = fd

    def __call__(self, _raise_cancel: Any) -> trio.lowlevel.Abort:
        self._watch.give_up(self._fd)
        return trio.lowlevel.Abort.SUCCEEDED


class _Watch:
    """The sockets that are waited for, and the tasks that wait."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self._waiting: dict[int, trio.lowlevel.Task] = {}

    def wait(self, sock: socket.socket) -> Awaitable[None]:
        fd = sock.fileno()
        self.epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)
        self._waiting[fd] = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(_Abort(self, fd))  # noqa: ASYNC105 # the caller awaits it

    def give_up(self, fd: int) -> None:
        """Nobody waits for this one any more."""
        del self._waiting[fd]
        self.epoll.unregister(fd)

    def wake(self, fd: int, result: outcome.Outcome[None]) -> None:
        task = self._waiting.pop(fd, None)
        if task is not None:
            self.epoll.unregister(fd)
            trio.lowlevel.reschedule(task, result)

    def close(self) -> None:
        """Let nobody wait for what no longer comes."""
        for fd in list(self._waiting):
            self.wake(fd, outcome.Error(trio.ClosedResourceError("nobody watches any more")))
        self.epoll.close()


_running: Final[trio.lowlevel.RunVar[_Watch | None]] = trio.lowlevel.RunVar("quiet", None)


async def watch() -> None:
    """Serve `wait_readable` until cancelled."""
    if not hasattr(select, "epoll"):
        return
    this = _Watch()
    _running.set(this)
    try:
        while True:
            await trio.lowlevel.wait_readable(this.epoll.fileno())
            for fd, _events in this.epoll.poll(0, BATCH):
                this.wake(fd, outcome.Value(None))
    finally:
        _running.set(None)
        this.close()


def wait_readable(sock: socket.socket) -> Awaitable[None]:
    """Await it, at once, until there is something to read or the end. One task for each socket.

    Cancellable. Raises trio.ClosedResourceError when woken by `notify_closing`.
    """
    # A coroutine of its own would be 0.2 KB for each that waits.
    this = _running.get()
    if this is None:
        return trio.lowlevel.wait_readable(sock)  # noqa: ASYNC105 # the caller awaits it
    return this.wait(sock)


def notify_closing(sock: socket.socket) -> None:
    """As Trio's: wake whoever waits for the socket here or there."""
    this = _running.get()
    if this is not None:
        this.wake(sock.fileno(), outcome.Error(trio.ClosedResourceError("another task closed it")))
    trio.lowlevel.notify_closing(sock)
