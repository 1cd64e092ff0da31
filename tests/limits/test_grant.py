from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.limits.grant import ALL, FULL, NONE, Grant, glob_covers, glob_matches


def covers(granted: str, asked: str) -> bool:
    """A stand-in for the document's rule: below a place counts as within."""
    return granted == "." or asked == granted or asked.startswith((granted + ".", granted + "["))


@pytest.mark.parametrize("said", ["*", ["*"], [".a", "*"]])
def test_everything_is_said(said: object) -> None:
    everything = Grant.from_json({"read": said, "write": said, "rooms": said})
    assert everything == Grant(ALL, ALL, ALL, False)
    assert everything.may_read(".x", covers)
    assert everything.may_write(".x", covers)
    assert everything.may_room("r")
    assert not everything.admin


@pytest.mark.parametrize("root", [".", "$", "*"])
def test_the_root_is_everything_and_no_room(root: str) -> None:
    """A room may be called `.` or `$`."""
    grant = Grant.from_json({"read": [root], "write": [root], "rooms": [".", "$"]})
    assert grant == Grant(ALL, ALL, (".", "$"))
    assert not grant.may_room("r")


@pytest.mark.parametrize("data", [{}, {"read": [], "write": [], "rooms": []}, {"admin": False}])
def test_what_is_not_granted_is_denied(data: object) -> None:
    nothing = Grant.from_json(data)
    assert nothing == NONE
    assert not nothing.may_read(".x", covers)
    assert not nothing.may_write(".x", covers)
    assert not nothing.may_room("r")


def test_lists() -> None:
    grant = Grant.from_json({"read": [".users"], "write": [".users.me"], "rooms": ["chat-*"]})
    assert grant.may_read(".users.me", covers)
    assert not grant.may_read(".user", covers)
    assert not grant.may_read(".", covers)
    assert grant.may_write(".users.me.name", covers)
    assert not grant.may_write(".users.you", covers)
    assert grant.may_room("chat-1")
    assert not grant.may_room("my-chat-1")


