"""A splice is all that has to be kept of a rearranged array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triode.limits.meter import Meter
from triode.store import splice as module
from triode.store.splice import splice

ELEMENTS: st.SearchStrategy[list[Any]] = st.lists(st.builds(list), max_size=8)


@pytest.fixture(params=[1, 3, 16_384], scope="module", autouse=True)
def slice_size(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SLICE", request.param)
        yield


@given(ELEMENTS, st.data())
def test_it_undoes_any_rearrangement(before: list[Any], data: Any) -> None:
    after = list(before)
    for _ in range(data.draw(st.integers(0, 3))):
        if after and data.draw(st.booleans()):
            del after[data.draw(st.integers(0, len(after) - 1))]
        else:
            after.insert(data.draw(st.integers(0, len(after))), [len(after)])
    kept = splice(before, after)
    assert kept.undone(after) == before


def test_a_removal_keeps_the_removed_element_only() -> None:
    before: list[Any] = [[n] for n in range(1000)]
    kept = splice(before, before[:7] + before[8:])
    assert kept.removed[0] is before[7]
    assert tuple(kept) == (7, [[7]], 0)


def test_an_insertion_keeps_nothing() -> None:
    before: list[Any] = [[n] for n in range(1000)]
    assert tuple(splice(before, [*before[:7], ["new"], *before[7:]])) == (7, [], 1)


def test_what_was_replaced_is_copied_for_the_two_may_share_parts() -> None:
    shared: dict[str, Any] = {"deep": {}}
    before: list[Any] = [shared, 1]
    after: list[Any] = [{"deep": shared["deep"], "more": 1}]
    kept = splice(before, after)
    shared["deep"]["x"] = 1
    assert kept.undone(after) == [{"deep": {}}, 1]


@pytest.mark.parametrize("at", [0, 50_000, 99_999])
def test_a_long_array_is_compared_in_steps_that_are_charged(at: int) -> None:
    pauses = 0

    def pause() -> None:
        nonlocal pauses
        pauses += 1

    before = [*range(100_000)]
    meter = Meter(10**9, pause=pause, turn=200)
    assert tuple(splice(before, before[:at] + before[at + 1 :], meter)) == (at, [at], 0)
    assert meter.spent >= 100_000 // 64
    assert pauses >= 4
