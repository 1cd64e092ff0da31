"""The segments of a filter: each takes the nodes selected so far and yields the nodes one step on.

A node is ``(path, value)``. Segments are generators chained together, so nothing is built that
nobody asks for, and a selection is in the order of RFC 9535 nodelists: as the document is
written, an ancestor before what is below.

A kind that does not fit selects nothing: ``.name`` of an array, ``[0]`` of an object, anything of
a scalar. No filter of ours selects a place twice. That needs care in one segment only,
``Descent``: there the nodes that come in can lie inside each other. All others turn nodes at
different places into nodes at different places (``Conditions`` keeps an object or goes to the
elements of an array; an element and its array both come in only if an element is named, and
descent ends in a member).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from triode.store.condition import TESTS_A_STEP, Test
from triode.store.path import Path
from triode.store.value import MISSING, Json
from triode.store.work import Work

# Elements that are only looked at, and how many of them are one step.
LOOKED_AT_ONCE: Final = 512
LOOKED_A_STEP: Final = 8
PASSED_A_STEP: Final = 4

Node = tuple[Path, Json]


@dataclass(frozen=True, slots=True)
class Name:
    """``.name`` or ``["any key"]``: the member of an object."""

    key: str

    def select(self, nodes: Iterable[Node], work: Work) -> Iterator[Node]:
        for path, value in nodes:
            work.charge(1 + (len(path) >> 6))
            if isinstance(value, dict) and self.key in value:
                yield (*path, self.key), value[self.key]


@dataclass(frozen=True, slots=True)
class Index:
    """``[3]`` or ``[-1]``: the element of an array; selected paths never hold negative indexes."""

    i: int

    def select(self, nodes: Iterable[Node], work: Work) -> Iterator[Node]:
        for path, value in nodes:
            work.charge(1 + (len(path) >> 6))
            if isinstance(value, list) and -len(value) <= self.i < len(value):
                i = self.i if self.i >= 0 else len(value) + self.i
                yield (*path, i), value[i]


@dataclass(frozen=True, slots=True)
class Token:
    """An index-like token of an RFC 6901 pointer, ``/0``: an element or a member, as it comes.

    Such a token has no fixed key, so a filter with one is not ``indexable``.
    """

    text: str

    def select(self, nodes: Iterable[Node], work: Work) -> Iterator[Node]:
        for path, value in nodes:
            work.charge(1 + (len(path) >> 6))
            if isinstance(value, dict) and self.text in value:
                yield (*path, self.text), value[self.text]
            elif isinstance(value, list) and int(self.text) < len(value):
                yield (*path, int(self.text)), value[int(self.text)]


@dataclass(frozen=True, slots=True)
class Elements:
    """``[*]``: every element of an array."""

    def select(self, nodes: Iterable[Node], work: Work) -> Iterator[Node]:
        for path, value in nodes:
            work.charge(1 + (len(path) >> 6))
            if isinstance(value, list):
                for i, element in enumerate(value):
                    work.charge(1)
                    yield (*path, i), element


@dataclass(frozen=True, slots=True)
class Members:
    """``.*``: every member of an object."""

    def select(self, nodes: Iterable[Node], work: Work) -> Iterator[Node]:
        for path, value in nodes:
            work.charge(1 + (len(path) >> 6))
            if isinstance(value, dict):
                for key, member in value.items():
                    work.charge(1)
                    yield (*path, key), member


@dataclass(frozen=True, slots=True)
class Slice:
    """``[1:3]``: elements from ``start`` to before ``stop``; negative counts from the end."""

    start: int | None
    stop: int | None

    def select(self, nodes: Iterable[Node], work: Work) -> Iterator[Node]:
        for path, value in nodes:
            work.charge(1 + (len(path) >> 6))
            if isinstance(value, list):
                for i in range(*slice(self.start, self.stop).indices(len(value))):
                    work.charge(1)
                    yield (*path, i), value[i]


@dataclass(frozen=True, slots=True)
class Descent:
    """``..name``: the members called ``key`` of the node and of all that is below it."""

    key: str

    def select(self, nodes: Iterable[Node], work: Work) -> Iterator[Node]:
        # A node below one that was searched adds nothing. Ancestors always come first (as in any
        # pre-order), so the nodes searched so far are enough to know.
        searched: set[Path] = set()
        for path, value in nodes:
            if any(path[:depth] in searched for depth in range(len(path))):
                continue
            searched.add(path)
            for at, container in containers(path, value, work):
                work.charge(1)
                if isinstance(container, dict) and self.key in container:
                    yield (*at, self.key), container[self.key]


@dataclass(frozen=True, slots=True)
class Conditions:
    """``[a=1][b>2]``: of an array the elements that meet all tests; an object that does, itself."""

    tests: tuple[Test, ...]

    def select(self, nodes: Iterable[Node], work: Work) -> Iterator[Node]:
        cost = 1 + len(self.tests) // TESTS_A_STEP
        for path, value in nodes:
            work.charge(cost + (len(path) >> 6))
            if isinstance(value, list):
                for i, element in self._likely(value, work):
                    work.charge(cost)
                    if self.met(element):
                        yield (*path, i), element
            elif self.met(value):
                yield path, value

    def _likely(self, array: list[Json], work: Work) -> Iterable[tuple[int, Json]]:
        """The elements that Python's own `==` does not rule out: it also takes true for 1, but is
        ten times as quick, and most elements of a large array are somebody else's.
        """
        for test in self.tests:
            if test.op == "=":
                return _equal_members(array, test.key, test.literal, work)
        return enumerate(array)

    def met(self, value: Json) -> bool:
        """Whether ``value`` is an object that meets every test."""
        if not isinstance(value, dict):
            return False
        return all(test.holds(value.get(test.key, MISSING)) for test in self.tests)


Segment = Name | Index | Token | Elements | Members | Slice | Descent | Conditions


def _equal_members(
    array: list[Json], key: str, literal: Json, work: Work
) -> Iterator[tuple[int, Json]]:
    for start in range(0, len(array), LOOKED_AT_ONCE):
        work.charge(LOOKED_AT_ONCE // LOOKED_A_STEP)
        yield from [
            (i, element)
            for i, element in enumerate(array[start : start + LOOKED_AT_ONCE], start)
            if type(element) is dict and element.get(key, MISSING) == literal
        ]


def containers(path: Path, value: Json, work: Work) -> Iterator[Node]:
    """The node and everything below it that is an object or array, pre-order.

    Holds one iterator for each level, not a queue of all that is still to come, and does not
    recurse. What is passed on the way is charged, scalars too.
    """
    if not isinstance(value, (dict, list)):
        return
    yield path, value
    levels = [(path, _children(value))]
    passed = 0
    while levels:
        above, children = levels[-1]
        for key, child in children:
            passed += 1
            if passed == LOOKED_AT_ONCE:
                work.charge(LOOKED_AT_ONCE // PASSED_A_STEP)
                passed = 0
            if isinstance(child, (dict, list)):
                work.charge(1 + (len(above) >> 6))
                at = (*above, key)
                yield at, child
                levels.append((at, _children(child)))
                break
        else:
            levels.pop()


def _children(value: Json) -> Iterator[tuple[str | int, Json]]:
    if isinstance(value, dict):
        return iter(value.items())
    if isinstance(value, list):
        return iter(enumerate(value))
    return iter(())
