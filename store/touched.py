"""Which place was last written when: what conditions (`if`, `If-Match`) are decided by.

A trie of the paths of the last changes. `since` answers in O(depth) what a scan of them would:
whether a change after `seq` wrote at, above or below a place. A change that is forgotten takes its
nodes along, so the trie is no larger than the paths that are kept.

How many are kept decides what is refused. So it is the same in every process that applies the same
log: it depends on the changes alone, on no setting, not on memory, not on when the process started.
It goes with a snapshot of the document (`state`). The history, which does depend on all that, has
no say in what is refused.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from triode.store.path import Path

if TYPE_CHECKING:
    from collections.abc import Iterable

# A part of the log's format: a process that kept more or less would decide differently.
KEPT_CHANGES: Final = 10_000
# One for each path and segment, and for each 16 characters: 10 000 changes of usual paths.
KEPT_UNITS: Final = 100_000

# CPython, 64 bit; a test holds them to what it measures. A node with its place in the dict above,
# and the dict of a node that has others below it.
_NODE_BYTES: Final = 150
_DICT_BYTES: Final = 160
# A change as it is kept beside the trie. Its paths are those of the history, and weighed there.
_CHANGE_BYTES: Final = 130


class Touches(Struct, frozen=True):
    """All that is kept: the changes after `floor` that wrote something, and where."""

    floor: int = 0
    changes: tuple[tuple[int, tuple[Path, ...]], ...] = ()


class _Node:
    __slots__ = ("at", "below", "children")

    def __init__(self) -> None:
        self.at = 0  # the last change that wrote this very place
        self.below = 0  # the last one that wrote here or below
        self.children: dict[str | int, _Node] | None = None


class Touched:
    """The last change at each place. Sequence numbers begin at 1 and only grow."""

    __slots__ = ("_changes", "_floor", "_root", "_trie_bytes", "_units")

    def __init__(self, state: Touches | None = None) -> None:
        self._root = _Node()
        self._trie_bytes = 0
        self._units = 0
        self._changes: deque[tuple[int, tuple[Path, ...], int]] = deque()
        self._floor = 0
        if state is not None:
            for seq, paths in state.changes:
                self.add(seq, paths)
            self._floor = state.floor

    @property
    def bytes(self) -> int:
        """About the memory that it takes."""
        return self._trie_bytes + len(self._changes) * _CHANGE_BYTES

    def state(self) -> Touches:
        """What another one can be made of, for which the same holds."""
        return Touches(self._floor, tuple([(seq, paths) for seq, paths, _ in self._changes]))

    def add(self, seq: int, paths: tuple[Path, ...]) -> None:
        """Note that change `seq`, the newest, wrote these places. None: then it is not kept."""
        if not paths:
            return
        units = 0
        root = self._root
        root.below = seq
        for path in paths:
            units += 1 + len(path)
            node = root
            for segment in path:
                if type(segment) is str and len(segment) > 15:
                    units += len(segment) >> 4
                children = node.children
                if children is None:
                    children = node.children = {}
                    self._trie_bytes += _DICT_BYTES
                try:
                    node = children[segment]
                except KeyError:
                    node = children[segment] = _Node()
                    self._trie_bytes += _NODE_BYTES
                node.below = seq
            node.at = seq
        changes = self._changes
        changes.append((seq, paths, units))
        self._units += units
        while len(changes) > KEPT_CHANGES or self._units > KEPT_UNITS:
            oldest, gone, freed = changes.popleft()
            self._units -= freed
            self._floor = oldest
            self._forget(oldest, gone)

    def _forget(self, seq: int, paths: Iterable[Path]) -> None:
        """Forget change `seq`, the oldest: what nothing wrote since has no node any more."""
        for path in paths:
            node = self._root
            for segment in path:
                children = node.children
                child = None if children is None else children.get(segment)
                if children is None or child is None:
                    break  # an earlier path of the same change took it along
                if child.below <= seq:
                    del children[segment]
                    self._trie_bytes -= _weight(child)
                    if not children:
                        node.children = None
                        self._trie_bytes -= _DICT_BYTES
                    break
                node = child

    def since(self, path: Path, seq: int) -> bool | None:
        """Whether a change after `seq` wrote at, above or below an actual path. None: that is too
        long ago to know.
        """
        if seq < self._floor:
            return None
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
