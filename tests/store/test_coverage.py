"""What a grant permits. The property is the point; the tables say how far it reaches."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.store.coverage import can_cover
from triode.store.demand import named
from triode.store.filter import FilterError, covers, parse_filter
from triode.store.path import Path, format_path
from triode.store.value import Json


@pytest.mark.parametrize(
    ("granted", "asked"),
    [
        (".", ".a[*]..b"),
        (".", "$.a[?@.b==$.c]"),
        ("$", "..x"),
        (".users", ".users"),
        (".users", '["users"][0]'),
        (".users", ".users[0].name"),
        (".users", ".users[*]"),
        (".users", ".users[role=admin].name"),
        (".users", ".users..name"),
        (".users", "/users/0"),
        (".users", "$.users[?@.age > 3]..x"),
        ("/users", ".users[1]"),
        ("$.users", ".users[1]"),
        ("$.users[?@.a]", "$.users[?@.a]"),
        (".users[*].name", ".users[3].name"),
        (".users[*].name", ".users[1:3].name.first"),
        (".users[*]", ".users[*][role=admin].name"),
        (".users[*]", "$.users[0][?@.a]"),
        (".users.*", ".users.a[0]"),
        ("..name", ".users[*].name"),
        ("..name", ".a..name.x"),
        ("..name", "..name..b"),
        ("..a..b", ".a.c.b"),
        ("[0:4]", "[1]"),
        ("[1:]", "[1:3]"),
        ("[:]", "[2:]"),
        (".a[-1]", ".a[-1].b"),
        ("/a/0", ".a[0].b"),
        ("/a/0", '.a["0"]'),
        (".p[team=red]", ".p[team=red][open=true].x"),
        (".p[a=1][b=2].x", ".p[b=2][a=1].x"),
    ],
)
def test_covers(granted: str, asked: str) -> None:
    assert covers(granted, asked)


@pytest.mark.parametrize(
    ("granted", "asked"),
    [
        (".users", "."),
        (".users", ".user"),
        (".users", "..users"),
        (".users", "$.users[?@.a==$.secret]"),
        (".users", "$..users"),
        (".users[*]", ".users"),
        (".users[*]", ".users.a"),
        (".users[*]", "/users/0"),
        (".users.*", ".users[0]"),
        # On an object the condition stays where it is: `.users.name` is no user's name.
        (".users[*].name", ".users[role=admin].name"),
        (".users[*]", ".users[role=admin]"),
        # A condition would tell what it tests.
        (".users[*].name", ".users[*][pin=1].name"),
        ("..name", ".users[pin=1].name"),
        (".p[team=red].x", ".p[team=red][pin=1].x"),
        (".p[team=red]", ".p[open=true]"),
        (".p[on=true]", ".p[on=1]"),
        (".p[team=red]", ".p[*]"),
        ("..name", ".users[*].*"),
        (".a..name", ".name"),
        ("[0:4]", "[-1]"),
        ("[0:4]", "[4]"),
        ("[:-1]", "[0]"),
        ("[1:]", "[0:2]"),
        (".a[-1]", ".a[1]"),
        (".a[0]", "/a/0"),
        ("$.users[*]", "$.users[0]"),
        ("$.users[?@.a]", "$.users[?@.a].b"),
    ],
)
def test_does_not_cover(granted: str, asked: str) -> None:
    assert not covers(granted, asked)


@pytest.mark.parametrize("pair", [("x", "."), (".", "x"), ("x", "x")])
def test_a_malformed_text_covers_nothing(pair: tuple[str, str]) -> None:
    with pytest.raises(FilterError):
        covers(*pair)


documents = st.recursive(
    st.booleans() | st.integers(0, 2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab0"), inner, max_size=3)
    ),
    max_leaves=20,
)
steps = [".a", ".b", '["0"]', "[0]", "[1]", "[-1]", "[*]", ".*", "[0:2]", "[1:]", "[:-1]", "[:]"]
tests = ["[a=1]", "[b!=0]", "[a=true]", "[a>0]"]
own_segments = st.sampled_from([*steps, *tests, "..a", "..b"])
own = st.lists(own_segments, max_size=4).map(lambda parts: "".join(parts) or ".")
pointers = st.lists(st.sampled_from(["/a", "/b", "/0", "/1"]), min_size=1, max_size=3).map("".join)
jsonpath_segments = st.sampled_from(
    [".a", ".b", "[0]", "[-1]", "[*]", "..a", "[::-1]", "[?@.a==1]", "[?@.b==$.a]", "['a','b']"]
)
jsonpaths = st.lists(jsonpath_segments, max_size=3).map(lambda parts: "$" + "".join(parts))
filters = own | pointers | jsonpaths


def is_inside(path: Path, granted: set[Path]) -> bool:
    return any(path[:depth] in granted for depth in range(len(path) + 1))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """Often related: what is asked begins as the grant, with a segment or two exchanged."""
    granted = draw(st.lists(own_segments, max_size=3))
    asked = [part if draw(st.booleans()) else draw(own_segments) for part in granted]
    asked += draw(st.lists(own_segments, max_size=2))
    return "".join(granted) or ".", "".join(asked) or "."


@settings(max_examples=400)
@given(pairs() | st.tuples(filters, filters), st.lists(documents, min_size=1, max_size=4))
def test_what_is_covered_is_selected_inside_the_grant(
    pair: tuple[str, str], roots: list[Json]
) -> None:
    granted, asked = pair
    if not covers(granted, asked):
        return
    for root in roots:
        given_places = {path for path, _ in parse_filter(granted).select(root)}
        for path, _ in parse_filter(asked).select(root):
            assert is_inside(path, given_places), (granted, asked, path)


paths = st.lists(st.sampled_from(["a", "b", "0", "1", "-", 0, 1, -1]), max_size=4).map(tuple)


@settings(max_examples=400)
@given(filters, paths, documents)
def test_what_can_never_cover_a_place_covers_it_in_no_document(
    granted: str, path: Path, root: Json
) -> None:
    """Writes are refused by it before anybody looks at the document."""
    if covers(granted, format_path(named(root, path))):
        assert can_cover(parse_filter(granted).steps, path)


@pytest.mark.parametrize(
    ("granted", "path", "may"),
    [
        (".a", ("a",), True),
        (".a", ("a", "b"), True),
        (".a", ("b",), False),
        (".a", (), False),
        (".a", (0,), False),
        (".a.b", ("a",), False),
        (".a[0]", ("a", "0"), True),
        (".a[0]", ("a", 1), False),
        (".a[*].b", ("a", "0", "c"), False),
        (".*.b", (0, "b"), False),
        ("..a", ("b",), True),
        ("$[?@.a]", ("b",), True),
    ],
)
def test_what_may_cover(granted: str, path: Path, may: bool) -> None:
    assert can_cover(parse_filter(granted).steps, path) == may


@given(filters)
def test_a_filter_covers_itself(text: str) -> None:
    assert covers(text, text)


@given(own, st.lists(own_segments, max_size=2).map("".join))
def test_the_root_covers_all(text: str, below: str) -> None:
    assert covers(".", text.removesuffix(".") + below or ".")
