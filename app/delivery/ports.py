"""The hub, as its own parts see it.

The hub is made last, of parts that each do one thing for it: end a client, deal with what finds no
room, make a snapshot. This is all that they ask of it in turn. So imports go one way: the parts
know this page, and the hub alone knows the parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections import deque

    from triode.app.config.settings import Settings
    from triode.app.delivery.backlog import Backlog
    from triode.app.delivery.shelf import Shelf
    from triode.app.delivery.subscriber import Client
    from triode.app.runtime.metrics import Metrics
    from triode.app.wire.end_reasons import End, Ended, How
    from triode.app.wire.frame import Frame
    from triode.store.store import Store


class SlowClients(Protocol):
    """Who writes to the slow clients, as those see it that make a client slow."""

    def stall(self, client: Client, due: list[Frame], sent: int) -> None:
        """Let what a client's socket did not take wait."""

    def enqueue(self, client: Client, frames: list[Frame]) -> None:
        """Let frames wait for a slow client."""


class HubPort(Protocol):
    """See `Hub`."""

    settings: Settings
    store: Store
    metrics: Metrics
    backlog: Backlog
    clients: dict[str, Client]
    ended: deque[Ended]
    shelf: Shelf

    @property
    def writers(self) -> SlowClients:
        """Whoever writes to the slow clients."""

    def place(self, client: Client) -> None:
        """Put a client into the group of all that it hears."""

    def forget(self, client: Client) -> list[Frame]:
        """Take a client out of every registry. What it is still owed."""

    def end(
        self,
        client: Client,
        reason: End,
        how: How = "goodbye",
        *,
        retry_ms: int = 1000,
        goodbye: bytes | None = None,
    ) -> None:
        """End a client."""
