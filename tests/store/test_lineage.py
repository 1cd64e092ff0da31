"""A position of an earlier epoch is good exactly as long as what it names is still there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from triode.store.change import Position
from triode.store.lineage import KEPT, Lineage

# What happens to a log: so many changes are written; or it loses so many and a new epoch begins.
steps = st.lists(
    st.tuples(st.just("write"), st.integers(1, 5)) | st.tuples(st.just("lose"), st.integers(0, 8)),
    max_size=30,
)


@given(steps)
def test_a_position_is_good_while_all_changes_up_to_it_are_there(
    steps: list[tuple[str, int]],
) -> None:
    log: list[int] = []
    written = 0
    lineage = Lineage("e0")
    told = {Position("e0", 0): log.copy()}
    for step, count in steps:
        if step == "write":
            for _ in range(count):
                log.append(written := written + 1)
                told[Position(lineage.epoch, len(log))] = log.copy()
        else:
            del log[max(0, len(log) - count) :]
            lineage = lineage.begin(f"e{len(lineage.ended) + 1}", len(log))
            told[Position(lineage.epoch, len(log))] = log.copy()
    for position, then in told.items():
        seq = lineage.seq_of(position, len(log))
        if then == log[: len(then)]:
            assert seq == len(then) == position.seq
        else:
            assert seq is None


def test_what_has_not_been_is_not_known() -> None:
    lineage = Lineage("a").begin("b", 40)
    assert lineage.seq_of(Position("b", 41), 41) == 41
    assert lineage.seq_of(Position("b", 42), 41) is None
    assert lineage.seq_of(Position("a", 40), 41) == 40
    assert lineage.seq_of(Position("a", 41), 41) is None
    assert lineage.seq_of(Position("other", 1), 41) is None


def test_many_epochs_are_bounded_and_the_oldest_go() -> None:
    lineage = Lineage("e0")
    for number in range(1, KEPT + 3):
        lineage = lineage.begin(f"e{number}", number)
    assert len(lineage.ended) == KEPT
    assert lineage.seq_of(Position("e1", 1), 99) is None
    assert lineage.seq_of(Position("e2", 1), 99) == 1
