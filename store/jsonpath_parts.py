"""The parts of a JSONPath that is ready: functions that select, test and compare (RFC 9535).

The compiler (`store.jsonpath`) puts them together. Each charges for what it looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from triode.store.condition import comparable
from triode.store.path import Path
from triode.store.segment import Node
from triode.store.value import MISSING, Json, Missing, equal
from triode.store.work import Work

# Two strings are compared by the processor, so many characters in a microsecond.
CHARS_A_STEP_LOG2: Final = 12


class Run:
    """One evaluation: its document, and what is charged for it."""

    __slots__ = ("root", "take", "work")

    def __init__(self, root: Json, work: Work) -> None:
        self.root = root
        self.work = work
        self.take = work.charge


Step = Callable[[Iterable[Node], Run], Iterator[Node]]
Selector = Callable[[Path, Json, Run], Iterable[Node]]
Logical = Callable[[Json, Run], bool]
Value = Callable[[Json, Run], Json | Missing]
Nodes = Callable[[Json, Run], Iterator[Node]]


def chain(steps: tuple[Step, ...], path: Path, value: Json, run: Run) -> Iterator[Node]:
    nodes: Iterable[Node] = ((path, value),)
    for step in steps:
        nodes = step(nodes, run)
    return iter(nodes)


def follow(keys: Path, value: Json, run: Run) -> Iterator[Node]:
    """What ``chain`` gives for single names and indexes: nearly all conditions are ``@.name``."""
    run.take(1 + len(keys) // 4)
    for key in keys:
        if isinstance(key, str):
            if not isinstance(value, dict) or key not in value:
                return
            value = value[key]
        elif isinstance(value, list) and key < len(value):
            value = value[key]
        else:
            return
    yield (), value


def children(path: Path, value: Json, run: Run) -> Iterator[Node]:
    for key, child in _items(value, run):
        yield (*path, key), child


def _items(value: Json, run: Run) -> Iterator[tuple[str | int, Json]]:
    items: Iterable[tuple[str | int, Json]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for item in items:
        run.take(1)
        yield item


def having(holds: Logical) -> Selector:
    def having(path: Path, value: Json, run: Run) -> Iterator[Node]:
        for key, child in _items(value, run):
            if holds(child, run):
                yield (*path, key), child

    return having


def member_of(name: str) -> Selector:
    def member(path: Path, value: Json, run: Run) -> Iterable[Node]:
        if isinstance(value, dict) and name in value:
            return (((*path, name), value[name]),)
        return ()

    return member


def element_of(index: int) -> Selector:
    def element(path: Path, value: Json, run: Run) -> Iterable[Node]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            at = index % len(value)
            return (((*path, at), value[at]),)
        return ()

    return element


def slice_of(bounds: slice) -> Selector:
    def elements(path: Path, value: Json, run: Run) -> Iterator[Node]:
        if isinstance(value, list) and bounds.step != 0:
            for at in range(*bounds.indices(len(value))):
                run.take(1)
                yield (*path, at), value[at]

    return elements


def conjunction(operands: list[Logical]) -> Logical:
    return lambda current, run: all(operand(current, run) for operand in operands)


def disjunction(operands: list[Logical]) -> Logical:
    return lambda current, run: any(operand(current, run) for operand in operands)


def comparison(left: Value, operator: str, right: Value) -> Logical:
    """RFC 9535 section 2.3.5.2.2: everything is made of ``==`` and ``<``."""

    def compare(current: Json, run: Run) -> bool:
        run.take(1)
        a, b = left(current, run), right(current, run)
        if isinstance(a, str) and isinstance(b, str):
            run.take(min(len(a), len(b)) >> CHARS_A_STEP_LOG2)
        if operator == "==":
            return _same(a, b, run)
        if operator == "!=":
            return not _same(a, b, run)
        if operator in (">", ">="):
            a, b = b, a
        return _less(a, b) or (operator in ("<=", ">=") and _same(a, b, run))

    return compare


def _same(a: Json | Missing, b: Json | Missing, run: Run) -> bool:
    if a is MISSING or b is MISSING:
        return a is b
    todo = [iter(((a, b),))]
    while todo:
        for one, other in todo[-1]:
            run.take(1)
            if isinstance(one, dict) and isinstance(other, dict):
                if len(one) != len(other) or not all(key in other for key in one):
                    return False
                todo.append(iter([(one[key], other[key]) for key in one]))
                break
            if isinstance(one, list) and isinstance(other, list):
                if len(one) != len(other):
                    return False
                todo.append(zip(one, other, strict=True))
                break
            if not equal(one, other):
                return False
        else:
            todo.pop()
    return True


def _less(a: Json | Missing, b: Json | Missing) -> bool:
    return comparable(a, b) and a < b  # type: ignore[operator] # numbers or texts, both


def only(nodes: Nodes) -> Value:
    """The value of the one node, MISSING when there is none or there are more."""

    def only(current: Json, run: Run) -> Json | Missing:
        found = list(islice(nodes(current, run), 2))
        return found[0][1] if len(found) == 1 else MISSING

    return only


def length(of: Value) -> Value:
    def length(current: Json, run: Run) -> Json | Missing:
        value = of(current, run)
        return len(value) if isinstance(value, (str, dict, list)) else MISSING

    return length
