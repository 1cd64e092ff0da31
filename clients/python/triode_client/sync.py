"""The client for programs without `async`: scripts, Django, Flask, Celery, Jupyter.

t = Triode("http://127.0.0.1:8080")
t.set(".orders.17", {"total": 20}, create=True)
for change in t.watch(".orders"):
    print(change.value)

It is the same client as that of `connect`, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    suppress,
)
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, overload
from weakref import WeakSet

from .assembly import MISSING, Json, Missing
from .backoff import Backoff
from .blocking import Room, View, Watch
from .client import MESSAGES, TRANSACTION_TRIES, AsyncTriode
from .errors import Changed, Closed, TriodeError
from .link import Link, State, Token
from .op import If, Op
from .options import Options
from .target import read_target
from .thread import LinkThread, forget_threads
from .typed import converter

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")

# More than with `async`: the threads of a program take turns of some milliseconds.
CHANGES = 1000


class Triode:
    """One server, for any number of threads. It connects when it is first used, and stays connected
    until `close`, the end of its `with` block, or the end of the program.

    The arguments are those of `connect`; a `token` function is called in a thread. Each call takes
    at most `timeout_s`, connecting and waiting for the server's rate included, then it raises
    `TimeoutError`: what it was to write may have been applied, or not. When there was nothing more
    to try (`CannotConnect`, `Ended`, a refused token), the calls that wait raise that, and the next
    one tries anew. After a `fork` the child makes a connection of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token | None = None,
        tags: Mapping[str, str] | None = None,
        options: Options | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.timeout_s = timeout_s
        options = options or Options()
        target = read_target(url, tags, options.max_event)
        source = _in_thread(token) if callable(token) else token
        self._make_link = lambda: Link(target, source, options)
        self._thread: LinkThread | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        _LIVING.add(self)

    @property
    def state(self) -> State:
        """`connecting` (or not asked to yet), `connected`, `reconnecting` or `closed`."""
        if self._is_closed:
            return "closed"
        thread = self._thread
        return "connecting" if thread is None or thread.is_over else thread.link.state

    @property
    def client_id(self) -> str | None:
        """What the server calls this connection, `c_…`; another with each, None without one."""
        thread = self._thread
        return None if thread is None else thread.link.client_id

    def wait_state(self, *states: State) -> State:
        """Connect if need be, and wait until the state is one of these; which."""
        return self._call(AsyncTriode.wait_state, *states)

    def close(self) -> None:
        """Say goodbye to the server, and wait for the end: 2 s at most. May be called twice."""
        with self._lock:
            self._is_closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()

    def begin_child(self) -> None:
        """This is the child of a fork: the thread is the parent's, and so is the connection."""
        self._lock = threading.Lock()
        self._thread = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        thread = self.__dict__.get("_thread")
        if thread is not None:
            thread.call_soon_end()

    # ── what is there ───────────────────────────────────────────────────────────────────────────

    @overload
    def watch(
        self, filter: str = ".", *, policy: str | None = None, buffer: int = CHANGES
    ) -> Watch[Any]: ...

    @overload
    def watch(
        self, filter: str, *, type: type[T], policy: str | None = None, buffer: int = CHANGES
    ) -> Watch[T | Missing]: ...

    def watch(
        self, filter: str = ".", *, type: Any = None, policy: str | None = None,
        buffer: int = CHANGES,
    ) -> Watch[Any]:  # fmt: skip
        """An iterator over the changes of what `filter` selects, as `AsyncTriode.watch`."""
        return Watch(self._running, filter, policy, buffer, converter(type))

    @overload
    def view(
        self, filter: str = ".", *, policy: str | None = None
    ) -> AbstractContextManager[View[Any]]: ...

    @overload
    def view(
        self, filter: str, *, type: type[T], policy: str | None = None
    ) -> AbstractContextManager[View[T | Missing]]: ...

    def view(
        self, filter: str = ".", *, type: Any = None, policy: str | None = None
    ) -> AbstractContextManager[View[Any]]:
        """What `filter` selects, kept up to date within the block, as `AsyncTriode.view`."""
        return self._view(filter, type, policy)

    @contextmanager
    def _view(self, filter: str, type: Any, policy: str | None) -> Generator[View[Any]]:
        convert = converter(type)
        with self._within(lambda t: t.view(filter, policy=policy)) as (thread, view):
            yield View(thread, view, convert)

    @overload
    def get(self, filter: str = ".", *, at: str | None = None) -> Any: ...

    @overload
    def get(self, filter: str, *, type: type[T], at: str | None = None) -> T | Missing: ...

    def get(self, filter: str = ".", *, type: Any = None, at: str | None = None) -> Any:
        """What `filter` selects now, as `AsyncTriode.get`."""
        convert = converter(type)
        value, _ = self._call(AsyncTriode.read, filter, at=at)
        return convert(value)

    # ── writes ──────────────────────────────────────────────────────────────────────────────────

    def set(
        self,
        path: str,
        value: Any,
        *,
        if_: If | None = None,
        create: bool = False,
        ttl: float | None = None,
    ) -> str:
        """The place has this value, as `AsyncTriode.set`. Returns the position."""
        return self._call(AsyncTriode.set, path, value, if_=if_, create=create, ttl=ttl)

    def merge(
        self,
        path: str,
        patch: Json,
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """Change members of an object, null removes one (RFC 7396). As `set`."""
        return self._call(AsyncTriode.merge, path, patch, if_=if_, ttl=ttl)

    def patch(
        self,
        path: str,
        patch: Sequence[Mapping[str, Any]],
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """JSON Patch operations (RFC 6902), all or none. As `set`."""
        return self._call(AsyncTriode.patch, path, patch, if_=if_, ttl=ttl)

    def touch(self, path: str, ttl: float | None, *, if_: If | None = None) -> str:
        """Say anew how long a place stays, as `AsyncTriode.touch`."""
        return self._call(AsyncTriode.touch, path, ttl, if_=if_)

    def delete(self, path: str, *, if_: If | None = None) -> str:
        """Remove a place. As `set`."""
        return self._call(AsyncTriode.delete, path, if_=if_)

    def increment(
        self,
        path: str,
        by: float = 1,
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """Add to the number there. As `set`."""
        return self._call(AsyncTriode.increment, path, by, if_=if_, ttl=ttl)

    def append(
        self,
        path: str,
        value: Any,
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """Add an element to the array there. As `set`."""
        return self._call(AsyncTriode.append, path, value, if_=if_, ttl=ttl)

    def push(
        self,
        path: str,
        value: Any,
        *,
        if_: If | None = None,
        ttl: float | None = None,
    ) -> str:
        """Add a member to the object there. Returns its new name, as `AsyncTriode.push`."""
        return self._call(AsyncTriode.push, path, value, if_=if_, ttl=ttl)

    def batch(self, ops: Sequence[Op], *, atomic: bool = False) -> list[str]:
        """Several writes of `op` in one message, as `AsyncTriode.batch`; the position of each."""
        return self._call(AsyncTriode.batch, ops, atomic=atomic)

    def transaction(self, path: str, change: Callable[[Any], Any], *, type: Any = None) -> Any:
        """Read a place, write what `change` makes of it, and begin again if another was faster.

        As `AsyncTriode.transaction`; `change` is called in this thread.
        """
        convert = converter(type)
        pause = Backoff(0.002, 0.2, 1.0)
        for tries_left in reversed(range(TRANSACTION_TRIES)):
            value, position = self._call(AsyncTriode.read, path)
            changed = change(convert(value))
            was_there = value is not MISSING
            try:
                self._call(AsyncTriode.write_if, path, changed, position, was_there=was_there)
                return changed
            except Changed:
                if not tries_left:
                    raise
            time.sleep(pause.next_s())
        raise AssertionError("the last try returns or raises")

    # ── messages ────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def room(self, name: str, *, buffer: int = MESSAGES) -> Generator[Room]:
        """Be in a room within the block, as `AsyncTriode.room`; iterate over it for messages."""
        with self._within(lambda t: t.room(name, buffer=buffer)) as (thread, room):
            yield Room(thread, room, self.timeout_s)

    @contextmanager
    def inbox(self, *, buffer: int = MESSAGES) -> Generator[Room]:
        """The messages to this client alone, by its id or its tags. Not to publish in."""
        with self._within(lambda t: t.inbox(buffer=buffer)) as (thread, room):
            yield Room(thread, room, self.timeout_s)

    def publish(
        self,
        event: str,
        data: Json = None,
        *,
        room: str | Sequence[str] | None = None,
        to: str | None = None,
        tags: Mapping[str, str] | None = None,
        echo: bool = False,
    ) -> int:
        """Send a message, as `AsyncTriode.publish`; how many it reached."""
        return self._call(AsyncTriode.publish, event, data, room=room, to=to, tags=tags, echo=echo)

    # ── the thread ──────────────────────────────────────────────────────────────────────────────

    def _running(self) -> LinkThread:
        with self._lock:
            if self._is_closed:
                raise Closed("the client was closed")
            if self._thread is None or self._thread.is_over:
                self._thread = LinkThread(self._make_link)
            return self._thread

    def _call(
        self,
        method: Callable[Concatenate[AsyncTriode, P], Coroutine[Any, Any, R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        thread = self._running()
        return thread.call(partial(method, thread.triode, *args, **kwargs), wait_s=self.timeout_s)

    @contextmanager
    def _within(
        self, open: Callable[[AsyncTriode], AbstractAsyncContextManager[T]]
    ) -> Generator[tuple[LinkThread, T]]:
        thread = self._running()
        block = open(thread.triode)

        async def enter() -> T:
            return await block.__aenter__()

        async def leave() -> None:
            await block.__aexit__(None, None, None)

        held = thread.call(enter, wait_s=self.timeout_s)
        try:
            yield thread, held
        finally:
            # It takes back what was asked of the server; where the connection is gone there is
            # nothing to take back.
            with suppress(TriodeError, TimeoutError):
                thread.call(leave, wait_s=self.timeout_s)


def _in_thread(source: Callable[[], Any]) -> Callable[[], Coroutine[Any, Any, str]]:
    """A token function may take its time, with `requests` or a database."""

    async def ask() -> str:
        token = await asyncio.to_thread(source)
        return str(await token if isawaitable(token) else token)

    return ask


_LIVING: WeakSet[Triode] = WeakSet()


def _begin_child() -> None:
    forget_threads()
    for triode in list(_LIVING):
        triode.begin_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
