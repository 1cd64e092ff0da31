"""`triode serve`: one port, both lanes (docs/design.md 4), and the order in which it all starts and
ends.

    start   sockets bound → document read (app/lanes/starting.py) → lifespan (services) → accept
    signal  readiness 503, as all else that is new → goodbye to each client → drain → lifespan ends

A signal while it starts ends it in order, too. A second one ends the process at once. SIGHUP ends
nothing (`app/service/reload.py`); one that comes while it starts is acted on afterwards.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import trio

from triode.app.application import create_app
from triode.app.config.tls import tls_context
from triode.app.lanes.handoff_limits import HandoffLimits
from triode.app.lanes.http_fast_path import DIRECT
from triode.app.lanes.hypercorn import HypercornLane, make_config, run_lifespan
from triode.app.lanes.native import is_native, refused
from triode.app.lanes.native import serve as serve_stream
from triode.app.lanes.starting import start
from triode.app.net import idle_wait
from triode.app.net.dispatcher import Dispatcher, ListenerLimits
from triode.app.net.door import IdleConnections
from triode.app.net.listener import serve as accept_on
from triode.app.net.listening import open_listeners, place_of
from triode.app.runtime import supervisor
from triode.app.runtime.allocator import large_blocks_apart
from triode.app.runtime.effort import admit
from triode.app.runtime.machine import most_connections
from triode.app.runtime.signals import EndSignal, hangups_held_back
from triode.app.service import running
from triode.app.service.boot import let_go
from triode.app.service.gc_policy import Collector
from triode.app.service.reload import Reload
from triode.app.service.shutdown import say_goodbye
from triode.app.service.stats import Stats
from triode.app.service.triode import Triode
from triode.app.service.worker_stats import answer_others

if TYPE_CHECKING:
    from hypercorn.config import Config
    from hypercorn.typing import ASGIFramework, LifespanState
    from quart_trio import QuartTrio

    from triode.app.config.settings import Settings
    from triode.app.runtime.worker import Worker

log = logging.getLogger("triode")

Bound = Callable[[list[Any]], None]


async def serve(  # noqa: ASYNC128 # `_started` calls it
    settings: Settings,
    *,
    bound: Bound | None = None,
    triode: Triode | None = None,
    reread: Callable[[], Settings] | None = None,
    worker: Worker | None = None,
    task_status: trio.TaskStatus[list[Any]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM or SIGINT, or until cancelled. Starts with the addresses, which `bound`
    is called with too. At SIGHUP `reread` reads the configuration anew. As a `worker` it shares
    the port with others, and ends with the process that has started it.

    Raises `OSError` or `CannotListen` when there is nothing to listen on, and `Faults`-like errors
    before anything is served; `LogBroken` when the log did not take what it was given.
    """
    large_blocks_apart()
    server = Triode(settings) if triode is None else triode
    server.worker = worker
    app = create_app(server)
    with ExitStack() as held:
        held.enter_context(hangups_held_back())
        end = held.enter_context(EndSignal())
        try:
            sockets = open_listeners(settings, held, shares_port=worker is not None)
            # What is wrong with the log or the file is told before anything is served.
            begin = partial(running.begin, server)
            begun = partial(start, server, sockets, _ssl_context(settings), begin)
            if not await _unless_ended(end, begun):
                await let_go(server)
                return
        except BaseException:
            await let_go(server)  # noqa: ASYNC102 # it has a deadline of its own
            raise
        try:
            await _serve(server, app, sockets, partial(_started, bound, task_status), reread, end)
        except BaseExceptionGroup:
            # Whatever else went wrong is a consequence of it.
            if server.journal is not None and server.journal.broken is not None:
                raise server.journal.broken from None
            raise


async def _unless_ended(end: EndSignal, begin: Callable[[], Awaitable[None]]) -> bool:
    """Do `begin`; False: the signal came first, and it was cancelled."""
    fault: Exception | None = None
    ended = True

    async def wait() -> None:
        log.info("%s: ending before the start is done", await end.wait())
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        try:
            await begin()
            ended = False
        except Exception as error:  # not in a group: it is the answer to who called us
            fault = error
        nursery.cancel_scope.cancel()
    if fault is not None:
        raise fault
    return not ended


