"""What a JSON value is in Python, and when two are the same.

A `Json` is what `json.loads` would build: None, bool, int, float, str, list, dict with str keys;
exactly these types, no subclasses, so that `type(x) is dict` is a safe and quick question
everywhere. JSON has one number type and a separate boolean; Python has `True == 1`. `equal` is the
comparison to use, never `==`.

Import these names from `store.value`.
"""

from __future__ import annotations

from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Union

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.store.work import Work

Json: TypeAlias = Union[bool, int, float, str, list[Any], dict[str, Any], None]  # noqa: UP007 # an alias at run time


# How many members are compared before others may have their turn.
_COMPARED: Final = 256


class Missing(Enum):
    """The type of `MISSING`, which stands for "no value here" (null is a value)."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING


class JsonError(ValueError):
    """Not acceptable JSON.

    `offset` is the byte of the text at which it was noticed; None when there is no text or the
    place is not known.
    """

    def __init__(self, detail: str, offset: int | None = None) -> None:
        super().__init__(detail if offset is None else f"{detail} (byte {offset})")
        self.detail = detail
        self.offset = offset


def equal(a: Json | Missing, b: Json | Missing) -> bool:
    """Whether two values are the same JSON: `1 == 1.0`, `True != 1`, member order is no matter."""
    # Python's own comparison, in C, says yes too often (True == 1) but never wrongly no.
    if a is b:
        return True
    return bool(a == b) and _same_booleans(a, b)


def equal_measured(a: Json | Missing, b: Json | Missing, work: Work) -> bool:
    """`equal` for values of any size."""
    todo: list[Iterator[tuple[Any, Any]]] = [iter(((a, b),))]
    while todo:
        # A wide container a part at a time, for others to have their turns meanwhile.
        some = list(islice(todo[-1], _COMPARED))
        if not some:
            todo.pop()
            continue
        work.charge(1 + len(some) // 2)
        for one, other in some:
            if one is other:
                continue
            kind = type(one)
            if kind is not dict and kind is not list:
                if not equal(one, other):
                    return False
                continue
            if type(other) is not kind or len(one) != len(other):
                return False
            todo.append(_pairs(one, other))
    return True


def _pairs(one: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """The members of two containers of a kind and length, side by side."""
    if type(one) is list:
        return zip(one, other, strict=True)
    return ((value, other.get(key, MISSING)) for key, value in one.items())


def _same_booleans(a: Any, b: Any) -> bool:
    """For values that Python calls equal: whether booleans stand in the same places of both."""
    todo = [(a, b)]
    while todo:
        a, b = todo.pop()
        if a is b:
            continue
        if type(a) is dict:
            todo.extend((value, b[key]) for key, value in a.items())
        elif type(a) is list:
            todo.extend(zip(a, b, strict=True))
        elif (type(a) is bool) is not (type(b) is bool):
            return False
    return True
