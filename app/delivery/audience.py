"""Sources: where the frames of a client come from. A filter's audience is one, a room is the
other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.store.value import encode

if TYPE_CHECKING:
    from weakref import ref

    from triode.app.delivery.group import Group
    from triode.app.wire.frame import Frame, Kind
    from triode.store.index import Selection


class Source:
    """Something groups of clients hear."""

    __slots__ = ("groups",)

    def __init__(self) -> None:
        self.groups: dict[Group, None] = {}


# What a client is still owed of a source when it leaves it: nobody hears this one.
PAST: Final = Source()


class Audience(Source):
    """All who watch one filter. Hangs on the filter's `Selection` in the index.

    `snapshots` knows those of the last position it was asked for, as long as they are there: in a
    stampede all newcomers of a filter get the same bytes.
    """

    __slots__ = ("filter_json", "selection", "snapshots")

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.filter_json = encode(selection.filter.text)
        self.snapshots: dict[tuple[Kind, bool, bool, bool], tuple[int, ref[Frame]]] = {}
