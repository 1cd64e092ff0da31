"""JSON Patch, RFC 6902. Examples and corner cases: its appendix A, all of them in the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from triode.store.change import Edit
from triode.store.json_type import MISSING, equal_measured
from triode.store.operation import Invalid, NotFound, TestFailed, WriteError
from triode.store.path import Path, PathError, format_path, parse_pointer
from triode.store.resolve import existing, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from triode.store.json_type import Json
    from triode.store.operation import Patch
    from triode.store.plan import Plan

MAX_OPS: Final = 10_000
# For one operation of a patch, beside what it copies; an estimate, not measured yet.
_STEP_STEPS: Final = 8


def plan_patch(plan: Plan, op: Patch) -> None:
    """Plan all operations of a patch, each on what those before it left.

    Raises Invalid (400 when it is no JSON Patch), NotFound, TestFailed; the detail names the
    operation by its number, from 0.
    """
    base, _ = existing(plan.root, op.path)
    if type(op.patch) is not list:
        raise Invalid(op.path, "a JSON Patch is an array of operations", status=400)
    if len(op.patch) > MAX_OPS:
        raise Invalid(op.path, f"more than {MAX_OPS} operations in one patch")
    for number, step in enumerate(op.patch):
        plan.work.charge(_STEP_STEPS)
        try:
            _plan_step(plan, base, step)
        except WriteError as exc:
            exc.detail = f"patch operation {number}: {exc.detail}"
            raise


def _plan_step(plan: Plan, base: Path, step: Any) -> None:
    if type(step) is not dict:
        raise Invalid(base, "an operation is an object", status=400)
    name = step.get("op")
    if type(name) is not str or name not in _STEPS:
        raise Invalid(base, f"op is one of {', '.join(_STEPS)}", status=400)
    _STEPS[name](plan, base, step)


def _pointer(plan: Plan, base: Path, step: dict[str, Any], member: str) -> Path:
    text = step.get(member)
    if type(text) is not str:
        raise Invalid(base, f"{member} must be a JSON Pointer", status=400)
    if text == "":
        return base
    if text[0] != "/":
        raise Invalid(base, f"{member}: a JSON Pointer begins with '/'", status=400)
    try:
        pointer = (*base, *parse_pointer(text, PathError))
    except PathError as exc:
        raise Invalid(base, f"{member}: {exc}", status=400) from exc
    plan.work.charge(len(pointer) // 4)
    return pointer


def _value(base: Path, step: dict[str, Any]) -> Json:
    if "value" not in step:
        raise Invalid(base, "value is missing", status=400)
    return step["value"]  # type: ignore[no-any-return] # JSON


def _add(plan: Plan, base: Path, step: dict[str, Any]) -> None:
    _put(plan, base, _pointer(plan, base, step, "path"), _value(base, step))


def _put(plan: Plan, base: Path, pointer: Path, value: Json) -> None:
    """The effect of `add`: insert before an element, create or replace anything else.

    The patch's own root is replaced, even where it is an element of an array.
    """
    path, before = resolve(plan.root, pointer)
    if before is not MISSING and pointer != base and type(path[-1]) is int:
        plan.insert(path, value)
    else:
        plan.record(Edit(path, before, value))


def _remove(plan: Plan, base: Path, step: dict[str, Any]) -> None:
    path, before = existing(plan.root, _removable(base, _pointer(plan, base, step, "path")))
    plan.remove(path, before)


def _removable(base: Path, pointer: Path) -> Path:
    if pointer == base:
        raise Invalid(base, "the root of a patch cannot be removed")
    return pointer


def _replace(plan: Plan, base: Path, step: dict[str, Any]) -> None:
    pointer, value = _pointer(plan, base, step, "path"), _value(base, step)
    path, before = existing(plan.root, pointer)
    plan.record(Edit(path, before, value))


def _move(plan: Plan, base: Path, step: dict[str, Any]) -> None:
    pointer, source = _pointer(plan, base, step, "path"), _pointer(plan, base, step, "from")
    path, value = existing(plan.root, source)
    if pointer == source:
        return
    if pointer[: len(source)] == source:
        raise Invalid(path, "a value cannot be moved into itself")
    moved = plan.copied(value, pointer)
    plan.remove(path, value)
    _put(plan, base, pointer, moved)


def _copy(plan: Plan, base: Path, step: dict[str, Any]) -> None:
    pointer, source = _pointer(plan, base, step, "path"), _pointer(plan, base, step, "from")
    _, value = existing(plan.root, source)
    _put(plan, base, pointer, plan.copied(value, pointer))


def _test(plan: Plan, base: Path, step: dict[str, Any]) -> None:
    pointer, wanted = _pointer(plan, base, step, "path"), _value(base, step)
    try:
        path, found = existing(plan.root, pointer)
    except NotFound as exc:
        raise TestFailed(pointer, exc.detail, about=exc.about) from exc
    if not equal_measured(found, wanted, plan.work):
        raise TestFailed(path, f"{format_path(path)} has another value")


_STEPS: Final[dict[str, Callable[[Plan, Path, dict[str, Any]], None]]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
