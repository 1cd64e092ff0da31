"""What the tests of the Python client wait for, with a bound."""

from __future__ import annotations

from typing import Any

import trio

from triode_client import AsyncTriode, Change, View, Watch
from triode_client.link import State

PATIENCE_S = 45.0


async def settled(view: View, value: Any) -> None:
    """Wait until the view is fresh and shows this."""
    with trio.fail_after(PATIENCE_S):
        while view.stale or view.value != value:
            await view.wait_changed()


async def wait_state(t: AsyncTriode, state: State) -> None:
    """Wait until the client is in this state."""
    with trio.fail_after(PATIENCE_S):
        await t.wait_state(state)


async def take(watch: Watch, count: int) -> list[Change]:
    """The next few changes."""
    changes: list[Change] = []
    with trio.fail_after(PATIENCE_S):
        while len(changes) < count:
            changes.append(await anext(watch))
    return changes
