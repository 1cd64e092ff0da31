"""A line to a server that a plain test can cut, freeze and point elsewhere: the clients' proxy in a
thread with an event loop of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from tests.clients.proxy import Proxy, open_proxy


class Line:
    """Where the browser connects to. All calls return when they have taken effect."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._proxy: Proxy | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._over = trio.Event()
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        """Its address, the same whatever is behind it."""
        assert self._proxy is not None
        return self._proxy.url

    def cut(self) -> None:
        """End all connections with a reset."""
        self._do(self._now.cut)

    def freeze(self) -> None:
        """Nothing passes, and nobody is told."""
        self._do(self._now.freeze)

    def thaw(self) -> None:
        """Go on."""
        self._do(self._now.thaw)

    def refuse(self, refuses: bool) -> None:
        """Whether new connections are closed at once."""
        self._do(lambda: setattr(self._now, "refuses", refuses))

    @property
    def _now(self) -> Proxy:
        assert self._proxy is not None
        return self._proxy

    def _do(self, what: Callable[[], object]) -> None:
        trio.from_thread.run_sync(what, trio_token=self._token)

    async def run(self) -> None:
        """Until `stop`."""
        self._token = trio.lowlevel.current_trio_token()
        async with open_proxy(self._target) as self._proxy:
            self._ready.set()
            await self._over.wait()

    def wait(self) -> None:
        """Until it listens."""
        assert self._ready.wait(10), "the line did not open"

    def stop(self) -> None:
        """End it, and all connections."""
        self._do(self._over.set)


@contextmanager
def line_to(port: int) -> Iterator[Line]:
    """A line to the server at `port`."""
    line = Line(port)
    thread = threading.Thread(target=trio.run, args=(line.run,), name="line")
    thread.start()
    line.wait()
    try:
        yield line
    finally:
        line.stop()
        thread.join()
