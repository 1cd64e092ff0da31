"""`triode serve --workers N`: N processes that share a port and a log, looked after by this one.

    start    all at once; it has started when all accept
    death    started again, after a pause that grows while it goes on dying
    SIGHUP   passed on
    SIGTERM  passed on; ended when all have ended. A second one ends them at once.

A worker that ends before all have started ends the start: the configuration is wrong, and trying
again would not help.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from triode.app.net.inherited import CannotListen
from triode.app.net.listener import open_sockets
from triode.app.runtime import supervisor
from triode.app.runtime.signals import hangups_held_back, hangups_let_through
from triode.app.runtime.worker import Worker, deaths_file

if TYPE_CHECKING:
    from triode.app.config.settings import Settings

log = logging.getLogger("triode")

# Between a death and the next start; after a life of `STEADY_S` it is the first again.
PAUSES_S: Final = (0.2, 30.0)
STEADY_S: Final = 60.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# What systemd tells its own process alone.
_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Workers:
    """All of one port."""

    def __init__(
        self, settings: Settings, announce: Callable[[list[Any]], None], command: list[str]
    ) -> None:
        """`command` runs one of them; it finds out by itself which."""
        self._settings = settings
        self._announce = announce
        self._command = command
        self._count = settings.workers
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._ready: set[int] = set()
        self._has_started = False
        self._end = trio.Event()
        self._status = 0
        self._deaths = 0

    async def run(self) -> int:
        """Until told to stop, or until the start fails; the exit status. Raises OSError and
        `CannotListen` where nothing can be listened on.
        """
        if "LISTEN_FDS" in os.environ:
            raise CannotListen("workers open their own port: leave the socket of systemd out")
        with ExitStack() as held:
            self._sockets = _reserved(self._settings, held)
            self._port = self._sockets[0].getsockname()[1]
            self._folder = held.enter_context(tempfile.TemporaryDirectory(prefix="triode-"))
            self._alive, self._held = os.pipe()
            held.callback(os.close, self._alive)
            held.callback(os.close, self._held)
            held.enter_context(hangups_held_back())
            signals = held.enter_context(trio.open_signal_receiver(*_SIGNALS))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._obey, signals)
                nursery.start_soon(supervisor.keep_awake)
                async with trio.open_nursery() as each:
                    for number in range(1, self._count + 1):
                        each.start_soon(self._keep, number)
                nursery.cancel_scope.cancel()
        return self._status

    async def _obey(self, signals: Any) -> None:
        with hangups_let_through():
            async for number in signals:
                if number == signal.SIGHUP:
                    supervisor.reloading()
                    self._send(signal.SIGHUP)
                    supervisor.serving()
                    continue
                if not self._end.is_set():
                    log.info("%s: draining %d workers", signal.Signals(number).name, self._count)
                    supervisor.ending()
                self._end.set()
                self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(number)

    async def _keep(self, number: int) -> None:
        """One of them: started, and started again."""
        pause_s = PAUSES_S[0]
        while not self._end.is_set():
            began = trio.current_time()
            try:
                status = await self._live(number)
            except OSError as error:
                # No process could be made. The others serve; it is tried again.
                if not self._has_started:
                    raise
                log.error("worker #%d cannot be started: %s", number, error)
                status = 1
            if self._end.is_set():
                self._status = self._status or max(status, 0)
                return
            if not self._has_started:
                self._give_up(status)
                return
            if trio.current_time() - began > STEADY_S:
                pause_s = PAUSES_S[0]
            self._count_death(number, status, pause_s)
            with trio.move_on_after(pause_s):
                await self._end.wait()
            pause_s = min(2 * pause_s, PAUSES_S[1])

    async def _live(self, number: int) -> int:
        """Run it; its status, which is minus the signal that ended it."""
        process, reads = self._start(number)
        self._processes[number] = process
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, number, reads)
            # A limit of its own: by Trio's default the 41st would not be waited for.
            status = await trio.to_thread.run_sync(
                process.wait, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
            )
            nursery.cancel_scope.cancel()
        return status

    def _start(self, number: int) -> tuple[subprocess.Popen[bytes], int]:
        """A process, and what it says that it is ready with."""
        reads, ready = os.pipe()
        worker = Worker(number, self._count, self._port, self._folder, self._alive, ready)
        environment = {k: v for k, v in os.environ.items() if k not in _OURS} | worker.told()
        try:
            with hangups_held_back():
                process = subprocess.Popen(  # noqa: S603 # this program again
                    self._command,
                    env=environment,
                    pass_fds=(self._alive, ready),
                    # An interrupt at the terminal is for this process, which passes it on.
                    process_group=0,
                )
        except BaseException:
            os.close(reads)
            raise
        finally:
            os.close(ready)
        return process, reads

    async def _hear(self, number: int, reads: int) -> None:
        """Until it is ready, or gone."""
        try:
            await trio.lowlevel.wait_readable(reads)
            is_ready = bool(os.read(reads, 1))
        finally:
            os.close(reads)
        if not is_ready:
            return
        self._ready.add(number)
        if self._has_started:
            log.info("worker #%d is back", number)
        elif len(self._ready) == self._count:
            self._has_started = True
            self._announce([sock.getsockname() for sock in self._sockets])
            supervisor.serving()

    def _give_up(self, status: int) -> None:
        """It has said why."""
        self._status = status if status > 0 else 1
        self._end.set()
        self._send(signal.SIGTERM)

    def _count_death(self, number: int, status: int, pause_s: float) -> None:
        self._deaths += 1
        with suppress(OSError):
            deaths_file(self._folder).write_text(str(self._deaths))
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        log.error("worker #%d ended %s; it is started again in %.1f s", number, how, pause_s)


def _reserved(settings: Settings, held: ExitStack) -> list[socket.socket]:
    """Sockets that hold the port without listening on it. Raises OSError when it is another's:
    sharing it, the workers would not notice.
    """
    bind = partial(open_sockets, settings.host, is_listening=False)
    free = bind(settings.port)
    port = free[0].getsockname()[1]
    for sock in free:
        sock.close()
    return [held.enter_context(sock) for sock in bind(port, shares_port=True)]


def command_here() -> list[str]:
    """What runs one: this program again, with the same words."""
    return [sys.executable, "-m", "triode", *sys.argv[1:]]
