"""How much one address may take: half of the places, so that it cannot take them all.

A number that the operator gives holds for every address but trusted proxies. The half is meant
against strangers, so this machine itself is without a bound then: a proxy, a test or a tool here
has the right to everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from triode.limits.share import Share

if TYPE_CHECKING:
    from triode.app.config.settings import Settings
    from triode.limits.address import Networks


class Shares:
    """The share of one address in clients, heads and HTTP connections."""

    def __init__(self, settings: Settings, trusted: Networks) -> None:
        def share(said: int | None, places: int) -> Share:
            if said is None:
                return Share(max(1, places // 2), trusted, here=False)
            return Share(said, trusted)

        self.clients = share(settings.max_clients_per_ip, settings.max_clients)
        self.heads = share(settings.max_heads_per_ip, settings.max_heads)
        self.http = share(settings.max_http_per_ip, settings.max_http)
