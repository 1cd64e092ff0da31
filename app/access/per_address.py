"""How much one address may take: half of the places, so that it cannot take them all.

A number that the operator gives holds for every address but trusted proxies. The half is meant
against strangers, so this machine itself is without a bound then: a proxy, a test or a tool here
has the right to everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from triode.limits.address import Share

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.limits.address import Networks


class Shares:
    """The share of one address in clients, heads and HTTP connections."""

    def __init__(self, settings: Settings, trusted: Networks) -> None:
        self.clients = Share(0, trusted)
        self.heads = Share(0, trusted)
        self.http = Share(0, trusted)
        self.set_bounds(settings)

    def set_bounds(self, settings: Settings) -> None:
        """Take the bounds over; also while running, for those who come."""
        _set(self.clients, settings.max_clients_per_ip, settings.max_clients)
        _set(self.heads, settings.max_heads_per_ip, settings.max_heads)
        _set(self.http, settings.max_http_per_ip, settings.max_http)


def _set(share: Share, said: int | None, places: int) -> None:
    share.here = said is not None
    share.bound = max(1, places // 2) if said is None else said
