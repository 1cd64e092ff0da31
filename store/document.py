"""The one JSON value, and how it changes: `plan` decides, `apply` does.

    edits = document.plan(op)     raises WriteError; nothing has happened
    for edit in edits:
        document.apply(edit)      in place, cannot fail

Nothing stands at two places of the tree, and nothing of the tree in a `before` of the log: so a
write in place, which costs O(depth) however large the document, changes nothing but its own place.
Operations hand their values over; `move` and `copy` copy; the `before` of a rearranged array is a
deep copy (see `store.plan`).

A reader that needs the tree to hold still over checkpoints takes a pin. Writes then go to a draft:
they copy each container on their way, once per pin.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from triode.store.change import Edit, growth
from triode.store.draft import Draft
from triode.store.expiry import require_lasting
from triode.store.json_type import MISSING
from triode.store.merge import plan_merge
from triode.store.operation import (
    Append,
    Batch,
    Delete,
    Increment,
    Invalid,
    Merge,
    NotFound,
    Operation,
    Patch,
    Push,
    Set,
    Taken,
    Touch,
    WriteError,
)
from triode.store.patch import MAX_OPS, plan_patch
from triode.store.path import format_path
from triode.store.plan import BELOW, NO_END, Plan
from triode.store.push_key import push_key
from triode.store.resolve import existing, get, put, resolve
from triode.store.value import DOUBLE_BITS, fits_double
from triode.store.work import FREE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from triode.store.json_type import Json, Missing
    from triode.store.path import Path
    from triode.store.plan import Mark
    from triode.store.work import Work

__all__ = ["Document", "Draft"]


class Document:
    """`root` may be any JSON value, `{}` by default; it is handed over. Never mutate it."""

    __slots__ = ("_copied", "_draft", "_released", "root")

    def __init__(self, root: Json | Missing = MISSING) -> None:
        self.root: Json = {} if root is MISSING else root
        self._draft: Draft | None = None
        # The bytes that were copied since each pin, up to the next one; oldest first.
        self._copied: dict[object, int] = {}
        # Of the pins those that have ended. A pin may end in a finalizer, so at any moment, also
        # in the middle of a write: it only adds itself here, and the next write looks.
        self._released: list[object] = []

    @property
    def _pins(self) -> int:
        return len(self._copied) - len(self._released)

    def pinned_bytes(self, footprint: int) -> int:
        """About what old versions of the document take that somebody still reads. None of them can
        keep more than a whole document to itself, and that takes `footprint`.
        """
        self._settle()
        return sum(min(copied, footprint) for copied in self._copied.values())

    def get(self, path: Path) -> Json | Missing:
        """The value at an actual path, MISSING when there is none. Do not mutate it."""
        return get(self.root, path)

    def resolve(self, path: Path) -> Path:
        """The actual path: negative indexes and pointer tokens for elements become indexes.

        The parent must exist, the place itself need not: a new member, or the place behind the last
        element. Raises NotFound, and Invalid for too many segments.
        """
        return resolve(self.root, path)[0]

    def plan(self, op: Operation, work: Work = FREE) -> list[Edit]:
        """The edits that do `op`, each valid after those before it. The document is untouched.

        An empty list is a plan too: the write is accepted and changes nothing. Raises WriteError,
        and TooCostly.
        """
        return self.weighed_plan(op, work)[0]

    def weighed_plan(
        self,
        op: Operation,
        work: Work,
        made: list[Json] | None = None,
        push_key: Callable[[int], str] = push_key,
        marks: list[Mark] | None = None,
    ) -> tuple[list[Edit], int, int]:
        """`plan`, and by how many bytes the document grows: as JSON, and in memory (`weigh`).
        `made`, `push_key` and `marks` as in `Plan`.
        """
        if type(op) is Set:  # most writes; nothing between them and their edit
            edit = _set_edit(self.root, op)
            if marks is not None:
                _mark_first(self.root, op)
                marks += ((edit.path, BELOW), _mark(op, op.path))
            return [edit], *growth(edit, work)
        plan = Plan(self.root, work, made, push_key, marks)
        if type(op) is Batch:
            _plan_batch(plan, op)
        else:
            _plan_one(plan, op)
        return plan.finish(), plan.grown, plan.swollen

    def apply(self, edit: Edit) -> None:
        """Do an edit that was just planned."""
        if self._released:
            self._settle()
        draft = self._draft
        if draft is not None:
            before = draft.copied
            draft.replace(edit.path, edit.after)
            self.root = draft.root
            if draft.copied != before:
                self._copied[next(reversed(self._copied))] += draft.copied - before
            return
        path, after = edit.path, edit.after
        if not path:
            assert after is not MISSING, "no operation removes the root"
            self.root = after
            return
        node: Any = self.root
        for segment in path[:-1]:
            node = node[segment]
        put(node, path[-1], after)

    @contextmanager
    def pin(self) -> Iterator[Json]:
        """The root, which stays as it is until the context ends. Pins may overlap in any way."""
        if self._released:
            self._settle()
        if self._draft is None:
            self._draft = Draft(self.root)
        pin = object()
        self._copied[pin] = 0
        try:
            yield self._draft.freeze()
        finally:
            self._released.append(pin)

    def _settle(self) -> None:
        """Take out the pins that have ended. What was copied for one of them may still be held for
        the one before it.
        """
        # At once: others may end meanwhile, and come into the new list.
        released, self._released = self._released, []
        ended = set(released)
        pins: list[tuple[object, int]] = []
        copied = 0
        for pin, more in reversed(self._copied.items()):
            copied += more
            if pin not in ended:
                pins.append((pin, copied))
                copied = 0
        self._copied = dict(reversed(pins))
        if not self._copied:
            self._draft = None


def _plan_batch(plan: Plan, op: Batch) -> None:
    if len(op.ops) > MAX_OPS:
        raise Invalid((), f"more than {MAX_OPS} operations in one batch")
    for number, part in enumerate(op.ops):
        try:
            if type(part) is Batch:
                raise Invalid((), "a batch within a batch", status=400)
            _plan_one(plan, part)
        except WriteError as exc:
            exc.detail = f"operation {number}: {exc.detail}"
            raise


def _plan_one(plan: Plan, op: Operation) -> None:
    if plan.marks is None:
        _plan_edits(plan, op)
        return
    # Of a push: the object has to be none in an array; its new member is then none, either.
    _mark_first(plan.root, op)
    _plan_edits(plan, op)
    if not isinstance(op, Push):
        plan.marks.append(_mark(op, op.path))
    elif op.ttl_ms is not None:
        plan.marks.append(_mark(op, (*op.path, plan.last_push_key)))


def _mark_first(root: Json, op: Operation) -> None:
    if op.ttl_ms is not None:
        require_lasting(root, (*op.path, "") if isinstance(op, Push) else op.path)


def _mark(op: Operation, path: Path) -> Mark:
    return path, NO_END if op.ttl_ms is None else op.ttl_ms


def _plan_edits(plan: Plan, op: Operation) -> None:
    match op:
        case Set():
            plan.record(_set_edit(plan.root, op))
        case Increment():
            plan.record(_increment_edit(plan.root, op))
        case Append():
            plan.record(_append_edit(plan.root, op))
        case Push():
            _plan_push(plan, op)
        case Delete():
            _plan_delete(plan, op)
        case Merge():
            plan_merge(plan, op)
        case Patch():
            plan_patch(plan, op)
        case Touch():
            path, value = resolve(plan.root, op.path)
            if value is MISSING:
                raise NotFound(path, f"there is nothing at {format_path(path)}")
        case _:
            raise Invalid((), "a batch within a batch", status=400)


# ── the operations that make one edit ────────────────────────────────────────────────────────────


def _set_edit(root: Json, op: Set) -> Edit:
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


def _plan_delete(plan: Plan, op: Delete) -> None:
    """Raises NotFound, and Invalid for the root."""
    path, before = existing(plan.root, op.path)
    plan.remove(path, before)


def _increment_edit(root: Json, op: Increment) -> Edit:
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


def _append_edit(root: Json, op: Append) -> Edit:
    """Raises NotFound when the parent is missing, Invalid when the place holds no array."""
    path, before = resolve(root, op.path)
    if before is MISSING:
        return Edit(path, MISSING, [op.value])
    if type(before) is not list:
        raise Invalid(path, f"{format_path(path)} is not an array")
    return Edit((*path, len(before)), MISSING, op.value)


def _plan_push(plan: Plan, op: Push) -> None:
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
