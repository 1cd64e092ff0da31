"""The subscription index against the one promise: what is assembled is what is selected."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.oracle import (
    EDITS,
    EXAMPLES,
    View,
    documents,
    filters,
    find,
    mixed,
    operations,
    places,
    same_places,
    selected,
)
from triode.limits.meter import Meter
from triode.store.change import Edit
from triode.store.condition import Test
from triode.store.document import Document
from triode.store.evaluated import STALE
from triode.store.filter import Filter, parse_filter
from triode.store.index import Event, Index, Selection
from triode.store.operation import Delete, Set, WriteError
from triode.store.path import parse_path
from triode.store.value import MISSING, Json, equal
from triode.store.work import Work

# ---------------------------------------------------------------------------- the harness


class Watched:
    """A document, an index, and for each filter a client that assembles what it is sent."""

    def __init__(self, root: Json, texts: list[str]) -> None:
        self.document = Document(copy.deepcopy(root))
        self.index = Index()
        self.views: dict[Selection, View] = {}
        for text in texts:
            selection = self.index.add(parse_filter(text), self.document.root)
            self.views[selection] = View(selection.filter.select(self.document.root))

    def write(self, op: Any) -> dict[str, list[Event]]:
        """Write, check every promise, and give the events by filter text."""
        sent: dict[str, list[Event]] = {}
        for edit in self.document.plan(op):
            before = {s: set(selected(s.filter, self.document.root)) for s in self.views}
            self.document.apply(edit)
            root = self.document.root
            matched = self.index.match(root, edit)
            assert len({selection for selection, _ in matched}) == len(matched)
            for selection, events in matched:
                self._check(selection.filter, before[selection], events)
                self.views[selection].take(events)
                # Copied as the server encodes them: before the next edit.
                sent.setdefault(selection.filter.text, []).extend(copy.deepcopy(events))
            for selection, view in self.views.items():
                wanted = selected(selection.filter, root)
                assert same_places(view.places, wanted), (
                    f"{selection} after {edit}: holds {view.places}, should be {wanted}"
                )
        return sent

    def _check(self, filter: Filter, before: set[Any], events: list[Event]) -> None:
        """Nothing that the filter does not select is sent, nothing untrue, deletes first."""
        assert events
        root = self.document.root
        now = selected(filter, root)
        kinds = [event.kind for event in events]
        if "snapshot" in kinds:
            assert len(kinds) == 1
            assert not filter.indexable
            return
        for event in events:
            above = [event.path[:depth] for depth in range(len(event.path) + 1)]
            if event.kind == "update":
                assert any(path in now for path in above)
                assert event.value is not MISSING
                assert equal(find(root, event.path), event.value)
            else:
                assert event.kind == "delete"
                assert event.value is MISSING
                assert event.path not in now
                assert any(path in before for path in above)
        if filter.indexable:
            assert kinds == sorted(kinds)  # deletes, then updates
            order = list(now)
            updated = [event.path for event in events if event.path in now]
            assert updated == sorted(updated, key=order.index)


def sent(root: Json, filter: str, op: Any) -> list[tuple[str, Any, Any]]:
    """The events of one write for one filter."""
    events = Watched(root, [filter]).write(op).get(filter, [])
    return [(event.kind, event.path, event.value) for event in events]


def put(path: str, value: Json) -> Set:
    return Set(parse_path(path), value)


def delete(path: str) -> Delete:
    return Delete(parse_path(path))


def update_of(path: str, value: Json) -> tuple[str, Any, Any]:
    return ("update", parse_path(path), value)


def delete_of(path: str) -> tuple[str, Any, Any]:
    return ("delete", parse_path(path), MISSING)


# ---------------------------------------------------------------------------- the rules, one by one

ROOT: dict[str, Any] = {
    "users": [{"name": "Al", "status": "on"}, {"name": "Bo", "status": "off"}],
    "log": [1, 2, 3],
    "by": {"x": {"n": 1}, "y": {"n": 2}},
}

RULES: list[tuple[str, Any, list[Any]]] = [
    # at the selected place, below it, beside it
    (".users[0].name", put(".users[0].name", "Cy"), [update_of(".users[0].name", "Cy")]),
    (".users", put(".users[0].name", "Cy"), [update_of(".users[0].name", "Cy")]),
    (".", put(".users[0].name", "Cy"), [update_of(".users[0].name", "Cy")]),
    (".users[1]", put(".users[0].name", "Cy"), []),
    (".users[*].status", put(".users[0].name", "Cy"), []),
    (".users[*].name", put(".users[0].name", "Cy"), [update_of(".users[0].name", "Cy")]),
    # above it: cut down to the selection, with no look at whether the value differs
    (
        ".users[*].name",
        put(".users[0]", {"name": "Al", "status": "x"}),
        [update_of(".users[0].name", "Al")],
    ),
    (".users[*].name", put(".users[0]", {}), [delete_of(".users[0].name")]),
    (".by.*.n", put(".by", {"y": {"n": 3}}), [delete_of(".by.x.n"), update_of(".by.y.n", 3)]),
    (".by.*", delete(".by"), [delete_of(".by.x"), delete_of(".by.y")]),
    (".by.x", delete(".by.x.n"), [delete_of(".by.x.n")]),
    (".by.x.n", put(".by", []), [delete_of(".by.x.n")]),
    # elements that move: the array is what changed
    (".users[0]", delete(".users[0]"), [update_of(".users[0]", ROOT["users"][1])]),
    (".users[1].name", delete(".users[0]"), [delete_of(".users[1].name")]),
    (".log", delete(".log[0]"), [update_of(".log", [2, 3])]),
    # conditions: beginning, ceasing, staying
    (".users[status=on]", put(".users[0].status", "off"), [delete_of(".users[0]")]),
    (
        ".users[status=on]",
        put(".users[1].status", "on"),
        [update_of(".users[1]", {"name": "Bo", "status": "on"})],
    ),
    (".users[status=on]", put(".users[0].name", "Cy"), [update_of(".users[0].name", "Cy")]),
    (".users[status=on]", put(".users[1].name", "Cy"), []),
    (".users[status=on].name", put(".users[0].status", "off"), [delete_of(".users[0].name")]),
    (".users[status=on].name", put(".users[1].status", "on"), [update_of(".users[1].name", "Bo")]),
    (".users[status=on].name", delete(".users[0].status"), [delete_of(".users[0].name")]),
    (".users[0][status=on]", put(".users[0].status", "off"), [delete_of(".users[0]")]),
    (".users[a=1]", put(".users[2]", {"a": 1}), [update_of(".users[2]", {"a": 1})]),
    (".users[status=on][name=Al].x", put(".users[0].x", 1), [update_of(".users[0].x", 1)]),
    (".users[status!=on]", put(".users[1].status", []), [update_of(".users[1].status", [])]),
    (".by.*[n<2]", put(".by.y.n", 0), [update_of(".by.y", {"n": 0})]),
    (".by.*[n<2]", put(".by.x.n", 0), [update_of(".by.x.n", 0)]),
    # what the trie cannot express
    (".log[-1]", put(".log[3]", 4), [delete_of(".log[2]"), update_of(".log[3]", 4)]),
    (".log[0:2]", put(".log[3]", 4), []),
    (".log[0:2]", put(".log[1]", 9), [update_of(".log[1]", 9)]),
    (".users[-1]", put(".users[1].name", "Cy"), [update_of(".users[1].name", "Cy")]),
    ("..name", put(".users[0].name", "Cy"), [update_of(".users[0].name", "Cy")]),
    ("..name", put(".by.name", {}), [update_of(".by.name", {})]),
    ("..n", delete(".by.x"), [delete_of(".by.x.n")]),
    (
        "$.users[?@.status=='on'].name",
        put(".users[1].status", "on"),
        [update_of(".users[1].name", "Bo")],
    ),
    ("$.log[0,0]", put(".log[0]", 5), [update_of(".log[0]", 5)]),
]  # fmt: skip


@pytest.mark.parametrize(("filter", "op", "events"), RULES)
def test_rule(filter: str, op: Any, events: list[Any]) -> None:
    assert sent(ROOT, filter, op) == events


def test_an_edit_inside_nested_selected_places_is_sent_once() -> None:
    root = {"name": {"name": {"x": 1}}}
    assert sent(root, "..name", put(".name.name.x", 2)) == [update_of(".name.name.x", 2)]
    assert sent(root, "..name", put(".name.name", 3)) == [update_of(".name.name", 3)]
    assert sent(root, "..name", put(".name", {"name": 3})) == [update_of(".name", {"name": 3})]


def test_membership_inside_a_selected_place_needs_a_snapshot() -> None:
    root = {"name": {"x": 1}}
    items = [(("name",), {"x": 1, "name": 2}), (("name", "name"), 2)]
    assert sent(root, "..name", put(".name.name", 2)) == [("snapshot", (), items)]


@pytest.mark.parametrize(
    ("literal", "selects"),
    [
        ("1", [1, 1.0]),
        ("1.0", [1, 1.0]),
        ("true", [True]),
        ('"1"', ["1"]),
        ("null", [None]),
        ("x", ["x"]),
        ("false", [False]),
        ("0", [0]),
    ],
)
def test_equality_is_that_of_json(literal: str, selects: list[Any]) -> None:
    values: list[Any] = [1, 1.0, True, "1", "true", None, "x", False, 0, "", [], {}]
    text = f".a[k={literal}]"
    others = [f".a[k={other}]" for other in ("1", "true", '"1"', "null", "x", "false", "0", "1.0")]
    for value in values:
        watched = Watched({"a": [{"k": "other"}]}, list({text, *others}))
        met = any(equal(value, wanted) for wanted in selects)
        assert (text in watched.write(put(".a[0].k", value))) == met, value


# ---------------------------------------------------------------------------- property


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_assembled_is_selected(data: st.DataObject) -> None:
    root = data.draw(documents, "document")
    texts = data.draw(mixed(root), "filters")
    watched = Watched(root, texts)
    for _ in range(EDITS):
        op = data.draw(operations(watched.document.root), "write")
        try:
            watched.write(op)
        except WriteError:
            continue  # a refused write leaves no trace: the next check would see one
    for selection in list(watched.index):
        watched.index.remove(selection)
    assert watched.index._root.is_empty


def test_compliance_suite_as_subscriptions(suites: File) -> None:
    """Every valid selector of the JSONPath suite, on its own document, under random writes."""
    cases = json.loads((suites / "jsonpath-cts" / "cts.json").read_text("utf-8"))["tests"]
    rng = random.Random(9535)
    sent = 0
    for case in cases:
        if case.get("invalid_selector"):
            continue
        watched = Watched(case["document"], [case["selector"]])
        for _ in range(6):
            there = places(watched.document.root)
            path = there[rng.randrange(len(there))]
            other = copy.deepcopy(find(watched.document.root, rng.choice(there)))
            op = Delete(path) if path and rng.random() < 0.3 else Set(path, other)
            sent += len(watched.write(op))
    assert sent > len(cases)  # it was not about nothing


# ---------------------------------------------------------------------------- acceptance cases


def _cases(folder: File, area: str) -> list[dict[str, Any]]:
    lines = (folder / f"{area}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def test_cases_of_matching(cases: File) -> None:
    """These name no document: take one in which, before the write, each filter selected a place."""
    for case in _cases(cases, "filter.match"):
        path = parse_path(case["given"]["change"]["path"])
        value = case["given"]["change"]["value"]
        root = _around(path, value)
        index = Index()
        matched = []
        for text in case["given"]["filters"]:
            filter = parse_filter(text)
            index.add(filter, root)
            matched += index.match(root, Edit(path, find(_selected_by(filter), path), value))
        assert bool(matched) == case["expect"]["match"], case["id"]


def _around(path: Any, value: Json) -> Any:
    """The smallest document with `value` at `path`."""
    for step in reversed(path):
        value = {step: value} if isinstance(step, str) else [None] * step + [value]
    return value


def _selected_by(filter: Filter) -> Any:
    assert filter.segments is not None
    steps = [getattr(segment, "key", getattr(segment, "i", 0)) for segment in filter.segments]
    return _around(steps, "something")


def test_cases_of_conditions(cases: File) -> None:
    for case in _cases(cases, "filter.condition"):
        given_, expect = case["given"], case["expect"]
        root = given_["store_after"]
        path = parse_path(given_["change"]["path"])
        index = Index()
        for text in given_["filters"]:
            index.add(parse_filter(text), root)
        # Where the whole is written again it selected before what it selects now.
        value = find(root, path)
        edit = Edit(path, copy.deepcopy(value), value)
        matched = index.match(root, edit)
        assert bool(matched) == expect["match"], case["id"]
        if expect["match"] and "delivered" in expect:
            [(_, events)] = matched
            assert [event.value for event in events] == expect["delivered"]["value"], case["id"]
            within = parse_path(expect["delivered"]["path"])
            assert all(event.path[: len(within)] == within for event in events), case["id"]


# ---------------------------------------------------------------------------- the trie itself


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(filters, min_size=1, max_size=30), st.randoms(use_true_random=False), documents)
def test_removing_leaves_nothing(texts: list[str], rng: random.Random, root: Json) -> None:
    index = Index()
    added = [index.add(parse_filter(text), root) for text in texts]
    assert len(index) == len(set(texts))
    rng.shuffle(added)
    for left, selection in reversed(list(enumerate(added))):
        index.remove(selection)
        assert len(index) == len({id(other) for other in added[:left]})
    assert index._root.is_empty
    assert index.match(root, Edit((), MISSING, root)) == []


def test_a_filter_is_shared_and_counted() -> None:
    index = Index()
    first = index.add(parse_filter(".a"), {})
    assert index.add(parse_filter(".a"), {}) is first
    assert (first.references, len(index)) == (2, 1)
    other = index.add(parse_filter('["a"]'), {})
    assert other is not first
    index.remove(first)
    assert len(index.match({"a": 1}, Edit(("a",), MISSING, 1))) == 2
    index.remove(first)
    assert index.match({"a": 1}, Edit(("a",), MISSING, 1)) == [
        (other, [Event("update", ("a",), 1)])
    ]
    with pytest.raises(ValueError, match="not in this index"):
        index.remove(first)


def test_equality_filters_of_others_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 000 `[trader=X]`: no test is asked at all, the object looks itself up."""
    root = {"positions": [{"trader": "t7", "amount": 1}]}
    index = Index()
    for number in range(10_000):
        index.add(parse_filter(f".positions[trader=t{number}]"), root)
    asked: list[str] = []
    monkeypatch.setattr(Test, "holds", lambda test, value: asked.append(test.key))
    matched = index.match(root, Edit(("positions", 0, "trader"), "t6", "t7"))
    assert [(s.filter.text, events[0].kind) for s, events in matched] == [
        (".positions[trader=t6]", "delete"),
        (".positions[trader=t7]", "update"),
    ]
    assert asked == []


