"""What a JSON value is in Python, and when two are the same.

A `Json` is what `json.loads` would build: None, bool, int, float, str, list, dict with str keys;
exactly these types, no subclasses, so that `type(x) is dict` is a safe and quick question
everywhere. JSON has one number type and a separate boolean; Python has `True == 1`. `equal` is the
comparison to use, never `==`.

Import these names from `store.value`.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, TypeAlias, Union

Json: TypeAlias = Union[bool, int, float, str, list[Any], dict[str, Any], None]  # noqa: UP007 (runtime alias)


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
