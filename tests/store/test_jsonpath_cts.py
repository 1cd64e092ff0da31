"""RFC 9535: the compliance suite, what the suite does not reach, and the bounds."""

from __future__ import annotations

import json
import re
from collections import deque
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triode.limits.meter import Meter
from triode.store.filter import FilterError, parse_filter
from triode.store.path import Path
from triode.store.pattern import Pattern, parse_pattern
from triode.store.value import Json, equal
from triode.store.work import FREE, TooCostly

# Its licence lies beside it.
_SUITE = File(__file__).parents[1] / "suites" / "jsonpath-cts" / "cts.json"


def suite() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(_SUITE.read_text("utf-8"))["tests"]
    return cases


def normalized(path: Path) -> str:
    """RFC 9535 section 2.7."""
    return "$" + "".join(f"[{k}]" if isinstance(k, int) else f"['{_escaped(k)}']" for k in path)


def _escaped(key: str) -> str:
    return json.dumps(key, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'")


def test_the_suite_is_whole() -> None:
    assert len(suite()) == 703


@pytest.mark.parametrize("case", suite(), ids=lambda case: case["name"])
def test_compliance(case: dict[str, Any]) -> None:
    selector = case["selector"]
    if case.get("invalid_selector"):
        with pytest.raises(FilterError) as caught:
            parse_filter(selector)
        assert 1 <= caught.value.column <= len(selector) + 1
        return
    nodes = list(parse_filter(selector).select(case["document"]))
    values = case.get("results", [case.get("result")])
    assert any(equal([value for _, value in nodes], expected) for expected in values)
    paths = case.get("results_paths", [case["result_paths"]] if "result_paths" in case else None)
    assert paths is None or [normalized(path) for path, _ in nodes] in paths


def select(text: str, root: Json) -> list[Json]:
    return [value for _, value in parse_filter(text).select(root)]


@pytest.mark.parametrize(
    ("text", "root", "expected"),
    [
        ("$[?@]", [0, False, "", None], [0, False, "", None]),
        ("$[?count(@)==1]", [1, []], [1, []]),
        ("$[?value(@)==1]", [1, True], [1]),
        ("$[?@==1]", [1, True, 1.0], [1, 1.0]),
        ("$[?@<2]", [1, True, "1"], [1]),
        ("$[?@<=true]", [True, False, 1], [True]),
        ("$[?@.a==@.b]", [{"a": [1], "b": [True]}, {"a": [1], "b": [1.0]}], [{"a": [1], "b": [1]}]),
        ("$[?@==9007199254740993]", [9007199254740993, 9007199254740992], [9007199254740993]),
        ("$[?@.a || !@.b && @.c]", [{"a": 1}, {"c": 1}, {"b": 1, "c": 1}], [{"a": 1}, {"c": 1}]),
        ("$[0,0]", [5], [5, 5]),
    ],
)
def test_where_libraries_differ(text: str, root: Json, expected: Json) -> None:
    assert equal(select(text, root), expected)


def test_depth_is_no_limit() -> None:
    root: Json = "leaf"
    for _ in range(256):
        root = [root]
    assert len(select("$..*", root)) == 256
    assert len(select("$" + "[0]" * 120, root)) == 1


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("$" + "[0,0]" * 40, 0),
        ("$..*..*..*..*", 0),
        ("$..[?count($..*) > 1]", 1),
        ("$[*][?@ == $[1]]", 2),
        ("$[*][?search(@, '(a*)*b')]", 3),
    ],
)
def test_a_costly_query_is_given_up(text: str, root: int) -> None:
    chain: Json = [0]
    for _ in range(100):
        chain = [chain]
    wide: Json = [[i] for i in range(1000)]
    big: Json = [[list(range(1000))] * 100, list(range(1000))]
    text_heavy: Json = [["a" * 1000] * 100]
    with pytest.raises(TooCostly, match="over 50000 steps"):
        deque(parse_filter(text).select([chain, wide, big, text_heavy][root], Meter(50_000)), 0)


