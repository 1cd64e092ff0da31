"""Connections that Hypercorn serves: its `TCPServer`, run on a `HandoffStream`.

Leans on these internals of Hypercorn 0.18, which the tests would notice: `TCPServer.protocol_send`,
`_read_data`, `_idle_timeout` and `idle_task`.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, Updated
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState, LifespanState

from triode.app.lanes.handoff_limits import HandoffLimits
from triode.app.lanes.hypercorn_stream import (
    Direct,
    HandoffStream,
    TlsHandoffStream,
)
from triode.app.net.connection import Connection
from triode.app.net.door import IdleConnections
from triode.app.net.request_head import Head, answer
from triode.app.wire.refusal import Refusal

UPDATE_S: Final = 1.0


class _Server(TCPServer):
    """Hypercorn's server of one connection, which tells the stream when it is idle."""

    # Hypercorn declares one kind of stream and uses few of its methods: those that ours has.
    stream: HandoffStream  # type: ignore[assignment] # see above
    _reading_ended = False

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            await self._update(event)
        else:
            await super().protocol_send(event)

    async def _update(self, event: Updated) -> None:
        if not event.idle:
            self.stream.busy()
        if self._reading_ended:
            return  # nothing can follow: an idle timer would only hold the connection
        # Comes in the application's task when its answer is out. Quart-Trio cancels that task at
        # this very moment; unshielded, Hypercorn would be left without its idle timer, which is
        # also what closes idle connections at shutdown. It waits for a lock and a task's start.
        try:
            with trio.move_on_after(UPDATE_S, shield=True):
                await super().protocol_send(event)
        finally:
            if event.idle:
                self.stream.idle()

    async def _idle_timeout(self) -> None:
        # Hypercorn's timer sees nothing of the requests that our stream answers by itself; that
        # has a keep-alive of its own, and leaves Hypercorn's to HTTP/2.
        if self.stream.reads_heads:
            await self.context.terminated.wait()
        await super()._idle_timeout()

    async def _read_data(self) -> None:
        await super()._read_data()
        # Hypercorn leaves its idle timer running, and with it the connection, after the peer is
        # gone.
        self._reading_ended = True
        await self.idle_task.stop()


def make_config(limits: HandoffLimits) -> Config:
    """Hypercorn's configuration for handed-off connections: no access log, errors to
    `triode.hypercorn`."""
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("triode.hypercorn")
    config.include_server_header = False
    # Ours come first; Hypercorn's timer covers HTTP/2, and it sees nothing of a head that is still
    # coming.
    config.keep_alive_timeout = limits.keep_alive_s + limits.head_deadline_s + 1
    config.keep_alive_max_requests = 1_000_000
    # Heads reach h11 whole and checked.
    config.h11_max_incomplete_size = 2 * limits.max_head_bytes
    return config


class HypercornLane:
    """Serves connections with an ASGI application through Hypercorn."""

    def __init__(
        self,
        app: ASGIFramework,
        wants: Callable[[Head], bool],
        limits: HandoffLimits,
        *,
        config: Config | None = None,
        state: LifespanState | None = None,
        direct: Direct | None = None,
        idle: IdleConnections | None = None,
    ) -> None:
        """`wants` says which heads are not Hypercorn's;

        `state` is what `run_lifespan` started with; `direct` answers requests before Hypercorn.
        `idle` is told which connections have no request.
        """
        self._idle = IdleConnections() if idle is None else idle
        self._direct = direct
        self._app = ASGIWrapper(app)
        self._wants = wants
        self._limits = limits
        self._config = config or make_config(limits)
        self._state: LifespanState = {} if state is None else state
        self._context = WorkerContext(None)

    async def serve(self, connection: Connection, opaque: bool = False) -> bool:
        """Serve a connection whose `buffer` starts with a request head, or with anything when
        `opaque`.

        True: it is to be served natively now, and its buffer starts with a head that `wants`
        accepts. False: it is closed. Cancellation aborts it at once.
        """
        if self._context.terminated.is_set():
            await self._turn_away(connection, opaque)
            return False
        kind = TlsHandoffStream if connection.secure else HandoffStream
        stream = kind(
            connection,
            self._wants,
            self._limits,
            opaque=opaque or connection.alpn == "h2",
            idle=self._idle,
            direct=self._direct,
        )
        if not stream.reads_heads:
            stream.idle()
        try:
            await self._run(stream)
        finally:
            self._idle.discard(connection)
        if stream.given_back and not connection.closed:
            return True
        await connection.finish(self._limits.linger_s)
        return False

    async def _run(self, stream: HandoffStream) -> None:
        # Holds the watcher of this connection; ends when Hypercorn's part does.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.abort_if_cancelled)
            state = ConnectionState(self._state.copy())
            server = _Server(self._app, self._config, self._context, state, stream)  # type: ignore[arg-type] # as `_Server.stream`
            await server.run()
            await stream.aclose()
            nursery.cancel_scope.cancel()

    async def _turn_away(self, connection: Connection, opaque: bool) -> None:
        """Say that the server ends. No EventSource is told so here: its requests are native, or
        come over HTTP/2, which understands no answer of ours.
        """
        if opaque:
            connection.close()
            return
        retry_s = random.randint(1, 5)
        refusal = Refusal(
            503,
            "The server is shutting down.",
            extra={"retry_after": retry_s},
            headers={"Retry-After": str(retry_s)},
        )
        with contextlib.suppress(trio.TooSlowError):
            await connection.send_all(answer(refusal), self._limits.write_deadline_s)
        await connection.finish(self._limits.linger_s)

    async def drain(self) -> None:
        """Begin the end: idle connections are closed, the others after the answer they are
        making."""
        await self._context.terminated.set()


class LifespanEnded(RuntimeError):
    """The application's lifespan ended while it was served: its services are no longer there."""


async def run_lifespan(
    app: ASGIFramework,
    config: Config,
    *,
    stop: trio.Event,
    task_status: trio.TaskStatus[LifespanState] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the application's lifespan: started once its startup is done, shut down when `stop` is
    set.

    Starts with the state to give to `HypercornLane`. Raises what the application's startup or
    shutdown raises, in a group, or hypercorn.utils.LifespanTimeoutError; `LifespanEnded` if it ends
    before. Cancelled, it ends without the shutdown: set `stop` for that.
    """
    state: LifespanState = {}
    lifespan = Lifespan(ASGIWrapper(app), config, state)
    # Holds the task in which the application's lifespan runs; ends after its shutdown.
    async with trio.open_nursery() as nursery:
        await nursery.start(lifespan.handle_lifespan)
        # An application that returns at once from its lifespan closes the channel of these
        # messages.
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await lifespan.wait_for_startup()
        task_status.started(state)
        if lifespan.supported:
            await _first_of(stop, lifespan.shutdown)
            if not stop.is_set():
                raise LifespanEnded("the application ended while it was served; the log says why")
        else:
            await stop.wait()
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await lifespan.wait_for_shutdown()
        nursery.cancel_scope.cancel()


async def _first_of(*events: trio.Event) -> None:
    """Wait until one of them is set."""
    # Holds a task for each event; ended by the first.
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)
