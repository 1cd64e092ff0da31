"""When clients that are sent away come back: each is told a time of its own, so that nobody is
overrun.

A server that ends leaves native `EventSource`s the time of a restart first: of another origin, or
behind a proxy that answers 502, they do not survive a port that is shut. All other clients try
again until it is there, so they are told to come sooner. Its successor does not charge event
streams that come back (`limits/returning.py`). All others are charged: those whom one rate counts
together (of one token, or all behind one address) are spread so that it lets every one of them in.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from triode.limits.address import ip_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from triode.app.config.settings import Settings
    from triode.app.delivery.subscriber import Client

WINDOW_MIN_MS: Final = 1000
# Until those come after a restart who may find the port shut.
SOON_S: Final = 3.0
# Until those come who are sent away by a server that goes on.
AT_ONCE_MS: Final = 500
# Of a rate, for coming back; the rest is for what pages ask beside that.
RATE_SHARE: Final = 0.75
# Who found the port shut tries again after its own time.
LATE_S: Final = 10.0


class _Key(NamedTuple):
    """Those who are spread together: whom one rate counts, and whether it charges them."""

    rate_key: str
    is_charged: bool


class ReturnTimes:
    """The times of all clients that are sent away together. `restart`: the server ends.

    Each comes at random inside its own part of the window of its key: by chance alone too many
    could come at one moment.
    """

    def __init__(
        self, settings: Settings, clients: Sequence[Client], *, restart: bool = False
    ) -> None:
        rate = settings.http_rate
        self._restart = restart
        self._retry_min_s = settings.retry_min_s
        self._window_ms = _window_s(settings, len(clients)) * 1000
        self._each_ms = 0.0 if rate is None else 1000 / (rate.rps * RATE_SHARE)
        self._of_key = Counter(map(self._key, clients))
        self._left = self._of_key.copy()

    def next_ms(self, client: Client) -> int:
        """The milliseconds after which this client is to come back. Once for each."""
        key = self._key(client)
        count = self._of_key[key]
        self._left[key] -= 1
        part = (self._left[key] + random.random()) / count
        charged_ms = count * self._each_ms if key.is_charged else 0.0
        return round(self._first_ms(client) + part * max(self._window_ms, charged_ms))

    def _first_ms(self, client: Client) -> float:
        if not self._restart:
            return AT_ONCE_MS
        survives_s = self._retry_min_s if client.is_browser_stream else SOON_S
        return min(survives_s, self._retry_min_s) * 1000

    def _key(self, client: Client) -> _Key:
        # Who comes back to a new server with a position is not charged.
        is_free = self._restart and client.kind == "sse" and client.subscriptions
        return _Key(client.principal.key or ip_key(client.ip), not is_free)


def longest_absence_s(settings: Settings) -> float:
    """How long after a start clients of the server before may be coming."""
    return settings.retry_min_s + _window_s(settings, settings.max_clients) + LATE_S


def _window_s(settings: Settings, clients: int) -> float:
    return max(WINDOW_MIN_MS / 1000, clients * settings.retry_spread_s)
