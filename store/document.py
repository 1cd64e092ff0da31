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

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from triode.store.change import Edit
from triode.store.draft import Draft, get, put
from triode.store.json_type import MISSING
from triode.store.merge import plan_merge
from triode.store.operation import (
    Append,
    Batch,
    Delete,
    Increment,
    Invalid,
    Merge,
    Operation,
    Patch,
    Push,
    Set,
    WriteError,
)
from triode.store.patch import MAX_OPS, plan_patch
from triode.store.plan import Plan, growth
from triode.store.push_key import push_key
from triode.store.resolve import resolve
from triode.store.work import FREE
from triode.store.write import append_edit, increment_edit, plan_delete, plan_push, set_edit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from triode.store.json_type import Json, Missing
    from triode.store.path import Path
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
    ) -> tuple[list[Edit], int, int]:
        """`plan`, and by how many bytes the document grows: as JSON, and in memory (`weigh`).
        `made` and `push_key` as in `Plan`.
        """
        if type(op) is Set:  # most writes; nothing between them and their edit
            edit = set_edit(self.root, op)
            return [edit], *growth(edit, work)
        plan = Plan(self.root, work, made, push_key)
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
    match op:
        case Set():
            plan.record(set_edit(plan.root, op))
        case Increment():
            plan.record(increment_edit(plan.root, op))
        case Append():
            plan.record(append_edit(plan.root, op))
        case Push():
            plan_push(plan, op)
        case Delete():
            plan_delete(plan, op)
        case Merge():
            plan_merge(plan, op)
        case Patch():
            plan_patch(plan, op)
        case Batch():
            raise Invalid((), "a batch within a batch", status=400)
