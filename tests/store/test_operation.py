"""What each operation does and refuses. The tables are those of the RFCs, whole."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.merges import MERGES
from triode.store.change import Edit, Position
from triode.store.document import Document
from triode.store.operation import (
    Append,
    Batch,
    Conflict,
    Delete,
    Increment,
    Invalid,
    Merge,
    NotFound,
    Operation,
    Patch,
    Set,
    TestFailed,
    WriteError,
)
from triode.store.path import Path
from triode.store.value import MISSING, Json, equal

DATA: dict[str, Any] = {
    "users": [{"id": 1, "name": "Alice"}],
    "config": {"max": 100, "on": True, "none": None},
}


def after(root: Json, op: Operation) -> Json:
    """The document after an operation; neither `root` nor `op` is kept."""
    document = Document(copy.deepcopy(root))
    for edit in document.plan(copy.deepcopy(op)):
        document.apply(edit)
    return document.root


def refused(root: Json, op: Operation) -> WriteError:
    """The error of a refused operation; the document is held to be untouched."""
    document = Document(copy.deepcopy(root))
    with pytest.raises(WriteError) as caught:
        document.plan(op)
    assert repr(document.root) == repr(root)
    assert str(caught.value) == caught.value.detail
    return caught.value


class TestSet:
    @pytest.mark.parametrize(
        ("path", "edit"),
        [
            (("config", "max"), Edit(("config", "max"), 100, 7)),
            (("config", "new"), Edit(("config", "new"), MISSING, 7)),
            (("config", "none"), Edit(("config", "none"), None, 7)),
            (("users", -1, "id"), Edit(("users", 0, "id"), 1, 7)),
            (("users", 0, "id"), Edit(("users", 0, "id"), 1, 7)),
            (("users", "0", "id"), Edit(("users", 0, "id"), 1, 7)),
            (("users", 1), Edit(("users", 1), MISSING, 7)),
            ((), Edit((), DATA, 7)),
        ],
    )
    def test_edit(self, path: Path, edit: Edit) -> None:
        assert Document(DATA).plan(Set(path, 7)) == [edit]

    @pytest.mark.parametrize(
        "path",
        [
            ("users", 2),
            ("users", 3, "status"),
            ("users", "name"),
            ("config", "max", "deep"),
            ("config", "none", "deep"),
            ("config", 0),
            ("none", "such"),
            ("none", 0),
        ],
    )
    def test_not_found(self, path: Path) -> None:
        assert type(refused(DATA, Set(path, 7))) is NotFound

    def test_a_missing_parent_says_what_makes_it(self) -> None:
        assert refused(DATA, Set(("n", "a"), 7)).detail == ".n is not there; create=true makes it"
        assert "create" not in refused(DATA, Set(("config", 0), 7)).detail

    @pytest.mark.parametrize(
        ("path", "edit"),
        [
            (("config", "max"), Edit(("config", "max"), 100, 7)),
            (("n", "a", "0", "-"), Edit(("n",), MISSING, {"a": {"0": {"-": 7}}})),
            (("n", 0, "a", 0), Edit(("n",), MISSING, [{"a": [7]}])),
            (("users", 1, "a"), Edit(("users", 1), MISSING, {"a": 7})),
            (("users", "-", "a"), Edit(("users", 1), MISSING, {"a": 7})),
        ],
    )
    def test_create(self, path: Path, edit: Edit) -> None:
        assert Document(DATA).plan(Set(path, 7, create=True)) == [edit]

    @pytest.mark.parametrize(
        "path",
        [
            ("n", 1),
            ("n", -1),
            ("n", "a", 1),
            ("users", 2, "a"),
            ("config", "max", "a"),
            ("config", 0),
        ],
    )
    def test_create_has_limits(self, path: Path) -> None:
        assert type(refused(DATA, Set(path, 7, create=True))) is NotFound


class TestDelete:
    def test_removes(self) -> None:
        assert after({"a": 1, "b": None}, Delete(("b",))) == {"a": 1}
        assert after([[1, 2, 3]], Delete((0, 1))) == [[1, 3]]
        assert after([[1, 2, 3]], Delete((0, -1))) == [[1, 2]]
        assert after([[1, 2, 3]], Delete(("0", "0"))) == [[2, 3]]

    @pytest.mark.parametrize("path", [("x",), ("users", 1), ("users", "-"), ("config", "max", "x")])
    def test_not_found(self, path: Path) -> None:
        assert type(refused(DATA, Delete(path))) is NotFound

    def test_the_root_stays(self) -> None:
        assert type(refused(DATA, Delete(()))) is Invalid


class TestIncrement:
    @pytest.mark.parametrize(
        ("start", "by", "end"),
        [
            (1, 1, 2),
            (1, -3, -2),
            (2**60, 2**60, 2**61),
            (2**53, 1, 2**53 + 1),
            (1, 0.5, 1.5),
            (1.5, 1, 2.5),
            (0.5, 0.5, 1.0),
        ],
    )
    def test_adds(self, start: Any, by: Any, end: Any) -> None:
        found = after({"n": start}, Increment(("n",), by))
        assert found == {"n": end}
        assert type(found["n"]) is type(end)

    def test_by_one(self) -> None:
        assert after({"n": 1}, Increment(("n",))) == {"n": 2}

    def test_a_missing_member_starts_at_0(self) -> None:
        assert Document({}).plan(Increment(("n",), 5)) == [Edit(("n",), MISSING, 5)]
        assert type(refused({}, Increment(("m", "n")))) is NotFound

    @pytest.mark.parametrize("value", [True, None, "1", [], {}])
    def test_only_numbers(self, value: Json) -> None:
        assert type(refused({"n": value}, Increment(("n",)))) is Invalid
        assert refused({"n": 1}, Increment(("n",), value)).status == 400  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("start", "by"),
        [
            (1.7e308, 1.7e308),
            (10**400, 0.5),
            (1 << 13_999, 1 << 13_999),
            (1, 1 << 20_000),
            (2**1023,) * 2,
        ],
        ids=["float", "integer and float", "large sum", "by", "sum"],
    )
    def test_too_large(self, start: Any, by: Any) -> None:
        assert type(refused({"n": start}, Increment(("n",), by))) is Invalid

    @pytest.mark.parametrize("by", [float("nan"), float("inf")])
    def test_by_must_be_finite(self, by: float) -> None:
        assert type(refused({"n": 1}, Increment(("n",), by))) is Invalid


class TestAppend:
    def test_appends(self) -> None:
        assert after({"a": [1]}, Append(("a",), [2])) == {"a": [1, [2]]}
        assert Document({}).plan(Append(("a",), 1)) == [Edit(("a",), MISSING, [1])]

    def test_refused(self) -> None:
        assert type(refused({}, Append(("a", "b"), 1))) is NotFound
        values: list[Json] = [{}, "text", None, 1]
        for value in values:
            assert type(refused({"a": value}, Append(("a",), 1))) is Invalid


class TestMerge:
    @pytest.mark.parametrize(("original", "patch", "result"), MERGES)
    def test_rfc_7396(self, original: Json, patch: Json, result: Json) -> None:
        assert after(original, Merge((), patch)) == result
        assert after([0, {"at": original}], Merge((1, "at"), patch)) == [0, {"at": result}]

    def test_section_3_example(self) -> None:
        original = {
            "title": "Goodbye!",
            "author": {"givenName": "John", "familyName": "Doe"},
            "tags": ["example", "sample"],
            "content": "This will be unchanged",
        }
        patch = {
            "title": "Hello!",
            "phoneNumber": "+01-123-456-7890",
            "author": {"familyName": None},
            "tags": ["example"],
        }
        assert Document(original).plan(Merge((), patch)) == [
            Edit(("title",), "Goodbye!", "Hello!"),
            Edit(("phoneNumber",), MISSING, "+01-123-456-7890"),
            Edit(("author", "familyName"), "Doe", MISSING),
            Edit(("tags",), ["example", "sample"], ["example"]),
        ]

    @pytest.mark.parametrize(
        ("root", "patch"),
        [
            ({"a": 1}, {}),
            ({"a": 1}, {"a": 1.0, "x": None}),
            ({"a": {"b": [1]}}, {"a": {"b": [1]}}),
            ([1], [1]),
        ],
    )
    def test_what_is_the_same_is_no_edit(self, root: Json, patch: Json) -> None:
        assert Document(root).plan(Merge((), patch)) == []

    def test_true_is_not_1(self) -> None:
        assert Document({"a": 1}).plan(Merge((), {"a": True})) == [Edit(("a",), 1, True)]

    def test_nulls_in_arrays_stay(self) -> None:
        assert after({}, Merge((), {"a": [None, {"b": None}]})) == {"a": [None, {"b": None}]}

    def test_a_missing_place_is_made(self) -> None:
        edits = Document({}).plan(Merge(("a",), {"b": None, "c": 1}))
        assert edits == [Edit(("a",), MISSING, {"c": 1})]
        assert type(refused({}, Merge(("a", "b"), {}))) is NotFound

    @given(
        st.recursive(
            st.none() | st.integers(0, 2),
            lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        ),
        st.recursive(
            st.none() | st.integers(0, 2),
            lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        ),
    )
    def test_against_the_pseudocode_of_the_rfc(self, target: Any, patch: Any) -> None:
        assert equal(after(target, Merge((), patch)), merge_patch(copy.deepcopy(target), patch))


def test_a_merge_puts_nothing_together_that_has_no_nulls() -> None:
    patch = {"a": {"b": {"c": [None]}}}
    [edit] = Document({"x": 1}).plan(Merge((), patch))
    assert edit.after is patch["a"]
    with_null: Any = {"a": {"b": {"c": None, "d": {}}, "e": None}}
    before = copy.deepcopy(with_null)
    [edit] = Document({"x": 1}).plan(Merge((), with_null))
    assert edit.after == {"b": {"d": {}}}
    assert with_null == before, "it may have to be planned again"


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396 section 2, to the letter."""
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        for name, value in patch.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = merge_patch(target.get(name), value)
        return target
    return patch


