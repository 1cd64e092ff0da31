"""SIGHUP: the configuration and what stands in files of its own are read anew, without an end. All
of it holds from then on, or nothing. Outside of `Reload.on_hangup` the signal is held back.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from triode.app.config.live import change
from triode.app.runtime import supervisor
from triode.app.runtime.signals import hangups_let_through
from triode.app.service.holdings import set_bounds

if TYPE_CHECKING:
    from triode.app.config.live import Change
    from triode.app.config.settings import Settings
    from triode.app.service.triode import Triode

log = logging.getLogger("triode")

# Reads and checks for changed settings; gives what puts them in force, which cannot fail any more.
# Raises ValueError or OSError with what is wrong.
Read = Callable[["Settings"], Callable[[], None]]


class Reload:
    """What one server reads anew. `reread` reads all layers of the configuration as at the start;
    None: it was given by code, and stays. Append to `reads` what has to read more.
    """

    def __init__(self, triode: Triode, reread: Callable[[], Settings] | None = None) -> None:
        self._triode = triode
        self._reread = reread
        self.reads: list[Read] = [triode.gate.read, self._take_over]

    async def on_hangup(self) -> None:
        """Reload at each signal, until cancelled."""
        with trio.open_signal_receiver(signal.SIGHUP) as signals, hangups_let_through():
            async for _ in signals:
                supervisor.reloading()
                self.reload()
                supervisor.serving()

    def reload(self) -> bool:
        """Read all, then put all in force. Whether that was done; the log says what, or why not."""
        now = self._triode.settings
        try:
            changed = change(now, now if self._reread is None else self._reread())
            puts = [read(changed.settings) for read in self.reads]
        except (ValueError, OSError) as error:
            reason = "; ".join(str(error).splitlines())
            log.error("SIGHUP: everything stays as it was: %s", reason)
            return False
        for put in puts:
            put()
        log.info("SIGHUP: %s", _in_words(changed))
        return True

    def _take_over(self, settings: Settings) -> Callable[[], None]:
        triode = self._triode

        def put() -> None:
            if settings.debug != triode.settings.debug:
                set_log_level(settings)
            triode.settings = triode.hub.settings = settings
            set_bounds(triode.ledger, settings)

        return put


def set_log_level(settings: Settings) -> None:
    """Log what the settings ask for."""
    log.setLevel(logging.DEBUG if settings.debug else logging.INFO)


def _in_words(changed: Change) -> str:
    parts = ["certificate and JWT keys are read anew", *changed.done]
    if changed.waits:
        parts.append(f"a restart is needed for {', '.join(changed.waits)}")
    return "; ".join(parts)
