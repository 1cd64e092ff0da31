"""Whether to come back after the end of a connection, and when. No clock, no network."""

from __future__ import annotations

from typing import Final

from .backoff import Backoff
from .connection import Hangup, read_retry_s
from .errors import CannotConnect, Ended, Refused
from .options import Options

TOKEN_ENDED: Final = 4401
# Close codes that say: do not come back unchanged.
FINAL_CODES: Final = range(4400, 4500)

End = Hangup | CannotConnect | Refused


class Plan:
    """What one client has been through, and what that means for the next attempt."""

    def __init__(self, options: Options, *, can_renew: bool) -> None:
        self.was_connected = False
        # The server has said so before it ended the connection.
        self.told_s: float | None = None
        self._options = options
        # The program can be asked for another token.
        self._can_renew = can_renew
        # The token was refused, and a new one has not been accepted since.
        self._is_refused = False
        self._attempts = 0
        self._backoff = Backoff(options.delay_s, options.max_delay_s, options.jitter)

    def connected(self) -> None:
        """It worked."""
        self._backoff.reset()
        self._is_refused = False
        self.was_connected = True

    def wants_token(self, end: End) -> bool:
        """Whether this end asks for another token: once, until one is accepted."""
        is_the_token = (isinstance(end, Hangup) and end.code == TOKEN_ENDED) or (
            isinstance(end, Refused) and end.status == 401
        )
        wants = is_the_token and self._can_renew and not self._is_refused
        self._is_refused = self._is_refused or wants
        return wants

    def delay_s(self, end: End, *, has_token: bool = True) -> float:
        """How long to wait after an end; without a token it is no reason to give up. Raises when it
        is of no use to come back.
        """
        self._attempts += 1
        if has_token:
            self._check_final(end)
        if not self.was_connected and self._attempts == self._options.attempts:
            if isinstance(end, Hangup):
                raise CannotConnect(str(end)) from end
            raise end
        return self._asked_delay_s(end) or self._backoff.next_s()

    def _check_final(self, end: End) -> None:
        if isinstance(end, Hangup) and end.code in FINAL_CODES:
            raise Ended(end.code, end.reason) from end
        if (
            isinstance(end, Refused)
            and not end.is_temporary
            # A proxy whose server is away says all kinds of things; that it is one is known from
            # the connection there was.
            and (end.is_triodes or not self.was_connected)
        ):
            raise end

    def _asked_delay_s(self, end: End) -> float | None:
        """The delay that the server asks of us: it has spread its clients itself."""
        told, self.told_s = self.told_s, None
        if isinstance(end, Refused):
            return read_retry_s(1000 * (end.retry_after_s or 0))
        if isinstance(end, Hangup) and end.retry_s is not None:
            return end.retry_s
        return told
