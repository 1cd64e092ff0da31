"""The signals of a server's process, from its first moment to its last: none is lost, and none ends
it before it can end in order.

SIGHUP is *held back* by the kernel while nobody can act on it: one that came meanwhile is delivered
when somebody can.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import trio

log = logging.getLogger("triode")

HANGUP = (signal.SIGHUP,)


@contextmanager
def hangups_held_back() -> Iterator[None]:
    """In the block SIGHUP waits; for the main thread, and threads that begin there."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANGUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def hangups_let_through() -> Iterator[None]:
    """In the block of `hangups_held_back`: in this one SIGHUP is delivered, also one that waits."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, HANGUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class EndSignal:
    """SIGTERM or SIGINT, whichever comes first, kept from when this is entered. A second one ends
    the process at once, as after the block.
    """

    def __init__(self) -> None:
        self._held = ExitStack()

    def __enter__(self) -> EndSignal:
        receiver = trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT)
        self._signals = self._held.enter_context(receiver)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._held.close()

    async def wait(self) -> str:
        """Wait for it; its name. Once. Cancelled, nothing is lost."""
        number = await anext(self._signals)
        self._held.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return signal.Signals(number).name