# RFC 6902, appendix A: name, document, patch, result or error.
APPENDIX_A: list[Any] = [
    (
        "A.1 adding an object member",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux"}],
        {"baz": "qux", "foo": "bar"},
    ),
    (
        "A.2 adding an array element",
        {"foo": ["bar", "baz"]},
        [{"op": "add", "path": "/foo/1", "value": "qux"}],
        {"foo": ["bar", "qux", "baz"]},
    ),
    (
        "A.3 removing an object member",
        {"baz": "qux", "foo": "bar"},
        [{"op": "remove", "path": "/baz"}],
        {"foo": "bar"},
    ),
    (
        "A.4 removing an array element",
        {"foo": ["bar", "qux", "baz"]},
        [{"op": "remove", "path": "/foo/1"}],
        {"foo": ["bar", "baz"]},
    ),
    (
        "A.5 replacing a value",
        {"baz": "qux", "foo": "bar"},
        [{"op": "replace", "path": "/baz", "value": "boo"}],
        {"baz": "boo", "foo": "bar"},
    ),
    (
        "A.6 moving a value",
        {"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}},
        [{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}],
        {"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}},
    ),
    (
        "A.7 moving an array element",
        {"foo": ["all", "grass", "cows", "eat"]},
        [{"op": "move", "from": "/foo/1", "path": "/foo/3"}],
        {"foo": ["all", "cows", "eat", "grass"]},
    ),
    (
        "A.8 testing a value: success",
        {"baz": "qux", "foo": ["a", 2, "c"]},
        [
            {"op": "test", "path": "/baz", "value": "qux"},
            {"op": "test", "path": "/foo/1", "value": 2},
        ],
        {"baz": "qux", "foo": ["a", 2, "c"]},
    ),
    (
        "A.9 testing a value: error",
        {"baz": "qux"},
        [{"op": "test", "path": "/baz", "value": "bar"}],
        TestFailed,
    ),
    (
        "A.10 adding a nested member object",
        {"foo": "bar"},
        [{"op": "add", "path": "/child", "value": {"grandchild": {}}}],
        {"foo": "bar", "child": {"grandchild": {}}},
    ),
    (
        "A.11 ignoring unrecognized elements",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}],
        {"foo": "bar", "baz": "qux"},
    ),
    (
        "A.12 adding to a nonexistent target",
        {"foo": "bar"},
        [{"op": "add", "path": "/baz/bat", "value": "qux"}],
        NotFound,
    ),
    # A.13 has a member twice: no value at all, refused when the text is decoded (test_value.py).
    (
        "A.14 ~ escape ordering",
        {"/": 9, "~1": 10},
        [{"op": "test", "path": "/~01", "value": 10}],
        {"/": 9, "~1": 10},
    ),
    (
        "A.15 comparing strings and numbers",
        {"/": 9, "~1": 10},
        [{"op": "test", "path": "/~01", "value": "10"}],
        TestFailed,
    ),
    (
        "A.16 adding an array value",
        {"foo": ["bar"]},
        [{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}],
        {"foo": ["bar", ["abc", "def"]]},
    ),
]

