"""Replay against what live subscribers were sent."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.oracle import (
    EDITS,
    EXAMPLES,
    View,
    documents,
    mixed,
    operations,
    same_places,
    selected,
)
from triode.limits.meter import Meter
from triode.store.change import Change, Edit, Position
from triode.store.document import Document
from triode.store.filter import Filter, parse_filter
from triode.store.history import History
from triode.store.index import Event, Index, Selection
from triode.store.operation import Append, Delete, Set, WriteError
from triode.store.path import parse_path
from triode.store.replay import Replay, Replayed, replay
from triode.store.touched import Touched
from triode.store.value import Json, equal
from triode.store.work import TooCostly, Work


class Live:
    """A document with its history, and on record what each subscriber was sent when."""

    def __init__(self, root: Json, texts: list[str]) -> None:
        self.document = Document(copy.deepcopy(root))
        self.history = History(max_items=10_000, max_bytes=1 << 30)
        self.touched = Touched()
        self.index = Index()
        self.filters = [parse_filter(text) for text in texts]
        for filter in self.filters:
            self.index.add(filter, self.document.root)
        self.seq = 0
        self.record: list[Replayed] = []

    def write(self, op: Any) -> None:
        edits = self.document.plan(op)
        self.seq += 1
        position = Position("e", self.seq)
        sent: dict[Selection, list[Event]] = {}
        for edit in edits:
            self.document.apply(edit)
            for selection, events in self.index.match(self.document.root, edit):
                sent.setdefault(selection, []).extend(copy.deepcopy(events))
        self.history.append(Change(position, 1000 + self.seq, tuple(edits)))
        self.touched.add(self.seq, tuple([edit.path for edit in edits]))
        by_filter = {selection.filter: events for selection, events in sent.items()}
        self.record += [
            Replayed(position, 1000 + self.seq, filter, by_filter[filter])
            for filter in self.filters
            if filter in by_filter
        ]

    def since(self, seq: int) -> list[Replayed]:
        return [sent for sent in self.record if sent.position.seq > seq]


def same(a: list[Replayed], b: list[Replayed]) -> bool:
    """The same events, but for the order of an object's members."""
    return [x[:3] for x in a] == [y[:3] for y in b] and all(
        len(x.events) == len(y.events) and all(map(_same_event, _sorted(x), _sorted(y)))
        for x, y in zip(a, b, strict=True)
    )


def _sorted(replayed: Replayed) -> list[Event]:
    return sorted(replayed.events, key=lambda event: (event.kind, repr(event.path)))


def _same_event(a: Any, b: Any) -> bool:
    if (a.kind, a.path) != (b.kind, b.path):
        return False
    if a.kind == "snapshot":
        return same_places(dict(a.value), dict(b.value))
    return equal(a.value, b.value)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_replay_is_what_was_sent_live(data: st.DataObject) -> None:
    root = data.draw(documents, "document")
    live = Live(root, data.draw(mixed(root), "filters"))
    views: list[dict[Filter, View]] = []
    for _ in range(EDITS):
        views.append({f: View(f.select(live.document.root)) for f in live.filters})
        try:
            live.write(data.draw(operations(live.document.root), "write"))
        except WriteError:
            views.pop()
    before = copy.deepcopy(live.document.root)
    for seq, held in enumerate(views):
        replayed = replay(live.document.root, live.history, live.filters, seq, touched=live.touched)
        wanted = live.since(seq)
        # A change of one edit has one order; what a batch sends is in sequence, per edit.
        assert same(replayed, wanted), f"{replayed} is not {wanted}"
        for sent in replayed:
            held[sent.filter].take(sent.events)
        for filter, view in held.items():
            assert same_places(view.places, selected(filter, live.document.root))
        # Each filter alone: then edits that cannot concern it are left out.
        for filter in live.filters:
            alone = replay(live.document.root, live.history, [filter, filter], seq)
            assert same(alone, [sent for sent in wanted if sent.filter == filter])
    assert equal(live.document.root, before)


def put(path: str, value: Json) -> Set:
    return Set(parse_path(path), value)


def test_values_are_those_of_their_time() -> None:
    live = Live({"a": {"n": 0}, "on": False}, [".", ".a", "..n"])
    live.write(put(".a", {"n": 1, "deep": {"x": 1}}))
    live.write(put(".a.n", 2))
    live.write(put(".a.deep.x", 2))
    live.write(Delete(("a", "deep")))
    replayed = replay(live.document.root, live.history, live.filters[1:2], 0)
    assert [sent.events for sent in replayed] == [
        [Event("update", ("a",), {"n": 1, "deep": {"x": 1}})],
        [Event("update", ("a", "n"), 2)],
        [Event("update", ("a", "deep", "x"), 2)],
        live.record[-2].events,
    ]
    assert [(sent.position.seq, sent.time_ms) for sent in replayed] == [
        (seq, 1000 + seq) for seq in (1, 2, 3, 4)
    ]


