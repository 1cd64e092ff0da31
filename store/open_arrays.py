"""The arrays that a plan has rearranged and that later edits may still be folded into.

A trie: to find the open array above a place, or all those below it, costs no more the more of them
are open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triode.store.path import Path


class _Node:
    __slots__ = ("below", "path")

    def __init__(self) -> None:
        self.path: Path | None = None  # of the open array that ends here
        self.below: dict[str | int, _Node] = {}


class OpenArrays:
    """Paths, none of which lies below another."""

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root = _Node()
        self._size = 0

    def __bool__(self) -> bool:
        return self._size > 0

    def add(self, path: Path) -> None:
        """Open an array; `above` and `take_below` have found nothing."""
        node = self._root
        for segment in path:
            child = node.below.get(segment)
            if child is None:
                child = node.below[segment] = _Node()
            node = child
        node.path = path
        self._size += 1

    def above(self, path: Path) -> Path | None:
        """The open array at or above a place."""
        node = self._root
        for segment in path:
            if node.path is not None:
                return node.path
            child = node.below.get(segment)
            if child is None:
                return None
            node = child
        return node.path

    def take_below(self, path: Path) -> list[Path]:
        """The open arrays at or below a place, which are open no more."""
        node = self._root
        parent: _Node | None = None
        for segment in path:
            child = node.below.get(segment)
            if child is None:
                return []
            parent, node = node, child
        if parent is None:
            self._root = _Node()
        else:
            del parent.below[path[-1]]
        taken: list[Path] = []
        todo = [node]
        while todo:
            node = todo.pop()
            if node.path is not None:
                taken.append(node.path)
            todo.extend(node.below.values())
        self._size -= len(taken)
        return taken
