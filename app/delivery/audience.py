"""An audience: all who watch one filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triode.app.delivery.rest import Rest
from triode.app.wire.source import Source
from triode.store.value import encode

if TYPE_CHECKING:
    from weakref import ref

    from triode.app.wire.frame import Frame, Kind
    from triode.store.index import Selection


class Audience(Source):
    """All who watch one filter. Hangs on the filter's `Selection` in the index.

    `snapshots` knows those of the last position it was asked for, as long as they are there: in a
    stampede all newcomers of a filter get the same bytes.
    """

    __slots__ = ("filter_json", "rest", "selection", "snapshots")

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.rest = Rest()
        self.filter_json = encode(selection.filter.text)
        self.snapshots: dict[tuple[Kind, bool, bool, bool, int], tuple[int, ref[Frame]]] = {}
