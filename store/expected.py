"""Conditions of a write on the value that is there: `if`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from triode.store.condition import comparable
from triode.store.json_type import MISSING, equal_measured
from triode.store.operation import Conflict, NotFound
from triode.store.path import format_path
from triode.store.resolve import resolve
from triode.store.value import encode

if TYPE_CHECKING:
    from triode.store.json_type import Json, Missing
    from triode.store.operation import Expected, Operation
    from triode.store.work import Work

_SHOWN_CHARS: Final = 60
_STEPS: Final = 3


def require_expected(root: Json, op: Operation, expected: Expected, work: Work) -> None:
    """Raises Conflict unless the value at the place of `op` is as expected, and TooCostly."""
    work.charge(_STEPS + len(op.path))
    value: Json | Missing
    try:
        _, value = resolve(root, op.path)
    except NotFound:
        value = MISSING
    if not _holds(expected, value, work):
        raise Conflict(
            op.path,
            f'{format_path(op.path)} is {_shown(value)}; "if" wants it {_wanted(expected)}',
        )


def _holds(expected: Expected, value: Json | Missing, work: Work) -> bool:
    wanted: Any = expected.value
    if expected.test == "exists":
        return (value is not MISSING) is wanted
    if value is MISSING:
        return False
    if expected.test == "equals":
        return equal_measured(value, wanted, work)
    found: Any = value
    return comparable(found, wanted) and bool(found < wanted)


def _wanted(expected: Expected) -> str:
    if expected.test == "exists":
        return "to be there" if expected.value else "not to be there"
    if expected.test == "equals":
        return f"to equal {_shown(expected.value)}"
    return f"to be less than {_shown(expected.value)}"


def _shown(value: Json | Missing) -> str:
    if value is MISSING:
        return "not there"
    if isinstance(value, list | dict):
        return "an array" if isinstance(value, list) else "an object"
    if isinstance(value, str):
        value = value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}…"
    text = encode(value).decode()
    return text if len(text) <= 6 * _SHOWN_CHARS else "a long number"
