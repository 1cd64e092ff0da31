"""What tasks wait for, in both worlds."""

from __future__ import annotations

import anyio


class Bell:
    """Each ring wakes the tasks that wait at that moment; it costs nothing when nobody does."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        """Wait for the next ring."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    def ring(self) -> None:
        """Wake all who wait."""
        event, self._event = self._event, None
        if event is not None:
            event.set()
