"""Listening sockets that whoever started us has opened: systemd (sd_listen_fds(3)), or whoever
says `--fd`.

They outlive the process: while it is restarted, who connects waits in the backlog and is served by
the next one, where the port would refuse.
"""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from typing import Final

FIRST_FD: Final = 3
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class CannotListen(Exception):
    """What we were told to listen on cannot be listened on; a sentence that says why."""


def inherited_sockets(environment: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets handed over to the process `pid`; none if the variables are not there or meant
    for another. The variables are taken out, so that no child takes them for its own.

    Raises `CannotListen`.
    """
    wanted, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if wanted != str(pid) or not count:
        return []
    if not count.isdecimal():
        raise CannotListen(f"LISTEN_FDS must be a number, not {count!r}")
    return [inherited_socket(fd) for fd in range(FIRST_FD, FIRST_FD + int(count))]


def inherited_socket(fd: int) -> socket.socket:
    """The listening socket with this number. Raises `CannotListen`."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise CannotListen(f"file descriptor {fd} is no socket: {error.strerror}") from error
    if sock.family not in _FAMILIES or sock.type != socket.SOCK_STREAM:
        sock.detach()
        raise CannotListen(f"file descriptor {fd} is no socket of TCP or Unix streams")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise CannotListen(f"file descriptor {fd} does not listen (systemd: Accept=no)")
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
