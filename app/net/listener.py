"""The port: listening sockets, and the accept loop.

The listener knows nothing of HTTP: it starts `connect(sock, address)` (see
`app/net/dispatcher.py`) for
each connection, in a nursery of the caller's. It accepts many per wake-up but lets others run after
a bounded number, and no error of `accept` ends it unless the listening socket itself is broken.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio

logger = logging.getLogger("triode.listener")

Accept = Callable[[socket.socket], tuple[socket.socket, Any]]
MakeRoom = Callable[[], bool]
Hold = Callable[[], Awaitable[None]]
Connect = Callable[[socket.socket, Any], Awaitable[None]]

# What Trio calls the task of a connection.
CONNECTION: Final = "triode.connection"
ACCEPTS_PER_TURN: Final = 16
ACCEPT_PAUSE_S: Final = 0.1
LOG_EVERY_S: Final = 10.0
# Without a bound Linux takes up to 4 MB (net.ipv4.tcp_wmem) from us for a client that has stopped
# reading: seconds until we notice, and gigabytes of the kernel's memory for a thousand of them. It
# bounds what waits to be sent, not what is on its way: a long fat line is as fast as without.
UNSENT_BYTES: Final = 256 * 1024
_BROKEN_LISTENER: Final = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT)
# accept(2): an aborted connection, and network errors of the new one, say nothing about the next.
_ONLY_THIS_ONE: Final = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM)
_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE)


@dataclass(slots=True)
class ListenerCounts:
    """Counted since the start, except `open`: connections that are there now."""

    open: int = 0
    accepted: int = 0
    accept_errors: int = 0
    turned_away: int = 0
    refused_heads: int = 0
    late_heads: int = 0
    late_handshakes: int = 0
    silent: int = 0
    idle_closed: int = 0
    native: int = 0
    handed_off: int = 0
    given_back: int = 0
    broken: int = 0
    failed: int = 0


# Sockets


def open_sockets(
    host: str,
    port: int,
    *,
    backlog: int = 65535,
    send_buffer_bytes: int | None = None,
    receive_buffer_bytes: int | None = None,
    user_timeout_s: float | None = 60.0,
    shares_port: bool = False,
    is_listening: bool = True,
) -> list[socket.socket]:
    """Listening non-blocking sockets for `host`: all its addresses, or both families when it is ""
    or "::".

    A socket takes no more than `UNSENT_BYTES` beyond what is on its way to the peer. Port 0 takes a
    free one, the same for all. Options are set on the listener, and accepted sockets
    inherit them (Linux): a call less for each. The kernel cuts `backlog` to net.core.somaxconn.
    `shares_port`: with other processes that say so, too; the kernel spreads connections over those
    that listen. Not `is_listening`: the port is taken, and refuses. Raises OSError.
    """
    options = listen_options(
        send_buffer_bytes=send_buffer_bytes,
        receive_buffer_bytes=receive_buffer_bytes,
        user_timeout_s=user_timeout_s,
    )
    if shares_port:
        options.append((socket.SOL_SOCKET, socket.SO_REUSEPORT, 1))
    if not is_listening:
        backlog = -1
    opened: list[socket.socket] = []
    try:
        for family, address in _addresses(host, port):
            if not port and opened:
                address = (address[0], opened[0].getsockname()[1], *address[2:])
            opened.append(
                _listen(family, address, options, both=host in ("", "::"), backlog=backlog)
            )
    except BaseException:
        for sock in opened:
            sock.close()
        raise
    return opened


def listen_options(
    *,
    send_buffer_bytes: int | None = None,
    receive_buffer_bytes: int | None = None,
    user_timeout_s: float | None = 60.0,
) -> list[tuple[int, int, int]]:
    """What to set on a listening socket, for those it accepts."""
    options: list[tuple[int, int, int]] = [
        (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    ]
    if send_buffer_bytes:
        options.append((socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes))
    if receive_buffer_bytes:
        options.append((socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes))
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES))
    if user_timeout_s and hasattr(socket, "TCP_USER_TIMEOUT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(user_timeout_s * 1000)))
    return options


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    if host in ("", "::"):
        if socket.has_dualstack_ipv6():
            return [(socket.AF_INET6, ("::", port, 0, 0))]
        return [(socket.AF_INET, ("0.0.0.0", port))]  # asked for: every address
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listen(
    family: socket.AddressFamily,
    address: Any,
    options: Iterable[tuple[int, int, int]],
    *,
    both: bool,
    backlog: int,
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            sock.setsockopt(*option)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        sock.bind(address)
        if backlog >= 0:
            sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


# Accepting


def _no_room() -> bool:
    return False


async def serve(
    listen_socks: Sequence[socket.socket],
    *,
    connect: Connect,
    nursery: trio.Nursery,
    counts: ListenerCounts | None = None,
    accept: Accept = socket.socket.accept,
    make_room: MakeRoom = _no_room,
    hold: Hold = trio.lowlevel.checkpoint,
    task_status: trio.TaskStatus[list[Any]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept on `listen_socks` until cancelled; each connection is `connect(sock, address)` in
    `nursery`.

    `make_room` is called when no more files may be open: it closes a connection that nobody would
    miss, and says whether there was one. Without one, accepting waits. `hold` is waited for before
    each turn of accepting.

    Starts with the sockets' addresses. Closes the listening sockets at the end; connections go on,
    they are the nursery's. Raises OSError, in a group, only when a listening socket is broken.
    """
    counts = ListenerCounts() if counts is None else counts
    try:
        # Holds one accept loop per socket; ends when cancelled.
        async with trio.open_nursery() as loops:
            for sock in listen_socks:
                loops.start_soon(
                    _accept_loop, sock, connect, nursery, counts, accept, make_room, hold
                )
            task_status.started([sock.getsockname() for sock in listen_socks])
    finally:
        for sock in listen_socks:
            trio.lowlevel.notify_closing(sock)
            sock.close()


