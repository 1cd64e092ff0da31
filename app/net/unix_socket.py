"""A Unix socket to listen on: a file, whose mode says who may connect."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from triode.app.net.inherited import CannotListen

# What a process may do on its way from `connect` to an answer of the kernel.
LOOK_S: Final = 1.0


class UnixListener:
    """Listens at `path`. `forget` takes the file away, if it is still ours.

    A file that another server has left behind is replaced; one at which somebody listens, and one
    that is no socket, is left alone. Raises `CannotListen`.
    """

    def __init__(self, path: Path, mode: int, *, backlog: int) -> None:
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_stale(path)
            self.sock.bind(str(path))
            # Nobody can connect before `listen`, so nobody slips in by a mode that is too wide.
            path.chmod(mode)
            self.sock.listen(backlog)
            self.sock.setblocking(False)
            self._inode = path.lstat().st_ino
        except OSError as error:
            self.sock.close()
            raise CannotListen(f"cannot listen at {path}: {_reason(error)}") from error
        except BaseException:
            self.sock.close()
            raise

    def forget(self) -> None:
        """Take the file away, unless it is another's by now."""
        with suppress(OSError):
            if self.path.lstat().st_ino == self._inode:
                self.path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens at. Raises `CannotListen`, and OSError."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise CannotListen(f"cannot listen at {path}: it is there, and no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(LOOK_S)
        found = probe.connect_ex(str(path))
    if found != errno.ECONNREFUSED:
        said = "something listens there" if not found else os.strerror(found)
        raise CannotListen(f"cannot listen at {path}: {said}")
    path.unlink()


def _reason(error: OSError) -> str:
    # Python's own complaint about a path of more than about a hundred bytes has no number.
    return error.strerror or str(error)
