"""The view of `triode watch`: always what the filter selects, and each difference told once."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from triode.app.cli.view import View, Views, leaf_edits, leaves
from triode.store.change import Edit
from triode.store.filter import parse_filter
from triode.store.operation import Append, Delete, Merge, Operation, Set, WriteError
from triode.store.path import Path, format_path
from triode.store.store import Store
from triode.store.value import MISSING, equal

FILTERS = [".", ".a", ".a.*", ".a[*]", ".*.b", ".a[0]", "..b", ".a[b=1]", ".*[b=1]", "$..b"]
EMPTY: list[Any] = [{}, []]
names = st.sampled_from(["a", "b", "c"])
scalars = st.sampled_from([None, True, 0, 1, 1.5, "x"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
paths = st.lists(names | st.integers(0, 2), max_size=3).map(tuple)
operations: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Set, paths, values, st.booleans()),
    st.builds(Merge, paths, values),
    st.builds(Delete, paths),
    st.builds(Append, paths, values),
)


def frame(path: Path, value: Any) -> tuple[str, dict[str, Any]]:
    if value is MISSING:
        return "delete", {"path": format_path(path)}
    return "update", {"path": format_path(path), "value": value}


def snapshot(store: Store, text: str) -> dict[str, Any]:
    nodes = parse_filter(text).select(store.document.root)
    return {"items": [{"path": format_path(path), "value": copy(value)} for path, value in nodes]}


def copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: copy(member) for name, member in value.items()}
    if isinstance(value, list):
        return [copy(element) for element in value]
    return value


def same(a: dict[Path, Any], b: dict[Path, Any]) -> bool:
    return a.keys() == b.keys() and all(equal(a[path], b[path]) for path in a)


@given(st.sampled_from(FILTERS), values, st.lists(operations, max_size=8))
def test_the_view_is_what_the_filter_selects(text: str, root: Any, writes: list[Operation]) -> None:
    store = Store(copy(root), epoch="e", history_items=10, history_bytes=10_000)
    selection = store.index.add(parse_filter(text), store.document.root)
    view = View()
    list(view.take("snapshot", snapshot(store, text)))
    for op in writes:
        before = dict(view.leaves())
        try:
            committed = store.submit(op, time_ms=0)
        except WriteError:
            continue
        for owed, events in committed.matched:
            assert owed is selection
            for event in events:
                told: list[Edit] = []
                if event.kind == "snapshot":
                    told += view.take("snapshot", snapshot(store, text))
                else:
                    told += view.take(*frame(event.path, copy(event.value)))
                after = dict(view.leaves())
                check(before, after, told)
                before = after
        wanted = View()
        list(wanted.take("snapshot", snapshot(store, text)))
        assert same(dict(view.leaves()), dict(wanted.leaves()))


def check(before: dict[Path, Any], after: dict[Path, Any], told: list[Edit]) -> None:
    """Every leaf that differs is told of, with what it was and what it is."""
    last = {edit.path: edit.after for edit in told}
    for path in before.keys() | after.keys():
        old, new = before.get(path, MISSING), after.get(path, MISSING)
        if old is not MISSING and new is not MISSING and equal(old, new):
            continue
        # An empty container gives way to what is in it, and the other way round, without a word.
        if old not in EMPTY and new not in EMPTY:
            assert last[path] is new or equal(last[path], new)


def test_leaves_are_in_the_order_of_the_document() -> None:
    value: Any = {"b": [1, {"x": 2}], "a": {}, "c": None}
    assert list(leaves((), value)) == [
        (("b", 0), 1),
        (("b", 1, "x"), 2),
        (("a",), {}),
        (("c",), None),
    ]


def test_equal_leaves_are_not_told() -> None:
    edit = Edit(("a",), {"x": 1, "y": [1, 2]}, {"x": 1.0, "y": [1, 3, 4]})
    assert list(leaf_edits(edit)) == [
        Edit(("a", "y", 1), 2, 3),
        Edit(("a", "y", 2), MISSING, 4),
    ]
    assert list(leaf_edits(Edit((), 1, True))) == [Edit((), 1, True)]


def test_a_deep_value_is_no_deep_recursion() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    (edit,) = leaf_edits(Edit((), MISSING, deep))
    assert len(edit.path) == 5000


def test_a_snapshot_counts_when_it_is_whole() -> None:
    views = Views()
    begin = {"filter": ".*", "items": [{"path": ".a", "value": 1}], "more": True}
    end = {"filter": ".*", "items": [{"path": ".b", "value": 2}], "more": False}
    assert views.take("snapshot", begin) == []
    assert len(views.take("snapshot", end)) == 2
    # the same again after a reconnect
    assert views.take("snapshot", begin) + views.take("snapshot", end) == []
    assert views.leaves(10) == {("a",): 1, ("b",): 2}
    assert views.leaves(1) == {("a",): 1}


def test_a_change_that_comes_twice_is_harmless() -> None:
    view = View()
    items: list[Any] = [{"path": ".", "value": {"a": [1]}}]
    list(view.take("snapshot", {"items": items}))
    assert len(list(view.take("update", {"path": ".a[1]", "value": 2}))) == 1
    assert list(view.take("update", {"path": ".a[1]", "value": 2})) == []
    assert len(list(view.take("delete", {"path": ".a[1]"}))) == 1
    assert list(view.take("delete", {"path": ".a[1]"})) == []
    assert list(view.take("update", {"path": ".a[7]", "value": 2})) == []


def test_other_events_change_nothing() -> None:
    assert Views().take("message", {"room": "r"}) == []
