from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triode.store import filter as filter_module
from triode.store.filter import (
    Conditions,
    Descent,
    Elements,
    FilterError,
    Index,
    Members,
    Name,
    Slice,
    Test,
    Token,
    parse_filter,
    split_filters,
)
from triode.store.path import format_path
from triode.store.value import MISSING, Json, equal

DOCUMENT: dict[str, Any] = {
    "users": [
        {"id": 1, "name": "Ann", "status": "online", "admin": True},
        {"id": 2, "name": "Bob", "status": "offline", "admin": 1},
        7,
        [{"id": 3, "name": "Cy", "status": "online"}],
    ],
    "team": {"a": {"name": "Di", "size": 3}, "b": {"name": "Ed"}, "0": "zero"},
    "name": "top",
}


def places(text: str, root: Json) -> list[str]:
    return [format_path(path) for path, _ in parse_filter(text).select(root)]


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        (".", ["."]),
        ("$", ["."]),
        (".users[0].name", [".users[0].name"]),
        (".users[-1]", [".users[3]"]),
        (".users[4]", []),
        (".users[-5]", []),
        (".users.name", []),
        (".team[0]", []),
        (".users[*].name", [".users[0].name", ".users[1].name"]),
        (".team[*]", []),
        (".users.*", []),
        (".team.*", [".team.a", ".team.b", '.team["0"]']),
        (".users[1:3]", [".users[1]", ".users[2]"]),
        (".users[-2:]", [".users[2]", ".users[3]"]),
        (".users[:]", [".users[0]", ".users[1]", ".users[2]", ".users[3]"]),
        (".users[:-3]", [".users[0]"]),
        (".users[status=online]", [".users[0]"]),
        (".users[*][status=online]", [".users[0]", ".users[3][0]"]),
        (".users[admin=true]", [".users[0]"]),
        (".users[admin=1]", [".users[1]"]),
        (".users[id>=1][id<2].name", [".users[0].name"]),
        (".users[status!=online]", [".users[1]"]),
        (".users[nokey!=x]", []),
        (".users[ status = online ]", [".users[0]"]),
        ('.users["status"="online"]', [".users[0]"]),
        (".team.*[size=3].name", [".team.a.name"]),
        (".team.a[size=3]", [".team.a"]),
        (".name[a=1]", []),
        (
            "..name",
            [
                ".name",
                ".users[0].name",
                ".users[1].name",
                ".users[3][0].name",
                ".team.a.name",
                ".team.b.name",
            ],
        ),
        ('.team..["name"]', [".team.a.name", ".team.b.name"]),
        ("/users/0/name", [".users[0].name"]),
        ("/team/0", ['.team["0"]']),
        ("/users/4", []),
        ("/users/-", []),
        ("$.users[?@.admin==true].name", [".users[0].name"]),
    ],
)
def test_selects(text: str, selected: list[str]) -> None:
    assert places(text, DOCUMENT) == selected


def test_nested_descents_select_no_place_twice() -> None:
    root: Json = {"a": {"a": {"a": {"b": [{"a": {}}]}}}}
    assert places("..a..a", root) == [".a.a", ".a.a.a", ".a.a.a.b[0].a"]
    deep: Json = {}
    for _ in range(250):
        deep = {"a": deep}
    assert len(places("..a..a..a..a", deep)) == 247


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        (".a", (Name("a"),)),
        ("/a/0/01", (Name("a"), Token("0"), Name("01"))),
        ("[0][-1][*].*", (Index(0), Index(-1), Elements(), Members())),
        ("[1:][:2][:]", (Slice(1, None), Slice(None, 2), Slice(None, None))),
        ("..a", (Descent("a"),)),
        ("[a=1][b=x]", (Conditions((Test("a", "=", 1), Test("b", "=", "x"))),)),
        ("[a=x,y z]", (Conditions((Test("a", "=", "x,y z"),)),)),
        ("[a=1.5e1]", (Conditions((Test("a", "=", 15.0),)),)),
        ('[a="100"]', (Conditions((Test("a", "=", "100"),)),)),
        ('[a="]["]', (Conditions((Test("a", "=", "]["),)),)),
        ("[a=007]", (Conditions((Test("a", "=", "007"),)),)),
        ("[a=1.2.3]", (Conditions((Test("a", "=", "1.2.3"),)),)),
        ("[a=null]", (Conditions((Test("a", "=", None),)),)),
        ("[a!b!=false]", (Conditions((Test("a!b", "!=", False),)),)),
        ('["a.b"<=1]', (Conditions((Test("a.b", "<=", 1),)),)),
        ("[0=x]", (Conditions((Test("0", "=", "x"),)),)),
        ("$.a", None),
    ],
)
def test_reads(text: str, segments: object) -> None:
    assert parse_filter(text).segments == segments