def test_evaluated_filters_are_asked_only_below_their_prefix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = {"a": {"list": [1, 2]}, "b": {"x": 1}}
    index = Index()
    index.add(parse_filter(".a.list[-1]"), root)
    index.add(parse_filter("$.a.list[?@ > 1]"), root)
    asked: list[str] = []

    def select(filter: Filter, root: Json, work: Work) -> Any:
        asked.append(filter.text)
        return iter(())

    monkeypatch.setattr(Filter, "select", select)
    assert index.match(root, Edit(("b", "x"), 0, 1)) == []
    assert asked == []
    # A scalar for a scalar changes nothing for a filter that looks only at the shape.
    index.match(root, Edit(("a", "list", 0), 0, 1))
    assert asked == ["$.a.list[?@ > 1]"]


def test_a_filter_that_does_not_fit_into_a_writes_budget_is_stale_until_it_does() -> None:
    index = Index()
    root: dict[str, Json] = {"a": [1, 2, 3]}
    selection = index.add(parse_filter("$..[?@ > 0]"), root, Meter(1))
    assert selection.evaluated is not None
    assert selection.evaluated.is_stale

    def edit(value: int, steps: int) -> list[Event]:
        root["b"] = value
        matched = index.match(root, Edit(("b",), 5, value), Meter(steps))
        return [event for _, events in matched for event in events]

    assert edit(6, 2) == [STALE]
    everything: Json = [(("b",), 8), (("a", 0), 1), (("a", 1), 2), (("a", 2), 3)]
    assert edit(8, 1000) == [Event("snapshot", (), everything)]
    assert edit(9, 1000) == [Event("update", ("b",), 9)]
    # What it takes is known now: with less it is not even begun.
    spent = Meter(selection.evaluated.cost - 1)
    root["b"] = 10
    assert index.match(root, Edit(("b",), 9, 10), spent) == [(selection, [STALE])]
    assert spent.spent == 2  # looking at the path of the edit


