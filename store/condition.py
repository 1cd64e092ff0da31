"""Conditions: ``[key=value]``, one comparison of a member with a literal.

Values compare as JSON compares them. ``true`` is not 1, 1 is 1.0, strings order by code point,
and a value of another kind than the literal's is unequal to it and in no order with it. A missing
member meets no test, not even ``!=``: a subscriber that asks for ``[status!=done]`` does not want
everything that has no status.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from triode.store.value import MISSING, Json, Missing, equal

Literal = None | bool | int | float | str

OPERATORS: Final = ("!=", "<=", ">=", "=", "<", ">")
# So many tests of one object are a step.
TESTS_A_STEP: Final = 3
_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Test:
    """One comparison. Immutable; equal tests hold for the same values.

    Not a dataclass: its generated equality would take ``[a=true]`` and ``[a=1]`` for the same test.
    """

    __slots__ = ("_identity", "key", "literal", "op")
    __test__ = False  # pytest: this is no test class

    key: Final[str]
    op: Final[str]
    literal: Final[Literal]

    def __init__(self, key: str, op: str, literal: Literal) -> None:
        self.key = key
        self.op = op
        self.literal = literal
        self._identity = (key, op, isinstance(literal, bool), literal)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Test) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return f"Test({self.key!r}, {self.op!r}, {self.literal!r})"

    def holds(self, value: Json | Missing) -> bool:
        """Whether the member ``value`` (or MISSING) meets the test."""
        if value is MISSING:
            return False
        if self.op == "=":
            return equal(value, self.literal)
        if self.op == "!=":
            return not equal(value, self.literal)
        return comparable(value, self.literal) and _ORDER[self.op](value, self.literal)


def comparable(a: object, b: object) -> bool:
    """Whether two values have an order: both numbers (a boolean is none) or both strings."""
    if isinstance(a, str):
        return isinstance(b, str)
    return _is_number(a) and _is_number(b)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
