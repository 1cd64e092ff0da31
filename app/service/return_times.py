"""When clients that are sent away come back: each is told a time of its own.

Two things are spread. All clients together, so that a server that has just started is not overrun;
and those that one rate counts together (of one token, or all behind one address), so that this rate
lets every one of them in: nobody is told to come back and then refused for it.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Final

from triode.limits.address import ip_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.app.config.settings import Settings
    from triode.app.delivery.subscriber import Client

# Time for the next server to be there.
RETRY_MIN_MS: Final = 500
WINDOW_MIN_MS: Final = 1000
# Of a rate, for coming back; the rest is for what pages ask beside that.
RATE_SHARE: Final = 0.75


class ReturnTimes:
    """The times of all clients that are sent away together.

    Those of one key have a window of their own. Each comes at random inside its own part of it: by
    chance alone too many could come at one moment.
    """

    def __init__(self, settings: Settings, clients: Sequence[Client]) -> None:
        rate = settings.http_rate
        self._window_ms = max(float(WINDOW_MIN_MS), len(clients) * settings.retry_spread_s * 1000)
        self._each_ms = 0.0 if rate is None else 1000 / (rate.rps * RATE_SHARE)
        self._of_key = Counter(map(_rate_key, clients))
        self._left = self._of_key.copy()

    def next_ms(self, client: Client) -> int:
        """The milliseconds after which this client is to come back. Once for each."""
        key = _rate_key(client)
        count = self._of_key[key]
        self._left[key] -= 1
        part = (self._left[key] + random.random()) / count
        return RETRY_MIN_MS + round(part * max(self._window_ms, count * self._each_ms))


def _rate_key(client: Client) -> str:
    return client.principal.key or ip_key(client.ip)
