"""Which place was last written when: a trie of the paths of the changes in the history.

`since` answers in O(depth) what a scan of the history would: whether a change after `seq` wrote at,
above or below a place. A change that leaves the history takes its nodes along, so the trie is no
larger than the paths of the changes that are kept, and depends on nothing but them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from triode.store.change import Edit
    from triode.store.path import Path

# CPython, 64 bit; a test holds them to what it measures. A node with its place in the dict above,
# and the dict of a node that has others below it.
_NODE_BYTES: Final = 150
_DICT_BYTES: Final = 160


class _Node:
    __slots__ = ("at", "below", "children")

    def __init__(self) -> None:
        self.at = 0  # the last change that wrote this very place
        self.below = 0  # the last one that wrote here or below
        self.children: dict[str | int, _Node] | None = None


class Touched:
    """The last change at each place. Sequence numbers begin at 1 and only grow."""

    __slots__ = ("_root", "bytes")

    def __init__(self) -> None:
        self._root = _Node()
        self.bytes = 0

    def add(self, seq: int, edits: Iterable[Edit]) -> None:
        """Note that change `seq`, the newest, wrote these places."""
        for edit in edits:
            node = self._root
            node.below = seq
            for segment in edit.path:
                children = node.children
                if children is None:
                    children = node.children = {}
                    self.bytes += _DICT_BYTES
                child = children.get(segment)
                if child is None:
                    child = children[segment] = _Node()
                    self.bytes += _NODE_BYTES
                child.below = seq
                node = child
            node.at = seq

    def forget(self, seq: int, edits: Iterable[Edit]) -> None:
        """Forget change `seq`, the oldest: what nothing wrote since has no node any more."""
        for edit in edits:
            node = self._root
            for segment in edit.path:
                children = node.children
                child = None if children is None else children.get(segment)
                if children is None or child is None:
                    break  # an earlier edit of the same change took it along
                if child.below <= seq:
                    del children[segment]
                    self.bytes -= _weight(child)
                    if not children:
                        node.children = None
                        self.bytes -= _DICT_BYTES
                    break
                node = child

    def clear(self) -> None:
        """Forget all changes."""
        self._root = _Node()
        self.bytes = 0

    def since(self, path: Path, seq: int) -> bool:
        """Whether a change after `seq` wrote at, above or below `path`."""
        node = self._root
        for segment in path:
            if node.at > seq:
                return True
            children = node.children
            child = None if children is None else children.get(segment)
            if child is None:
                return False
            node = child
        return node.below > seq


def _weight(node: _Node) -> int:
    """The bytes of a subtree, which all belongs to one change."""
    size = 0
    todo = [node]
    while todo:
        node = todo.pop()
        size += _NODE_BYTES
        if node.children is not None:
            size += _DICT_BYTES
            todo.extend(node.children.values())
    return size
