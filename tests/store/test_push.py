"""`push`: the names that it gives, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triode.store.demand import demands
from triode.store.lineage import Lineage
from triode.store.operation import Batch, Invalid, NotFound, Push, Set, Taken, WriteError
from triode.store.path import format_path
from triode.store.push_key import push_key
from triode.store.store import Store
from triode.store.value import Json

number = st.integers(0, 2**60) | st.integers(0, 1100)


def store_of(root: Json, *, log: bool = True) -> Store:
    store = Store(root, epoch="e0", history_items=9, history_bytes=10_000)
    if log:
        store.begin_log(Lineage("e0"))
    return store


@given(number, number, number, number)
def test_names_are_unique_and_in_the_order_of_the_writes(a: int, i: int, b: int, j: int) -> None:
    one, other = push_key(a, i), push_key(b, j)
    assert (one < other) == ((a, i) < (b, j))
    assert (one == other) == ((a, i) == (b, j))
    tailed = push_key(a, i, "tail"), push_key(b, j, "tail")
    assert (tailed[0] < tailed[1]) == ((a, i) < (b, j))
    assert format_path((one, tailed[0])) == f".{one}.{tailed[0]}", "plain in a path"


def test_a_member_is_added_under_the_number_of_the_change() -> None:
    store = store_of({"a": {"x": 1}, "n": 0})
    store.submit(Push(("a",), "one"), time_ms=0)
    store.submit(Set(("n",), 1), time_ms=0)
    store.submit(Push(("a",), {"two": 2}), time_ms=0)
    assert store.document.root == {"a": {"x": 1, "a1": "one", "a3": {"two": 2}}, "n": 1}
    assert store.pushed_key(3) == "a3"


def test_a_missing_object_is_made() -> None:
    store = store_of({})
    store.submit(Push(("a",), 1), time_ms=0)
    assert store.document.root == {"a": {"a1": 1}}


def test_those_of_a_batch_have_names_of_their_own() -> None:
    store = store_of({})
    store.submit(
        Batch((Push(("a",), 0), Set(("n",), 1), Push(("b",), 1), Push(("a",), 2))), time_ms=0
    )
    assert store.document.root == {"a": {"a1": 0, "a1a2": 2}, "b": {"a1a1": 1}, "n": 1}
    assert [store.pushed_key(1, nth) for nth in range(3)] == ["a1", "a1a1", "a1a2"]


@pytest.mark.parametrize(
    ("op", "kind"),
    [
        (Push(("list",), 1), Invalid),
        (Push(("n",), 1), Invalid),
        (Push(("none", "deep"), 1), NotFound),
        (Push(("taken",), 1), Taken),
    ],
)
def test_refused(op: Push, kind: type[WriteError]) -> None:
    root: Json = {"list": [], "n": 1, "taken": {"a1": 0}}
    store = store_of(root)
    with pytest.raises(kind):
        store.submit(op, time_ms=0)
    assert store.seq == 0


def test_without_a_log_names_are_those_of_the_process() -> None:
    """Its numbers begin anew, and the document it begins with may hold names of an earlier one."""
    store = store_of({"a": {"a1": 0, "a1_before": 0}}, log=False)
    store.submit(Push(("a",), 1), time_ms=0)
    assert store.document.root == {"a": {"a1": 0, "a1_before": 0, "a1_e0": 1}}


@pytest.mark.parametrize(
    ("path", "needs"),
    [
        (("a",), ["write .a.*"]),
        ((), ["write .*"]),
        (("none",), ["write .none.*", "write .none"]),
    ],
)
def test_what_it_needs(path: tuple[str, ...], needs: list[str]) -> None:
    found = [f"{right} {text}" for right, text in demands({"a": {}}, Push(path, 1))]
    assert found == needs
