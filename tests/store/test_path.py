from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triode.store.path import MAX_INDEX, PathError, format_path, parse_path

keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
paths = st.lists(keys | st.integers(-MAX_INDEX, MAX_INDEX), max_size=12).map(tuple)


@given(paths)
def test_the_canonical_text_names_the_same_place(path: tuple[str | int, ...]) -> None:
    assert parse_path(format_path(path)) == path


@given(st.lists(keys, min_size=1, max_size=12))
def test_a_pointer_keeps_every_token_as_text(tokens: list[str]) -> None:
    text = "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in tokens)
    assert parse_path(text) == tuple(tokens)


@given(st.text(max_size=40) | st.text('./[]"*~0-1a\\$', max_size=20))
def test_any_text_is_a_path_or_a_fault_inside_it(text: str) -> None:
    try:
        path = parse_path(text)
    except PathError as exc:
        fault = exc
    else:
        assert parse_path(format_path(path)) == path
        return
    assert 1 <= fault.column <= len(text) + 1
    assert (fault.text, bool(fault.detail)) == (text, True)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (".", ()),
        (".users", ("users",)),
        (".users[0].name", ("users", 0, "name")),
        ('.prices["BTC-USD"].bid', ("prices", "BTC-USD", "bid")),
        (".user-settings.theme", ("user-settings", "theme")),
        (".a b.ü", ("a b", "ü")),
        (".users[-1]", ("users", -1)),
        ("[0]", (0,)),
        (".[0]", (0,)),
        ('["x"]', ("x",)),
        ('.["x"]', ("x",)),
        ('["*"]', ("*",)),
        ('[""]', ("",)),
        (r'["\"]\u00e9"]', ('"]é',)),
        (".a*b", ("a*b",)),
        (".$a", ("$a",)),
        (".0", ("0",)),
        ("/", ("",)),
        ("/a/0/~01~1", ("a", "0", "~1/")),
        ("/a.b[0]", ("a.b[0]",)),
    ],
)
def test_reads(text: str, path: tuple[str | int, ...]) -> None:
    assert parse_path(text) == path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), "."),
        ((0,), "[0]"),
        (("users", 0, "name"), ".users[0].name"),
        (("BTC-USD", "é", "1a", "_1"), '["BTC-USD"]["é"]["1a"]._1'),
        (('"\n', ""), r'["\"\n"][""]'),
    ],
)
def test_writes(path: tuple[str | int, ...], text: str) -> None:
    assert format_path(path) == text


MALFORMED = [
    ("users[0].name", 1),
    (" .a", 1),
    ("..name", 1),
    ("", 1),
    (".a..b", 3),
    (".a.", 4),
    (".a.[0]", 4),
    (".[0", 4),
    (".config.*", 9),
    (".users[*]", 8),
    (".users[1:3]", 9),
    (".users[a=1]", 8),
    (".users[]", 8),
    (".users[", 8),
    (".users[0", 9),
    (".users[01]", 9),
    (".users[-0]", 8),
    (".users[+1]", 8),
    (".users[ 1]", 8),
    (".users[1.5]", 9),
    (".users[9007199254740992]", 8),
    (".users[٣]", 8),
    (".a[0]b", 6),
    (".a]", 3),
    ('.a"b', 3),
    ('["a', 2),
    ('["a"', 5),
    ('["a" ]', 5),
    (r'["\x"]', 3),
    ('["a\n"]', 4),
    (r'["\ud800"]', 2),
    (".a\ud800", 3),
    ("['a']", 2),
    ("/a~", 3),
    ("/~2", 2),
    ("." + "a" * 4096, 4097),
    (".a" * 257, 513),
    ("/a" * 257, 513),
]


@pytest.mark.parametrize(("text", "column"), MALFORMED)
def test_a_fault_is_named_with_its_column(text: str, column: int) -> None:
    with pytest.raises(PathError) as caught:
        parse_path(text)
    assert (caught.value.column, caught.value.text) == (column, text)


def test_the_limits_themselves_are_allowed() -> None:
    assert len(parse_path(".a" * 256)) == 256
    assert parse_path("." + "a" * 4095) == ("a" * 4095,)
    assert parse_path(f"[{MAX_INDEX}]") == (MAX_INDEX,)


def test_a_bare_name_must_follow_a_dot() -> None:
    with pytest.raises(PathError, match="must start with a dot"):
        parse_path("users[0]")
