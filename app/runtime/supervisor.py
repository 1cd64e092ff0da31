"""What a supervisor such as systemd is told: that we start, serve, read the configuration anew,
end, and that the event loop goes round. Without one, nothing (sd_notify(3)).
"""

from __future__ import annotations

import os
import socket
import time
from typing import Final

import trio

_MICRO: Final = 1_000_000


def tell(*lines: str) -> None:
    """Say lines such as `READY=1` to the socket that `NOTIFY_SOCKET` names. Never waits; a
    supervisor that does not listen is none.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # of the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.sendto("\n".join(lines).encode(), address)
        except OSError:
            return


def starting(words: str, more_s: float) -> None:
    """The start goes on, and may take so much longer."""
    tell(f"STATUS=starting: {words}", f"EXTEND_TIMEOUT_USEC={round(more_s * _MICRO)}")


def serving() -> None:
    """Whoever connects now is served. Also the end of `reloading`."""
    tell("READY=1", "STATUS=serving")


def reloading() -> None:
    """The configuration is being read anew."""
    tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def ending() -> None:
    """No more clients are taken."""
    tell("STOPPING=1", "STATUS=draining")


async def keep_awake() -> None:
    """Tell the watchdog that the event loop goes round, until cancelled. Ends at once where there
    is none.
    """
    every_s = _watchdog_s() / 2
    while every_s:
        tell("WATCHDOG=1")
        await trio.sleep(every_s)
    await trio.lowlevel.checkpoint()


def _watchdog_s() -> float:
    """After so long a silence we are ended; 0: never."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID") or str(os.getpid())
    return int(usec) / _MICRO if usec.isdecimal() and pid == str(os.getpid()) else 0.0
