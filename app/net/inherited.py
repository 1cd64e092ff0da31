"""Listening sockets that whoever started us has opened, as systemd does (sd_listen_fds(3)).

They outlive the process: while it is restarted, who connects waits in the backlog and is served by
the next one, where the port would refuse.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from typing import Final

FIRST_FD: Final = 3
_TCP: Final = (socket.AF_INET, socket.AF_INET6)


class NotInherited(Exception):
    """What was handed over is not what can be listened on; says what it is."""


def inherited_sockets(environment: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets handed over to the process `pid`; none if the variables are not there or meant
    for another. The variables are taken out, so that no child takes them for its own.

    Raises `NotInherited`.
    """
    wanted, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if wanted != str(pid) or not count:
        return []
    if not count.isdecimal():
        raise NotInherited(f"LISTEN_FDS must be a number, not {count!r}")
    return [_checked(fd) for fd in range(FIRST_FD, FIRST_FD + int(count))]


def _checked(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise NotInherited(f"file descriptor {fd} is no socket: {error.strerror}") from error
    if sock.family not in _TCP or sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise NotInherited(f"file descriptor {fd} is no TCP socket (ListenStream=PORT)")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise NotInherited(f"file descriptor {fd} does not listen (Accept=no)")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