def matches(pattern: str, text: str, *, whole: bool) -> bool:
    automaton = parse_pattern(pattern, FREE)
    assert isinstance(automaton, Pattern), automaton
    return automaton.matches(text, FREE, whole=whole)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (
            "",
            [
                "",
            ],
            ["a"],
        ),
        ("a|b|", ["", "a", "b"], ["ab"]),
        ("(a|bc)*d", ["d", "abcad"], ["bd", "abc"]),
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaaa"], ["a"]),
        ("a{1,3}b?", ["a", "aaab"], ["aaaa", "bb"]),
        ("a{0}", [""], ["a"]),
        ("a{3,1}", [], ["a", "aaa"]),
        ("(a?){3}", ["", "aaa"], ["aaaa"]),
        ("(a*)*", ["", "aaaa"], ["b"]),
        ("(){100}a", ["a"], [""]),
        (".", ["x", "\u2028", "😀"], ["\n", "\r", ""]),
        ("[a-c_-]+", ["abc_-"], ["d"]),
        ("[^a-c]", ["d", "\n"], ["a"]),
        (r"[\]\\\-\^x]", ["]", "\\", "-", "^", "x"], ["a"]),
        (r"[\p{Lu}\P{L}]", ["A", "1"], ["a"]),
        (r"\p{Nd}\P{L}", ["1-"], ["1a"]),
        (r"\.\n\(\^", [".\n(^"], ["x\n(^"]),
        ("^a$|^$", ["a", ""], ["aa"]),
        ("a^b", [], ["ab", "a^b"]),
        ("(^a)+b$", ["ab"], ["aab"]),
    ],
)
def test_patterns(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes + no if matches(pattern, text, whole=True)] == yes


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("b+", "aabba", True),
        ("^b", "ab", False),
        ("b$", "ab", True),
        ("b$", "ba", False),
        ("", "", True),
        ("abab", "aababab", True),
        ("c", "", False),
    ],
)
def test_search(pattern: str, text: str, found: bool) -> None:
    assert matches(pattern, text, whole=False) is found


@pytest.mark.parametrize("pattern", ["a**", "(?:a)", r"\d", "(", "[z", "a{2"])
def test_what_is_no_iregexp_never_matches(pattern: str) -> None:
    assert (
        select(
            f"$[?match(@, $[0]) || search(@, '{pattern.replace(chr(92), chr(92) * 2)}')]",
            [pattern, "a", "1"],
        )
        == []
    )


@pytest.mark.parametrize(
    "pattern",
    ["a" * 600, "(a{100}){100}", "(a{0,600}){0,600}", "a{99999999999}", "(" * 40 + ")" * 40],
)
def test_a_pattern_of_the_document_that_is_too_large_never_matches(pattern: str) -> None:
    assert select("$.t[?match(@, $.p)]", {"t": ["a"], "p": pattern}) == []


def test_patterns_take_time_in_proportion_to_the_subject() -> None:
    counted = Meter(20_000)
    automaton = parse_pattern("(a|a)*(a*)*(a+)+b", FREE)
    assert isinstance(automaton, Pattern)
    assert not automaton.matches("a" * 5000, counted, whole=True)
    assert counted.spent < 10_000


atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "(a|b)", "(ab)", "a|b", "^", "$"])
repeats = st.sampled_from(["", "*", "+", "?", "{2}", "{0,2}", "{1,}"])
patterns = st.lists(
    st.tuples(atoms, repeats).map(lambda pair: f"({pair[0]}){pair[1]}"), max_size=4
).map("".join)


@given(patterns, st.text("abc", max_size=6))
def test_agrees_with_a_backtracking_engine(pattern: str, text: str) -> None:
    dollar_at_the_very_end = pattern.replace("$", r"\Z")
    assert matches(pattern, text, whole=True) is bool(re.fullmatch(dollar_at_the_very_end, text))
    assert matches(pattern, text, whole=False) is bool(re.search(dollar_at_the_very_end, text))
