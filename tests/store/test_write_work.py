"""What writes cost: steps, counted exactly by a meter, never seconds. And the bytes they add."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.test_document import ROOTS, SINGLE
from triode.limits.meter import Meter
from triode.store.change import Whole
from triode.store.document import Document
from triode.store.filter import parse_filter
from triode.store.keeper import KEPT_BYTES
from triode.store.open_arrays import OpenArrays
from triode.store.operation import (
    Append,
    Batch,
    Delete,
    Full,
    Invalid,
    Merge,
    Operation,
    Patch,
    Set,
    WriteError,
)
from triode.store.plan import MAX_EDITS
from triode.store.store import Store
from triode.store.value import weigh
from triode.store.work import TooCostly


def steps(root: Any, op: Operation) -> int:
    meter = Meter(10**9)
    Document(root).plan(op, meter)
    return meter.spent


def wide(count: int) -> dict[str, Any]:
    return {f"k{number}": number for number in range(count)}


def removals(count: int) -> tuple[Any, Patch]:
    steps = [{"op": "remove", "path": f"/a/{number}/0"} for number in range(count)]
    return {"a": [[1, 2] for _ in range(count)]}, Patch((), steps)


def chain(depth: int, each: int, value: int) -> dict[str, Any]:
    root: dict[str, Any] = {}
    node = root
    for _ in range(depth):
        node.update({f"x{number}": value for number in range(each)})
        node["d"] = {}
        node = node["d"]
    return root


class TestSteps:
    @pytest.mark.parametrize(
        "make",
        [
            pytest.param(removals, id="removals in many arrays"),
            # Up to 2000 members it is told member by member, and beyond as one.
            pytest.param(lambda n: ({}, Merge((), wide(4 * n))), id="wide merge"),
            pytest.param(
                lambda n: (chain(200, n // 100, 1), Merge((), chain(200, n // 100, 2))),
                id="deep and wide merge",
            ),
            pytest.param(lambda n: ({}, Set(("a",), wide(n))), id="large value"),
            pytest.param(lambda n: ({"a": wide(n)}, Merge(("a",), wide(n))), id="the same again"),
        ],
    )
    def test_in_proportion(self, make: Any) -> None:
        """Twice the input is twice the work, and it is charged."""
        small, large = steps(*make(4000)), steps(*make(8000))
        assert small > 500
        assert 1.5 * small < large < 2.5 * small

    def test_refused_before_anything_is_done(self) -> None:
        root, op = removals(1000)
        store = Store(root, epoch="e", history_items=10, history_bytes=10**6)
        before = copy.deepcopy(root)
        with pytest.raises(TooCostly):
            store.submit(op, time_ms=1, work=Meter(1000))
        assert (store.document.root, store.seq, store.history.items) == (before, 0, 0)

    def test_a_refused_write_can_be_planned_again(self) -> None:
        """The value of an operation is not touched by a plan that was given up."""
        root, op = removals(500)
        for limit in range(1000, 8000, 700):
            with pytest.raises(TooCostly):
                Document(root).plan(op, Meter(limit % 4000))
        assert root == removals(500)[0]
        document = Document(root)
        for edit in document.plan(op):
            document.apply(edit)
        assert document.root == {"a": [[2]] * 500}

    def test_steps_are_microseconds(self) -> None:
        """Within a factor of ten: no kind of work is nearly free."""
        cases: list[tuple[Any, Operation]] = [removals(8000), ({}, Merge((), wide(50_000)))]
        for root, op in cases:
            charged = steps(root, op)
            began = time.process_time()
            Document(root).plan(op)
            took_us = (time.process_time() - began) * 1e6
            assert took_us < 10 * charged

    def test_too_many_operations_before_their_conditions(self) -> None:
        store = Store({}, epoch="e", history_items=10, history_bytes=10**6)
        op = Set(("a",), 1, if_position=store.position)
        meter = Meter(10**6)
        with pytest.raises(Invalid, match="10000"):
            store.submit(Batch((op,) * 10_001), time_ms=1, work=meter)
        assert meter.spent == 0


class TestManyEdits:
    def test_become_one(self) -> None:
        root, op = removals(MAX_EDITS + 1)
        root["b"] = 1
        (edit,) = Document(root).plan(op)
        assert isinstance(edit, Whole)
        assert edit == Whole(("a",), [[1, 2]] * (MAX_EDITS + 1), [[2]] * (MAX_EDITS + 1))

    def test_up_to_the_bound_stay(self) -> None:
        assert len(Document({}).plan(Merge((), wide(MAX_EDITS)))) == MAX_EDITS
        (edit,) = Document({"z": 1}).plan(Merge((), wide(MAX_EDITS + 1)))
        assert edit == Whole((), {"z": 1}, {"z": 1} | wide(MAX_EDITS + 1))

    def test_merge_shares_what_it_does_not_name(self) -> None:
        kept: dict[str, Any] = {"x": 1}
        target = {"kept": kept, "gone": 1, "deep": {"y": 1}}
        patch = wide(MAX_EDITS + 1) | {"gone": None, "deep": {"z": {"n": None}}}
        document = Document(target)
        (edit,) = document.plan(Merge((), patch))
        assert target == {"kept": kept, "gone": 1, "deep": {"y": 1}}
        document.apply(edit)
        expected = {"kept": {"x": 1}, "deep": {"y": 1, "z": {}}} | wide(MAX_EDITS + 1)
        assert document.root == expected
        assert document.get(("kept",)) is kept

    def test_the_history_begins_anew(self) -> None:
        store = Store({"a": 1}, epoch="e", history_items=10, history_bytes=10**7)
        store.submit(Set(("a",), 2), time_ms=1)
        store.submit(Merge((), wide(MAX_EDITS + 1)), time_ms=1)
        assert (store.history.items, store.history.last_seq) == (0, 2)


class TestKept:
    def test_what_is_copied_for_one_change_is_bounded(self) -> None:
        """10 000 toggles of an element of 56 KB copied it each time: 38 s and 2 GB."""
        root = {"items": [{"status": "open", "text": "x" * 60_000, "l": [1]}]}
        store = Store(root, epoch="e", history_items=10, history_bytes=10**6)
        selection = store.index.add(parse_filter(".items[status=open]"), store.document.root)
        ops = [Set(("items", 0, "status"), "open" if n % 2 else "shut") for n in range(400)]
        found = store.submit(Batch(tuple(ops)), time_ms=1).matched
        assert {each for each, _ in found} == {selection}
        updates = [event for _, events in found for event in events if event.kind == "update"]
        assert 0 < len({id(event.value) for event in updates}) * 60_000 <= KEPT_BYTES + 2 * 60_000
        assert any(event.kind == "snapshot" for _, events in found for event in events)


class Charges:
    """Each charge, in order."""

    left = 10**9

    def __init__(self) -> None:
        self.all: list[int] = []

    def charge(self, steps: int) -> None:
        self.all.append(steps)


LONG = 1_000_000


@pytest.mark.parametrize(
    "op",
    [
        Delete(("a", 0)),
        Delete(("a", -1)),
        Patch((), [{"op": "add", "path": "/a/0", "value": 1}]),
        Patch((), [{"op": "copy", "from": "/a", "path": "/b"}]),
        Patch((), [{"op": "copy", "from": "", "path": "/b"}]),
        Batch((Set(("x",), 1), Delete(("a", 0)), Set(("a", 5), 1))),
    ],
)
def test_a_long_array_is_copied_in_slices_and_costs_what_it_did(op: Operation) -> None:
    """Between two charges others may have their turn: copied at once, it held them up 40 ms."""
    work = Charges()
    edits = Document({"a": [0] * LONG}).plan(op, work)
    # A turn is 2 000 steps; the largest is that of looking at a slice.
    assert max(work.all) <= 16_384 // 8 + 1
    assert sum(work.all) >= LONG // 64
    assert edits


@pytest.mark.parametrize("index", [0, -1])
def test_the_list_that_a_long_array_was_is_left_to_be_freed_little_by_little(index: int) -> None:
    store = Store({"a": [0] * LONG}, epoch="e", history_items=9, history_bytes=10**6)
    before = store.document.get(("a",))
    store.submit(Delete(("a", index)), time_ms=1)
    assert [one for one in store.discarded if one is before]
    store.submit(Set(("a",), [1, 2]), time_ms=2)
    short = len(store.discarded)
    store.submit(Delete(("a", 0)), time_ms=3)
    assert len(store.discarded) == short


def test_what_costs_too_much_is_not_copied_in_part() -> None:
    work = Meter(LONG // 64 - 10)
    with pytest.raises(TooCostly) as raised:
        Document({"a": [0] * LONG}).plan(Delete(("a", 0)), work)
    assert raised.value.cost == work.spent >= LONG // 64


def repeat(store: Store, op: Operation) -> None:
    for _ in range(100):
        store.submit(op, time_ms=1)


class TestBytes:
    @given(ROOTS, st.lists(SINGLE, max_size=6))
    def test_the_count_is_the_weight(self, root: Any, ops: list[Any]) -> None:
        store = Store(copy.deepcopy(root), epoch="e", history_items=10, history_bytes=10**6)
        for op in [*ops, Batch(tuple(ops))]:
            try:
                store.submit(copy.deepcopy(op), time_ms=1)
            except WriteError:
                pass
            assert store.bytes == weigh(store.document.root)[0]

    def test_doubling_by_copies_ends(self) -> None:
        store = Store(
            {"a": ["x" * 96]}, epoch="e", history_items=10, history_bytes=10**6, max_bytes=10_000
        )
        double = Patch((), [{"op": "copy", "from": "/a", "path": "/a/-"}])
        with pytest.raises(Full) as refused:
            repeat(store, double)
        assert refused.value.status == 507
        assert 5_000 < store.bytes == weigh(store.document.root)[0] <= 10_000
        store.submit(Set(("a",), []), time_ms=1)  # what makes it smaller is always possible
        assert store.bytes < 100

    def test_appends_end(self) -> None:
        store = Store({"a": []}, epoch="e", history_items=10, history_bytes=10**6, max_bytes=1000)
        with pytest.raises(Full):
            repeat(store, Append(("a",), "x" * 96))
        assert len(store.document.root["a"]) == 9  # type: ignore[index, call-overload]


@given(
    st.lists(st.lists(st.sampled_from("ab"), max_size=4).map(tuple), max_size=8),
    st.lists(st.sampled_from("ab"), max_size=4).map(tuple),
)
def test_open_arrays_against_a_scan(paths: list[Any], asked: Any) -> None:
    opened, naive = OpenArrays(), set[Any]()
    for path in paths:
        if opened.above(path) is not None:
            continue
        closed = opened.take_below(path)
        assert set(closed) == {other for other in naive if other[: len(path)] == path}
        naive -= set(closed)
        opened.add(path)
        naive.add(path)
    above = [asked[:depth] for depth in range(len(asked) + 1) if asked[:depth] in naive]
    assert opened.above(asked) == (above[0] if above else None)
    assert bool(opened) is bool(naive)
