"""The operations that make one edit: set, delete, increment, append, push."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from triode.store.change import Edit
from triode.store.json_type import MISSING
from triode.store.operation import Invalid, NotFound, Taken
from triode.store.path import format_path
from triode.store.resolve import existing, resolve
from triode.store.value import DOUBLE_BITS, fits_double

if TYPE_CHECKING:
    from triode.store.json_type import Json
    from triode.store.operation import Append, Delete, Increment, Push, Set
    from triode.store.path import Path
    from triode.store.plan import Plan


def set_edit(root: Json, op: Set) -> Edit:
    """Raises NotFound when the parent is missing (unless `create`) or can hold no such member."""
    try:
        path, before = resolve(root, op.path)
    except NotFound as missing:
        if op.create:
            return _creation(root, op)
        if resolve(root, missing.about)[1] is not MISSING:
            raise  # what is there is no container for it
        detail = f"{missing.detail}; create=true makes it"
        raise NotFound(missing.path, detail, about=missing.about) from None
    return Edit(path, before, op.value)


def _creation(root: Json, op: Set) -> Edit:
    """The edit that makes the first missing container, with all that belongs in it."""
    for depth in range(len(op.path)):
        path, value = resolve(root, op.path[: depth + 1])
        if value is MISSING:
            return Edit(path, MISSING, _wrapped(op.path, depth + 1, op.value))
    raise AssertionError("only called where something is missing")


def _wrapped(path: Path, depth: int, value: Json) -> Json:
    """`value` inside new containers: objects for names, arrays for index 0."""
    for segment in reversed(path[depth:]):
        if type(segment) is str:
            value = {segment: value}
        elif segment == 0:
            value = [value]
        else:
            raise NotFound(path, f"{format_path(path)}: a new array has no element {segment}")
    return value


def plan_delete(plan: Plan, op: Delete) -> None:
    """Raises NotFound, and Invalid for the root."""
    path, before = existing(plan.root, op.path)
    plan.remove(path, before)


def increment_edit(root: Json, op: Increment) -> Edit:
    """Integers stay exact at any size. Raises NotFound, and Invalid when a side or the sum is no
    JSON number.
    """
    path, before = resolve(root, op.path)
    if not _is_number(op.by):
        raise Invalid(path, "by must be a number", status=400)
    number: Any = 0 if before is MISSING else before
    if not _is_number(number):
        raise Invalid(path, f"{format_path(path)} is not a number")
    try:
        after = number + op.by
    except OverflowError:  # an integer beyond all floats, plus a float
        after = math.inf
    if not _is_number(after):
        raise Invalid(path, f"{format_path(path)} would be too large")
    return Edit(path, before, after)


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() < DOUBLE_BITS or fits_double(value)
    return type(value) is float and math.isfinite(value)


def append_edit(root: Json, op: Append) -> Edit:
    """Raises NotFound when the parent is missing, Invalid when the place holds no array."""
    path, before = resolve(root, op.path)
    if before is MISSING:
        return Edit(path, MISSING, [op.value])
    if type(before) is not list:
        raise Invalid(path, f"{format_path(path)} is not an array")
    return Edit((*path, len(before)), MISSING, op.value)


def plan_push(plan: Plan, op: Push) -> None:
    """Raises NotFound when the parent is missing, Invalid when the place holds no object, Taken."""
    path, before = resolve(plan.root, op.path)
    name = plan.next_push_key()
    if before is MISSING:
        plan.record(Edit(path, MISSING, {name: op.value}))
        return
    if type(before) is not dict:
        raise Invalid(path, f"{format_path(path)} is not an object; append adds to an array")
    if name in before:
        detail = f"{name} is in {format_path(path)} already, though no push has put it there"
        raise Taken(path, f"{detail}; send the write again, with a new key if it has one")
    plan.record(Edit((*path, name), MISSING, op.value))
