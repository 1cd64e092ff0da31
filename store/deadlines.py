"""When places end: the time to live of values, as part of the replicated state.

A write sets a deadline, another one takes it away, an entry `expire` of the log carries it out. All
of it counts in the time of the log, so every process that applies the log has the same deadlines.

    put(path, due)      from then on the place may be expired
    take_below(path)    it was replaced or removed, and all in it with it
    due(now_ms, most)   which ones may go

Only places that are reached through objects have deadlines: those in an array would move. They are
kept as a tree, so to replace a place takes one step however many deadlines lie below it. The other
table, by time, then holds rows of what has gone; they are swept out little by little.
"""

from __future__ import annotations

import sys
from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from triode.store.path import Path

# Deadlines are rounded up to so many milliseconds: those of one step end together.
STEP_MS: Final = 100
# With each new one so many rows of what has gone are looked at: more than come.
_SWEPT: Final = 4
_LEAST: Final = 64
# Of one look at what is due so many rows of what has gone are passed, for each that is asked for.
_PASSED: Final = 10
# CPython, 64 bit: a row in both tables, without its names; a node with something below it.
ROW_BYTES: Final = 430
_NAME_BYTES: Final = 8
_NODE_BYTES: Final = 240

# In a node of the tree, beside its names, which are texts.
_DUE: Final = 0
_COUNT: Final = 1
_PASSED_NODE: Final[tuple[int, Path]] = (-1, ())


