"""The import place for JSON values, and what is done to whole ones: check, copy, weigh, take apart.

Nothing here recurses: a document may be nested deeper than the interpreter's stack is willing to
go.
"""

from __future__ import annotations

import math
from itertools import islice
from sys import getrefcount, getsizeof
from typing import TYPE_CHECKING, Any, Final

from triode.store.decode import decode, fits_double
from triode.store.encode import encode, encode_steps
from triode.store.fragment import decode_steps
from triode.store.json_type import MISSING, Json, JsonError, Missing, equal
from triode.store.untracked import WIDE, untrack
from triode.store.work import FREE, Work

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "MISSING",
    "Json",
    "JsonError",
    "Missing",
    "approx_bytes",
    "check",
    "copy_deep",
    "copy_measured",
    "decode",
    "decode_steps",
    "dismantle",
    "encode",
    "encode_steps",
    "equal",
    "fits_double",
]

# Integers of fewer bits fit a double's range for sure.
DOUBLE_BITS: Final = 1024

_DISMANTLE_VALUES = 1024
# How many values a step is worth, an estimate, not measured yet.
_LOOKED_AT: Final = 8
_COPIED: Final = 64
# Elements copied in one go, a multiple of `_COPIED`: 0.2 ms.
_COPY_SLICE: Final = 16_384
_SLICE: Final = 512
# CPython's, on 64 bits. Texts of their own; small integers it has once for all, like true and null.
_TEXT_BYTES: Final = 49
_INT_BYTES: Final = 28
_FLOAT_BYTES: Final = 24
# Objects with more members than this are no records, and have names of their own.
_RECORD: Final = 32


def check(value: object, *, max_depth: int = 256) -> None:
    """Hold a value built in Python to the rules that `decode` holds a text to.

    Exactly the types of `Json` (no subclasses), str keys, no lone surrogates, finite floats, at
    most `max_depth` containers inside each other. Does not look for one container in two places:
    whoever puts the value into a document copies it (`copy_deep`), for the caller may go on using
    his own. Raises JsonError.
    """
    level: list[Any] = [value]
    depth = 0
    while level:
        below: list[Any] = []
        for node in level:
            if type(node) is dict:
                for key in node:
                    _check_key(key)
                below.extend(node.values())
            elif type(node) is list:
                below.extend(node)
            else:
                _check_scalar(node)
        if below or any(type(node) in (dict, list) for node in level):
            depth += 1
        if depth > max_depth:
            raise JsonError(f"nested deeper than {max_depth}")
        level = below


def _check_key(key: object) -> None:
    if type(key) is not str:
        raise JsonError(f"an object's key must be a string, not {type(key).__name__}")
    _check_text(key)


def _check_scalar(value: object) -> None:
    if type(value) is str:
        _check_text(value)
    elif type(value) is float:
        if not math.isfinite(value):
            raise JsonError(f"{value} is not a JSON number")
    elif type(value) is int:
        if value.bit_length() >= DOUBLE_BITS and not fits_double(value):
            raise JsonError("an integer beyond a double's range")
    elif value is not None and type(value) is not bool:
        raise JsonError(f"{type(value).__name__} is not a JSON type")


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise JsonError("a string holds a lone surrogate") from None


def copy_deep(value: Json) -> Json:
    """A copy that shares no container with the original."""
    return copy_measured(value)[0]


