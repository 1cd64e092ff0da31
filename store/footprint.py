"""What a value takes in memory: what the history is bounded by.

Not its encoded size: a dict of one small member takes 30 times its text.
"""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from triode.store.json_type import Json

# CPython has these once for all, as it has texts of one character.
_SMALL: Final = range(-5, 257)


def footprint(value: Json, *, limit: int) -> int:
    """The bytes of a value that nobody shares; stops counting soon after `limit`.

    Keys count each time: the decoder shares equal short ones within one text, but not between
    texts.
    """
    # What was there before is mostly one of these.
    if type(value) is int:
        return 0 if value in _SMALL else getsizeof(value)
    if type(value) is str:
        return getsizeof(value) if len(value) > 1 else 0
    size = 0
    todo: list[Any] = [value]
    while todo and size <= limit:
        node = todo.pop()
        kind = type(node)
        if kind is dict:
            size += getsizeof(node) + sum(map(getsizeof, node))
            todo.extend(node.values())
        elif kind is list:
            size += getsizeof(node)
            todo.extend(node)
        elif kind is str:
            size += getsizeof(node) if len(node) > 1 else 0
        elif kind is float or (kind is int and node not in _SMALL):
            size += getsizeof(node)
    return size