class Deadlines:
    """The deadline of each place that has one, in milliseconds of the log's time. At most `most`
    of them; the caller holds to it.
    """

    __slots__ = ("_buckets", "_gone", "_nodes", "_order", "_row_bytes", "_tree", "most")

    def __init__(self, rows: Iterable[tuple[int, Path]] = ()) -> None:
        """`rows` as `rows` gave them."""
        self.most: int | None = None
        # A node is a dict of its names; one with nothing below it is only its deadline.
        self._tree: dict[Any, Any] = {_COUNT: 0}
        self._buckets: dict[int, dict[Path, None]] = {}
        self._order: list[int] = []
        self._gone: deque[Iterator[tuple[int, Path]]] = deque()
        self._nodes = 0
        self._row_bytes = 0
        for due, path in rows:
            self.put(tuple(path), due)

    def __len__(self) -> int:
        return int(self._tree[_COUNT])

    @property
    def bytes(self) -> int:
        """About the memory that it takes, with what has gone and is not swept out."""
        return self._row_bytes + self._nodes * _NODE_BYTES

    def rows(self) -> list[tuple[int, Path]]:
        """All of them, in the order of their places."""
        rows = [row for row in _rows(self._tree) if row is not _PASSED_NODE]
        return sorted(rows, key=lambda row: row[1])

    def find(self, path: Path) -> int | None:
        """The deadline of a place."""
        node = self._node(path)
        return node.get(_DUE) if type(node) is dict else node

    def reaches(self, path: Path) -> bool:
        """Whether the place, or one below it, has a deadline."""
        return self._node(path) is not None

    def put(self, path: Path, due: int) -> None:
        """The place ends then, and not when it would have before."""
        # One text for a name, in however many places it is.
        path = tuple([sys.intern(name) for name in path if type(name) is str])
        old = self.find(path)
        if old is not None:
            self._unlink(path, old)
        node = self._tree
        for name in path[:-1]:
            node[_COUNT] += old is None
            below = node.get(name)
            if type(below) is not dict:
                below = {_COUNT: 0} if below is None else {_DUE: below, _COUNT: 1}
                node[name] = below
                self._nodes += 1
            node = below
        node[_COUNT] += old is None
        below = node.get(path[-1])
        if type(below) is dict:
            below[_COUNT] += old is None
            below[_DUE] = due
        else:
            node[path[-1]] = due
        self._link(path, due)
        self.sweep(_SWEPT)

    def take(self, path: Path) -> None:
        """The place has no deadline any more; those below it stay."""
        due = self.find(path)
        if due is None:
            return
        self._unlink(path, due)
        nodes = self._way(path)
        below = nodes[-1][path[-1]]
        if type(below) is dict and below[_COUNT] > 1:
            del below[_DUE]
            below[_COUNT] -= 1
        else:
            # Also one that had others below it once: who reads the rows anew has none there.
            self._nodes -= type(below) is dict
            del nodes[-1][path[-1]]
        self._less(path, nodes, 1)

    def take_below(self, path: Path) -> None:
        """Neither the place nor any below it has a deadline any more. One step."""
        if not path:
            gone: Any = self._tree
            self._tree = {_COUNT: 0}
            if gone[_COUNT]:
                self._nodes += 1  # this one was not counted
                self._gone.append(_rows(gone))
            return
        node = self._node(path)
        if node is None:
            return
        nodes = self._way(path)
        del nodes[-1][path[-1]]
        self._less(path, nodes, node[_COUNT] if type(node) is dict else 1)
        if type(node) is dict:
            self._gone.append(_rows(node, path))
        else:
            self._unlink(path, node)

    def due(self, now_ms: int, most: int) -> list[Path]:
        """The places, at most so many, whose time has come: the oldest first. They stay until they
        are taken.
        """
        found: dict[Path, None] = {}
        later: list[int] = []
        left = _PASSED * most
        while self._order and self._order[0] <= now_ms and len(found) < most and left > 0:
            due = heappop(self._order)
            bucket = self._buckets.get(due)
            if bucket is None:
                continue
            stale = []
            for path in bucket:
                left -= 1
                if self.find(path) == due:
                    found[path] = None
                else:
                    stale.append(path)
                if len(found) >= most or left <= 0:
                    break
            # Each is passed once: a place that was replaced leaves its rows behind.
            for path in stale:
                self._unlink(path, due)
            if due in self._buckets:
                later.append(due)
        for due in later:
            heappush(self._order, due)
        return list(found)

    def sweep(self, steps: int) -> None:
        """Look at so many rows of what has gone."""
        for _ in range(steps):
            if not self._gone:
                return
            row = next(self._gone[0], None)
            if row is None:
                self._gone.popleft()
            elif row is _PASSED_NODE:
                self._nodes -= 1
            elif self.find(row[1]) != row[0]:
                self._unlink(row[1], row[0])

    def _node(self, path: Path) -> Any:
        """What the tree has at a place: None, a deadline, or a node."""
        node: Any = self._tree
        for name in path:
            if type(node) is not dict or type(name) is not str:
                return None
            node = node.get(name)
        return node

    def _way(self, path: Path) -> list[dict[Any, Any]]:
        """The nodes above a place that is in the tree."""
        nodes = [self._tree]
        for name in path[:-1]:
            nodes.append(nodes[-1][name])
        return nodes

    def _less(self, path: Path, nodes: list[dict[Any, Any]], count: int) -> None:
        for node in nodes:
            node[_COUNT] -= count
        # What is empty by now goes, from below.
        for depth in range(len(nodes) - 1, 0, -1):
            node = nodes[depth]
            if node[_COUNT] > 1 or (node[_COUNT] and _DUE not in node):
                return
            if node[_COUNT]:
                nodes[depth - 1][path[depth - 1]] = node[_DUE]
            else:
                del nodes[depth - 1][path[depth - 1]]
            self._nodes -= 1

    def _link(self, path: Path, due: int) -> None:
        bucket = self._buckets.get(due)
        if bucket is None:
            bucket = self._buckets[due] = {}
            heappush(self._order, due)
            if len(self._order) > 2 * len(self._buckets) + _LEAST:
                self._order = list(self._buckets)
                heapify(self._order)
        if path not in bucket:
            bucket[path] = None
            self._row_bytes += _bytes(path)

    def _unlink(self, path: Path, due: int) -> None:
        bucket = self._buckets.get(due)
        if bucket is not None:
            if path in bucket:
                del bucket[path]
                self._row_bytes -= _bytes(path)
            if not bucket:
                del self._buckets[due]


def _bytes(path: Path) -> int:
    return ROW_BYTES + _NAME_BYTES * len(path)


def _rows(node: dict[Any, Any], path: Path = ()) -> Iterator[tuple[int, Path]]:
    """The rows of a part of the tree, a step each: a wide node is not looked through at once. And
    `_PASSED_NODE` for each node that is through.
    """
    todo = [(path, iter(node.items()))]
    while todo:
        path, members = todo[-1]
        for name, below in members:
            if name == _DUE:
                yield below, path
            elif type(below) is dict:
                todo.append(((*path, name), iter(below.items())))
                break
            elif name != _COUNT:
                yield below, (*path, name)
        else:
            todo.pop()
            yield _PASSED_NODE
