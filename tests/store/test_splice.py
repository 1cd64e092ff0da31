"""A splice is all that has to be kept of a rearranged array."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from triode.store.splice import splice

ELEMENTS: st.SearchStrategy[list[Any]] = st.lists(st.builds(list), max_size=8)


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
