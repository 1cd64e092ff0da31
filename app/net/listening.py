"""Where the server listens. The first of these that is given:

LISTEN_FDS      sockets that systemd has opened
--fd N          a socket that whoever started us has opened
--unix PATH     a Unix socket
--host --port   TCP
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from triode.app.net.inherited import CannotListen, inherited_socket, inherited_sockets
from triode.app.net.listener import listen_options, open_sockets
from triode.app.net.unix_socket import UnixListener

if TYPE_CHECKING:
    from triode.app.config.settings import Settings


def open_listeners(
    settings: Settings, held: ExitStack, *, shares_port: bool = False
) -> list[socket.socket]:
    """The listening sockets, non-blocking; `shares_port`: with other processes. At its end `held`
    closes them, and takes away the file of a Unix socket of our own.

    Raises `CannotListen`, and OSError for an address that cannot be bound.
    """
    sockets = inherited_sockets(os.environ, os.getpid())
    if not sockets and settings.fd is not None:
        sockets = [inherited_socket(settings.fd)]
    if sockets:
        for sock in sockets:
            held.enter_context(sock)
            _adopt(sock, settings)
        return sockets
    if settings.unix is not None:
        listener = UnixListener(settings.unix, int(settings.unix_mode, 8), backlog=settings.backlog)
        held.callback(listener.forget)
        return [held.enter_context(listener.sock)]
    sockets = open_sockets(
        settings.host,
        settings.port,
        backlog=settings.backlog,
        send_buffer_bytes=settings.send_buffer_bytes or None,
        shares_port=shares_port,
    )
    return [held.enter_context(sock) for sock in sockets]


def _adopt(sock: socket.socket, settings: Settings) -> None:
    if sock.family == socket.AF_UNIX:
        return
    host = sock.getsockname()[0]
    if not (settings.auth or settings.insecure or ip_address(host).is_loopback):
        raise CannotListen(f"{host} is open to others: set admin_token or jwt_key, or insecure")
    for one in listen_options(send_buffer_bytes=settings.send_buffer_bytes or None):
        sock.setsockopt(*one)


def place_of(addresses: list[Any]) -> str:
    """Where that is, for people: `HOST:PORT`, or a path. All addresses are the machine's name."""
    first = addresses[0]
    if not isinstance(first, tuple):
        return os.fsdecode(first)
    host = str(first[0])
    if ip_address(host.partition("%")[0]).is_unspecified:
        host = socket.gethostname()
    return f"[{host}]:{first[1]}" if ":" in host else f"{host}:{first[1]}"
