"""What tests import: the clients of both transports, and `watch`, which is either of them.

`watch` is a subscription on either transport that yields the same frames from both, so that one
test body serves both.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from typing import Any, Generic, TypeVar

import trio

from .api import (
    Api,
    check_problem,
    eventually,
    open_api,
    position,
    query,
    sequence,
)
from .server import Server
from .sse import PATIENCE_S, EventSource, SseStream, open_sse
from .websocket import (
    Frame,
    RawWs,
    Ws,
    check_error,
    exchange,
    open_raw_ws,
    open_socket,
    open_ws,
    upgrade,
)

__all__ = [
    "PATIENCE_S",
    "TRANSPORTS",
    "Api",
    "EventSource",
    "Fence",
    "Frame",
    "Held",
    "RawWs",
    "SseStream",
    "Watch",
    "Ws",
    "check_error",
    "check_problem",
    "eventually",
    "exchange",
    "hold",
    "open_api",
    "open_raw_ws",
    "open_socket",
    "open_sse",
    "open_ws",
    "position",
    "query",
    "sequence",
    "upgrade",
    "watch",
]

TRANSPORTS = ("sse", "ws")


class Watch:
    """One subscription connection, the same on both transports. `connected` is its first frame."""

    def __init__(self, transport: SseStream | Ws) -> None:
        self._transport = transport
        self.connected: Frame = {}
        self.last_id = ""

    async def next(self, patience_s: float = PATIENCE_S) -> Frame:
        """The next frame; remembers the last id, as a browser does."""
        if isinstance(self._transport, SseStream):
            frame = (await self._transport.next(patience_s)).frame()
        else:
            frame = await self._transport.next(patience_s)
        self.last_id = frame.get("id", self.last_id)
        return frame

    async def take(self, count: int) -> list[Frame]:
        """The next `count` frames."""
        return [await self.next() for _ in range(count)]

    async def snapshot(self) -> list[dict[str, Any]]:
        """The items of one whole snapshot, which must come next."""
        items: list[dict[str, Any]] = []
        while True:
            frame = await self.next()
            assert frame["type"] == "snapshot", frame
            items += frame["items"]
            if not frame["more"]:
                return items

    async def until(self, path: str, value: Any) -> list[Frame]:
        """The frames before the update that sets `path` to `value` (the fence of `Fence`)."""
        before: list[Frame] = []
        while True:
            frame = await self.next()
            if frame["type"] == "update" and (frame["path"], frame["value"]) == (path, value):
                return before
            before.append(frame)


Opened = TypeVar("Opened")


class Held(Generic[Opened]):
    """A context that lives in a task of its own, so that many can be left in any order. Made by
    `hold`.
    """

    def __init__(self, value: Opened, leave: trio.Event, left: trio.Event) -> None:
        self.value = value
        self._leave = leave
        self._left = left

    async def release(self) -> None:
        """Leave the context; returns when that is done."""
        self._leave.set()
        with trio.fail_after(PATIENCE_S):
            await self._left.wait()


async def hold(
    nursery: trio.Nursery, context: contextlib.AbstractAsyncContextManager[Opened]
) -> Held[Opened]:
    """Enter `context` in the nursery; it is left by `release` or with the nursery."""
    leave, left = trio.Event(), trio.Event()

    async def _live(task_status: trio.TaskStatus[Opened]) -> None:
        try:
            async with context as value:
                task_status.started(value)
                await leave.wait()
        finally:
            left.set()

    return Held(await nursery.start(_live), leave, left)


@contextlib.asynccontextmanager
async def watch(
    server: Server,
    transport: str,
    *filters: str,
    headers: Iterable[tuple[str, str]] = (),
    **options: Any,
) -> AsyncIterator[Watch]:
    """Subscribe by the query of `/events` or `/ws`; the first frame is taken as `connected`."""
    target = query(filters, **options)
    if transport == "sse":
        async with open_sse(server.port, "/events" + target, headers=headers) as stream:
            assert stream.status == 200, (stream.status, await stream.content())
            watcher = Watch(stream)
            watcher.connected = await watcher.next()
            assert watcher.connected["type"] == "connected"
            yield watcher
    else:
        async with open_ws(server, "/ws" + target, headers=headers, greet=False) as ws:
            watcher = Watch(ws)
            watcher.connected = await watcher.next()
            assert watcher.connected["type"] == "connected"
            yield watcher


class Fence:
    """Makes "everything has arrived" certain without waiting: a change that the watcher also sees,
    after all others.

    The watcher must select `.fence` beside what it tests. Frames of one change are not split
    between two fences.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._count = itertools.count(1)

    async def pass_through(self, *watchers: Watch) -> list[list[Frame]]:
        """What each watcher received until now, the fence itself left out."""
        value = f"fence {next(self._count)}"
        await self._api.put(".fence", value)
        return [await one.until(".fence", value) for one in watchers]
