"""An event loop in a thread of its own, with one link in it: what carries the sync door.

The thread is a daemon: a program that forgets to close its client ends all the same. At the end of
the program what is open says goodbye to its server.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Final, TypeVar
from weakref import WeakSet

import anyio

from .client import AsyncTriode, run_link
from .connection import CLOSE_S
from .errors import Closed
from .link import Link

R = TypeVar("R")

# How long the goodbye of a thread may take: that of its connection, and some for the machine.
END_S: Final = CLOSE_S + 1.0


class LinkThread:
    """Runs a link until `end`, or until there is nothing more to try. `call` may be used from any
    thread but this one.
    """

    def __init__(self, make_link: Callable[[], Link]) -> None:
        self.link: Link
        self.triode: AsyncTriode
        # Nothing can be called any more.
        self.is_over = False
        self._make_link = make_link
        self._loop: asyncio.AbstractEventLoop
        self._asked_to_end: asyncio.Event
        self._is_ready: Future[None] = Future()
        # Whoever waits for one of these would wait for ever if the loop ended without it.
        self._calls: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="triode-client", daemon=True)
        self._thread.start()
        self._is_ready.result()
        _LIVING.add(self)

    def call(self, function: Callable[[], Coroutine[Any, Any, R]], *, wait_s: float | None) -> R:
        """Run a coroutine in the loop, and wait for what it returns or raises.

        Raises `TimeoutError`; interrupted or out of time, it is cancelled. Where the link has ended
        it raises why, or `Closed`.
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("a function that the client calls must not use the client itself")

        async def limited() -> R:
            # Here, and not where it is waited for: what is taken at the last moment is not lost.
            with anyio.fail_after(wait_s):
                return await function()

        with self._lock:
            if self.is_over:
                raise self.link.why_closed()
            future = asyncio.run_coroutine_threadsafe(limited(), self._loop)
            self._calls.add(future)
        try:
            return future.result()
        except Closed as closed:
            raise closed.__cause__ or closed from None
        except TimeoutError as exc:
            raise TimeoutError(
                f"nothing in {wait_s} s; what was to be written may have been, or not"
            ) from exc
        except CancelledError:  # noqa: ASYNC103 # of a future, not of this thread
            pass
        finally:
            future.cancel()  # of one who was interrupted
            with self._lock:
                self._calls.discard(future)
        raise self.link.why_closed()

    def look(self, function: Callable[[], R]) -> R:
        """What a function finds in the state of the client, which belongs to the loop."""

        async def find() -> R:  # noqa: ASYNC910 # to be there is all it is for
            return function()  # noqa: ASYNC910 # see above

        return function() if self.is_over else self.call(find, wait_s=None)

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Run a function in the loop, some time; from any thread, or a garbage collector."""
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass  # it has ended

    def end(self) -> None:
        """Say goodbye, and wait for the end; from a garbage collector use `call_soon_end`."""
        self.call_soon_end()
        if threading.current_thread() is not self._thread:
            self._thread.join(END_S)

    def call_soon_end(self) -> None:
        """Say goodbye, some time."""
        self.call_soon(self._asked_to_end.set)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as exc:  # noqa: ASYNC103 # the thread ends with it
            if not self._is_ready.done():
                self._is_ready.set_exception(exc)
            # Else it is what ended the link, and has been told to all who waited.
        finally:
            with self._lock:
                calls = list(self._calls)
            for call in calls:
                call.cancel()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._asked_to_end = asyncio.Event()
        self.link = self._make_link()
        self.triode = AsyncTriode(self.link, is_patient=True)
        try:
            async with run_link(self.link):
                self._is_ready.set_result(None)
                await self._asked_to_end.wait()
        finally:
            with self._lock:
                self.is_over = True
            # What was called before that begins now, and is told how it has ended.
            await asyncio.sleep(0)  # noqa: ASYNC102 # one turn
            calls = asyncio.all_tasks() - {asyncio.current_task()}
            if calls:
                await asyncio.wait(calls, timeout=END_S)  # noqa: ASYNC102 # nobody cancels it


_LIVING: WeakSet[LinkThread] = WeakSet()
# Kept, so that no destructor closes what parent and child share.
_PARENTS: list[LinkThread] = []


def forget_threads() -> None:
    """This is the child of a fork, which has no other threads."""
    _PARENTS.extend(_LIVING)
    _LIVING.clear()


@atexit.register
def _end_all() -> None:
    for thread in list(_LIVING):
        thread.call_soon_end()
    for thread in list(_LIVING):
        thread.end()
