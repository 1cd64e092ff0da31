"""What operations need: each with the rights and the places, named for the document."""

from __future__ import annotations

import pytest

from triode.store.change import Position
from triode.store.demand import demands
from triode.store.filter import tells_elements_apart
from triode.store.operation import (
    Append,
    Batch,
    Delete,
    Increment,
    Merge,
    Operation,
    Patch,
    Set,
)
from triode.store.value import Json

ROOT: Json = {"a": {"b": 1, "0": 2}, "l": [{"x": 1}, [2]]}
AT = Position("e", 1)


@pytest.mark.parametrize(
    ("op", "needs"),
    [
        (Set(("a", "b"), 1), ["write .a.b"]),
        (Set((), 1), ["write ."]),
        (Set(("l", "0"), 1), ["write .l[0]"]),
        (Set(("a", "0"), 1), ['write .a["0"]']),
        (Set(("l", "-"), 1), ["write .l[2]"]),
        (Set(("l", -1), 1), ["write .l[-1]"]),
        (Set(("a", "c", "d"), 1, create=True), ["write .a.c.d", "write .a.c"]),
        (Set(("a", "b"), 1, create=True), ["write .a.b", "write .a.b"]),
        (Set(("a", "b"), 1, if_position=AT), ["write .a.b", "read .a.b"]),
        (Merge(("a",), {"b": None}), ["write .a"]),
        (Append(("l",), 1), ["write .l"]),
        (Increment(("a", "b")), ["write .a.b", "read .a.b"]),
        (Delete(("a", "0")), ['write .a["0"]']),
        (Delete(("l", "1")), ["write .l[1]", "shift .l[*]"]),
        (Delete(("l", -1)), ["write .l[-1]", "shift .l[*]"]),
        (
            Batch((Delete(("a",)), Set(("l",), 1)), if_position=AT),
            ["read .", "write .a", "write .l"],
        ),
        (Patch(("a",), [{"op": "add", "path": "/c", "value": 1}]), ["write .a"]),
        (Patch((), [{"op": "replace", "path": "/l/0", "value": 1}]), ["write ."]),
        (Patch(("a",), [{"op": "test", "path": "/b", "value": 1}]), ["write .a", "read .a.b"]),
        (Patch(("a",), [{"op": "test", "path": "", "value": 1}]), ["write .a", "read .a"]),
        (Patch((), [{"op": "copy", "from": "/a/b", "path": "/c"}]), ["write .", "read .a.b"]),
        (
            Patch(("l",), [{"op": "move", "from": "/1/0", "path": "/0"}]),
            ["write .l", "read .l[1][0]", "shift .l[1][*]", "shift .l[*]"],
        ),
        (Patch(("l",), [{"op": "remove", "path": "/0"}]), ["write .l", "shift .l[*]"]),
        (Patch(("l", 0), [{"op": "add", "path": "", "value": 1}]), ["write .l[0]"]),
        # The plan refuses these, whatever the rights.
        (Patch(("a",), "x"), ["write .a"]),
        (Patch(("a",), [1, {}, {"op": "test"}, {"op": "copy", "from": "b"}]), ["write .a"]),
        (Patch(("a",), [{"op": "test", "path": "/~2", "value": 1}]), ["write .a"]),
    ],
    ids=repr,
)
def test_needs(op: Operation, needs: list[str]) -> None:
    assert [" ".join(demand) for demand in demands(ROOT, op)] == needs


def test_an_array_that_is_the_root() -> None:
    assert [" ".join(demand) for demand in demands([1, 2], Delete((0,)))] == [
        "write [0]",
        "shift [*]",
    ]


@pytest.mark.parametrize("text", [".a[0]", ".a[-1].b", "/a/0", ".a[1:]", "$.a[0]", "$.a[?@.b]"])
def test_filters_that_tell_elements_apart(text: str) -> None:
    assert tells_elements_apart(text)


@pytest.mark.parametrize("text", [".", ".a", ".a[*].b", ".a.*", ".a[x=1]", "..a", "/a/b"])
def test_filters_that_do_not(text: str) -> None:
    assert not tells_elements_apart(text)