FURTHER: list[Any] = [
    ("nothing to do", {"a": 1}, [], {"a": 1}),
    ("add replaces a member", {"a": 1}, [{"op": "add", "path": "/a", "value": 2}], {"a": 2}),
    ("add at the root replaces", [1], [{"op": "add", "path": "", "value": {}}], {}),
    ("replace at the root", {"a": 1}, [{"op": "replace", "path": "", "value": None}], None),
    ("remove at the root", {"a": 1}, [{"op": "remove", "path": ""}], Invalid),
    ("add at the length", [1], [{"op": "add", "path": "/1", "value": 2}], [1, 2]),
    ("add beyond the length", [1], [{"op": "add", "path": "/2", "value": 2}], NotFound),
    ("add at -", [], [{"op": "add", "path": "/-", "value": 2}], [2]),
    ("- is nothing yet", [1], [{"op": "remove", "path": "/-"}], NotFound),
    ("replace at -", [1], [{"op": "replace", "path": "/-", "value": 2}], NotFound),
    ("- names a member of an object", {}, [{"op": "add", "path": "/-", "value": 2}], {"-": 2}),
    ("leading zeros", [1, 2], [{"op": "replace", "path": "/01", "value": 0}], NotFound),
    ("leading zeros to add", [1, 2], [{"op": "add", "path": "/00", "value": 0}], NotFound),
    ("negative index", [1, 2], [{"op": "remove", "path": "/-1"}], NotFound),
    ("index with an exponent", [1, 2], [{"op": "remove", "path": "/1e0"}], NotFound),
    ("name in an array", [1, 2], [{"op": "add", "path": "/x", "value": 0}], NotFound),
    ("empty token is a name", {"": 1}, [{"op": "replace", "path": "/", "value": 2}], {"": 2}),
    ("digits name a member", {"0": 1}, [{"op": "remove", "path": "/0"}], {}),
    ("~1 is a slash", {}, [{"op": "add", "path": "/a~1b~0c", "value": 1}], {"a/b~c": 1}),
    ("null is a value", {"a": None}, [{"op": "test", "path": "/a", "value": None}], {"a": None}),
    ("null to add", {}, [{"op": "add", "path": "/a", "value": None}], {"a": None}),
    ("test 1 = 1.0", {"a": 1}, [{"op": "test", "path": "/a", "value": 1.0}], {"a": 1}),
    ("test 1 ≠ true", {"a": 1}, [{"op": "test", "path": "/a", "value": True}], TestFailed),
    ("test 0 ≠ false", {"a": [0]}, [{"op": "test", "path": "/a", "value": [False]}], TestFailed),
    ("test of a missing place", {}, [{"op": "test", "path": "/a", "value": None}], TestFailed),
    (
        "test ignores the order of members",
        {"a": 1, "b": 2},
        [{"op": "test", "path": "", "value": {"b": 2, "a": 1}}],
        {"a": 1, "b": 2},
    ),
    ("replace needs a target", {}, [{"op": "replace", "path": "/a", "value": 1}], NotFound),
    ("remove needs a target", {}, [{"op": "remove", "path": "/a"}], NotFound),
    ("move to itself", {"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
    ("move of nothing", {}, [{"op": "move", "from": "/a", "path": "/a"}], NotFound),
    ("move into itself", {"a": {}}, [{"op": "move", "from": "/a", "path": "/a/b"}], Invalid),
    ("move of the root", {"a": {}}, [{"op": "move", "from": "", "path": "/a"}], Invalid),
    (
        "move over its parent",
        {"a": {"b": 1}},
        [{"op": "move", "from": "/a/b", "path": "/a"}],
        {"a": 1},
    ),
    ("move to the root", {"a": {"b": 1}}, [{"op": "move", "from": "/a", "path": ""}], {"b": 1}),
    ("move forward", [1, 2, 3], [{"op": "move", "from": "/0", "path": "/2"}], [2, 3, 1]),
    ("move back", [1, 2, 3], [{"op": "move", "from": "/2", "path": "/0"}], [3, 1, 2]),
    ("move behind the end", [1, 2, 3], [{"op": "move", "from": "/0", "path": "/3"}], NotFound),
    ("move to -", [1, 2, 3], [{"op": "move", "from": "/0", "path": "/-"}], [2, 3, 1]),
    ("copy", {"a": [1]}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": [1], "b": [1]}),
    (
        "copy into itself",
        {"a": {}},
        [{"op": "copy", "from": "", "path": "/a/b"}],
        {"a": {"b": {"a": {}}}},
    ),
    (
        "a copy is its own",
        {"a": [1]},
        [
            {"op": "copy", "from": "/a", "path": "/b"},
            {"op": "add", "path": "/b/-", "value": 2},
        ],
        {"a": [1], "b": [1, 2]},
    ),
    ("copy of nothing", {}, [{"op": "copy", "from": "/a", "path": "/b"}], NotFound),
    (
        "each sees what those before it did",
        {},
        [
            {"op": "add", "path": "/a", "value": []},
            {"op": "add", "path": "/a/-", "value": {"b": 1}},
            {"op": "test", "path": "/a/0/b", "value": 1},
            {"op": "add", "path": "/a/0", "value": 0},
            {"op": "replace", "path": "/a/1/b", "value": 2},
        ],
        {"a": [0, {"b": 2}]},
    ),
    (
        "all or nothing",
        {"a": 1},
        [{"op": "replace", "path": "/a", "value": 2}, {"op": "remove", "path": "/b"}],
        NotFound,
    ),
]

MALFORMED: list[Any] = [
    {},
    "add",
    [1],
    [[]],
    [{}],
    [{"op": "spam", "path": "/a", "value": 1}],
    [{"op": ["add"], "path": "/a", "value": 1}],
    [{"op": "Add", "path": "/a", "value": 1}],
    [{"path": "/a", "value": 1}],
    [{"op": "add", "value": 1}],
    [{"op": "add", "path": None, "value": 1}],
    [{"op": "add", "path": "a", "value": 1}],
    [{"op": "add", "path": "#/a", "value": 1}],
    [{"op": "add", "path": "/a~2", "value": 1}],
    [{"op": "add", "path": "/a~", "value": 1}],
    [{"op": "add", "path": "/a"}],
    [{"op": "replace", "path": "/a"}],
    [{"op": "test", "path": "/a"}],
    [{"op": "move", "path": "/a"}],
    [{"op": "copy", "path": "/a"}],
    [{"op": "copy", "path": "/a", "from": 1}],
    [{"op": "add", "path": "/x" * 257, "value": 1}],
]


class TestPatch:
    @pytest.mark.parametrize(
        ("root", "patch", "result"),
        [case[1:] for case in APPENDIX_A + FURTHER],
        ids=[case[0] for case in APPENDIX_A + FURTHER],
    )
    def test_rfc_6902(self, root: Json, patch: Json, result: Any) -> None:
        for wrapped, base in ((root, ()), ({"at": [0, root]}, ("at", 1))):
            op = Patch(base, patch)
            if isinstance(result, type):
                assert type(refused(wrapped, op)) is result
            else:
                expected = result if not base else {"at": [0, result]}
                assert equal(after(wrapped, op), expected)

    @pytest.mark.parametrize("patch", MALFORMED)
    def test_malformed(self, patch: Json) -> None:
        error = refused({"a": 1}, Patch((), patch))
        assert type(error) is Invalid
        assert error.status == 400

    def test_the_error_names_the_step(self) -> None:
        patch = [{"op": "test", "path": "/a", "value": 1}, {"op": "remove", "path": "/b"}]
        assert refused({"a": 1}, Patch((), patch)).detail.startswith("patch operation 1: ")

    def test_needs_its_place(self) -> None:
        assert type(refused({}, Patch(("a",), []))) is NotFound


class TestBatch:
    def test_in_order(self) -> None:
        ops = (
            Set(("a",), []),
            Append(("a",), {"n": 1}),
            Increment(("a", 0, "n")),
            Merge(("a", -1), {"m": {}}),
            Patch(("a",), [{"op": "add", "path": "/0", "value": "first"}]),
            Delete(("old",)),
        )
        assert after({"old": 1}, Batch(ops)) == {"a": ["first", {"n": 2, "m": {}}]}

    def test_all_or_nothing(self) -> None:
        error = refused({"a": 1}, Batch((Set(("a",), 2), Delete(("b",)))))
        assert type(error) is NotFound
        assert error.detail.startswith("operation 1: ")

    def test_empty(self) -> None:
        assert Document({}).plan(Batch(())) == []
        assert Batch(()).path == ()

    def test_does_not_nest(self) -> None:
        assert refused({}, Batch((Batch(()),))).status == 400


def test_statuses() -> None:
    assert [NotFound.status, Invalid.status, TestFailed.status, Conflict.status] == [
        404,
        422,
        409,
        412,
    ]
    assert Conflict((), "x").title == "Precondition failed"
    assert Set((), 1, if_position=Position("e", 1)).if_position == Position("e", 1)
