"""A filter somebody is subscribed to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triode.store.evaluated import Evaluated
    from triode.store.filter import Filter
    from triode.store.trie import Node


class Selection:
    """A filter in an index, shared by all that asked for the same text.

    `watchers` is a free slot for whoever owns the index. `references` counts `add`s that have not
    been removed yet. The rest belongs to the index. Compares and hashes by identity.
    """

    __slots__ = ("evaluated", "filter", "node", "references", "watchers")

    def __init__(self, filter: Filter, node: Node, evaluated: Evaluated | None) -> None:
        self.filter = filter
        self.watchers: Any = None
        self.references = 0
        self.node = node
        self.evaluated = evaluated

    def __repr__(self) -> str:
        return f"<Selection {self.filter.text} x{self.references}>"
