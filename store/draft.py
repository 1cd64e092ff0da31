"""A copy-on-write version of a JSON tree: change it at will, the original does not notice.

The draft owns a container when it made it itself, as the copy of one on the way to a change. An
owned container has an owned parent (copies are made from the root down), so the owned ones form a
crown of the tree, and below the crown all is shared with the original. Ownership is a set of `id`s.
That is sound only while every owned container is alive and in the tree: what leaves the tree is
disowned first. Otherwise a later container at the same address would pass as owned.
"""

from __future__ import annotations

from sys import getsizeof
from typing import Any, Final

from triode.store.json_type import MISSING, Json, Missing
from triode.store.path import Path
from triode.store.resolve import get, put
from triode.store.untracked import WIDE, untrack
from triode.store.value import copy_one
from triode.store.work import FREE, Work

# How many values a step is worth, an estimate, not measured yet.
_LOOKED_AT: Final = 16


class Draft:
    """A changeable version of `root`, at the cost of one shallow copy of each container on the way
    to a change.

    Each container is copied once per draft, at the first change in it; so a change costs the width
    of the containers on its way the first time and O(depth) after that. Never touched: the original
    and everything in it, values that were put in with `replace`, values that `replace` returned.
    What `root` and `get` return, on the other hand, is the draft itself: it changes with the next
    `replace`, unless `freeze` was called between. `copied` is the bytes of all copies so far.
    """

    __slots__ = ("_owned", "_work", "copied", "root")

    def __init__(self, root: Json, work: Work = FREE) -> None:
        self.root = root
        self._work = work
        self._owned: set[int] = set()
        self.copied = 0

    def freeze(self) -> Json:
        """The root, which from now on stays as it is: the next change begins with new copies."""
        self._owned = set()
        return self.root

    def get(self, path: Path) -> Json | Missing:
        """The value at a resolved path, MISSING when there is none. Do not mutate it."""
        return get(self.root, path)

    def replace(self, path: Path, value: Json | Missing) -> Json | Missing:
        """Put `value` at a resolved path, or remove (MISSING) what is there; return what was there.

        The parent must exist. Index == length appends; removal of an array's element moves the
        later ones. Removal of the root leaves null. Raises LookupError when the parent is missing
        or the index is beyond the end.
        """
        if not path:
            before: Json | Missing = self.root
            self.root = None if value is MISSING else value
        else:
            before = put(self.own(path[:-1]), path[-1], value)
        self._disown(before)
        return before

    def own(self, path: Path) -> Any:
        """The container at `path`, made private to the draft: it may be mutated in place until the
        next `freeze`.

        Whoever takes a container out of it in place must put nothing of it back. Raises
        LookupError.
        """
        node: Any = self.root
        if id(node) not in self._owned:
            node = self.root = self._copied(node)
        for segment in path:
            child = node[segment]
            if id(child) not in self._owned:
                child = node[segment] = self._copied(child)
            node = child
        return node

    def _copied(self, node: Any) -> Any:
        if type(node) is not dict and type(node) is not list:
            raise LookupError("a scalar has no members")
        self._work.charge(1)
        copy = copy_one(node, self._work)
        if len(copy) > WIDE:
            untrack(copy)
        self.copied += getsizeof(copy)
        self._owned.add(id(copy))
        return copy

    def _disown(self, value: Any) -> None:
        """Forget the owned containers in a value that has left the tree. Costs no more than their
        copying did.
        """
        todo = [value] if id(value) in self._owned else []
        while todo:
            node = todo.pop()
            self._owned.discard(id(node))
            self._work.charge(1 + len(node) // _LOOKED_AT)
            children = node.values() if type(node) is dict else node
            todo.extend(child for child in children if id(child) in self._owned)
