"""The history's bounds, and what it knows of them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from triode.store.change import MAX_SEQ, Change, Edit, Position, parse_position
from triode.store.history import History
from triode.store.operation import Merge, Operation, Set
from triode.store.store import Store
from triode.store.touched import Touched
from triode.store.value import MISSING


def change(seq: int, *edits: Edit) -> Change:
    return Change(Position("e", seq), 1000 + seq, edits or (Edit(("n",), seq - 1, seq),))


def filled(count: int, *, max_items: int = 100, max_bytes: int = 10**6) -> History:
    history = History(max_items, max_bytes)
    for seq in range(1, count + 1):
        history.append(change(seq))
    return history


def seqs(changes: list[Change]) -> list[int]:
    return [change.position.seq for change in changes]


class TestBounds:
    def test_empty(self) -> None:
        history = History(10, 1000)
        assert (history.items, history.bytes, history.last_seq) == (0, 0, 0)
        assert history.covers(0)
        assert history.since(0) == []
        assert not history.covers(1)

    def test_starts_behind_a_snapshot(self) -> None:
        history = History(10, 10_000, start_seq=41)
        assert not history.covers(40)
        assert history.append(change(42)) == []
        assert seqs(history.since(41)) == [42]

    def test_items(self) -> None:
        history = filled(25, max_items=10)
        assert history.items == 10
        assert history.covers(15)
        assert not history.covers(14)
        assert [history.covers(seq) for seq in (14, 15, 25, 26)] == [False, True, True, False]
        assert seqs(history.since(15)) == list(range(16, 26))
        assert seqs(history.since(23)) == [24, 25]

    def test_bytes(self) -> None:
        history = History(1000, 20_000)
        for seq in range(1, 100):
            history.append(change(seq, Edit(("a",), "x" * 1000, None)))
            assert history.bytes <= 20_000
        assert 5 < history.items < 20

    def test_bytes_are_given_back(self) -> None:
        history = filled(3, max_items=1)
        assert history.bytes == filled(1).bytes

    def test_what_goes_is_returned(self) -> None:
        history = filled(2, max_items=2)
        assert seqs(history.append(change(3))) == [1]

    def test_a_huge_before_is_a_barrier(self) -> None:
        history = filled(5, max_bytes=10_000)
        gone = history.append(change(6, Edit(("a",), ["x" * 100] * 1000, MISSING)))
        assert seqs(gone) == [1, 2, 3, 4, 5, 6]
        assert (history.items, history.bytes, history.last_seq) == (0, 0, 6)
        assert [history.covers(seq) for seq in (5, 6, 7)] == [False, True, False]
        history.append(change(7))
        assert seqs(history.since(6)) == [7]
        assert not history.covers(5)

    def test_many_edits_are_a_barrier_too(self) -> None:
        history = filled(1, max_bytes=10_000)
        history.append(change(2, *[Edit(("a",), 1, 2)] * 100))
        assert history.covers(2)
        assert not history.covers(1)

    def test_a_gap_is_a_barrier(self) -> None:
        history = filled(5)
        assert seqs(history.append(change(9))) == [1, 2, 3, 4, 5]
        assert [history.covers(seq) for seq in (5, 7, 8, 9)] == [False, False, True, True]

    def test_nothing_kept(self) -> None:
        history = filled(5, max_items=0)
        assert history.items == 0
        assert history.covers(5)
        assert not history.covers(4)

    def test_since_what_is_gone(self) -> None:
        with pytest.raises(ValueError, match="after 2"):
            filled(25, max_items=10).since(2)


def _weighed(root: Any, op: Callable[[int], Operation], count: int) -> tuple[int, int]:
    """What the history counts after so many writes, and what goes when it goes."""
    store = Store(root, epoch="e", history_items=10**6, history_bytes=10**9)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(count):
            store.submit(op(number), time_ms=10**12 + number)
        counted = store.history.bytes + store.touched.bytes
        held = tracemalloc.get_traced_memory()[0]
        store.history = History(1, 1)
        store.touched = Touched()
        gc.collect()
        return counted, held - tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def _names(number: int, depth: int) -> tuple[str, ...]:
    return tuple(f"name {number} {level}" for level in range(depth))


def _nest(chains: int, depth: int) -> Any:
    root: dict[str, Any] = {}
    for number in range(chains):
        node = root
        for name in _names(number, depth):
            node = node.setdefault(name, {})
    return root


class TestWeight:
    @pytest.mark.parametrize(
        ("root", "op", "count"),
        [
            pytest.param({"a": 0}, lambda n: Set(("a",), n), 3000, id="one place"),
            pytest.param(
                {f"k{n}": 0 for n in range(3000)}, lambda n: Set((f"k{n}",), n), 3000, id="many"
            ),
            pytest.param(
                {"x" * 4000 + str(n): 0 for n in range(500)},
                lambda n: Set(("x" * 4000 + str(n),), n),
                500,
                id="long names",
            ),
            pytest.param(
                _nest(100, 200), lambda n: Set(_names(n, 200), n), 100, id="long paths, apart"
            ),
            pytest.param(
                _nest(1, 200),
                lambda n: Set(tuple(f"name 0 {level}" for level in range(200)), n),
                1000,
                id="long paths, the same",
            ),
            pytest.param(
                {"a": 0},
                lambda n: Set(("a",), {f"k{n}": [n * 999 + i for i in range(20)], "b": {"c": 1.5}}),
                2000,
                id="values",
            ),
            pytest.param(
                {"a": {}},
                lambda n: Merge(("a",), {f"k{i}": n * 1000 for i in range(50)}),
                300,
                id="merges",
            ),
        ],
    )  # fmt: skip
    def test_as_measured(self, root: Any, op: Callable[[int], Operation], count: int) -> None:
        """Many small edits with long paths were weighed at a fortieth."""
        counted, held = _weighed(root, op, count)
        assert held == pytest.approx(counted, rel=0.2)


class TestPosition:
    @pytest.mark.parametrize("text", ["k3f9q2:1842", "e:0", f"a_-Z:{MAX_SEQ}"])
    def test_round_trip(self, text: str) -> None:
        position = parse_position(text)
        assert str(position) == text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ":",
            "e:",
            ":1",
            "e:01",
            "e:-1",
            "e:+1",
            "e:1 ",
            " e:1",
            "e:1\n",
            "e:1:1",
            "e:٣",
            "é:1",
        ],
    )
    def test_malformed(self, text: str) -> None:
        assert parse_position(text) is None

    def test_bounds(self) -> None:
        for text in (f"e:{MAX_SEQ + 1}", "e:" + "9" * 40, "x" * 65 + ":1", "e:1.0", "e\0:1"):
            assert parse_position(text) is None


class TestNumbersWithoutChanges:
    """Refused writes and messages have their numbers, and take no room."""

    def test_they_push_nothing_out(self) -> None:
        history = filled(2, max_items=2)
        held = history.bytes
        for seq in range(3, 10):
            assert history.append(Change(Position("e", seq), seq, ())) == []
        assert (history.items, history.bytes, history.last_seq) == (2, held, 9)
        assert seqs(history.since(0)) == [1, 2]
        assert seqs(history.append(change(10))) == [1]
        assert [seq for seq in range(12) if history.covers(seq)] == [*range(1, 11)]
        assert [seqs(history.since(seq)) for seq in (1, 2, 9, 10)] == [[2, 10], [10], [10], []]

    def test_a_hole_is_a_barrier_all_the_same(self) -> None:
        history = filled(2)
        assert seqs(history.append(Change(Position("e", 4), 4, ()))) == [1, 2]
        assert [history.covers(seq) for seq in (2, 3, 4)] == [False, True, True]
