"""JSON Merge Patch, RFC 7396, as the smallest edits that do it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from triode.store.change import Edit, Whole
from triode.store.json_type import MISSING, equal_measured
from triode.store.plan import MAX_EDITS
from triode.store.resolve import resolve
from triode.store.untracked import WIDE, untrack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.store.json_type import Json, Missing
    from triode.store.operation import Merge
    from triode.store.path import Path
    from triode.store.plan import Plan
    from triode.store.work import Work

# For each member of a patch, and for its edit; an estimate, not measured yet.
_MEMBER_STEPS: Final = 1
_COPIED: Final = 64
_LOOKED_AT: Final = 8
_SLICE: Final = 512


def plan_merge(plan: Plan, op: Merge) -> None:
    """Plan one edit for each member that is changed, none for what is the same already.

    A target that is no object, or is missing, is replaced by what the patch makes of `{}`; a patch
    that is no object replaces the target. Raises NotFound when the parent is missing.
    """
    path, target = resolve(plan.root, op.path)
    # All places are read before the first is recorded; they lie beside each other.
    edits = _edits(path, target, op.patch, plan.work)
    if len(edits) > MAX_EDITS and type(target) is dict and type(op.patch) is dict:
        edits = [Whole(path, target, _rebuilt(target, op.patch, plan.work))]
    for edit in edits:
        plan.record(edit)


def _edits(path: Path, target: Json | Missing, patch: Json, work: Work) -> list[Edit]:
    """The edits; of more than `MAX_EDITS` not all."""
    edits: list[Edit] = []
    # Not recursive: each edit would be handed up through as many generators as it is deep.
    todo: list[Iterator[tuple[Path, Any, Any]]] = [iter([(path, target, patch)])]
    while todo and len(edits) <= MAX_EDITS:
        for at, before, wanted in todo[-1]:
            work.charge(_MEMBER_STEPS)
            if type(wanted) is dict and type(before) is dict:
                work.charge(len(at) // 32)
                todo.append(_members(at, before, wanted))
                break
            if wanted is None and at is not path:
                if before is not MISSING:
                    edits.append(Edit(at, before, MISSING))
                continue
            after = _merged(wanted, work)
            if not equal_measured(before, after, work):
                edits.append(Edit(at, before, after))
            if len(edits) > MAX_EDITS:
                break
        else:
            todo.pop()
    return edits


def _rebuilt(target: dict[str, Json], patch: dict[str, Json], work: Work) -> Json:
    """The target with the patch applied: it shares what the patch does not name."""
    if not target:  # so nothing is put together that is there already
        return _merged(patch, work)
    work.charge(1 + len(target) // _COPIED)
    after = target.copy()
    todo = [(after, patch)]
    while todo:
        into, wanted = todo.pop()
        for name, value in wanted.items():
            work.charge(_MEMBER_STEPS)
            before = into.get(name)
            if value is None:
                into.pop(name, None)
            elif type(value) is dict and type(before) is dict:
                work.charge(1 + len(before) // _COPIED)
                into[name] = copy = before.copy()
                todo.append((copy, value))
            else:
                into[name] = _merged(value, work)
        if len(into) > WIDE:
            untrack(into)
    return after


def _members(
    at: Path, target: dict[str, Json], patch: dict[str, Json]
) -> Iterator[tuple[Path, Any, Any]]:
    for name, value in patch.items():
        yield (*at, name), target.get(name, MISSING), value


def _merged(patch: Json, work: Work) -> Json:
    """The patch applied to nothing: its nulls, but for those in arrays, vanish. Itself, if it has
    none.
    """
    if type(patch) is not dict or not _has_null(patch, work):
        return patch
    merged: dict[str, Json] = {}
    todo = [(merged, patch)]
    while todo:
        into, wanted = todo.pop()
        for name, value in wanted.items():
            work.charge(_MEMBER_STEPS)
            if type(value) is dict:
                below: dict[str, Json] = {}
                into[name] = below
                todo.append((below, value))
            elif value is not None:
                into[name] = value
        if len(into) > WIDE:
            untrack(into)
    return merged


def _has_null(patch: dict[str, Json], work: Work) -> bool:
    """Whether a member of it is null, at any depth outside arrays."""
    todo = [patch]
    while todo:
        values = iter(todo.pop().values())
        while some := list(islice(values, _SLICE)):
            work.charge(1 + len(some) // _LOOKED_AT)
            if None in some:
                return True
            todo += [value for value in some if type(value) is dict]
    return False
