"""What filters are charged follows what they really look at."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from triode.limits.meter import Meter
from triode.store.change import Edit
from triode.store.evaluated import STALE
from triode.store.filter import parse_filter
from triode.store.index import Index
from triode.store.trie import PASSED_A_STEP
from triode.store.work import TooCostly

MANY = 10**9


def cost(text: str, root: Any) -> int:
    meter = Meter(MANY)
    deque(parse_filter(text).select(root, meter), maxlen=0)
    return meter.spent


def test_each_test_of_a_condition_is_charged() -> None:
    objects = [{"x": n} for n in range(1000)]
    few, many = cost("[x>-1]", objects), cost("".join(f"[x>{-n}]" for n in range(1, 61)), objects)
    assert many > 15 * few


def test_the_index_charges_each_test_too() -> None:
    objects = [{"x": n, "y": 1} for n in range(1000)]

    def spent(text: str) -> int:
        index, meter = Index(), Meter(MANY)
        index.add(parse_filter(text), {"a": objects})
        index.match({"a": objects}, Edit(("a",), objects, objects), meter)
        return meter.spent

    tests = "".join(f"[x>{n}]" for n in range(2000, 2060))
    assert spent(".a" + tests) > 10 * spent(".a[x>2000]")
    assert spent(".a[y=1]" + tests) > 5 * spent(".a[y=1][x>2000]")


@pytest.mark.parametrize("element", [1, "text", None, [{"x": 1}]], ids=repr)
def test_elements_that_no_condition_is_asked_of_are_charged(element: Any) -> None:
    index, short, long = Index(), Meter(MANY), Meter(MANY)
    index.add(parse_filter(".a[x>1]"), {})
    for meter, length in ((short, 1600), (long, 160_000)):
        array = [element] * length
        # What was there before is gone through as well.
        index.match({"a": array}, Edit(("a",), array, array), meter)
    assert short.spent >= 2 * 1600 // PASSED_A_STEP
    assert long.spent == 100 * short.spent


def test_an_array_that_is_too_long_for_a_condition_is_not_begun() -> None:
    index, meter = Index(), Meter(100)
    selection = index.add(parse_filter(".a[x>1]"), {})
    array = [1] * 100_000
    assert index.match({"a": array}, Edit(("a",), 0, array), meter) == [(selection, [STALE])]


def test_an_index_that_lost_its_filters_charges_as_before() -> None:
    objects = [{"x": n} for n in range(100)]
    index = Index()
    added = [index.add(parse_filter(f".a[x>{n}][x<{n}]"), {"a": objects}) for n in range(50)]
    kept = index.add(parse_filter(".a[x>1000]"), {"a": objects})
    for selection in added:
        index.remove(selection)
    meter = Meter(MANY)
    index.match({"a": objects}, Edit(("a",), objects, objects), meter)
    index.remove(kept)
    assert meter.spent <= 2 * (2 * len(objects) + len(objects) // PASSED_A_STEP)


@pytest.mark.parametrize("text", [".a[0:]", "$.a[*]", "..x"])
def test_comparing_what_was_selected_is_charged(text: str) -> None:
    """Not only the evaluation: 20 000 places took 40 ms to be compared."""
    objects = [{"x": n} for n in range(1000)]
    root = {"a": objects}
    index, meter = Index(), Meter(MANY)
    index.add(parse_filter(text), root)
    index.match(root, Edit(("a",), objects, objects), meter)
    assert meter.spent >= cost(text, root) + 2 * len(objects)


def test_comparing_beyond_the_budget_makes_it_stale() -> None:
    objects = [{"x": n} for n in range(1000)]
    root = {"a": objects}
    index = Index()
    selection = index.add(parse_filter(".a[0:]"), root)
    matched = index.match(
        root, Edit(("a", 0), objects[0], objects[0]), Meter(cost(".a[0:]", root) + 1000)
    )
    assert [(found.filter.text, [e.kind for e in events]) for found, events in matched] == [
        (".a[0:]", ["snapshot"])
    ]
    assert selection.evaluated is not None
    assert selection.evaluated.is_stale


def test_patterns_are_charged_for_what_they_look_at() -> None:
    """Not for all states and half the text at each character: that was a hundred times as much."""
    ranges = "".join(f"{chr(0x100 + 3 * n)}-{chr(0x101 + 3 * n)}" for n in range(150))
    text = "".join(chr(0x100 + n % 450) for n in range(2000))
    spent = cost(f"$[?search(@, '[{ranges}]{{0,450}}[0]')]", [text])
    # Some hundred states a character, and a class of 150 ranges.
    assert 50 * len(text) < spent < 150 * len(text)
    assert cost("$[?match(@, 'a*b*c*')]", ["abc" * 1000]) < 100


def test_a_pattern_is_charged_for_each_class() -> None:
    text = "".join(chr(0x100 + n % 5000) for n in range(500))
    one = cost("$[?search(@, '([^a]?){90}b')]", [text])
    many = cost("$[?search(@, '" + "[^a]?" * 90 + "b')]", [text])
    assert many > one + 80 * len(text)


def test_a_pattern_is_never_beyond_its_budget_for_long() -> None:
    filter = parse_filter("$[?search(@, '(a|b){0,150}c')]")
    meter = Meter(10_000)
    with pytest.raises(TooCostly):
        deque(filter.select(["ab" * 500_000], meter), maxlen=0)
    assert meter.spent < 11_000


def test_a_pattern_that_is_too_large_is_charged_for_what_was_made_of_it() -> None:
    """Twenty characters of it take as long as a thousand states."""
    patterns = [{"p": f"((a{n}){{9}}){{999}}"} for n in range(50)]
    assert cost("$[?search('aaaa', @.p)]", patterns) > 50 * 500
