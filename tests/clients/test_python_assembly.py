"""The Python client's assembly: docs/wire.md, Events, held against the reference of the behaviour
tests."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.behaviour import assembler as reference
from triode_client.assembly import MISSING, Assembly
from triode_client.fetch import Fetch
from triode_client.path import is_single, parse_path

NAMES = st.sampled_from(["a", "b", "c d"])
STEPS = st.lists(st.one_of(NAMES, st.integers(0, 2)), max_size=3)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("update"), STEPS, VALUES),
        st.tuples(st.just("delete"), STEPS, st.none()),
    ),
    max_size=12,
)


def text_of(steps: list[str | int]) -> str:
    if not steps:
        return "."
    return "".join(f"[{json.dumps(step)}]" for step in steps)


@given(st.lists(st.tuples(STEPS, VALUES), max_size=3), EVENTS, st.sets(st.integers(0, 11)))
def test_it_agrees_with_the_reference_and_what_was_handed_out_stays(
    start: list[tuple[list[str | int], Any]],
    events: list[tuple[str, list[str | int], Any]],
    looks: set[int],
) -> None:
    ours = Assembly()
    places = {text_of(steps): value for steps, value in start}
    ours.replace([{"path": path, "value": value} for path, value in places.items()])
    view = {parse_path(path): copy.deepcopy(value) for path, value in places.items()}
    kept: list[tuple[Any, Any]] = []
    for index, (kind, steps, value) in enumerate(events):
        if index in looks:
            items = ours.hand_out()
            kept.append((items, copy.deepcopy(dict(items))))
        path = tuple(steps)
        try:
            if kind == "update":
                reference.update(view, path, copy.deepcopy(value))
            else:
                reference.delete(view, path)
            fits = True
        except reference.AssemblyFault:
            fits = False
        done = (
            ours.update(text_of(steps), copy.deepcopy(value))
            if kind == "update"
            else ours.delete(text_of(steps))
        )
        assert done == fits
        if not fits:
            break  # each may leave what it cannot apply as it likes
        assert reference.same({parse_path(k): v for k, v in ours.hand_out().items()}, view)
    for items, before in kept:
        assert dict(items) == before


def test_a_place_that_is_updated_where_nobody_looks_is_not_copied() -> None:
    assembly = Assembly()
    assembly.replace([{"path": ".", "value": {"a": {"b": 1}}}])
    assembly.update(".a.b", 2)
    first = assembly._items["."]
    assembly.update(".a.b", 3)
    assert assembly._items["."] is first
    handed = assembly.hand_out()
    assembly.update(".a.b", 4)
    assert handed["."] == {"a": {"b": 3}}
    assert assembly.hand_out()["."] == {"a": {"b": 4}}


def test_the_branches_that_did_not_change_are_shared() -> None:
    assembly = Assembly()
    assembly.replace([{"path": ".", "value": {"a": {"b": 1}, "big": [1, 2, 3]}}])
    before = assembly.hand_out()["."]
    assembly.update(".a.b", 2)
    assert assembly.hand_out()["."]["big"] is before["big"]


def test_a_delete_inside_nested_places_may_find_nothing() -> None:
    assembly = Assembly(nested=True)
    assembly.replace([{"path": ".a", "value": {"a": 1}}, {"path": ".a.a", "value": 1}])
    assert assembly.delete(".a.a")
    assert assembly.delete(".a.a")
    assert assembly.hand_out() == {".a": {}}
    assert not Assembly().delete(".x")


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (".", ()),
        (".a", ("a",)),
        (".users[0].name", ("users", 0, "name")),
        ("[1][2]", (1, 2)),
        ('.prices["BTC-USD"].bid', ("prices", "BTC-USD", "bid")),
        ('["a\\"]b"]["\\u00e9"]', ('a"]b', "é")),
        ('[""]', ("",)),
        (".é", ("é",)),
    ],
)
def test_paths_are_read_as_the_server_prints_them(text: str, steps: tuple[str | int, ...]) -> None:
    assert parse_path(text) == steps


@pytest.mark.parametrize("text", ["", "a", ".a[", ".a[x]", "..a", '["a'])
def test_what_is_no_path_is_refused(text: str) -> None:
    if text:
        with pytest.raises(ValueError, match="not a path"):
            parse_path(text)


@pytest.mark.parametrize(
    "filter",
    [".", ".a", ".a.b[0]", ".a[-1]", '.["x y"]', '.a["*"]', "[0].b", "/a/b/0", "/", "$", "$.a[0]",
     "$['a']['b']", '$["a"].b[-1]', ".a b", ".a*"],
)  # fmt: skip
def test_a_filter_of_one_place(filter: str) -> None:
    assert is_single(filter)


@pytest.mark.parametrize(
    "filter",
    [".*", ".a.*", ".a.*.b", ".a[*]", ".a[1:2]", ".a[:]", "..a", ".a[b=1]", ".a[b=1][c!=2]", "$..a",
     "$.*", "$.a[*]", "$.a[0,1]", "$.a[?@.b]", "$['a','b']", ".*[0]"],
)  # fmt: skip
def test_a_filter_of_several_places(filter: str) -> None:
    assert not is_single(filter)


def test_missing_is_false_and_not_null() -> None:
    assert not MISSING
    assert MISSING is not None
    assert repr(MISSING) == "MISSING"


def test_a_value_that_was_not_sent_stays_so_until_one_comes() -> None:
    assembly = Assembly()
    assembly.replace([{"path": ".", "value": {"a": 1, "log": ["x"]}}])
    assert assembly.update(".log", Fetch(".log"))
    # What is inside cannot be told apart; nothing of it asks for a snapshot.
    assert assembly.update(".log[1]", "y")
    assert assembly.update(".log[1].z", "y")
    assert assembly.delete(".log[1]")
    assert assembly.hand_out() == {".": {"a": 1, "log": Fetch(".log")}}
    assert assembly.update(".log", ["z"])
    assert assembly.update(".log[1]", "y")
    assert assembly.hand_out() == {".": {"a": 1, "log": ["z", "y"]}}
    assembly.replace([{"path": ".", "fetch": "/store?path=."}])
    assert assembly.hand_out() == {".": Fetch(".")}


def test_places_below_one_that_was_not_sent() -> None:
    assembly = Assembly(nested=True)
    assembly.replace([{"path": ".a", "value": {"a": 1}}, {"path": ".a.a", "value": 1}])
    assembly.update(".a", Fetch(".a"))
    assert assembly.hand_out() == {".a": Fetch(".a"), ".a.a": Fetch(".a.a")}