@pytest.mark.parametrize("grant", [FULL, NONE, Grant(read=ALL), Grant((".a",), (), ("x*",), True)])
def test_round_trip(grant: Grant) -> None:
    assert Grant.from_json(grant.to_json()) == grant


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (None, "object"),
        ([], "object"),
        ({"reads": []}, "'reads'; did you mean 'read'"),
        ({"Rooms": []}, "'Rooms'; did you mean 'rooms'"),
        ({"rooms": "chat-*"}, "rooms must be a list"),
        ({"read": None}, "read must be a list"),
        ({"write": ".a"}, "write must be a list"),
        ({"rooms": {"a": 1}}, "rooms must be a list"),
        ({"read": [".a", 1]}, r"read\[1\]"),
        ({"read": [""]}, r"read\[0\]"),
        ({"rooms": ["a", "b" * 300]}, r"rooms\[1\]"),
        ({"read": ["." + "a" * 5000]}, r"read\[0\]"),
        ({"read": [".a"] * 300}, "read has more"),
        ({"admin": 1}, "admin"),
        ({"admin": "true"}, "admin"),
        ({"admin": None}, "admin"),
        ({"metrics": 1}, "metrics"),
    ],
)
def test_malformed_names_the_member(data: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Grant.from_json(data)


def test_filters_are_checked_and_named() -> None:
    def check(text: str) -> None:
        if not text.startswith("."):
            raise ValueError("must start with a dot, column 1")

    Grant.from_json({"read": [".a"], "rooms": ["a"]}, check=check)
    with pytest.raises(ValueError, match=r"write\[1\]: must start with a dot, column 1"):
        Grant.from_json({"write": [".a", "b"]}, check=check)


def test_within() -> None:
    holder = Grant((".users",), (".users.me",), ("chat-*",))
    inside = Grant((".users.me", ".users.you"), (), ("chat-a?", "chat-*-x"))
    assert inside.within(holder, covers)
    assert holder.within(holder, covers)
    assert NONE.within(holder, covers)
    assert holder.within(Grant(ALL, ALL, ALL), covers)
    for wider in (
        Grant(ALL, (), ()),
        Grant((), ALL, ()),
        Grant((), (), ALL),
        Grant((".",), (), ()),
        Grant((), (".users",), ()),
        Grant((), (), ("chat*",)),
        Grant((), (), (), metrics=True),
        Grant((), (), (), admin=True),
    ):
        assert not wider.within(holder, covers)
    assert Grant(metrics=True).within(Grant(metrics=True), covers)
    assert Grant(metrics=True).within(Grant(admin=True), covers)
    assert not Grant(admin=True).within(Grant(metrics=True), covers)
    assert FULL.within(FULL, covers)


def test_metrics_are_for_admins_too() -> None:
    assert Grant.from_json({"metrics": True}).may_read_metrics
    assert Grant.from_json({"admin": True}).may_read_metrics
    assert not Grant.from_json({"read": "*", "write": "*", "rooms": "*"}).may_read_metrics


def test_union() -> None:
    assert Grant(metrics=True).union(NONE) == NONE.union(Grant(metrics=True)) == Grant(metrics=True)
    assert Grant((".a",), (), ("x",)).union(Grant((".b", ".a"), ALL, ())) == Grant(
        (".a", ".b"), ALL, ("x",)
    )
    assert NONE.union(FULL) == FULL


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("*", "", True),
        ("*", "a\nb", True),
        ("?", "", False),
        ("?", "\n", True),
        ("?", "🔑", True),
        ("a", "A", False),
        ("a*", "ba", False),
        ("*a", "ab", False),
        ("a*b*c", "a-b-b-c", True),
        ("a*bc*bc", "abc", False),
        ("a**b", "ab", True),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a.b+", "a.b+", True),
        ("a.b?", "axbc", False),
        ("*?x", "x", False),
        ("*?x", "xx", True),
        ("room\n", "room", False),
        ("room", "room\n", False),
        ("roo?", "room\n", False),
    ],
)
def test_globs(glob: str, name: str, expected: bool) -> None:
    assert glob_matches(glob, name) is expected


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=10))
@settings(max_examples=400)
def test_globs_are_what_a_plain_pattern_says(glob: str, name: str) -> None:
    plain = "".join({"*": ".*", "?": "."}.get(char, char) for char in glob)
    assert glob_matches(glob, name) is (re.fullmatch(plain, name, re.DOTALL) is not None)


def test_hostile_globs_stay_cheap() -> None:
    started = time.process_time()
    assert not glob_matches("*a" * 60 + "b", "a" * 5_000)
    assert not glob_matches("*a?" * 60 + "b", "a" * 5_000)
    assert not glob_covers("*a" * 100 + "b", "a" * 256)
    assert time.process_time() - started < 1.0


NAMES = ["".join(p) for n in range(6) for p in itertools.product("abz", repeat=n)]


@given(st.text("ab*?", max_size=4), st.text("ab*?", max_size=4))
@settings(max_examples=300, deadline=None)
def test_glob_covers_is_sound_and_complete_without_question_marks(granted: str, asked: str) -> None:
    """Against all names up to 5 letters, `z` being one that no glob mentions."""
    included = all(glob_matches(granted, n) for n in NAMES if glob_matches(asked, n))
    if glob_covers(granted, asked):
        assert included
    elif "?" not in granted:
        assert not included


def test_glob_covers_common_shapes() -> None:
    for granted, asked in [("*", "?*"), ("a*", "a-?"), ("?", "x"), ("*?", "?*"), ("a?*", "a*?b")]:
        assert glob_covers(granted, asked)
    for granted, asked in [("?", "*"), ("a*", "*"), ("a", "a*"), ("?*", "*"), ("a-*", "a*")]:
        assert not glob_covers(granted, asked)