def test_conditions_over_an_array_written_anew_have_the_same_budget() -> None:
    index = Index()
    array: Json = [{"x": i} for i in range(1000)]
    root: dict[str, Json] = {"a": array}
    dear = [index.add(parse_filter(f".a[x>{i}]"), root) for i in range(10)]
    plain = index.add(parse_filter(".a[7].x"), root)
    work = Meter(2000)
    matched = dict(index.match(root, Edit(("a",), copy.deepcopy(array), array), work))
    assert all(matched[one] == [STALE] for one in dear)
    assert matched[plain] in ([STALE], [Event("update", ("a", 7, "x"), 7)])
    assert work.spent < 2100


def test_a_filter_that_can_be_told_by_paths_remembers_nothing() -> None:
    index = Index()
    root: Json = {"a": [{"status": i} for i in range(5000)]}
    selection = index.add(parse_filter("..status"), root, Meter(10))
    evaluated = selection.evaluated
    assert evaluated is not None
    assert (evaluated.is_stale, evaluated.places, evaluated.evaluations) == (False, 0, 0)
    root["a"][7]["status"] = 8  # type: ignore[index,call-overload] # it is as written above
    edit = Edit(("a", 7, "status"), 7, 8)
    assert index.match(root, edit, Meter(20)) == [(selection, [Event("update", edit.path, 8)])]