async def _serve(
    server: Triode,
    app: QuartTrio,
    sockets: list[socket.socket],
    started: Bound,
    reread: Callable[[], Settings] | None,
    end: EndSignal,
) -> None:
    settings = server.settings
    limits = _handoff_limits(settings)
    context = _ssl_context(settings)
    reload = Reload(server, reread)
    reload.reads.append(partial(_read_tls, context))
    server.on_hangup = reload.on_hangup
    config = make_config(limits)
    wants = partial(is_native, server)
    idle = IdleConnections(server.metrics.listener)
    stop, ended = trio.Event(), trio.Event()
    # Lives as long as the server: the application's lifespan, which holds the services.
    async with trio.open_nursery() as services:
        state = await services.start(partial(_live, app, config, stop, ended))
        direct = app.extensions[DIRECT]
        lane = HypercornLane(
            app, wants, limits, config=config, state=state, direct=direct, idle=idle
        )
        dispatcher = Dispatcher(
            wants=wants,
            native=partial(serve_stream, server),
            handoff=lane.serve,
            refuse=partial(refused, server),
            places=server.gate.admission,
            heads=server.gate.shares.heads,
            http=server.gate.shares.http,
            limits=ListenerLimits(
                head_deadline_s=settings.head_deadline_s,
                max_head_bytes=settings.max_head_bytes,
                connections=settings.max_connections or most_connections(),
            ),
            counts=server.metrics.listener,
            ssl_context=context,
            idle=idle,
            admit=admit,
        )
        server.ledger.account("connections", read=dispatcher.door.held_bytes)
        services.start_soon(idle_wait.watch)
        services.start_soon(supervisor.keep_awake)
        if server.worker is not None:
            services.start_soon(server.worker.follow)
            services.start_soon(answer_others, server.worker, Stats(server))
        await services.start(Collector(lambda: bool(server.metrics.large_bodies)).run)
        accept = partial(
            accept_on,
            connect=dispatcher.connect,
            counts=server.metrics.listener,
            make_room=idle.close_oldest,
            hold=dispatcher.door.wait_for_room,
        )
        await _receive(server, sockets, accept, lane, started, end)
        stop.set()
        await ended.wait()
        services.cancel_scope.cancel()


def _started(
    bound: Bound | None, task_status: trio.TaskStatus[list[Any]], addresses: list[Any]
) -> None:
    if bound is not None:
        bound(addresses)
    task_status.started(addresses)


async def _receive(
    server: Triode,
    sockets: list[socket.socket],
    accept: Callable[..., Awaitable[None]],
    lane: HypercornLane,
    started: Bound,
    end: EndSignal,
) -> None:
    """Receive connections until the signal, then drain."""
    with ExitStack() as stack:
        copies = [stack.enter_context(sock.dup()) for sock in sockets]
        # Holds those who come when the end has begun, and are told so; ended with the others.
        async with trio.open_nursery() as late:
            # Holds every connection, and the accept loop until the end begins. Left when all have
            # ended, or, cancelled, at the end of the drain.
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as accepting:
                    addresses = await accepting.start(partial(accept, sockets, nursery=connections))
                    server.listens = f"{place_of(addresses)}{server.worker or ''}"
                    if server.worker is not None:
                        server.worker.say_ready()
                    started(addresses)
                    supervisor.serving()
                    log.info("%s: draining", await end.wait())
                    supervisor.ending()
                    server.draining = True
                    late.start_soon(partial(accept, copies, nursery=late))
                    accepting.cancel_scope.cancel()
                connections.cancel_scope.deadline = trio.current_time() + server.settings.drain_s
                await lane.drain()
                await say_goodbye(server)
            late.cancel_scope.cancel()


async def _live(  # noqa: ASYNC128 # run_lifespan calls it
    app: QuartTrio,
    config: Config,
    stop: trio.Event,
    ended: trio.Event,
    *,
    task_status: trio.TaskStatus[LifespanState],
) -> None:
    """The application's lifespan; sets `ended` after its shutdown."""
    await run_lifespan(cast("ASGIFramework", app), config, stop=stop, task_status=task_status)
    ended.set()


def _handoff_limits(settings: Settings) -> HandoffLimits:
    return HandoffLimits(
        head_deadline_s=settings.head_deadline_s,
        write_deadline_s=settings.write_deadline_s,
        max_head_bytes=settings.max_head_bytes,
    )


def _read_tls(context: ssl.SSLContext | None, settings: Settings) -> Callable[[], None]:
    """Check the certificate's files; what makes `context` show them in handshakes to come."""
    _ssl_context(settings)  # loaded at once, a key that does not fit would spoil the one in use
    certfile = settings.certfile

    def put() -> None:
        if context is not None and certfile is not None:
            context.load_cert_chain(certfile, settings.keyfile)

    return put


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.certfile is None or settings.keyfile is None:
        return None
    return tls_context(settings.certfile, settings.keyfile)
