"""What a change means to one filter: the events its subscribers are owed."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from triode.store.json_type import MISSING, Json, Missing
from triode.store.path import Path


class Event(Struct, frozen=True):
    """One frame's worth.

    `update`: the place at `path` has this `value` now. `delete`: it is gone from the selection
    (`value` is MISSING). `snapshot`: everything selected, `path` is () and `value` the items.
    `failed`: the filter can no longer be evaluated, `value` is the reason; nothing more comes
    until a `snapshot` resyncs it.

    Values are parts of the living document: encode them before the next write.
    """

    kind: Literal["update", "delete", "snapshot", "failed"]
    path: Path
    value: Json | Missing


def as_it_is(path: Path, after: Json | Missing) -> Event:
    """The event that repeats an edit word for word."""
    return Event("delete" if after is MISSING else "update", path, after)


def difference(was: dict[Path, Json], now: dict[Path, Json]) -> list[Event]:
    """Deletes for what is no longer selected, then updates for all that is, in `now`'s order.

    What did not change in value is sent too: the caller asks only about places that were written.
    """
    events: list[Event] = [Event("delete", path, MISSING) for path in was if path not in now]
    events += [Event("update", path, value) for path, value in now.items()]
    return events
