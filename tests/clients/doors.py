"""One suite for three doors: what a test on Trio uses as if it were the client on Trio is that, or
the client on asyncio or the one without `async`, each in a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Literal

import trio

import triode_client
from triode_client.link import Link

Door = Literal["trio", "asyncio", "sync"]
Connect = Callable[..., AbstractAsyncContextManager[Any]]
DOORS: tuple[Door, ...] = ("trio", "asyncio", "sync")

END_S = 5.0
POLL_S = 0.02
# Calls of the sync client that wait at once.
THREADS = trio.CapacityLimiter(200)


def open_door(door: Door) -> Connect:
    """The `connect` of a door."""
    doors: dict[Door, Connect] = {
        "trio": triode_client.connect,
        "asyncio": connect_asyncio,
        "sync": connect_sync,
    }
    return doors[door]


def inside(t: Any, function: Callable[[Link], Any]) -> Any:
    """What a function finds, or does, in a client's link."""
    if isinstance(t, AsyncioTriode):
        return t.loop.look(lambda: function(t.real._link))
    if isinstance(t, SyncTriode):
        thread = t.real._running()
        return thread.look(lambda: function(thread.link))
    return function(t._link)


async def ask(t: Any, command: dict[str, Any]) -> Any:
    """A command that the client itself has no method for."""
    if isinstance(t, AsyncioTriode):
        return await t.loop.run(lambda: t.real._link.ask(command))
    if isinstance(t, SyncTriode):
        thread = t.real._running()
        return await _in_thread(thread.call, lambda: thread.link.ask(command), wait_s=END_S)
    return await t._link.ask(command)


# ── asyncio ─────────────────────────────────────────────────────────────────────────────────────