def test_a_whole_value_is_that_of_its_time() -> None:
    """Of a place that begins to be selected the value is the draft's own, later written on."""
    live = Live({"a": [{"on": False, "n": [0]}]}, [".a[on=true]"])
    live.write(put(".a[0].on", True))
    live.write(Append(("a", 0, "n"), 1))
    replayed = replay(live.document.root, live.history, live.filters, 0, touched=live.touched)
    assert [sent.events for sent in replayed] == [
        [Event("update", ("a", 0), {"on": True, "n": [0]})],
        [Event("update", ("a", 0, "n", 1), 1)],
    ]


def test_appends_beside_a_selected_element_are_undone_with_it() -> None:
    live = Live({"a": []}, [".a[0]"])
    for value in range(4):
        live.write(Append(("a",), value))
    [first] = replay(live.document.root, live.history, live.filters, 0, touched=live.touched)
    assert (first.position.seq, first.events) == (1, [Event("update", ("a", 0), 0)])


def test_only_what_can_concern_a_filter_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    live = Live({"a": {"x": 0}, "b": {"x": 0}}, [".a.x"])
    for value in range(50):
        live.write(put(".b.x", value))
    live.write(put(".a.x", 1))
    asked: list[Edit] = []
    match = Index.match

    def counting(index: Index, root: Json, edit: Edit, work: Work) -> Any:
        asked.append(edit)
        return match(index, root, edit, work)

    monkeypatch.setattr(Index, "match", counting)
    assert len(replay(live.document.root, live.history, live.filters, 0, touched=live.touched)) == 1
    assert len(asked) == 1


def test_what_the_history_does_not_cover_is_refused() -> None:
    live = Live({"a": 1}, ["."])
    live.history = History(max_items=2, max_bytes=1 << 20)
    for value in range(5):
        live.write(put(".a", value))
    assert len(replay(live.document.root, live.history, live.filters, 3, touched=live.touched)) == 2
    with pytest.raises(ValueError, match="does not reach back"):
        replay(live.document.root, live.history, live.filters, 0, touched=live.touched)
    assert replay(live.document.root, live.history, live.filters, 5, touched=live.touched) == []


def test_evaluations_are_bounded() -> None:
    live = Live({"a": []}, ["$.a[?@ > 1]"])
    for value in range(10):
        live.write(Append(("a",), value))
    assert len(replay(live.document.root, live.history, live.filters, 0, touched=live.touched)) == 8
    with pytest.raises(TooCostly):
        replay(
            live.document.root,
            live.history,
            live.filters,
            0,
            touched=live.touched,
            max_evaluations=5,
        )
    # Descent looks only at what was written: nothing to bound.
    assert (
        replay(live.document.root, live.history, [parse_filter("..x")], 0, max_evaluations=1) == []
    )


def test_changes_are_looked_at_within_a_budget_and_later_the_rest() -> None:
    live = Live({"a": {"x": 0}}, [".a.x"])
    for value in range(2000):
        live.write(put(".a.x" if value % 100 == 0 else ".a.y", value))
    whole = replay(live.document.root, live.history, live.filters, 0, touched=live.touched)
    part = Replay(live.history, live.filters, 0, live.touched)
    meter = Meter(500)
    with pytest.raises(TooCostly):
        part.sift(meter)
    assert 0 < part.edits < 20
    assert [each for step in part.run(live.document.root) for each in step] == whole
    assert len(whole) == 20


def test_looking_gives_way_to_others() -> None:
    live = Live({"a": {"x": 0}}, [".a.x"])
    live.history = History(max_items=10_000, max_bytes=1 << 30)
    for value in range(5000):
        live.write(put(".a.y", value))
    live.write(put(".a.x", 1))
    assert (
        sum(
            not step
            for step in Replay(live.history, live.filters, 0, live.touched).run(live.document.root)
        )
        >= 9
    )


def test_what_nothing_has_touched_is_told_without_a_look_at_the_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """10 000 changes took 50 to 190 ms, for each client that came back."""
    live = Live({"a": {"x": 0, "y": 0}}, [".a.x", ".b[*]", "$.c..d"])
    for value in range(50):
        live.write(put(".a.y", value))
    monkeypatch.setattr(History, "since", lambda self, seq: pytest.fail("looked"))
    meter = Meter(0)
    quick = Replay(live.history, live.filters, 0, live.touched)
    quick.sift(meter)
    assert meter.spent == 0
    assert quick.edits == 0


def test_an_edit_above_is_not_overlooked() -> None:
    for path, value in ((".", {"a": {"x": 1}}), (".a", {"x": 1}), (".a.x", 1), (".a.x.z", 1)):
        live = Live({"a": {"x": {"z": 0}}}, [".a.x"])
        live.write(put(path, value))
        assert (
            len(replay(live.document.root, live.history, live.filters, 0, touched=live.touched))
            == 1
        )


@pytest.mark.parametrize("text", [".a[0:]", ".a[x>1]"])
def test_matching_past_changes_is_charged(text: str) -> None:
    objects = [{"x": n} for n in range(1000)]
    live = Live({"a": []}, [text])
    for _ in range(5):
        live.write(put(".a", objects))
    whole = replay(live.document.root, live.history, live.filters, 0, touched=live.touched)
    assert len(whole) == 5
    run = Replay(live.history, live.filters, 0, live.touched).run(
        live.document.root, work=Meter(3000)
    )
    with pytest.raises(TooCostly):
        deque(run, maxlen=0)
