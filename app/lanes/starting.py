"""While a long log is read: the port answers that the server starts, and how far it is.

A start that is short is waited for, in the backlog: whoever connects then is served, as if there
had been no restart. After that all are told to come back, each in a way that its kind of client
survives, and an orchestrator sees that something goes on.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from triode.app.lanes.native import refused
from triode.app.net.dispatcher import Dispatcher, ListenerLimits
from triode.app.net.listener import serve as accept_on
from triode.app.runtime import supervisor
from triode.app.wire.refusal import Refusal

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    from triode.app.net.connection import Connection
    from triode.app.net.request_head import Head
    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

PATIENCE_S: Final = 1.0
LOGGED_EVERY_S: Final = 5.0
# Time that a supervisor is asked for each time: it ends a start that says nothing for so long.
MORE_S: Final = 6 * LOGGED_EVERY_S
# Of those who are told to come back.
SOONEST_S: Final = 1
LATEST_S: Final = 30
# For those who are being told when the start is done.
FINISH_S: Final = 1.0


async def start(
    triode: Triode,
    sockets: list[socket.socket],
    context: ssl.SSLContext | None,
    begin: Callable[[], Awaitable[None]],
) -> None:
    """Do `begin`, and answer those who come meanwhile; the `context` is for them alone. Raises what
    `begin` raises.
    """
    fault: Exception | None = None
    since = trio.current_time()
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as waiting:
            waiting.start_soon(_answer, triode, sockets, context, since, connections)
            waiting.start_soon(_tell, triode)
            try:
                await begin()
            except Exception as error:  # not in a group: it is the answer to who called us
                fault = error
            waiting.cancel_scope.cancel()
        connections.cancel_scope.deadline = trio.current_time() + FINISH_S
    if fault is not None:
        raise fault


async def _tell(triode: Triode) -> None:
    while True:
        await trio.sleep(LOGGED_EVERY_S)
        words = f"{triode.progress.phase}, {triode.progress.percent} %"
        log.info("starting: %s", words)
        supervisor.starting(words, MORE_S)


async def _answer(
    triode: Triode,
    sockets: list[socket.socket],
    context: ssl.SSLContext | None,
    since: float,
    connections: trio.Nursery,
) -> None:
    await trio.sleep(PATIENCE_S)
    settings, gate = triode.settings, triode.gate
    if context is not None:
        context.set_alpn_protocols(["http/1.1"])

    async def closed(connection: Connection, _opaque: bool) -> bool:
        connection.close()  # HTTP/2 without TLS, which understands no answer of ours
        return False

    dispatcher = Dispatcher(
        wants=lambda _: True,
        native=partial(_tell_one, triode, since),
        handoff=closed,
        places=gate.admission,
        heads=gate.shares.heads,
        http=gate.shares.http,
        limits=ListenerLimits(
            head_deadline_s=settings.head_deadline_s, max_head_bytes=settings.max_head_bytes
        ),
        counts=triode.metrics.listener,
        ssl_context=context,
    )
    with ExitStack() as held:
        copies = [held.enter_context(sock.dup()) for sock in sockets]
        await accept_on(
            copies,
            connect=dispatcher.connect,
            nursery=connections,
            counts=triode.metrics.listener,
            hold=dispatcher.door.wait_for_room,
        )


async def _tell_one(triode: Triode, since: float, connection: Connection, head: Head) -> None:
    data = _alive() if head.path == "/healthz" else refused(triode, head, still(triode, since))
    await connection.send_all(data, triode.settings.write_deadline_s)


def _alive() -> bytes:
    """To a probe of liveness: a restart would not help."""
    date = formatdate(usegmt=True)
    fields = f"Date: {date}\r\nContent-Type: text/plain\r\nContent-Length: 9\r\nConnection: close"
    return f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\nstarting\n".encode()


def still(triode: Triode, since: float) -> Refusal:
    """503 with how far the start is, and when it will be worth coming back."""
    progress = triode.progress
    done, total = progress.done, progress.total
    took_s = trio.current_time() - since
    left_s = took_s * (total - done) / done if done else took_s
    retry_s = max(SOONEST_S, min(LATEST_S, round(left_s)))
    return Refusal(
        503,
        f"the server is starting ({progress.phase}, {progress.percent} %); retry in {retry_s} s",
        title="Starting",
        extra={"booting": progress.as_json(), "retry_after": retry_s},
        headers={"Retry-After": str(retry_s)},
        close=1012,
    )