@pytest.mark.parametrize(
    ("text", "is_path", "prefix", "indexable"),
    [
        (".", True, (), True),
        (".a[0]", True, ("a", 0), True),
        (".a[-1].b", True, ("a",), False),
        ("/a/0", True, ("a",), False),
        (".a[*].b", False, ("a",), True),
        (".a.b[x=1].c", False, ("a", "b"), True),
        (".a..b", False, ("a",), False),
        (".a[1:2]", False, ("a",), False),
        ("$.a[0].b", False, ("a", 0, "b"), False),
        ("$.a[?@.b==1].c", False, ("a",), False),
        ("$.a[?@.b==$.c]", False, (), False),
        ("$.a[?@.b[?match(@, $.c)]]", False, (), False),
        ("$.a[-1]", False, ("a",), False),
        ("$.a['b','c']", False, ("a",), False),
        ("$.a..b", False, ("a",), False),
        ("$.a.*", False, ("a",), False),
    ],
)
def test_tells_the_index_what_it_is(
    text: str, is_path: bool, prefix: tuple[str | int, ...], indexable: bool
) -> None:
    found = parse_filter(text)
    assert (found.is_path, found.prefix, found.indexable) == (is_path, prefix, indexable)
    assert (found.path is not None) is is_path


def test_is_cached_equal_by_text_and_immutable() -> None:
    assert parse_filter(".a[*]") is parse_filter(".a[*]")
    assert parse_filter(".a") != parse_filter('["a"]')
    assert len({parse_filter(".a"), parse_filter(".a")}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Name("a").key = "b"  # type: ignore[misc]


VALUES: list[Any] = [None, True, False, 0, 1, 1.0, 1.5, "", "1", "a", "b", [], [1], {}, {"a": 1}]


@pytest.mark.parametrize(("value", "literal"), list(itertools.product(VALUES, VALUES[:11])))
def test_compares_as_json(value: Json, literal: Any) -> None:
    both_text = isinstance(value, str) and isinstance(literal, str)
    numbers = [type(each) in (int, float) for each in (value, literal)]
    ordered = both_text or all(numbers)
    assert Test("k", "=", literal).holds(value) is equal(value, literal)
    assert Test("k", "!=", literal).holds(value) is not equal(value, literal)
    assert Test("k", "<", literal).holds(value) is (ordered and value < literal)
    assert Test("k", "<=", literal).holds(value) is (ordered and value <= literal)
    assert Test("k", ">", literal).holds(value) is (ordered and value > literal)
    assert Test("k", ">=", literal).holds(value) is (ordered and value >= literal)


@pytest.mark.parametrize("op", ["=", "!=", "<", "<=", ">", ">="])
def test_a_missing_member_meets_nothing(op: str) -> None:
    assert not Test("k", op, None).holds(MISSING)


def test_a_test_for_true_is_not_one_for_1() -> None:
    assert Test("a", "=", True) != Test("a", "=", 1)
    assert Test("a", "=", 1) == Test("a", "=", 1.0)
    assert hash(Test("a", "=", 1)) == hash(Test("a", "=", 1.0))
    assert parse_filter("[a=1]").segments != parse_filter("[a=true]").segments


MALFORMED = [
    ("users[0]", 1),
    (".a..", 5),
    ("...a", 3),
    ("..*", 3),
    ("..[*]", 4),
    ("..[0]", 4),
    ("..[a=1]", 4),
    ('..["a"', 7),
    (".a.", 4),
    (".a.[*]", 4),
    (".a[*", 5),
    (".a[**]", 6),
    (".a[", 4),
    (".a[]", 4),
    (".a[b]", 5),
    (".a[01]", 6),
    (".a[=1]", 4),
    (".a[b=]", 6),
    (".a[b= ]", 7),
    (".a[b==1]", 6),
    (".a[b~1]", 7),
    (".a[b!1]", 7),
    (".a[b.c=1]", 5),
    ('.a[b"=1]', 5),
    (".a[b[=1]", 5),
    (".a[b=1", 7),
    ('.a[b="x]', 6),
    ('.a[b="x"y]', 9),
    ('.a[b=x"]', 7),
    (".a[b=x[0]]", 7),
    (".a[b=1e999]", 6),
    ('.a["b"', 7),
    ('.a["b"=1', 9),
    ('.a["b",1]', 7),
    (".a[1:2:3]", 7),
    (".a[1:x]", 6),
    (".a[1,2]", 7),
    (".a[9007199254740992]", 4),
    (".a[0]b", 6),
    (".a]", 3),
    ("/a~b", 3),
    ("[*]" * 257, 769),
    ("." + "a" * 4096, 4097),
    ("$.", 3),
    ("$a", 2),
    ("$.a[", 5),
    ("$.a[?@.b=1]", 9),
    ("$.a[?@.b==]", 11),
    ("$[?foo(@)]", 4),
    ("$[?!!@.a]", 4),
    ("$[?!@.a==1]", 4),
    ("$[?@.a==-01]", 9),
    ("$[?1e400==1]", 4),
    ("$[?@.n<-" + "9" * 400 + "]", 9),
    ("$[?@.n==" + "9" * 309 + "]", 9),
    (".a[n>" + "9" * 309 + "]", 6),
    (".a[n>-" + "9" * 309 + "]", 6),
    ("", 1),
    ("$[?" + "(" * 40, 35),
    ("$" + ".a" * 200, 401),
    ("$[?" + "&&".join(["@.a"] * 200) + "]", 507),
    (f"$[?match(@, '{'a' * 600}')]", 14),
    ("$[?match(@, '(a{500}){3}')]", 14),
    ("$" + "a" * 4096, 4097),
]


@pytest.mark.parametrize(("text", "column"), MALFORMED)
def test_a_fault_is_named_with_its_column(text: str, column: int) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert (caught.value.column, caught.value.text) == (column, text)


@given(
    st.text(max_size=40)
    | st.text('.[]"*:=!<>-01ab ', max_size=16)
    | st.text("$.[]'\"*?@()=!<>&|,:-01ae\\", max_size=24).map("$".__add__)
)
def test_any_text_is_a_filter_or_a_fault_inside_it(text: str) -> None:
    try:
        found = parse_filter(text)
    except FilterError as exc:
        column = exc.column
    else:
        list(found.select(DOCUMENT))
        return
    assert 1 <= column <= len(text) + 1


documents = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["x", "y"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab01"), inner, max_size=3)
    ),
    max_leaves=12,
)