async def _accept_loop(
    listener: socket.socket,
    connect: Connect,
    nursery: trio.Nursery,
    counts: ListenerCounts,
    accept: Accept,
    make_room: MakeRoom,
    hold: Hold,
) -> None:
    last_logged = -LOG_EVERY_S
    while True:
        await trio.lowlevel.wait_readable(listener)
        await hold()
        error = _accept_turn(listener, connect, nursery, counts, accept, make_room)
        if error is None:
            continue
        if trio.current_time() - last_logged >= LOG_EVERY_S:
            last_logged = trio.current_time()
            logger.warning("cannot accept (%d times so far): %s", counts.accept_errors, error)
        # Out of descriptors or memory: the socket stays readable, so without a pause this would
        # spin.
        await trio.sleep(ACCEPT_PAUSE_S)


def _accept_turn(
    listener: socket.socket,
    connect: Connect,
    nursery: trio.Nursery,
    counts: ListenerCounts,
    accept: Accept,
    make_room: MakeRoom,
) -> OSError | None:
    """Accept what is waiting, a bounded number. The error after which to pause, if any."""
    made_room = False
    for _ in range(ACCEPTS_PER_TURN):
        try:
            sock, address = accept(listener)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as exc:
            if exc.errno in _BROKEN_LISTENER:
                raise
            counts.accept_errors += 1
            if exc.errno in _ONLY_THIS_ONE:
                continue
            # Room that did not help is not made again: others would lose their connections for it.
            if exc.errno not in _NO_DESCRIPTOR or made_room or not make_room():
                return exc
            made_room = True
        else:
            made_room = False
            sock.setblocking(False)
            counts.accepted += 1
            # A name of its own, or Trio makes one for each.
            nursery.start_soon(connect, sock, address, name=CONNECTION)
    return None
