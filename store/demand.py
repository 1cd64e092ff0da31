"""What an operation needs the right to: the places that it writes, and those that it reads.

    demands(root, op) → write .orders["7"] · read .stock.apple · shift .queue[*]

An operation *reads* a place when its outcome tells something of the value there: the source of a
`copy` or `move`, a `test`, a condition (`if`), and the number that `increment` adds to (its bounds
would tell it by trial). A *shift* moves the elements of an array to other indexes. It is a write of
all of them, not only of the one that is removed or inserted.

Places are named for the document as it is before the operation. A token that meets an array is an
index, as `resolve` takes it: `.users.*` grants the members of an object, and `/users/0` is none
when `.users` is an array. An operation of several steps can change the kind of a container before
a later step goes through it. All that is there then was put there by its author, so nothing is
gained by it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from triode.store.json_type import MISSING
from triode.store.operation import Batch, Delete, Increment, Patch, Push, Set
from triode.store.path import Path, PathError, format_path, parse_pointer
from triode.store.resolve import token_index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from triode.store.json_type import Json, Missing
    from triode.store.operation import Operation

Right: TypeAlias = Literal["read", "write", "shift"]


class Demand(NamedTuple):
    """A right, and the filter for whose places it is needed."""

    right: Right
    filter: str


def parts(op: Operation) -> tuple[Operation, ...]:
    """The operations of a batch; any other operation alone."""
    return op.ops if isinstance(op, Batch) else (op,)


def demands(root: Json, op: Operation) -> Iterator[Demand]:
    """All that `op` needs; a batch needs what its parts need.

    Malformed steps of a patch need nothing: the plan refuses them.
    """
    if isinstance(op, Batch) and op.if_position is not None:
        yield Demand("read", ".")
    for part in parts(op):
        if not isinstance(part, Batch):
            yield from _of_one(root, part)


def named(root: Json, path: Path) -> Path:
    """`path`, its tokens that meet an array made indexes. Negative indexes stay as they are."""
    node: Any = root
    found = path
    for depth, segment in enumerate(path):
        index = segment
        if type(node) is list and type(segment) is str:
            index = token_index(segment, len(node))
            found = (*found[:depth], index, *found[depth + 1 :])
        node = _child(node, index)
    return found


def _of_one(root: Json, op: Operation) -> Iterator[Demand]:
    path = named(root, op.path)
    text = format_path(path)
    if isinstance(op, Push):
        yield Demand("write", f"{'' if text == '.' else text}.*")
        if not _is_there(root, path):  # it is made
            yield Demand("write", text)
    else:
        yield Demand("write", text)
    has_condition = op.if_position is not None or op.if_value is not None
    if has_condition or isinstance(op, Increment):
        yield Demand("read", text)
    if isinstance(op, Set) and op.create:
        yield Demand("write", format_path(_first_missing(root, path)))
    if isinstance(op, Delete):
        yield from _shift(root, path)
    if isinstance(op, Patch) and isinstance(op.patch, list):
        for step in op.patch:
            yield from _of_step(root, path, step)


def _of_step(root: Json, base: Path, step: Any) -> Iterator[Demand]:
    if not isinstance(step, dict):
        return
    name = step.get("op")
    path, source = _pointed(root, base, step, "path"), _pointed(root, base, step, "from")
    if name in ("copy", "move") and source is not None:
        yield Demand("read", format_path(source))
    if name == "move" and source is not None:
        yield from _shift(root, source)
    if name == "test" and path is not None:
        yield Demand("read", format_path(path))
    # The root of the patch is replaced, also where it is an element.
    if name in ("add", "remove", "copy", "move") and path is not None and path != base:
        yield from _shift(root, path)


def _pointed(root: Json, base: Path, step: dict[str, Any], member: str) -> Path | None:
    text = step.get(member)
    if text == "":
        return base
    if type(text) is not str or text[0] != "/":
        return None
    try:
        return named(root, (*base, *parse_pointer(text, PathError)))
    except PathError:
        return None


def _shift(root: Json, path: Path) -> Iterator[Demand]:
    if path and type(path[-1]) is int:
        parent = format_path(path[:-1]) if len(path) > 1 else ""
        yield Demand("shift", f"{parent}[*]")


def _is_there(root: Json, path: Path) -> bool:
    node: Any = root
    for segment in path:
        node = _child(node, segment)
    return node is not MISSING


def _first_missing(root: Json, path: Path) -> Path:
    """The outermost place on the way that is not there yet: what `create` makes."""
    node: Any = root
    for depth, segment in enumerate(path):
        node = _child(node, segment)
        if node is MISSING:
            return path[: depth + 1]
    return path


def _child(node: Any, segment: str | int) -> Json | Missing:
    if type(node) is dict and type(segment) is str:
        return node.get(segment, MISSING)  # type: ignore[no-any-return] # JSON all the way down
    if type(node) is list and type(segment) is int and -len(node) <= segment < len(node):
        return node[segment]  # type: ignore[no-any-return] # as above
    return MISSING
