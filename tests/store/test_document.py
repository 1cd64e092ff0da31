"""The document against a naive model of it, and the promises that everything else stands on."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.store.change import Change, Edit, Position, Rearranged
from triode.store.document import Document, Draft
from triode.store.history import History
from triode.store.operation import (
    Append,
    Batch,
    Delete,
    Increment,
    Invalid,
    Merge,
    NotFound,
    Operation,
    Patch,
    Set,
    WriteError,
)
from triode.store.path import MAX_SEGMENTS, Path
from triode.store.plan import MAX_DEPTH
from triode.store.splice import Splice
from triode.store.value import MISSING, Json, Missing, equal

NAMES = st.sampled_from(["a", "b", "0", "-"])
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.just(1.5) | st.sampled_from(["", "x"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
# Most go into the array of containers that `ROOTS` has at "a": what is rearranged, copied and
# then written into is where sharing would show.
PATHS = st.lists(NAMES | st.integers(-2, 3), max_size=4).map(tuple) | st.tuples(
    st.just("a"), st.integers(-2, 2), st.lists(NAMES | st.integers(-1, 1), max_size=2)
).map(lambda parts: (parts[0], parts[1], *parts[2]))
POINTERS = st.one_of(
    st.lists(st.sampled_from(["a", "b", "0", "1", "2", "-"]), max_size=3),
    st.lists(st.sampled_from(["a", "b", "0"]), max_size=2).map(lambda rest: ["a", "0", *rest]),
    st.sampled_from([["a", "0"], ["a", "1"], ["a", "-"], ["b"], ["c"]]),
).map(lambda tokens: "".join(f"/{token}" for token in tokens))
STEPS = (
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "replace", "test"]), "path": POINTERS, "value": VALUES}
    )
    | st.fixed_dictionaries({"op": st.just("remove"), "path": POINTERS})
    | st.fixed_dictionaries(
        {"op": st.sampled_from(["move", "copy"]), "path": POINTERS, "from": POINTERS}
    )
)
SINGLE: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Set, PATHS, VALUES, st.booleans()),
    st.builds(Merge, PATHS, VALUES),
    st.builds(Delete, PATHS),
    st.builds(Increment, PATHS, st.integers(-2, 2)),
    st.builds(Append, PATHS, VALUES),
    st.builds(Patch, st.just(()), st.lists(STEPS, max_size=5)),
)
OPERATIONS = SINGLE | st.lists(SINGLE, max_size=5).map(lambda ops: Batch(tuple(ops)))
# Shaped so that most operations find something.
NESTED = st.fixed_dictionaries({"a": st.lists(VALUES, min_size=1, max_size=3), "b": VALUES})
ROOTS = VALUES | st.fixed_dictionaries(
    {"a": st.lists(NESTED | VALUES, min_size=2, max_size=4), "b": VALUES}
)


def write(document: Document, op: Operation) -> list[Edit]:
    edits = document.plan(op)
    for edit in edits:
        document.apply(edit)
    return edits


def kept_by_history(edits: list[Edit]) -> list[Any]:
    """What the history keeps of each `before`: of a rearranged array, what was cut out."""
    history = History(max_items=1, max_bytes=10**9)
    history.append(Change(Position("e", 1), 0, tuple(edits)))
    kept: list[Any] = [edit.before for change in history.since(0) for edit in change.edits]
    return [before.removed if type(before) is Splice else before for before in kept]


def containers(value: Any) -> list[int]:
    """The ids of all containers, one for each place at which one stands."""
    if type(value) is dict:
        return [id(value), *(each for child in value.values() for each in containers(child))]
    if type(value) is list:
        return [id(value), *(each for child in value for each in containers(child))]
    return []


class TestPromises:
    @settings(max_examples=300)
    @given(ROOTS, st.lists(OPERATIONS, min_size=1, max_size=6))
    def test_a_plan_touches_nothing(self, root: Json, ops: list[Operation]) -> None:
        document = Document(root)
        for op in ops:
            before = repr(document.root), repr(op)  # repr: the order of members counts
            try:
                edits = document.plan(op)
            except WriteError:
                edits = []
            assert (repr(document.root), repr(op)) == before
            for edit in edits:
                document.apply(edit)

    @settings(max_examples=500)
    @given(ROOTS, st.lists(OPERATIONS, min_size=1, max_size=8), st.data())
    def test_befores_are_stable_and_nothing_is_shared(
        self, root: Json, ops: list[Operation], data: Any
    ) -> None:
        """Under pins too, which come and go at random."""
        document = Document(root)
        kept: list[tuple[Any, str]] = []
        pins: list[tuple[Any, Json, str]] = []
        for op in ops:
            if data.draw(st.integers(0, 3)) == 0:
                pin = document.pin()
                pins.append((pin, pinned := pin.__enter__(), repr(pinned)))
            try:
                edits = document.plan(op)
            except WriteError:
                continue
            kept += [(before, repr(before)) for before in kept_by_history(edits)]
            for edit in edits:
                document.apply(edit)
            for value, was in kept:
                assert repr(value) == was
            for _, pinned, was in pins:
                assert repr(pinned) == was
            living = containers(document.root)
            assert len(set(living)) == len(living)
            for value, _ in kept:
                assert not set(containers(value)) & set(living)
            if pins and data.draw(st.integers(0, 3)) == 0:
                pins.pop(data.draw(st.integers(0, len(pins) - 1)))[0].__exit__(None, None, None)

    @settings(max_examples=500)
    @given(ROOTS, st.lists(OPERATIONS, min_size=1, max_size=5))
    def test_edits_are_in_sequence_and_can_be_undone(
        self, root: Json, ops: list[Operation]
    ) -> None:
        document = Document(root)
        for op in ops:
            start = copy.deepcopy(document.root)
            try:
                edits = document.plan(copy.deepcopy(op))
            except WriteError:
                continue
            for edit in edits:
                assert equal(document.get(edit.path), edit.before)
                after = copy.deepcopy(edit.after)
                document.apply(edit)
                if edit.path or after is not MISSING:
                    assert equal(document.get(edit.path), after)
            draft = Draft(document.root)
            for edit in reversed(edits):
                draft.replace(edit.path, edit.before)
            assert equal(draft.root, start)

    @settings(max_examples=500)
    @given(ROOTS, st.lists(SINGLE, min_size=1, max_size=5))
    def test_a_batch_is_its_operations(self, root: Json, ops: list[Operation]) -> None:
        one, other = Document(copy.deepcopy(root)), Document(root)
        refused = False
        for op in copy.deepcopy(ops):
            try:
                write(one, op)
            except WriteError:
                refused = True
                break
        if refused:
            with pytest.raises(WriteError):
                other.plan(Batch(tuple(ops)))
        else:
            write(other, Batch(tuple(ops)))
            assert equal(one.root, other.root)

    @settings(max_examples=500)
    @given(ROOTS, st.lists(STEPS, max_size=6))
    def test_a_patch_is_its_steps(self, root: Json, steps: list[Any]) -> None:
        one, other = Document(copy.deepcopy(root)), Document(root)
        try:
            for step in copy.deepcopy(steps):
                write(one, Patch((), [step]))
        except WriteError:
            with pytest.raises(WriteError):
                other.plan(Patch((), steps))
        else:
            write(other, Patch((), steps))
            assert equal(one.root, other.root)

    @given(ROOTS, st.lists(st.tuples(PATHS, VALUES), max_size=6))
    def test_a_pin_sees_no_write(self, root: Json, sets: list[tuple[Path, Json]]) -> None:
        document = Document(root)
        with document.pin() as outer:
            was = repr(outer)
            for path, value in sets:
                with document.pin() as inner:
                    then = repr(inner)
                    with suppress(WriteError):
                        write(document, Set(path, value))
                    assert repr(inner) == then
            assert repr(outer) == was


class TestResolve:
    DOCUMENT = Document({"a": [10, {"b": [1]}], "0": {"-": 1}})

    @pytest.mark.parametrize(
        ("path", "actual"),
        [
            ((), ()),
            (("a", -1, "b", -1), ("a", 1, "b", 0)),
            (("a", "1", "b", "0"), ("a", 1, "b", 0)),
            (("a", "-"), ("a", 2)),
            (("a", 2), ("a", 2)),
            (("0", "-"), ("0", "-")),
            (("new",), ("new",)),
        ],
    )
    def test_makes_paths_actual(self, path: Path, actual: Path) -> None:
        assert self.DOCUMENT.resolve(path) == actual
        assert list(map(type, self.DOCUMENT.resolve(path))) == list(map(type, actual))

    @pytest.mark.parametrize(
        "path",
        [
            ("a", 3),
            ("a", -3),
            ("a", "01"),
            ("a", "x"),
            ("a", ""),
            ("a", "٣"),
            ("a", "-1"),
            ("a", "9" * 30),
            ("a", 2, "x"),
            ("a", 0, "x"),
            ("new", "x"),
            (0,),
            ("0", 0),
        ],
    )
    def test_not_found(self, path: Path) -> None:
        with pytest.raises(NotFound) as caught:
            self.DOCUMENT.resolve(path)
        assert caught.value.status == 404
        assert caught.value.path == path

    def test_too_many_segments(self) -> None:
        with pytest.raises(Invalid, match="segments"):
            self.DOCUMENT.resolve(("a",) * (MAX_SEGMENTS + 1))

    @pytest.mark.parametrize(
        ("path", "value"),
        [
            ((), DOCUMENT.root),
            (("a", 0), 10),
            (("a", -1), MISSING),
            (("a", "0"), MISSING),
            (("a", 0, "x"), MISSING),
            (("x", "y"), MISSING),
            ((0,), MISSING),
        ],
    )
    def test_get_takes_actual_paths(self, path: Path, value: Json | Missing) -> None:
        assert self.DOCUMENT.get(path) == value

    def test_any_value_can_be_the_root(self) -> None:
        assert Document().root == {}
        assert Document(None).root is None
        document = Document([1])
        write(document, Append((), 2))
        write(document, Delete((0,)))
        assert document.root == [2]


class TestEdits:
    """The form of the edits, which the index and the replay rely on."""

    def test_an_append_is_an_edit_of_the_new_place(self) -> None:
        document = Document({"a": [1]})
        assert document.plan(Append(("a",), 2)) == [Edit(("a", 1), MISSING, 2)]
        assert document.plan(Set(("a", 1), 2)) == [Edit(("a", 1), MISSING, 2)]
        assert document.plan(Set(("a", "-"), 2)) == [Edit(("a", 1), MISSING, 2)]
        added = document.plan(Patch((), [{"op": "add", "path": "/a/-", "value": 2}]))
        assert added == [Edit(("a", 1), MISSING, 2)]

    @pytest.mark.parametrize("index", [0, 1, -1])
    def test_a_removal_is_an_edit_of_the_array(self, index: int) -> None:
        document = Document({"a": [[1], [2]]})
        after = [[1], [2]]
        del after[index]
        assert document.plan(Delete(("a", index))) == [Rearranged(("a",), [[1], [2]], after)]

    def test_an_insertion_is_an_edit_of_the_array(self) -> None:
        document = Document([1, 2])
        edits = document.plan(Patch((), [{"op": "add", "path": "/0", "value": 0}]))
        assert edits == [Rearranged((), [1, 2], [0, 1, 2])]

    def test_edits_of_a_rearranged_array_are_one(self) -> None:
        document = Document({"a": [{"n": 1}, 2], "b": 0})
        ops = (
            Delete(("a", 1)),
            Set(("b",), 1),
            Increment(("a", 0, "n")),
            Append(("a",), 3),
            Delete(("a", 0)),
        )
        assert document.plan(Batch(ops)) == [
            Rearranged(("a",), [{"n": 1}, 2], [3]),
            Edit(("b",), 0, 1),
        ]

    def test_a_closed_edit_is_as_it_was_then(self) -> None:
        document = Document({"a": [{"l": [1, 2]}]})
        ops = (
            Delete(("a", 0, "l", 0)),
            Set(("a", 0, "l", 0), 9),
            Patch(("a",), [{"op": "add", "path": "/0", "value": "new"}]),
            Set(("a", 1, "l", 0), 7),
        )
        assert document.plan(Batch(ops)) == [
            Rearranged(("a", 0, "l"), [1, 2], [9]),
            Edit(("a",), [{"l": [9]}], ["new", {"l": [7]}]),
        ]

    @pytest.mark.parametrize(
        "op",
        [
            Delete(("a", 0)),
            Patch((), [{"op": "add", "path": "/a/1", "value": 0}]),
            Patch((), [{"op": "move", "from": "/a/0", "path": "/a/1"}]),
            Patch((), [{"op": "move", "from": "/a/1", "path": "/b"}]),
            Patch((), [{"op": "move", "from": "/o", "path": "/b"}]),
            Patch((), [{"op": "copy", "from": "/o", "path": "/b"}]),
            Patch((), [{"op": "copy", "from": "/a/1", "path": "/a/-"}]),
            Batch((Set(("o", "n"), 2), Delete(("o",)))),
        ],
    )
    def test_writes_do_not_reach_a_before(self, op: Operation) -> None:
        """Every container that is left is written into after the operation."""
        document = Document({"a": [{"n": [1]}, {"n": [2]}], "o": {"n": {"m": 1}}})
        edits = document.plan(op)
        befores = kept_by_history(edits)
        for edit in edits:
            document.apply(edit)
        was = repr(befores)
        living = containers(document.root)
        assert len(set(living)) == len(living)
        assert not set(living) & {one for before in befores for one in containers(before)}
        todo: list[Any] = [document.root]
        while todo:
            node = todo.pop()
            todo.extend(node.values() if type(node) is dict else node if type(node) is list else [])
            if type(node) in (dict, list):
                node.clear()
        assert repr(befores) == was

    def test_an_edit_above_closes_it(self) -> None:
        document = Document({"a": {"l": [1, 2]}})
        ops = (Delete(("a", "l", 0)), Append(("a", "l"), 3), Set(("a",), 0))
        assert document.plan(Batch(ops)) == [
            Rearranged(("a", "l"), [1, 2], [2, 3]),
            Edit(("a",), {"l": [2, 3]}, 0),
        ]

    def test_a_thousand_insertions_copy_once(self) -> None:
        document = Document({"a": [[n] for n in range(1000)]})
        steps: list[Any] = []
        for n in range(1000):
            steps.append({"op": "add", "path": "/a/0", "value": n})
            steps.append({"op": "replace", "path": "/a/500", "value": n})
        (edit,) = document.plan(Patch((), steps))
        assert edit.path == ("a",)
        assert len(edit.after) == 2000  # type: ignore[arg-type]

    def test_members_keep_their_order(self) -> None:
        document = Document({"x": 1, "y": 2, "z": 3})
        write(document, Set(("y",), 9))
        with pytest.raises(WriteError):
            write(document, Batch((Delete(("x",)), Set(("n",), 1), Delete(("none",)))))
        assert list(document.root) == ["x", "y", "z"]  # type: ignore[arg-type]


class TestBounds:
    def test_copies_cannot_nest_without_end(self) -> None:
        document = Document({"a": {}})
        steps = [{"op": "copy", "from": "", "path": "/a" * depth} for depth in (1, 2, 4, 8, 16, 32)]
        deep: Json = 1
        for _ in range(250):
            deep = {"a": deep}
        write(document, Set((), deep))
        write(document, Set(("b",), {}))
        write(document, Patch((), [{"op": "copy", "from": "/a", "path": "/a" * 250}]))
        with pytest.raises(Invalid, match=f"deeper than {MAX_DEPTH}"):
            document.plan(Patch((), [{"op": "copy", "from": "/a", "path": "/a" * 250}, *steps]))

    def test_copies_cannot_double_without_end(self) -> None:
        document = Document({"a": list(range(1000))})
        steps = [{"op": "copy", "from": "", "path": f"/{n}"} for n in range(40)]
        with pytest.raises(Invalid, match="copy more than"):
            document.plan(Patch((), steps))

    @pytest.mark.parametrize(
        "op",
        [
            Batch((Set(("a",), 1),) * 10_001),
            Patch((), [{"op": "test", "path": "", "value": {}}] * 10_001),
        ],
    )
    def test_number_of_operations(self, op: Operation) -> None:
        with pytest.raises(Invalid, match="more than 10000"):
            Document().plan(op)

    def test_one_delete_of_a_huge_array_is_allowed(self) -> None:
        assert len(Document([0] * 1_100_000).plan(Delete((5,)))) == 1


class TestDraft:
    def test_leaves_the_original(self) -> None:
        original = {"a": {"b": [1, 2]}, "c": {}}
        draft = Draft(original)
        assert draft.replace(("a", "b", 2), 3) is MISSING
        assert draft.replace(("a", "b", 0), MISSING) == 1
        assert draft.replace(("c", "x"), {}) is MISSING
        assert draft.replace(("a", "n"), MISSING) is MISSING
        assert original == {"a": {"b": [1, 2]}, "c": {}}
        assert draft.root == {"a": {"b": [2, 3]}, "c": {"x": {}}}
        assert draft.get(("a", "b", 1)) == 3
        assert draft.get(("a", "b", 2)) is MISSING

    def test_copies_a_container_once(self) -> None:
        draft = Draft({"a": {"b": 1}})
        draft.replace(("a", "b"), 2)
        once = draft.get(("a",))
        draft.replace(("a", "b"), 3)
        assert draft.get(("a",)) is once

    def test_never_touches_what_it_was_given_or_gave_back(self) -> None:
        draft = Draft({"a": {"b": {"c": 1}}})
        given: Json = {"x": [1]}
        draft.replace(("a", "b", "c"), 2)
        returned = draft.replace(("a",), given)
        draft.replace(("a", "x", 1), 2)
        assert given == {"x": [1]}
        draft.replace(("a",), returned)
        draft.replace(("a", "b", "c"), 3)
        assert returned == {"b": {"c": 2}}
        assert draft.root == {"a": {"b": {"c": 3}}}

    def test_freeze(self) -> None:
        draft = Draft({"a": {"b": 1}})
        draft.replace(("a", "b"), 2)
        frozen = draft.freeze()
        draft.replace(("a", "b"), 3)
        assert frozen == {"a": {"b": 2}}

    @pytest.mark.parametrize("path", [("x", "y"), ("n", "y"), ("l", 5), ("l", 0, 0)])
    def test_needs_a_parent(self, path: Path) -> None:
        with pytest.raises((LookupError, TypeError)):
            Draft({"n": 1, "l": [1]}).replace(path, 2)

    @given(ROOTS, st.lists(st.tuples(PATHS, VALUES | st.just(MISSING)), max_size=12))
    def test_against_deep_copies(self, root: Json, puts: list[Any]) -> None:
        draft, model = Draft(root), Document(copy.deepcopy(root))
        seen: list[tuple[Any, str]] = [(root, repr(root))]
        for path, value in puts:
            op = Delete(path) if value is MISSING else Set(path, copy.deepcopy(value))
            try:
                actual = model.resolve(path)
                write(model, op)
            except WriteError:
                continue
            seen.append((value, repr(value)))
            gone = draft.replace(actual, value)
            seen.append((gone, repr(gone)))
            assert repr(draft.root) == repr(model.root)
            assert all(repr(value) == was for value, was in seen)
