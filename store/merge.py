"""JSON Merge Patch, RFC 7396, as the smallest edits that do it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triode.store.change import Edit
from triode.store.json_type import MISSING, equal
from triode.store.resolve import locate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.store.json_type import Json, Missing
    from triode.store.operation import Merge
    from triode.store.plan import Plan


def plan_merge(plan: Plan, op: Merge) -> None:
    """Plan one edit for each member that is changed, none for what is the same already.

    A target that is no object, or is missing, is replaced by what the patch makes of `{}`; a patch
    that is no object replaces the target. Raises NotFound when the parent is missing.
    """
    path, target = locate(plan.root, op.path)
    # All places are read before the first is recorded; they lie beside each other.
    for edit in list(_edits(path, target, op.patch)):
        plan.record(edit)


def _edits(path: tuple[str | int, ...], target: Any, patch: Json) -> Iterator[Edit]:
    if type(patch) is not dict or type(target) is not dict:
        after = _merged(patch)
        if not equal(target, after):
            yield Edit(path, target, after)
        return
    for name, value in patch.items():
        before: Json | Missing = target.get(name, MISSING)
        if value is not None:
            yield from _edits((*path, name), before, value)
        elif before is not MISSING:
            yield Edit((*path, name), before, MISSING)


def _merged(patch: Json) -> Json:
    """The patch applied to nothing: its nulls, but for those in arrays, vanish."""
    if type(patch) is not dict:
        return patch
    return {name: _merged(value) for name, value in patch.items() if value is not None}