def copy_one(value: Any, work: Work = FREE) -> Any:
    """A copy of one container; what is in it stands in both.

    An array is copied in slices: three million elements at once take 15 to 40 ms. An object is not,
    as its table would be made anew, larger and larger.
    """
    length = len(value)
    if length <= _COPY_SLICE or type(value) is dict or work.left < length // _COPIED:
        work.charge(length // _COPIED)  # too much is refused before any of it is there
        return value.copy()
    work.charge(_COPY_SLICE // _COPIED)
    copy = value[:_COPY_SLICE]
    for at in range(_COPY_SLICE, length, _COPY_SLICE):
        work.charge(min(_COPY_SLICE, length - at) // _COPIED)
        copy += value[at : at + _COPY_SLICE]
    return copy


def copy_measured(
    value: Json, work: Work = FREE, made: list[Json] | None = None
) -> tuple[Json, int, int]:
    """`copy_deep`, the number of values in it, and its depth in containers (scalar: 0).

    A container is added to `made` first, also when it then is too much work.
    """
    if type(value) is not dict and type(value) is not list:
        return value, 1, 0
    work.charge(1)
    copy = copy_one(value, work)
    if made is not None:
        made.append(copy)
    level: list[Any] = [copy]
    values, depth = 1, 0
    while level:
        depth += 1
        below: list[Any] = []
        for node in level:
            values += len(node)
            members = node.items() if type(node) is dict else enumerate(node)
            for some, steps in _slices(members, len(node)):
                work.charge(steps)
                # Replacing the value of a present key, or an element, is safe while iterating.
                for key, child in some:
                    if type(child) is dict or type(child) is list:
                        work.charge(1)
                        node[key] = fresh = copy_one(child, work)
                        below.append(fresh)
            if len(node) > WIDE:
                untrack(node)
        level = below
    return copy, values, depth


def _slices(
    members: Iterable[tuple[Any, Any]], length: int
) -> Iterable[tuple[Iterable[tuple[Any, Any]], int]]:
    """All of them, each part with what looking at it costs."""
    if length <= _COPY_SLICE:
        return ((members, 1 + length // _LOOKED_AT),)
    left = iter(members)
    sizes = [min(_COPY_SLICE, length - at) for at in range(0, length, _COPY_SLICE)]
    costs = [size // _LOOKED_AT for size in sizes]
    costs[0] += 1
    return ((islice(left, size), steps) for size, steps in zip(sizes, costs, strict=True))


def approx_bytes(value: Json | Missing, *, limit: int) -> int:
    """Roughly the encoded size; stops counting soon after `limit`. MISSING weighs nothing."""
    if value is MISSING:
        return 0
    size = 0
    todo: list[Any] = [value]
    while todo and size <= limit:
        node = todo.pop()
        if type(node) is str:
            size += len(node) + 3
            continue
        if (type(node) is dict or type(node) is list) and size + 2 * len(node) > limit:
            # A wide one is not even spread out: members and commas alone are more than that.
            return limit + 1
        if type(node) is dict:
            size += 2 + sum(map(len, node)) + 4 * len(node)
            todo.extend(node.values())
        elif type(node) is list:
            size += 2
            todo.extend(node)
        elif type(node) is int:
            size += 2 + node.bit_length() // 3
        else:
            size += 9 if type(node) is float else 5
    return size


def weigh(value: Json | Missing, work: Work = FREE) -> tuple[int, int]:
    """Roughly the bytes of a whole value as JSON, and in memory; MISSING has none.

    Names of wide objects take memory. Those of narrow ones are mostly records' (the decoder has the
    same short names once), and take none.

    Said of the content alone, not asked of the objects (`getsizeof`): what is refused depends on
    it, and a list that has grown, or an object that has lost a member, takes more here than in a
    process that has read it from a snapshot.
    """
    kind = type(value)
    if kind is str:
        return _text(value), _text_bytes(value)  # type: ignore[arg-type] # `kind` says so
    if kind is int or kind is float:
        return 8, _INT_BYTES
    if kind is not dict and kind is not list:
        return (0 if value is MISSING else 5), 0
    size = taken = 0
    todo: list[Any] = [value]
    while todo:
        node = todo.pop()
        if type(node) is dict:
            size += 2
            taken += _dict_bytes(len(node))
            children: Any = node.values()
            if len(node) > _RECORD:
                taken += len(node) * _TEXT_BYTES
                if len(node) > _SLICE:
                    todo += (iter(node), iter(children))
                    continue
            for name in node:
                size += len(name) + 4 if name.isascii() else 3 * len(name) + 4
        elif type(node) is list:
            size += 2
            taken += _list_bytes(len(node))
            children = node
            if len(node) > _SLICE:
                todo.append(iter(node))
                continue
        else:  # in slices, so that one wide container is no one long step
            children = list(islice(node, _SLICE))
            if not children:
                continue
            todo.append(node)
        if children:  # what is empty was charged for where it stands
            work.charge(1 + len(children) // _LOOKED_AT)
        for child in children:
            kind = type(child)
            if kind is str:
                if child.isascii():
                    size += len(child) + 4
                    taken += _TEXT_BYTES + len(child)
                else:
                    size += 3 * len(child) + 4
                    taken += _text_bytes(child)
            elif kind is int:
                size += 8
                if not -6 < child < 257:
                    taken += _INT_BYTES
            elif kind is float:
                size += 8
                taken += _FLOAT_BYTES
            elif kind is dict or kind is list:
                todo.append(child)
            else:
                size += 5
    return size, taken


def _dict_bytes(length: int) -> int:
    """What CPython takes for an object with so many members, decoded from JSON."""
    if not length:
        return 64
    # A power of two, at least 8, of which two thirds may be used: an index of 1, 2 or 4 bytes for
    # each of its places, and 16 for each that may be used.
    places = 8
    while 2 * places // 3 < length:
        places *= 2
    index = places * (1 if places < 256 else 2 if places < 65536 else 4)
    return 96 + index + 16 * (2 * places // 3)


def _list_bytes(length: int) -> int:
    """What it takes for an array that has grown to so many elements, on the average."""
    return 56 + (8 * length + (length >> 1) + 28 & ~31)


def _text_bytes(text: str) -> int:
    """What it takes for a text."""
    if text.isascii():
        return _TEXT_BYTES + len(text)
    # A new object: one that was encoded once holds that, too.
    return getsizeof(text + " ") - 1


def _text(text: str) -> int:
    return len(text) + 4 if text.isascii() else 3 * len(text) + 4


def dismantle(value: Json) -> Iterator[None]:
    """Take apart a value piece by piece, as far as nobody else uses it.

    Dropping the last reference to a tree of 200 MB frees all of it at once, about a second in which
    nothing else runs. Drop your own reference to the value before the first step. What somebody
    else holds (a pinned reader, a newer array that shares elements) is left as it is. Yields after
    every few thousand values.
    """
    todo: list[Any] = [value]
    del value
    freed = 0
    while todo:
        node = todo.pop()
        if getrefcount(node) > 2:  # `node` itself and the call's argument
            continue
        if type(node) is dict:
            piece = [node.popitem()[1] for _ in range(min(len(node), _DISMANTLE_VALUES))]
        elif type(node) is list:
            piece = node[-_DISMANTLE_VALUES:]
            del node[-_DISMANTLE_VALUES:]
        else:
            continue
        if node:
            todo.append(node)
        todo.extend([child for child in piece if type(child) is dict or type(child) is list])
        freed += len(piece) + 1
        del node, piece
        if freed >= _DISMANTLE_VALUES:
            freed = 0
            yield
