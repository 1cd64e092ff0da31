"""What was touched when: against a scan, and the same in every process."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triode.store.change import Position
from triode.store.operation import Conflict, Increment, Set
from triode.store.path import Path
from triode.store.store import Store
from triode.store.touched import KEPT_CHANGES, KEPT_UNITS, Touched, Touches

paths = st.lists(st.sampled_from("abc"), max_size=4).map(tuple)
changes_made = st.lists(st.lists(paths, max_size=3), max_size=12)


def touched_by(changes: list[Any]) -> Touched:
    touched = Touched()
    for seq, written in enumerate(changes, 1):
        touched.add(seq, tuple(written))
    return touched


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ((), True),
        (("a",), True),
        (("a", 0), True),
        (("a", 0, "b"), True),
        (("a", 0, "b", "c"), True),
        (("a", 1), False),
        (("a", 0, "c"), False),
        (("b",), False),
    ],
)
def test_at_above_or_below(path: Path, expected: bool) -> None:
    touched = touched_by([[("x",), ("a", 0, "b")]])
    assert touched.since(path, 0) is expected
    assert touched.since(path, 1) is False


@given(changes_made, paths)
def test_against_a_scan(changes: list[Any], path: Path) -> None:
    touched = touched_by(changes)
    for seq in range(len(changes) + 1):
        assert touched.since(path, seq) is scan(changes, path, seq)


def scan(changes: list[Any], path: Path, seq: int) -> bool:
    return any(
        edited[: len(path)] == path or path[: len(edited)] == edited
        for written in changes[seq:]
        for edited in written
    )


@given(changes_made, st.integers(0, 12), paths)
def test_against_a_scan_after_some_were_forgotten(
    changes: list[Any], kept: int, path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triode.store.touched.KEPT_CHANGES", kept)
        touched = touched_by(changes)
    writing = [seq for seq, written in enumerate(changes, 1) if written]
    floor = ([0, *writing])[max(0, len(writing) - kept)]
    for seq in range(len(changes) + 1):
        expected = None if seq < floor else scan(changes, path, seq)
        assert touched.since(path, seq) is expected


@given(changes_made)
def test_what_is_forgotten_leaves_nothing_behind(changes: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triode.store.touched.KEPT_CHANGES", 0)
        touched = touched_by(changes)
    assert touched.bytes == 0
    assert touched.since(("a",), len(changes)) is False


@given(changes_made, changes_made, paths)
def test_one_made_of_the_state_goes_on_alike(
    before: list[Any], after: list[Any], path: Path
) -> None:
    one = touched_by(before)
    kept = msgspec.json.encode(one.state())
    other = Touched(msgspec.json.decode(kept, type=Touches))
    for seq, written in enumerate(after, len(before) + 1):
        for touched in (one, other):
            touched.add(seq, tuple(written))
    assert one.state() == other.state()
    assert one.bytes == other.bytes
    for seq in range(len(before) + len(after) + 1):
        assert one.since(path, seq) is other.since(path, seq)


def test_what_was_forgotten_is_not_known_in_one_made_of_the_state_either() -> None:
    """It must not take a place for untouched that was touched before all that it knows of."""
    one = touched_by([[(f"k{n}",)] for n in range(KEPT_CHANGES + 5)])
    other = Touched(one.state())
    for seq in (0, 4, 5, 6):
        assert other.since(("k0",), seq) is one.since(("k0",), seq)
    assert other.since(("k0",), 4) is None


def test_it_is_bounded_in_number() -> None:
    touched = touched_by([[(f"k{n}",)] for n in range(KEPT_CHANGES + 5)])
    assert touched.since(("k4",), 4) is None
    assert touched.since(("k5",), 5) is True
    assert len(touched.state().changes) == KEPT_CHANGES


def test_it_is_bounded_in_paths_and_in_characters() -> None:
    long = touched_by([[("n" * 4000, n)] for n in range(2000)])
    units = 1 + 2 + 4000 // 16
    assert len(long.state().changes) == KEPT_UNITS // units
    many = touched_by([[("a", n) for n in range(10_000)] for _ in range(5)])
    assert len(many.state().changes) == KEPT_UNITS // 30_000
    assert many.since(("b",), 1) is None
    # One change that is larger than all there is room for: whatever was before it is not known.
    huge = touched_by([[("a",)], [("b", n) for n in range(50_000)]])
    assert huge.since(("c",), 1) is None
    assert huge.since(("b", 7), 2) is False
    assert huge.bytes == 0


def test_no_setting_decides_what_is_refused() -> None:
    """A process with a shorter history refused what another had accepted."""
    stores = [
        Store({"a": 0, "b": 0}, epoch="e", history_items=items, history_bytes=size)
        for items, size in ((10_000, 1 << 26), (2, 1 << 26), (0, 0))
    ]
    for store in stores:
        for number in range(20):
            store.submit(Set(("b",), number), time_ms=number)
        stores[1].forget_history()
        store.submit(Increment(("a",), 1, if_position=Position("e", 3)), time_ms=30)
        with pytest.raises(Conflict):
            store.submit(Increment(("b",), 1, if_position=Position("e", 3)), time_ms=31)
        with pytest.raises(Conflict):
            store.submit(Increment(("a",), 1, if_position=Position("e", 20)), time_ms=32)
