"""SIGHUP: what stands in files of its own is read anew, without an end. All of it, or nothing."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence

import trio

log = logging.getLogger("triode")

# Reads and checks; gives what puts it in force, which cannot fail any more. Raises ValueError or
# OSError with what is wrong.
Read = Callable[[], Callable[[], None]]


async def on_hangup(reads: Sequence[Read]) -> None:
    """Reload at each signal, until cancelled."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            reload(reads)


def reload(reads: Sequence[Read]) -> bool:
    """Read all, then put all in force. Whether that was done; the log says why not."""
    try:
        puts = [read() for read in reads]
    except (ValueError, OSError) as error:
        log.error("SIGHUP: everything stays as it was: %s", error)
        return False
    for put in puts:
        put()
    log.info("SIGHUP: certificate and JWT keys are read anew")
    return True