def get(root: Any, path: tuple[str | int, ...]) -> list[tuple[tuple[str | int, ...], Json]]:
    actual: list[str | int] = []
    for key in path:
        if isinstance(root, dict) and isinstance(key, str) and key in root:
            root = root[key]
        elif isinstance(root, list) and isinstance(key, int) and -len(root) <= key < len(root):
            key %= len(root)
            root = root[key]
        else:
            return []
        actual.append(key)
    return [(tuple(actual), root)]


@given(documents, st.lists(st.sampled_from("ab01") | st.integers(-3, 2), max_size=4).map(tuple))
def test_a_definite_filter_selects_what_its_path_gets(
    root: Json, path: tuple[str | int, ...]
) -> None:
    found = parse_filter(format_path(path))
    assert found.path == path
    assert list(found.select(root)) == get(root, path)


@given(documents, st.sampled_from(["..a", "..a..b", ".*[a=1]", "[*][a!=0]", "..a[b>0]..a", "[:2]"]))
def test_no_place_twice_and_every_value_is_the_documents(root: Json, text: str) -> None:
    selected = list(parse_filter(text).select(root))
    assert len({path for path, _ in selected}) == len(selected)
    for path, value in selected:
        assert get(root, path)[0][1] is value


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", [""]),
        (",", ["", ""]),
        (",.a", ["", ".a"]),
        (".a,", [".a", ""]),
        (".a,,.b", [".a", "", ".b"]),
        (".a, ", [".a", ""]),
        ("$.a,", ["$.a", ""]),
        ("/a,", ["/a", ""]),
        (".", ["."]),
        (".a,.b[0]", [".a", ".b[0]"]),
        (".a, .b", [".a", ".b"]),
        (".a[name=x,y]", [".a[name=x,y]"]),
        (".a[name=x,.y],.b", [".a[name=x,.y]", ".b"]),
        (".a,b", [".a,b"]),
        (".a[n=O'Brien],.b", [".a[n=O'Brien]", ".b"]),
        ('["a],.b"],[0]', ['["a],.b"]', "[0]"]),
        (r'["\"],.b"],.c', [r'["\"],.b"]', ".c"]),
        ("$['a],.b','c'],$.d", ["$['a],.b','c']", "$.d"]),
        ("$[?match(@, '.,.x')],/a", ["$[?match(@, '.,.x')]", "/a"]),
        ("/a[b,/c", ["/a[b", "/c"]),
        (".a],.b", [".a]", ".b"]),
        (".a[,.b", [".a[,.b"]),
    ],
)
def test_splits_a_query_parameter(text: str, filters: list[str]) -> None:
    assert split_filters(text) == filters


def test_what_is_kept_of_parsed_filters_is_bounded_in_bytes() -> None:
    kept = filter_module.FILTERS
    for number in range(1200):
        parse_filter(f"$.a{number}['{'x' * 4000}']")
    assert 0 < len(kept) < 40
    assert kept.bytes <= kept.max_bytes