class Loop:
    """An asyncio loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def run(self, function: Callable[[], Awaitable[Any]]) -> Any:
        """Run it there as a task; cancelled, the task is cancelled as asyncio does it."""

        async def call() -> Any:
            try:
                return False, await function()
            except StopAsyncIteration:
                return True, None

        future = asyncio.run_coroutine_threadsafe(call(), self._loop)
        has_stopped, result = await _result(future)
        if has_stopped:
            raise StopAsyncIteration
        return result

    def look(self, function: Callable[[], Any]) -> Any:
        """What a function there returns."""

        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(END_S)

    def end(self) -> None:
        """Every task has to have ended before."""

        async def others() -> set[asyncio.Task[Any]]:
            await asyncio.sleep(0)
            return asyncio.all_tasks() - {asyncio.current_task()}

        left = asyncio.run_coroutine_threadsafe(others(), self._loop).result(END_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END_S)
        self._loop.close()
        assert not left, f"tasks were left behind: {left}"


async def _result(future: Future[Any]) -> Any:
    done, token = trio.Event(), trio.lowlevel.current_trio_token()
    future.add_done_callback(lambda _: token.run_sync_soon(done.set))
    try:
        await done.wait()
    except trio.Cancelled:
        future.cancel()
        raise
    return future.result()


class Remote:
    """Something of a client in a loop: what it has is looked up there, its tasks run there."""

    def __init__(self, loop: Loop, real: Any) -> None:
        self.loop = loop
        self.real = real

    def __getattr__(self, name: str) -> Any:
        found = self.loop.look(lambda: getattr(self.real, name))
        if not inspect.iscoroutinefunction(found):
            return found if not callable(found) else partial(self.loop_call, found)
        return lambda *args, **options: self.loop.run(partial(found, *args, **options))

    def loop_call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self.loop.look(partial(function, *args, **options))

    def __aiter__(self) -> Remote:
        return self

    async def __anext__(self) -> Any:
        return await self.loop.run(self.real.__anext__)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *exc: object) -> None:
        self.loop.look(self.real.close)


class AsyncioTriode(Remote):
    """The client."""

    def watch(self, *args: Any, **options: Any) -> Remote:
        return Remote(self.loop, self.loop_call(self.real.watch, *args, **options))

    def view(self, *args: Any, **options: Any) -> AbstractAsyncContextManager[Remote]:
        return _block(self.loop, lambda: self.real.view(*args, **options))

    def room(self, *args: Any, **options: Any) -> AbstractAsyncContextManager[Remote]:
        return _block(self.loop, lambda: self.real.room(*args, **options))

    def inbox(self) -> AbstractAsyncContextManager[Remote]:
        return _block(self.loop, self.real.inbox)


@contextlib.asynccontextmanager
async def _block(loop: Loop, make: Callable[[], Any]) -> AsyncIterator[Remote]:
    block = make()
    held = await loop.run(block.__aenter__)
    try:
        yield Remote(loop, held)
    finally:
        with trio.CancelScope(shield=True):
            await loop.run(lambda: block.__aexit__(None, None, None))


@contextlib.asynccontextmanager
async def connect_asyncio(*args: Any, **options: Any) -> AsyncIterator[AsyncioTriode]:
    """The block is one task of the loop, as it is in a program; its end ends ours."""
    loop = Loop()
    opened: Future[Any] = Future()
    ended: Future[None] = Future()
    leave = loop.look(asyncio.Event)

    async def block() -> None:
        try:
            async with triode_client.connect(*args, **options) as t:
                opened.set_result(t)
                await leave.wait()
        except BaseException as exc:  # noqa: ASYNC103 # told to the one who waits
            ended.set_exception(exc)
        else:
            ended.set_result(None)
        finally:
            opened.cancel()

    running = asyncio.run_coroutine_threadsafe(block(), loop._loop)
    body, token = trio.CancelScope(), trio.lowlevel.current_trio_token()
    try:
        await _result(opened)
        ended.add_done_callback(lambda _: token.run_sync_soon(body.cancel))
        with body:
            yield AsyncioTriode(loop, opened.result())
        loop.look(leave.set)
    except BaseException as exc:
        if not ended.done():
            running.cancel()
        with trio.CancelScope(shield=True):
            try:
                await _result(ended)
            except (asyncio.CancelledError, CancelledError):
                raise exc from None  # noqa: ASYNC104 # that of the task we cancelled
        raise
    else:
        with trio.CancelScope(shield=True):
            await _result(ended)
    finally:
        loop.end()


# ── sync ────────────────────────────────────────────────────────────────────────────────────────


async def _in_thread(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return await trio.to_thread.run_sync(
        partial(function, *args, **options), limiter=THREADS, abandon_on_cancel=True
    )


async def _poll(wait: Callable[[float], Any]) -> Any:
    """Wait in a thread, with a limit, again and again: so it can be cancelled between."""
    while True:
        try:
            return await _in_thread(wait, POLL_S)
        except TimeoutError:
            continue


class SyncHeld:
    """A view, a watch or a room of the client without `async`."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    async def wait_changed(self) -> None:
        await _poll(self.real.wait_changed)

    async def publish(self, *args: Any, **options: Any) -> Any:
        return await _in_thread(self.real.publish, *args, **options)

    def __aiter__(self) -> SyncHeld:
        return self

    async def __anext__(self) -> Any:
        change = await _poll(self.real.next)
        if change is None:
            raise StopAsyncIteration
        return change

    def __enter__(self) -> SyncHeld:
        return self

    def __exit__(self, *exc: object) -> None:
        self.real.close()


class SyncTriode:
    """The client."""

    def __init__(self, real: triode_client.Triode) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        return partial(_in_thread, found) if callable(found) else found

    def watch(self, *args: Any, **options: Any) -> SyncHeld:
        return SyncHeld(self.real.watch(*args, **options))

    @contextlib.asynccontextmanager
    async def _block(self, block: Any) -> AsyncIterator[SyncHeld]:
        try:
            yield SyncHeld(await _in_thread(block.__enter__))
        finally:
            with trio.CancelScope(shield=True):
                await _in_thread(block.__exit__, None, None, None)

    def view(self, *args: Any, **options: Any) -> AbstractAsyncContextManager[SyncHeld]:
        return self._block(self.real.view(*args, **options))

    def room(self, *args: Any, **options: Any) -> AbstractAsyncContextManager[SyncHeld]:
        return self._block(self.real.room(*args, **options))

    def inbox(self) -> AbstractAsyncContextManager[SyncHeld]:
        return self._block(self.real.inbox())


@contextlib.asynccontextmanager
async def connect_sync(*args: Any, **options: Any) -> AsyncIterator[SyncTriode]:
    """It connects when it is first used: here, at once."""
    real = triode_client.Triode(*args, **options)
    try:
        await _in_thread(real.wait_state, "connected")
        yield SyncTriode(real)
    finally:
        thread = real._thread
        with trio.CancelScope(shield=True):
            await _in_thread(real.close)
        assert thread is None or not thread._thread.is_alive(), "the thread was left behind"


def living() -> Iterator[threading.Thread]:
    """The threads of clients."""
    return (thread for thread in threading.enumerate() if thread.name == "triode-client")
