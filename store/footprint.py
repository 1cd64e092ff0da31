"""What a value that nobody shares takes in memory: what the history is bounded by.

Not its encoded size: a dict of one small member takes 30 times its text.
"""

from __future__ import annotations

from itertools import islice
from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

from triode.store.work import FREE

if TYPE_CHECKING:
    from triode.store.json_type import Json
    from triode.store.work import Work

# CPython has these once for all, as it has texts of one character.
SMALL: Final = range(-5, 257)
_SLICE: Final = 512
# How many values a step is worth, an estimate, not measured yet.
_LOOKED_AT: Final = 8


def footprint(value: Json, *, limit: int, work: Work = FREE) -> int:
    """The bytes of a value that nobody shares; stops counting soon after `limit`. Raises TooCostly.

    Keys count each time: the decoder shares equal short ones within one text, but not between
    texts.
    """
    size = 0
    todo: list[Any] = [iter((value,))]
    while todo and size <= limit:
        node = todo.pop()
        if type(node) is dict:
            size += getsizeof(node)
            if len(node) > _SLICE:
                todo += (iter(node), iter(node.values()))
                continue
            children: Any = (*node, *node.values())
        elif type(node) is list:
            size += getsizeof(node)
            if len(node) > _SLICE:
                todo.append(iter(node))
                continue
            children = node
        else:  # in slices, so that one wide container is no one long step
            children = list(islice(node, _SLICE))
            if not children:
                continue
            todo.append(node)
        if children:  # what is empty was charged for where it stands
            work.charge(1 + len(children) // _LOOKED_AT)
        for child in children:
            kind = type(child)
            if kind is dict or kind is list:
                todo.append(child)
            elif kind is str:
                size += getsizeof(child) if len(child) > 1 else 0
            elif kind is float or (kind is int and child not in SMALL):
                size += getsizeof(child)
    return size
