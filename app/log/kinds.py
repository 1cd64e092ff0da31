"""The kinds of log, and which of them the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triode.app.log.log import LogRefused
from triode.app.log.sqlite import SqliteLog

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.app.log.log import Log


def log_of(settings: Settings) -> Log | None:
    """None: the document is kept in memory. Raises `LogRefused` if a library is missing."""
    if settings.log is not None:
        try:
            # Only who shares a log has its parser.
            from triode.app.log.shared.valkey import ValkeyLog
        except ImportError as error:
            raise LogRefused("--log needs hiredis: pip install 'triode[cluster]'") from error
        # Sooner than a disk would be given up: what was not sent has surely not been written.
        return ValkeyLog(settings.log, patience_s=0.8 * settings.log_deadline_s)
    if settings.data is not None:
        return SqliteLog(settings.data, is_synced=settings.durability == "full")
    return None
